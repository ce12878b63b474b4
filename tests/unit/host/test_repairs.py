"""How fast what others change in a release is put right."""

from __future__ import annotations

from dpuchain.host.repairs import FIRST_PAUSE, LONGEST_PAUSE, Pace


def test_first_repair_is_at_once_and_each_further_one_later() -> None:
    pace, now, pauses = Pace(), 100.0, []
    assert pace.pause("release", now) == 0
    for _ in range(9):
        pace.repaired("release", now)
        pauses.append(pace.pause("release", now))
        assert pace.pause("release", now + pauses[-1] / 2) > 0
        assert pace.pause("another", now) == 0
        now += pauses[-1]
        assert pace.pause("release", now) == 0
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE


def test_repairs_are_forgotten_after_a_quiet_while_and_with_the_release() -> None:
    pace = Pace()
    for _ in range(5):
        pace.repaired("release", 0.0)
    assert pace.pause("release", 2 * LONGEST_PAUSE + 1) == 0
    pace.repaired("release", 5000.0)
    assert pace.pause("release", 5000.0) == FIRST_PAUSE
    pace.forget("release")
    assert pace.pause("release", 5000.0) == 0
