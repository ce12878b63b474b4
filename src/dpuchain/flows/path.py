"""One hop of a frame on a DPU: what the compiled flows say, what the switch says, and where the frame is then."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import msgspec

from dpuchain.api.chain import ServiceChain
from dpuchain.api.interface import ServiceInterface
from dpuchain.api.kubernetes import Pod
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.names import CHAIN_SET_NAME_LABEL, INTERFACE_SET_NAME_LABEL
from dpuchain.chain.mtu import carries, in_claim_order
from dpuchain.chain.ports import pod_dpf_id, service_of
from dpuchain.chain.resolve import NodeWorld, Resolution, ResolvedPort, interface_problem
from dpuchain.flows.model import VLAN_PRESENT, FlowState
from dpuchain.flows.packets import Packet
from dpuchain.flows.simulate import simulate
from dpuchain.flows.trace import Answer, Departure, Hop


class Place(NamedTuple):
    """A port of a switch of a chain."""

    port: ResolvedPort
    chain: ObjectKey
    number: int

    def __str__(self) -> str:
        return f"switch {self.number} of ServiceChain {self.chain}"


@dataclass(frozen=True)
class Picture:
    """What an agent has worked out of its node, and what it saw of the switch."""

    world: NodeWorld
    chains: Sequence[ServiceChain]
    resolutions: Mapping[ObjectKey, Resolution]
    compiled: FlowState
    """The flows that should be there, with the entries that the switch has learned."""
    bridge: str
    bridges: Mapping[str, Collection[str]]
    """Names of the ports of each bridge."""
    patches: Mapping[str, str]
    """The bridge behind each patch port of `bridge`."""

    @cached_property
    def places(self) -> Mapping[tuple[str, int | None], Place]:
        """The ports of all switches, by device and VLAN."""
        return {
            (port.port.name, port.vlan): Place(port, chain, number)
            for chain, resolution in self.resolutions.items()
            for number, switch in enumerate(resolution.switches)
            for port in switch.ports
        }

    @cached_property
    def by_interface(self) -> Mapping[ObjectKey, Place]:
        """The ports of all switches, by the interface that each is."""
        return {place.port.interface: place for place in self.places.values()}

    def place_at(self, port: str, tags: tuple[int, ...]) -> Place | None:
        """The port of a switch that a frame with such tags is at; None if it is at none."""
        vlan = tags[0] & 0xFFF if tags else None
        return self.places.get((port, vlan)) or self.places.get((port, None))

    def title(self, place: Place) -> str:
        """What people call the interface at a place, and its device if that is called otherwise."""
        return str(Departure(place.port.port.name, called=called(self.world.by_key[place.port.interface])))

    def named(self, departure: Departure) -> Departure:
        """The departure with the name of the interface that is there."""
        place = self.place_at(departure.port, departure.tags)
        name = called(self.world.by_key[place.port.interface]) if place is not None else ""
        return msgspec.structs.replace(departure, called=name)

    @cached_property
    def names(self) -> Mapping[int, str]:
        """Device by the number of its port."""
        return {port.ofport: port.name for port in self.world.ports.values() if port.ofport is not None}


class NoSuchInterface(LookupError):
    """No interface of the node is meant by a name, or several are; says which there are."""


def find(world: NodeWorld, name: str, namespace: str = "") -> ServiceInterface:
    """The interface of the node that a person calls `name`: by its DPUServiceInterface, by its own name, or by its port.

    NoSuchInterface if there is none, or if several are called so.
    """
    here = [item for item in world.interfaces if namespace in ("", item.metadata.namespace)]
    found = [item for item in here if name in (called(item), item.metadata.name)]
    if not found:
        marks = {mark for mark, port in world.ports.items() if port.name == name}
        found = [item for item in here if not marks.isdisjoint(_marks(item, world))]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(sorted(str(key_of(item)) for item in found))
        raise NoSuchInterface(f"{name!r:.100} means {len(found)} interfaces of node {world.node}: {names}; use the name of one")
    names = ", ".join(sorted({called(item) for item in here})) or "none"
    raise NoSuchInterface(f"node {world.node} has no interface {name!r:.100}; it has {names}")


def called(interface: ServiceInterface) -> str:
    """What people call an interface: as its DPUServiceInterface, if it is of one."""
    return interface.metadata.labels.get(INTERFACE_SET_NAME_LABEL, interface.metadata.name)


def _marks(item: ServiceInterface, world: NodeWorld) -> set[str]:
    service = service_of(item)
    if service is None:
        return {str(key_of(item))}
    return {pod_dpf_id(key_of(pod), service.interface_name) for pod in world.pods}


def lost_before(picture: Picture, interface: ServiceInterface, chain: str) -> Hop | None:
    """Where a frame ends that would come in by `interface`, if it does so before any switch; `chain` is the one meant, if any."""
    place = picture.by_interface.get(key_of(interface))
    problem = interface_problem(interface, picture.world)
    problems: tuple[str, ...] = ()
    if place is None:
        problems = (problem,) if problem is not None else _unchained(picture, interface)
    elif place.port.port.link_up is False:
        problems = place.port.problems
    elif chain and chain not in _names_of(picture, place.chain):
        problems = (f"it is a port of {place}, and none of chain {chain}",)
    return Hop(kind="lost", name=called(interface), problems=problems) if problems else None


def _names_of(picture: Picture, key: ObjectKey) -> set[str]:
    labels = next((chain.metadata.labels for chain in picture.chains if key_of(chain) == key), {})
    return {key.name, labels.get(CHAIN_SET_NAME_LABEL, key.name)}


def _unchained(picture: Picture, interface: ServiceInterface) -> tuple[str, ...]:
    """Why an interface that has a port is none of a switch: what is wrong with its switch, or that it is in no chain."""
    for chain in in_claim_order(picture.chains):
        resolution = picture.resolutions.get(key_of(chain))
        if chain.metadata.namespace != interface.metadata.namespace or resolution is None:
            continue
        for spec, switch in zip(chain.spec.switches, resolution.switches, strict=True):
            if switch.problems and any(carries(interface, port.service_interface.match_labels) for port in spec.ports):
                return switch.problems
    return (f"no chain of node {picture.world.node} has it as a port; name its labels in a switch of a DPUServiceChain",)


@dataclass(frozen=True)
class Entry:
    """A frame that is about to come in by a port of a switch."""

    place: Place
    packet: Packet

    @classmethod
    def by(cls, place: Place, packet: Packet) -> Entry:
        """A frame as it comes from behind a port; from behind a VLAN, with its tag."""
        vlan = place.port.vlan
        return cls(place, packet if vlan is None else replace(packet, tags=(VLAN_PRESENT | vlan, *packet.tags)))

    @property
    def number(self) -> int:
        """The number of the port."""
        number = self.place.port.port.ofport
        assert number is not None, "a port of a switch has one"
        return number


class Arrival(NamedTuple):
    """Where a frame is after a switch, and the ports by which a service may pass it on."""

    hop: Hop
    entries: tuple[Entry, ...] = ()


def judge(picture: Picture, entry: Entry, theirs: Answer) -> tuple[Hop, tuple[Arrival, ...]]:
    """The switch that a frame enters, with both answers, and where it is then, as the switch itself has it."""
    sent = simulate(picture.compiled, entry.packet.frame, entry.number).sent
    hidden = entry.packet.tags[1:]  # simulate sees one tag; those behind it stay as they are
    left = (picture.named(Departure(picture.names.get(s.port, f"port {s.port}"), (*s.tags, *hidden))) for s in sent)
    ours = tuple(sorted(left, key=str))
    theirs = msgspec.structs.replace(theirs, departures=tuple(map(picture.named, theirs.departures)))
    hop = Hop(
        kind="switch",
        name=str(entry.place),
        enters=picture.title(entry.place),
        interface=str(entry.place.port.interface),
        ours=ours,
        theirs=theirs.departures,
        rules=theirs.rules,
        differs=_difference(picture, ours, theirs),
        problems=entry.place.port.problems,
    )
    if not theirs.departures:
        return hop, (Arrival(Hop(kind="lost", name=hop.name, problems=_drop_causes(picture, entry, ours, theirs))),)
    return hop, tuple(_arrive(picture, departure, ours, entry.packet) for departure in theirs.departures)


def _difference(picture: Picture, ours: Sequence[Departure], theirs: Answer) -> str:
    """How the two answers differ; empty if they do not. What lies behind a patch is not ours to tell."""
    patched = [departure for departure in ours if departure.port in picture.patches]
    elsewhere = {name for bridge in theirs.bridges if bridge != picture.bridge for name in picture.bridges.get(bridge, ())}
    returns = theirs.bridges.count(picture.bridge) > 1
    missing = [d for d in ours if d not in theirs.departures and d not in patched]
    missing += [d for d in patched if picture.patches[d.port] not in theirs.bridges]
    surplus = [d for d in theirs.departures if d not in ours and not (patched and (d.port in elsewhere or returns))]
    parts = []
    if missing:
        parts.append(f"the compiled flows send to {', '.join(map(str, missing))}, the switch does not")
    if surplus:
        parts.append(f"the switch sends to {', '.join(map(str, surplus))}, the compiled flows do not")
    return "; ".join(parts)


def _arrive(picture: Picture, departure: Departure, ours: Sequence[Departure], packet: Packet) -> Arrival:
    place = picture.place_at(departure.port, departure.tags)
    other = next((name for name, ports in picture.bridges.items() if name != picture.bridge and departure.port in ports), None)
    if other is not None:
        way = next((d.port for d in ours if picture.patches.get(d.port) == other), "")
        back = picture.places.get((way, None))
        end = Hop(kind="end", name=str(departure), interface=str(back.port.interface) if back is not None else "")
        return Arrival(Hop(kind="bridge", name=f"bridge {other}", enters=way, onward=(end,)))
    if place is None:
        return Arrival(Hop(kind="end", name=str(departure), problems=("this port is none of a chain's",)))
    interface, problems = picture.world.by_key[place.port.interface], place.port.problems
    if service_of(interface) is not None:
        inner = departure.tags[1:] if place.port.vlan is not None else departure.tags
        return _serve(picture, interface, place, replace(packet, tags=inner))
    if place.port.port.link_up is False:
        return Arrival(Hop(kind="lost", name=str(departure), problems=problems))
    return Arrival(Hop(kind="end", name=str(departure), interface=str(place.port.interface), problems=problems))


def _serve(picture: Picture, interface: ServiceInterface, place: Place, packet: Packet) -> Arrival:
    """The service behind a port; its frames come back by the other interfaces of the same pod."""
    service, port, problems = service_of(interface), place.port.port, place.port.problems
    assert service is not None, "asked of a service's interface"
    pod = pod_at(picture, place)
    name = f"service {service.service_id}, pod {key_of(pod).name if pod is not None else '(gone)'}"
    hop = Hop(kind="service", name=name, enters=service.interface_name, problems=problems)
    if port.link_up is False:
        return Arrival(_then(hop, Hop(kind="lost", name=name, problems=problems)))
    if pod is None or not pod.ready:
        return Arrival(_then(hop, Hop(kind="unsure", name=name, problems=problems)))
    entries = tuple(Entry.by(other, packet) for other in _others(picture, place, pod))
    if not entries:
        return Arrival(_then(hop, Hop(kind="end", name=f"{service.interface_name} of {name}", interface=str(key_of(interface)))))
    return Arrival(hop, entries)


def pod_at(picture: Picture, place: Place) -> Pod | None:
    """The pod that a port of a service belongs to; None if it is gone, or if the port is none of a service."""
    service = service_of(picture.world.by_key[place.port.interface])
    if service is None:
        return None
    return next((p for p in picture.world.pods if place.port.port.dpf_id == pod_dpf_id(key_of(p), service.interface_name)), None)


def _then(hop: Hop, *onward: Hop) -> Hop:
    return msgspec.structs.replace(hop, onward=onward)


def _others(picture: Picture, place: Place, pod: Pod) -> list[Place]:
    return [other for other in picture.places.values() if other != place and pod_at(picture, other) == pod]


def _drop_causes(picture: Picture, entry: Entry, ours: Sequence[Departure], theirs: Answer) -> tuple[str, ...]:
    """Why a frame leaves by no port."""
    rule = theirs.rules[-1] if theirs.rules else "no rule"
    if ours:
        return (f"the switch drops it, which the compiled flows do not: {rule}",)
    switch = picture.resolutions[entry.place.chain].switches[entry.place.number]
    return switch.problems or (f"the flows of the chain drop it: {rule}",)
