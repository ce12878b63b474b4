"""Conditions: when a transition is one, and that saying the same again says nothing new."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from dpuchain.api.conditions import Finding, find, is_true, update
from dpuchain.api.meta import Condition

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SECOND = NOW.replace(microsecond=0)
LATER = NOW + timedelta(minutes=1)

findings = st.lists(
    st.builds(Finding, st.sampled_from("ABCD"), st.sampled_from(["True", "False", "Unknown"]), st.sampled_from(["Success", "Error"])),
    unique_by=lambda finding: finding.type,
)


def said(*about: Finding, generation: int = 1, now: datetime = NOW, after: tuple[Condition, ...] = ()) -> tuple[Condition, ...]:
    return update(after, about, generation, now)


def test_first_finding_begins_now_in_whole_seconds() -> None:
    (condition,) = said(Finding("Ready", "Unknown", "Pending", "wait"), generation=3)
    expected = Condition(
        type="Ready", status="Unknown", reason="Pending", message="wait", observed_generation=3, last_transition_time=SECOND
    )
    assert condition == expected


def test_reason_message_and_generation_change_without_a_transition() -> None:
    before = said(Finding("Ready", "False", "Pending", "wait"))
    (after,) = said(Finding("Ready", "False", "Error", "broken"), generation=2, now=LATER, after=before)
    assert (after.reason, after.message, after.observed_generation) == ("Error", "broken", 2)
    assert after.last_transition_time == SECOND


def test_change_of_status_is_a_transition() -> None:
    before = said(Finding("Ready", "False", "Pending"))
    (after,) = said(Finding("Ready", "True", "Success"), now=LATER, after=before)
    assert after.last_transition_time == LATER.replace(microsecond=0)


def test_other_types_stay_as_they_are_and_in_place() -> None:
    before = said(Finding("Foreign", "True", "Success"), Finding("Ready", "True", "Success"))
    after = said(Finding("New", "True", "Success"), Finding("Ready", "False", "Error"), generation=2, now=LATER, after=before)
    assert [condition.type for condition in after] == ["Foreign", "Ready", "New"]
    assert after[0] == before[0]


@given(findings, findings)
def test_saying_the_same_again_later_changes_nothing(earlier: list[Finding], later: list[Finding]) -> None:
    once = said(*later, after=said(*earlier), now=LATER)
    assert said(*later, after=once, now=LATER + timedelta(days=1)) == once


@given(findings, findings)
def test_there_is_one_condition_a_type_and_it_says_what_was_found_last(earlier: list[Finding], later: list[Finding]) -> None:
    last = {finding.type: finding for finding in (*earlier, *later)}
    after = said(*later, after=said(*earlier))
    assert [condition.type for condition in after] == list(last)
    assert {condition.type: (condition.status, condition.reason) for condition in after} == {
        name: (finding.status, finding.reason) for name, finding in last.items()
    }


def test_message_is_cut_to_what_the_api_server_takes() -> None:
    limit = 32768
    fits, cut = said(Finding("Fits", "False", "Error", "x" * limit), Finding("Long", "False", "Error", "x" * (limit + 1)))
    assert fits.message == "x" * limit
    assert cut.message == "x" * (limit - 1) + "…"
    assert msgspec.json.decode(msgspec.json.encode(cut), type=Condition) == cut


def test_find_tells_absent_from_there() -> None:
    conditions = said(Finding("A", "True", "Success"), Finding("B", "False", "Error"))
    assert find(conditions, "B") is conditions[1]
    assert find(conditions, "C") is None


def test_true_counts_for_the_generation_it_was_seen_at_and_those_before() -> None:
    conditions = said(Finding("A", "True", "Success"), Finding("B", "Unknown", "Pending"), generation=2)
    assert is_true(conditions, "A", 1)
    assert is_true(conditions, "A", 2)
    assert not is_true(conditions, "A", 3)
    assert not is_true(conditions, "B", 2)
    assert not is_true(conditions, "absent", 0)
