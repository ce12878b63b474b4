"""What an agent tells of its node to who scrapes it: read from the switch and from the latest pass at that moment, never in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dpuchain.agent.evidence import Kind as SubjectKind
from dpuchain.agent.node import NodeObjects
from dpuchain.agent.report import entrance
from dpuchain.agent.switch import Resolved, Switch
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.names import CHAIN_SET_NAME_LABEL
from dpuchain.chain.problems import Kind, Problem
from dpuchain.chain.resolve import place_of
from dpuchain.flows.compile import CLASSIFY, LEAVE
from dpuchain.flows.diff import shortfalls
from dpuchain.flows.model import FlowState
from dpuchain.flows.pipeline import COOKIE, LEARNED_KIND, OURS, OURS_MASK, STATIC_KIND
from dpuchain.kube.cache import Cache
from dpuchain.ovs.decode import Counted, PortCounters
from dpuchain.ovs.errors import OvsError
from dpuchain.ovs.openflow import OpenFlow
from dpuchain.runtime import metrics
from dpuchain.runtime.metrics import Reading

KIND_MASK = OURS_MASK | COOKIE["kind"].mask
CONFLICTS: tuple[Kind, ...] = ("port", "vlan", "switch", "several")
"""The problems of a node that are two objects' at odds."""


@dataclass
class Totals:
    """Counters of the switch made to ones that never fall: a flow that is changed, or a port that is made again, begins anew there."""

    _last: dict[Hashable, float] = field(default_factory=dict)
    _totals: dict[tuple[str, ...], float] = field(default_factory=dict)

    def add(self, counts: Iterable[tuple[tuple[str, ...], Hashable, float]]) -> dict[tuple[str, ...], float]:
        """What each series has come to, by what each source that it is made of says now; a series without a source is forgotten."""
        last: dict[Hashable, float] = {}
        totals: dict[tuple[str, ...], float] = {}
        for series, source, value in counts:
            before = self._last.get((series, source), 0.0)
            last[series, source] = value
            grown = value - before if value >= before else value
            totals[series] = totals.get(series, self._totals.get(series, 0.0)) + grown
        self._last, self._totals = last, totals
        return totals


class Places:
    """Which switch of which chain each port of the bridge, or a VLAN on it, is a port of."""

    def __init__(self, resolved: Resolved, names: Mapping[ObjectKey, str]) -> None:
        """`names` are those that people know the chains by."""
        self.names = names
        self._places: dict[tuple[int, int | None], tuple[str, str]] = {}
        for chain, resolution in resolved.resolutions.items():
            for position, switch in enumerate(resolution.switches):
                for port in switch.ports:
                    self._places[port.port.ofport or 0, port.vlan] = (names.get(chain, str(chain)), str(position))

    @property
    def switches(self) -> set[tuple[str, str]]:
        """Each switch that has a port."""
        return set(self._places.values())

    def of(self, number: int, vlan: int | None = None) -> tuple[str, str] | None:
        """The switch of a port or of a VLAN on it; None if it is in none."""
        return self._places.get((number, vlan))


