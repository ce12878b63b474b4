"""Whose turn it is to restart pods, which sets are told so, and what the others wait for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from dpuchain.api.chain import ServiceChainSet
from dpuchain.api.meta import ObjectKey
from dpuchain.api.names import OWNER_UID_LABEL, RESTART_TURN_ANNOTATION
from dpuchain.chain.turns import Cluster, awaited, decide, decisive, has_turn, takes_part, waits

NOW = datetime(2026, 1, 1, tzinfo=UTC)
A, B, C = (ObjectKey("dpf", name) for name in "abc")
WAITING, DONE, PAUSED, UNKNOWN, STOPPED, OLD, SILENT = "Pending", "True", "Blocked", "Unknown", "Failure", "old", "silent"


def chain_set(standing: str, turn: str | None = None, *, name: str = "chain", uid: str = "", **meta: Any) -> ServiceChainSet:
    """A set of generation 5 of which this is said; `turn` is its annotation."""
    status = {DONE: "True", UNKNOWN: "Unknown"}.get(standing, "False")
    condition = {
        "type": "ServiceMTUApplied",
        "status": status,
        "reason": {DONE: "Success", UNKNOWN: "Pending", OLD: "Pending"}.get(standing, standing),
        "observedGeneration": 4 if standing == OLD else 5,
        "lastTransitionTime": NOW,
    }
    metadata = {
        "name": name,
        "namespace": "ns",
        "uid": uid or name,
        "generation": 5,
        "labels": {OWNER_UID_LABEL: "u"},
        "annotations": {RESTART_TURN_ANNOTATION: turn} if turn is not None else {},
        **meta,
    }
    spec = {"template": {"spec": {"switches": [{"ports": [{"serviceInterface": {"matchLabels": {"a": "b"}}}]}]}}}
    conditions = [] if standing == SILENT else [condition]
    return msgspec.convert({"metadata": metadata, "spec": spec, "status": {"conditions": conditions}}, ServiceChainSet)


def cluster(key: ObjectKey, *sets: ServiceChainSet, trouble: str | None = None) -> Cluster:
    return Cluster(key, trouble, sets)


def at(key: ObjectKey, standing: str, turn: str | None = None, *, trouble: str | None = None) -> Cluster:
    return cluster(key, chain_set(standing, turn, uid=key.name), trouble=trouble)


def outcome(holder: ObjectKey | None, *clusters: Cluster) -> tuple[str, list[tuple[str, str | None]]]:
    """Who has the turn afterwards, and the writes."""
    decision = decide(holder, clusters)
    return decision.holder.name if decision.holder else "", [(write.cluster.name, write.value) for write in decision.writes]


@pytest.mark.parametrize(
    ("standing", "turn", "part", "has"),
    [
        (WAITING, "5", True, True),
        (STOPPED, "5", True, True),
        (WAITING, None, True, False),
        (WAITING, "4", True, False),
        (WAITING, "", True, False),
        (OLD, "5", False, False),
        (SILENT, "5", False, False),
        (DONE, "5", False, False),
        (PAUSED, "5", False, False),
        (UNKNOWN, "5", False, False),
    ],
)
def test_a_turn_holds_for_the_generation_of_a_set_that_takes_part(standing: str, turn: str | None, part: bool, has: bool) -> None:
    item = chain_set(standing, turn)
    assert (takes_part(item), has_turn(item), waits(item)) == (part, has, part and not has)


def test_a_set_that_no_host_controller_made_waits_for_nobody() -> None:
    assert has_turn(chain_set(SILENT, labels={}))
    assert not waits(chain_set(WAITING, labels={}))


@pytest.mark.parametrize(
    ("holder", "clusters", "expected"),
    [
        pytest.param(None, [at(A, DONE), at(B, PAUSED), at(C, UNKNOWN)], ("", []), id="nobody wants it"),
        pytest.param(None, [at(C, WAITING), at(B, WAITING), at(A, DONE)], ("b", [("b", "5")]), id="the first by key"),
        pytest.param(None, [at(A, WAITING, trouble="is away"), at(B, WAITING)], ("b", [("b", "5")]), id="of those that can be reached"),
        pytest.param(None, [at(A, SILENT), at(B, OLD), at(C, STOPPED)], ("c", [("c", "5")]), id="of those that say that they want it"),
        pytest.param(None, [at(A, WAITING), at(B, WAITING, "5")], ("b", []), id="the record was lost"),
        pytest.param(B, [at(A, WAITING), at(B, WAITING)], ("b", [("b", "5")]), id="recorded, not told yet"),
        pytest.param(B, [at(A, WAITING), at(B, WAITING, "5")], ("b", []), id="kept while it restarts"),
        pytest.param(B, [at(A, WAITING), at(B, STOPPED, "5")], ("b", []), id="kept when it has stopped"),
        pytest.param(B, [at(A, WAITING), at(B, WAITING, "4")], ("b", [("b", "5")]), id="renewed for a change"),
        pytest.param(B, [at(A, WAITING), at(B, OLD, "4")], ("b", []), id="kept until the change is looked at"),
        pytest.param(B, [at(A, WAITING), at(B, DONE, "5", trouble="is away")], ("b", []), id="kept by one that cannot be asked"),
        pytest.param(B, [at(A, WAITING), cluster(B, trouble="is away")], ("b", []), id="kept by one of which nothing is known"),
        pytest.param(B, [at(A, WAITING), at(B, DONE, "5")], ("b", [("b", None)]), id="taken off when it is done"),
        pytest.param(B, [at(A, WAITING), at(B, PAUSED, "5")], ("b", [("b", None)]), id="taken off when it is paused"),
        pytest.param(B, [at(A, WAITING), at(B, DONE)], ("a", [("a", "5")]), id="passed on after that"),
        pytest.param(B, [at(A, DONE), at(B, DONE)], ("", []), id="given back"),
        pytest.param(B, [at(A, WAITING), at(B, OLD)], ("a", [("a", "5")]), id="what never had it has begun nothing"),
        pytest.param(B, [at(A, WAITING), at(C, WAITING)], ("a", [("a", "5")]), id="its DPUCluster is gone"),
        pytest.param(B, [at(A, WAITING, "5"), at(B, WAITING, "5")], ("b", [("a", None)]), id="a cluster that was gone and is back"),
    ],
)
def test_whose_turn_it_is(holder: ObjectKey | None, clusters: list[Cluster], expected: Any) -> None:
    assert outcome(holder, *clusters) == expected
    assert outcome(holder, *reversed(clusters)) == expected


def test_every_set_of_the_cluster_that_takes_part_has_the_turn_until_none_does() -> None:
    sets = [chain_set(WAITING, name="x"), chain_set(DONE, "5", name="y"), chain_set(DONE, name="z"), chain_set(OLD, "4", name="w")]
    decision = decide(A, [cluster(A, *sets), at(B, WAITING)])
    assert decision.holder == A
    assert {(write.item.metadata.name, write.value) for write in decision.writes} == {("x", "5"), ("y", None)}


def test_a_set_that_is_being_deleted_holds_nobody_up() -> None:
    leaving = chain_set(WAITING, "5", deletionTimestamp=NOW)
    assert outcome(A, cluster(A, leaving), at(B, WAITING)) == ("b", [("b", "5")])


def test_two_names_of_one_dpu_cluster_do_not_fight() -> None:
    shared = chain_set(WAITING, "5")
    assert outcome(A, cluster(A, shared), cluster(B, shared)) == ("a", [])


def test_those_who_wait_are_told_whom_for_and_what_to_mend() -> None:
    who = "waits for DPUCluster dpf/a, which has the turn to restart pods for a new serviceMTU"
    assert awaited(at(A, WAITING, "5")) == f"{who}; condition ServiceMTUApplied of its ServiceChainSet ns/chain says how far it is"
    stopped = cluster(A, chain_set(WAITING, "5", name="first"), chain_set(STOPPED, "5", name="second"))
    assert awaited(stopped) == f"{who} and has stopped; condition ServiceMTUApplied of its ServiceChainSet ns/second says what to mend"
    away = awaited(at(A, WAITING, "5", trouble="cannot be reached since noon: no route"))
    assert away == f"{who} and cannot be reached since noon: no route; mend that, or delete the DPUCluster if it is gone for good"
    assert awaited(at(A, DONE)) == who


def test_only_a_change_that_decides_is_looked_at() -> None:
    item = chain_set(WAITING)
    told = msgspec.structs.replace(item.status.conditions[0], message="3 of 4")
    other = msgspec.structs.replace(item, status=msgspec.structs.replace(item.status, conditions=(told,)))
    assert decisive(item) == decisive(other)
    different = [
        None,
        chain_set(WAITING, "5"),
        chain_set(DONE),
        chain_set(STOPPED),
        chain_set(OLD),
        chain_set(PAUSED),
        chain_set(WAITING, uid="x"),
    ]
    assert all(decisive(item) != decisive(changed) for changed in different)
    assert decisive(chain_set(SILENT)) != decisive(chain_set(DONE))
