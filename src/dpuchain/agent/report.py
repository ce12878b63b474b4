"""A node as its agent sees it, put together for who asks. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from dpuchain.agent.evidence import Evidence, Subject
from dpuchain.agent.switch import Resolved
from dpuchain.api.chain import ServiceChain
from dpuchain.api.interface import ServiceInterface
from dpuchain.api.meta import Object, ObjectKey, key_of
from dpuchain.api.names import CHAIN_SET_NAME_LABEL
from dpuchain.chain.ports import service_of
from dpuchain.chain.report import Chain, Port, Switch, smallest
from dpuchain.chain.resolve import ResolvedPort, place_of
from dpuchain.flows.compile import CLASSIFY
from dpuchain.flows.diff import shortfalls
from dpuchain.flows.identity import number_owners
from dpuchain.flows.model import VLAN_PRESENT, Flow, FlowState
from dpuchain.flows.path import called
from dpuchain.flows.pipeline import COOKIE, LEARNED_KIND, is_ours, is_probe
from dpuchain.ovs.decode import Counted, PortCounters


@dataclass(frozen=True)
class Counts:
    """All flows of the bridge and the counters of its ports, as they are now."""

    flows: Sequence[Counted]
    ports: Mapping[int, PortCounters]

    @property
    def learned(self) -> int:
        """How many entries the switches have learned."""
        return sum(is_ours(flow.cookie) and COOKIE["kind"].read(flow.cookie) == LEARNED_KIND for flow, *_ in self.flows)

    @property
    def foreign(self) -> int:
        """How many flows are not dpuchain's."""
        return sum(not is_ours(flow.cookie) and not is_probe(flow.cookie) for flow, *_ in self.flows)

    @property
    def static(self) -> list[Counted]:
        """The flows that were compiled."""
        return [item for item in self.flows if is_ours(item.flow.cookie) and COOKIE["kind"].read(item.flow.cookie) != LEARNED_KIND]


class Reporter:
    """Puts the resolved of a pass and the counters of the switch together."""

    def __init__(self, resolved: Resolved, evidence: Evidence, counts: Counts) -> None:
        self._resolved = resolved
        self._evidence = evidence
        self._counts = counts
        self._static = counts.static
        self._entered: Counter[tuple[int, int | None]] = Counter()
        self._flows: Counter[tuple[int, int]] = Counter()
        for flow, packets, _ in self._static:
            self._flows[COOKIE["owner"].read(flow.cookie), COOKIE["port"].read(flow.cookie)] += 1
            if flow.table == CLASSIFY:
                self._entered[entrance(flow)] += packets
        self._numbers = number_owners(resolved.resolutions)

    def chains(self, chains: Sequence[ServiceChain]) -> tuple[Chain, ...]:
        """What is to be told of each chain, by key."""
        actual = FlowState(frozenset(item.flow for item in self._static))
        off = shortfalls(actual, self._resolved.desired)
        wanted = Counter(COOKIE["owner"].read(flow.cookie) for flow in self._resolved.desired.flows)
        return tuple(self._chain(chain, wanted, off) for chain in sorted(chains, key=key_of))

    def _chain(self, chain: ServiceChain, wanted: Mapping[int, int], off: Mapping[int, tuple[int, int]]) -> Chain:
        key = key_of(chain)
        number = self._numbers.get(key, 0)
        missing, surplus = off.get(number, (0, 0))
        resolution = self._resolved.resolutions.get(key)
        switches = []
        for spec, found in zip(chain.spec.switches, resolution.switches if resolution is not None else (), strict=resolution is not None):
            ports = tuple(self._port(self._resolved.world.by_key[port.interface], port, number) for port in found.ports)
            switches.append(Switch(service_mtu=spec.service_mtu, mtu=smallest(ports), ports=ports, problems=found.problems))
        return Chain(
            chain=str(key),
            called=chain.metadata.labels.get(CHAIN_SET_NAME_LABEL, key.name),
            problems=self._problems(Subject("ServiceChain", key), chain),
            flows=wanted.get(number, 0),
            missing=missing,
            surplus=surplus,
            switches=tuple(switches),
        )

    def interfaces(self, interfaces: Sequence[ServiceInterface]) -> tuple[Port, ...]:
        """What is to be told of each interface, by key, be it part of a chain or not."""
        owners: dict[ObjectKey, ObjectKey] = {
            port.interface: chain
            for chain, resolution in self._resolved.resolutions.items()
            for switch in resolution.switches
            for port in switch.ports
        }
        found = []
        for interface in sorted(interfaces, key=key_of):
            owner = self._numbers.get(owners.get(key_of(interface), ObjectKey("", "")), 0)
            found.append(self._port(interface, place_of(interface, self._resolved.world), owner))
        return tuple(found)

    def _port(self, interface: ServiceInterface, place: ResolvedPort | None, owner: int) -> Port:
        key = key_of(interface)
        problems = self._problems(Subject("ServiceInterface", key), interface)
        service = service_of(interface)
        about = Port(
            interface=str(key),
            called=called(interface),
            type=interface.spec.interface_type,
            service=service.service_id if service is not None else "",
        )
        if place is None:
            return msgspec.structs.replace(about, problems=problems)
        port, number = place.port, place.port.ofport
        counters = self._counts.ports.get(number or 0, PortCounters())
        return msgspec.structs.replace(
            about,
            port=port.name,
            number=number,
            vlan=place.vlan,
            link=None if port.link_up is None else "up" if port.link_up else "down",
            mtu=port.mtu,
            problems=tuple(dict.fromkeys((*problems, *place.problems))),
            flows=self._flows[owner, number or 0] if owner else 0,
            entered=self._entered[number or 0, place.vlan],
            **counters._asdict(),
        )

    def _problems(self, subject: Subject, item: Object) -> tuple[str, ...]:
        if item.metadata.deletion_timestamp is not None:
            return ("is being deleted",)
        verdict = self._evidence.verdict(subject.kind, item)
        if verdict is None:
            return ("has not been looked at yet",)
        return (*verdict.problems, *([verdict.flows_missing] if verdict.flows_missing else []))


def entrance(flow: Flow) -> tuple[int, int | None]:
    """The port and the VLAN that a flow of the first table is for."""
    match = {field: value for field, value, _ in flow.match}
    vlan = match.get("vlan_vid")
    return match.get("in_port", 0), None if vlan is None else vlan & ~VLAN_PRESENT
