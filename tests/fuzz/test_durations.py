"""Invariant: whatever text an operator writes for a duration, reading it ends with whole nanoseconds that Go could hold, or with an
`InvalidDurationError` that quotes it; and what Go would write reads as what it was written from.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dpuchain.api.durations import LONGEST, NANOSECONDS, PATTERN, InvalidDurationError, parse_duration
from dpuchain.api.fleet import DPFOperatorConfig, DPFOperatorConfigSpec, SfcController
from dpuchain.api.meta import ObjectMeta

UNITS = sorted(NANOSECONDS)
PARTS = st.builds(
    lambda whole, fraction, unit: f"{whole}{fraction}{unit}",
    st.integers(0, 10**4).map(str),
    st.sampled_from(["", ".", ".5", ".25", ".000000001", ".999999999999999999999"]),
    st.sampled_from(UNITS),
)
TEXTS = st.text(max_size=12) | st.text("0123456789.hmsnuµμ+-", max_size=12) | st.lists(PARTS, max_size=4).map("".join)


def go_string(nanoseconds: int) -> str:
    """What Go's `Duration.String` prints, from its documentation."""
    sign, rest = ("-" if nanoseconds < 0 else ""), abs(nanoseconds)
    if rest < 10**9:
        for unit in ("ms", "µs", "ns"):
            if rest >= NANOSECONDS[unit]:
                return f"{sign}{_decimal(rest, NANOSECONDS[unit])}{unit}"
        return "0s"
    hours, rest = divmod(rest, NANOSECONDS["h"])
    minutes, rest = divmod(rest, NANOSECONDS["m"])
    seconds = f"{_decimal(rest, 10**9)}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}"
    return f"{sign}{minutes}m{seconds}" if minutes else f"{sign}{seconds}"


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    return f"{whole}.{str(rest).zfill(len(str(unit)) - 1).rstrip('0')}" if rest else str(whole)


def outcome_of(read: Callable[[], int | None]) -> int | str | None:
    """What was read, or the words with which it was refused."""
    try:
        return read()
    except ValueError as error:
        return str(error)


@given(TEXTS)
@example("9" * 5000 + "ns")
@example("." + "9" * 5000 + "h")
@example("٣s")
@example("1e3s")
def test_any_text(text: str) -> None:
    outcome = outcome_of(lambda: parse_duration(text))
    if isinstance(outcome, str):
        assert 0 < len(outcome) < 300
        return
    assert outcome is not None
    assert -LONGEST <= outcome <= LONGEST
    assert bool(re.fullmatch(PATTERN, text)) == (not text.startswith("-"))


@given(st.integers(-LONGEST, LONGEST))
@example(0)
@example(1)
@example(LONGEST)
def test_what_go_writes(nanoseconds: int) -> None:
    assert parse_duration(go_string(nanoseconds)) == nanoseconds


@given(st.lists(PARTS, min_size=1, max_size=4))
def test_parts_add_up(parts: list[str]) -> None:
    assert parse_duration("".join(parts)) == sum(map(parse_duration, parts))


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("5m0s", 300 * 10**9),
        ("1h15m30.918273645s", 4530918273645),
        ("-1.5h", -5400 * 10**9),
        ("+.5s", 5 * 10**8),
        ("1.s", 10**9),
        ("0", 0),
        ("-0", 0),
        ("1us2µs3μs", 6000),
        ("0.3333333333333333333h", 1199999999999),
    ],
)
def test_examples_of_go(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "3", "-", "s", ".", "-.", ".s", "+.s", "1d", "5 m", "5m ", "\n5m", "5m\n", "--5m", "3000000h", "1m2"])
def test_what_go_refuses(text: str) -> None:
    with pytest.raises(InvalidDurationError):
        parse_duration(text)


def config(text: str | None) -> DPFOperatorConfig:
    controller = SfcController(secure_flow_deletion_timeout=text)
    return DPFOperatorConfig(
        metadata=ObjectMeta(name="dpfoperatorconfig", namespace="dpf-operator-system"),
        spec=DPFOperatorConfigSpec(sfc_controller=controller),
    )


@given(TEXTS)
def test_setting(text: str) -> None:
    """Milliseconds, or None, or what is wrong: object, field, value and remedy."""
    outcome = outcome_of(lambda: config(text).secure_flow_deletion_milliseconds)
    if isinstance(outcome, str):
        assert outcome.startswith("DPFOperatorConfig dpf-operator-system/dpfoperatorconfig: spec.sfcController.secureFlowDeletionTimeout: ")
        assert "such as" in outcome or "use" in outcome
    else:
        assert outcome is None or outcome > 0


@pytest.mark.parametrize(
    ("text", "milliseconds"), [(None, None), ("0", None), ("0h0m0s", None), ("5m0s", 300_000), ("1ns", 1), ("1.0001s", 1001)]
)
def test_setting_is_off_or_at_least_as_long(text: str | None, milliseconds: int | None) -> None:
    assert config(text).secure_flow_deletion_milliseconds == milliseconds
