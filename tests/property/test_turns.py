"""However clusters change, fail and come back, and wherever the host controller dies: nodes of two clusters are never restarted at once,
and all are restarted as soon as all clusters can be reached.

The world is a model: API servers that compare versions, caches that may be behind, DPU controllers that report and begin as they do. What
the host controller decides is decided by the core.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dpuchain.api.chain import ServiceChainSet
from dpuchain.api.meta import ObjectKey
from dpuchain.api.names import BLOCKED, OWNER_UID_LABEL, PENDING, RESTART_TURN_ANNOTATION, SUCCESS
from dpuchain.chain.turns import Cluster, decide, has_turn

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = {"template": {"spec": {"switches": [{"ports": [{"serviceInterface": {"matchLabels": {"a": "b"}}}]}]}}}
CLUSTERS, SETS = ("a", "b"), ("x", "y")
ENOUGH = 200
"""Rounds in which everybody does all that they can."""

clusters = st.sampled_from(CLUSTERS)
places = st.tuples(clusters, st.sampled_from(SETS))
steps = st.one_of(
    st.tuples(st.sampled_from(("change", "turn out")), places, st.integers(0, 2)),
    st.tuples(st.sampled_from(("report", "begin", "end", "pause")), places),
    st.tuples(st.sampled_from(("work", "work", "watch", "cut", "mend")), clusters),
    st.tuples(st.sampled_from(("decide", "write", "kill", "look", "look"))),
)


@dataclass
class Live:
    """A set as its API server has it, and what is the case on its nodes."""

    name: str
    cluster: str
    generation: int = 1
    version: int = 1
    turn: str | None = None
    told: tuple[int, str] = (0, "")
    due: int = 0
    """Nodes to be restarted."""
    paused: bool = False
    restarting: bool = False

    @property
    def seen(self) -> ServiceChainSet:
        """The set as a client reads it."""
        generation, reason = self.told
        metadata = {
            "name": self.name,
            "uid": f"{self.cluster}/{self.name}",
            "generation": self.generation,
            "resourceVersion": str(self.version),
            "labels": {OWNER_UID_LABEL: "u"},
            "annotations": {RESTART_TURN_ANNOTATION: self.turn} if self.turn is not None else {},
        }
        condition = {
            "type": "ServiceMTUApplied",
            "status": str(reason == SUCCESS),
            "reason": reason,
            "observedGeneration": generation,
            "lastTransitionTime": NOW,
        }
        conditions = [condition] if reason else []
        return msgspec.convert({"metadata": metadata, "spec": SPEC, "status": {"conditions": conditions}}, ServiceChainSet)


@dataclass
class Host:
    """A host controller: what its caches show, what it has read of the Lease, and what it is about to write."""

    cached: dict[str, list[ServiceChainSet]] = field(default_factory=dict)
    lease: tuple[int, str] | None = None
    record: str | None = None
    writes: list[tuple[str, ServiceChainSet, str | None]] = field(default_factory=list)


class Fleet:
    """The whole world, one step at a time."""

    def __init__(self) -> None:
        self.sets = {(cluster, name): Live(name, cluster) for cluster in CLUSTERS for name in SETS}
        self.away: set[str] = set()
        self.lease = (0, "")
        self.host = Host()
        self.kill()

    def do(self, what: str, *about: Any) -> None:
        getattr(self, what.replace(" ", "_"))(*about)
        restarting = {live.cluster for live in self.sets.values() if live.restarting}
        assert len(restarting) <= 1, "nodes of two clusters are restarted at once"
        assert len({live.cluster for live in self.sets.values() if has_turn(live.seen)}) <= 1, "two have the turn"

    def change(self, place: tuple[str, str], due: int) -> None:
        live = self.sets[place]
        live.generation, live.version, live.due = live.generation + 1, live.version + 1, due

    def turn_out(self, place: tuple[str, str], due: int) -> None:
        """Pods of an unchanged set turn out to have another MTU than their switch, or to have the right one."""
        self.sets[place].due = due

    def pause(self, place: tuple[str, str]) -> None:
        self.sets[place].paused ^= True

    def report(self, place: tuple[str, str]) -> None:
        """The DPU controller says where restarts stand."""
        live = self.sets[place]
        idle = BLOCKED if live.due else SUCCESS
        told = (live.generation, PENDING if live.restarting or (live.due and not live.paused) else idle)
        if told != live.told:
            live.told, live.version = told, live.version + 1

    def begin(self, place: tuple[str, str]) -> None:
        live = self.sets[place]
        if live.due and not live.paused and not live.restarting and has_turn(live.seen):
            live.restarting = True

    def end(self, place: tuple[str, str]) -> None:
        live = self.sets[place]
        if live.restarting:
            live.restarting, live.due = False, max(0, live.due - 1)

    def work(self, cluster: str) -> None:
        """The DPU controller of a cluster does all that it can but end a restart."""
        for place in ((cluster, name) for name in SETS):
            self.do("report", place)
            self.do("begin", place)

    def cut(self, cluster: str) -> None:
        self.away.add(cluster)

    def mend(self, cluster: str) -> None:
        self.away.discard(cluster)

    def watch(self, cluster: str) -> None:
        """The host controller's cache of a cluster catches up."""
        if cluster not in self.away:
            self.host.cached[cluster] = [live.seen for (at, _), live in self.sets.items() if at == cluster]

    def kill(self) -> None:
        self.host = Host()
        for cluster in CLUSTERS:
            self.watch(cluster)

    def decide(self) -> None:
        """The host controller looks at the world as its caches show it."""
        host = self.host
        lease = host.lease if host.lease is not None else self.lease
        clusters = [
            Cluster(ObjectKey("", name), "is away" if name in self.away or name not in host.cached else None, host.cached.get(name, ()))
            for name in CLUSTERS
        ]
        decision = decide(ObjectKey("", lease[1]) if lease[1] else None, clusters)
        holder = decision.holder.name if decision.holder is not None else ""
        host.lease, host.record = lease, holder if holder != lease[1] else None
        host.writes = [(write.cluster.name, write.item, write.value) for write in decision.writes]

    def write(self) -> None:
        """The host controller does its next write: the Lease first."""
        host = self.host
        if host.record is not None:
            assert host.lease == self.lease, "nobody else writes it"
            self.lease = host.lease = (self.lease[0] + 1, host.record)
            host.record = None
        elif host.writes:
            cluster, item, value = host.writes.pop(0)
            live = self.sets[cluster, item.metadata.name]
            if cluster not in self.away and str(live.version) == item.metadata.resource_version:
                live.turn, live.version = value, live.version + 1

    def look(self) -> None:
        """The host controller does all that it can."""
        for cluster in CLUSTERS:
            self.do("watch", cluster)
        for what in ("decide", *("write" for _ in range(1 + len(self.sets)))):
            self.do(what)

    def settle(self) -> None:
        """Everybody does what they can until nothing is left to do."""
        for cluster in CLUSTERS:
            self.do("mend", cluster)
        for live in self.sets.values():
            live.paused = False
        for _ in range(ENOUGH):
            for cluster in CLUSTERS:
                self.do("work", cluster)
            for place in self.sets:
                self.do("end", place)
                self.do("report", place)
            self.do("look")
            if self.lease[1] == "" and not any(live.due or live.restarting or live.turn for live in self.sets.values()):
                return
        raise AssertionError(f"not done: {self.lease} {list(self.sets.values())}")


A_BEGINS_WHAT_IT_HAS_NOT_TOLD = [
    *[("change", (cluster, "x"), 1) for cluster in CLUSTERS],
    *[step for cluster in CLUSTERS for step in (("work", cluster), ("look",))],
    *[("begin", ("a", "x")), ("end", ("a", "x")), ("report", ("a", "x"))],
    *[("turn out", ("a", "x"), 1), ("begin", ("a", "x"))],
    *[("look",), ("look",), ("work", "b")],
]


@example(A_BEGINS_WHAT_IT_HAS_NOT_TOLD)
@settings(max_examples=500)
@given(st.lists(steps, min_size=20, max_size=60))
def test_clusters_take_turns_and_all_get_done(sequence: list[Any]) -> None:
    fleet = Fleet()
    for step in sequence:
        fleet.do(*step)
    fleet.settle()