class Measures:
    """Reads what is so now. Two who ask at once are served one after the other, as counters must not be seen to fall."""

    def __init__(self, objects: NodeObjects, switch: Switch, openflow: OpenFlow) -> None:
        self._objects = objects
        self._switch = switch
        self._openflow = openflow
        self._packets, self._bytes, self._drops = Totals(), Totals(), Totals()
        self._one = asyncio.Lock()

    async def read(self) -> Reading:
        """All that is known; without the switch's own where that cannot be asked."""
        async with self._one:
            found: dict[metrics.Measure, metrics.Values] = {metrics.OBJECTS: self._states()}
            resolved = self._switch.resolved
            if resolved is None:
                return found
            found[metrics.CONFLICTS] = _conflicts(resolved)
            found[metrics.PORTS] = _ports(resolved)
            with contextlib.suppress(OvsError):  # which the readiness tells
                found |= await self._read_switch(resolved)
            return found

    def _states(self) -> metrics.Values:
        counts: dict[str, Counter[str]] = {"ServiceInterface": Counter(), "ServiceChain": Counter()}
        evidence = self._switch.evidence
        caches: dict[SubjectKind, Cache[Any]] = {"ServiceInterface": self._objects.interfaces, "ServiceChain": self._objects.chains}
        for kind, cache in caches.items():
            for item in cache:
                verdict = evidence.verdict(kind, item)
                well = verdict is not None and verdict.works
                counts[kind]["deleting" if item.metadata.deletion_timestamp is not None else "ready" if well else "unready"] += 1
        return {labels: value for kind, of in counts.items() for labels, value in metrics.states(kind, of).items()}

    async def _read_switch(self, resolved: Resolved) -> Reading:
        static, learned, everything, ours, ports = await asyncio.gather(
            self._openflow.read_counted(OURS | COOKIE["kind"].place(STATIC_KIND), KIND_MASK),
            self._openflow.count_flows(OURS | COOKIE["kind"].place(LEARNED_KIND), KIND_MASK),
            self._openflow.count_flows(0, 0),
            self._openflow.count_flows(OURS, OURS_MASK),
            self._openflow.read_ports(),
        )
        names = {
            key_of(chain): f"{chain.metadata.namespace}/{chain.metadata.labels.get(CHAIN_SET_NAME_LABEL, chain.metadata.name)}"
            for chain in self._objects.chains
        }
        places = Places(resolved, names)
        entered = list(_entered(static, places))
        short = shortfalls(FlowState(frozenset(item.flow for item in static)), resolved.desired)
        drops = self._drops.add([*_dropped(static, places), *_dropped_by_devices(ports, places)])
        return {
            metrics.FLOWS: {("compiled",): len(static), ("learned",): learned, ("foreign",): max(0, everything - ours)},
            metrics.FLOWS_MISSING: {(): sum(missing for missing, _ in short.values())},
            metrics.SWITCH_PACKETS: self._packets.add((place, source, counted.packets) for place, source, counted in entered),
            metrics.SWITCH_BYTES: self._bytes.add((place, source, counted.octets) for place, source, counted in entered),
            metrics.SWITCH_DROPS: drops,
        }


def _entered(static: Iterable[Counted], places: Places) -> Iterator[tuple[tuple[str, str], Hashable, Counted]]:
    """The flows that take frames into a switch."""
    for counted in static:
        if counted.flow.table == CLASSIFY and counted.flow.actions:
            where = entrance(counted.flow)
            place = places.of(*where)
            if place is not None:
                yield place, where, counted


def _dropped(static: Iterable[Counted], places: Places) -> Iterator[tuple[tuple[str, ...], Hashable, float]]:
    """The flows that end frames whose tag is another interface's: they guard the port that the cookie names."""
    for place in places.switches:
        yield (*place, "flow"), None, 0
    for flow, packets, _ in static:
        if flow.table in (CLASSIFY, LEAVE) and not flow.actions:
            guarded = places.of(COOKIE["port"].read(flow.cookie))
            if guarded is not None:
                yield (*guarded, "flow"), (flow.table, flow.match), packets


def _dropped_by_devices(ports: Mapping[int, PortCounters], places: Places) -> Iterator[tuple[tuple[str, ...], Hashable, float]]:
    for number, counters in ports.items():
        place = places.of(number)
        if place is not None:
            yield (*place, "device"), number, counters.dropped


def _conflicts(resolved: Resolved) -> metrics.Values:
    told = {problem for problem in resolved.world.refused.values() if isinstance(problem, Problem)}
    told |= {problem for resolution in resolved.resolutions.values() for problem in resolution.problems if isinstance(problem, Problem)}
    counts = Counter(problem.kind for problem in told)
    return {(kind,): counts[kind] for kind in CONFLICTS}


def _ports(resolved: Resolved) -> metrics.Values:
    counts: defaultdict[str, int] = defaultdict(int)
    for interface in resolved.world.interfaces:
        place = place_of(interface, resolved.world)
        counts["missing" if place is None else "up" if place.port.link_up else "down"] += 1
    return {(state,): counts[state] for state in ("up", "down", "missing")}
