"""How fast what others change in a release is put right, and how it is known."""

from __future__ import annotations

import msgspec

from dpuchain.api.kubernetes import DaemonSet
from dpuchain.host.repairs import FIRST_PAUSE, LONGEST_PAUSE, REPAIRS, Pace, fingerprint


def daemon_set(name: str = "a", uid: str = "1", generation: int = 1, version: str = "1") -> DaemonSet:
    meta = {"name": name, "namespace": "dpf", "uid": uid, "generation": generation, "resourceVersion": version}
    return msgspec.convert({"metadata": meta}, DaemonSet)


def test_fingerprint_tells_what_people_do_from_what_status_does() -> None:
    before = fingerprint([daemon_set(), daemon_set("b")])
    assert fingerprint([daemon_set("b"), daemon_set(version="7")]) == before
    others = [[daemon_set()], [], [daemon_set(uid="2"), daemon_set("b")], [daemon_set(generation=2), daemon_set("b")]]
    assert len({fingerprint(other) for other in others} | {before}) == 5


def test_first_repair_is_at_once_and_each_further_one_later() -> None:
    pace, now, pauses = Pace(), 100.0, []
    assert pace.pause("release", now) == 0
    for _ in range(9):
        counted = REPAIRS._value.get()
        pace.repaired("release", now)
        assert REPAIRS._value.get() == counted + 1
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
