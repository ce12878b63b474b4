"""The time from a change to its being carried out, and nothing that was carried out before."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec.structs import replace

from dpuchain.api.kubernetes import Metadata
from dpuchain.api.meta import ObjectMeta, key_of
from dpuchain.runtime.convergence import Convergence
from dpuchain.runtime.metrics import REGISTRY


class Clock:
    moment = 100.0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return self.moment


def measured(kind: str) -> tuple[float, float]:
    """How many were measured, and the sum of their seconds."""
    count, total = (REGISTRY.get_sample_value(f"dpuchain_convergence_seconds_{part}", {"kind": kind}) for part in ("count", "sum"))
    return count or 0.0, total or 0.0


def of_generation(generation: int, uid: str = "u") -> Metadata:
    return Metadata(metadata=ObjectMeta(name="x", namespace="ns", uid=uid, generation=generation))


def test_a_change_is_measured_from_when_it_was_seen_until_all_is_ready() -> None:
    clock = Clock()
    found = Convergence("one", clock)
    found.saw(of_generation(3), 2, ready=False)
    clock.moment += 2
    found.saw(of_generation(3), 3, ready=False)
    assert measured("one") == (0, 0)
    clock.moment += 1
    found.saw(of_generation(3), 3, ready=True)
    assert measured("one") == (1, 3)
    clock.moment += 9
    found.saw(of_generation(3), 3, ready=False)
    found.saw(of_generation(3), 3, ready=True)
    assert measured("one") == (1, 3), "that something fell ill later is no change"


def test_a_change_during_a_change_begins_anew_and_what_was_ready_before_is_not_measured() -> None:
    clock = Clock()
    found = Convergence("two", clock)
    found.saw(of_generation(1), 1, ready=True)
    found.saw(of_generation(2), 1, ready=False)
    clock.moment += 5
    found.saw(of_generation(3), 2, ready=False)
    clock.moment += 1
    found.saw(of_generation(3), 3, ready=True)
    assert measured("two") == (1, 1)
    found.saw(of_generation(1, uid="another"), 0, ready=False)
    found.forget(key_of(of_generation(1)))
    clock.moment += 50
    found.saw(replace(of_generation(1, uid="another")), 0, ready=True)
    assert measured("two") == (2, 1)
