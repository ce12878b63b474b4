"""Durations as Go writes them, which is how Kubernetes' objects carry them."""

from __future__ import annotations

import re

NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
"""The units; a microsecond may be written with either of Unicode's two letters for it."""
LONGEST = 2**63 - 1
"""Nanoseconds in Go's longest duration, some 292 years."""

_PART = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h)"
PATTERN = rf"^\+?(?:0|(?:{_PART})+)$"
"""What a duration that is not negative looks like, for schemas."""
_DURATION = re.compile(rf"([+-]?)(0|(?:{_PART})+)")
_PARTS = re.compile(r"([0-9]*)(?:\.([0-9]*))?([a-zµμ]+)")


class InvalidDurationError(ValueError):
    """The text is no duration; the message says so, quotes it, and shows a good one."""


def parse_duration(text: str) -> int:
    """Nanoseconds of a duration, as Go's `time.ParseDuration` reads it: `1h15m30.5s`, `-1.5h`, `300ms`, `0`. What is less than a
    nanosecond is cut off.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise InvalidDurationError(f"{text!r:.100} is not a duration; write it as Go does, such as 1h30m, 5m0s or 1.5s")
    sign, parts = found.groups()
    total = sum(_nanoseconds(*part) for part in _PARTS.findall(parts))
    if total > LONGEST:
        raise InvalidDurationError(f"{text!r:.100} is longer than a duration can be, which is some 292 years; use a shorter one")
    return -total if sign == "-" else total


def _nanoseconds(whole: str, fraction: str, unit: str) -> int:
    digits = f"{whole or 0}{fraction}"
    if len(digits) > 4000:  # Python takes no more at once, by default
        raise InvalidDurationError(f"{digits[:20]}... has {len(digits)} digits; use fewer")
    scale: int = 10 ** len(fraction)
    return int(digits) * NANOSECONDS[unit] // scale
