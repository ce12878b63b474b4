"""From switches, as lists of ports, to flows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from dpuchain.api.meta import ObjectKey
from dpuchain.chain.ports import SwitchPort
from dpuchain.chain.vlans import LARGEST_VLAN
from dpuchain.flows.identity import number_owners
from dpuchain.flows.model import (
    VLAN_PRESENT,
    Action,
    Condition,
    Flow,
    FlowState,
    Learn,
    LoadCopy,
    Match,
    MatchCopy,
    MatchValue,
    Output,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
)
from dpuchain.flows.pipeline import (
    HINT,
    LARGEST_PORT,
    LEARNED_KIND,
    LEARNED_SECONDS,
    METADATA,
    ORIGIN,
    PIPELINE,
    STATIC_KIND,
    TAG_TYPES,
    TARGET,
    cookie,
    metadata,
    register,
)

CLASSIFY = PIPELINE.table("classify").number
LEARNED = PIPELINE.learning("classify", "learned")
FORWARD = PIPELINE.table("forward").number
LEAVE = PIPELINE.table("leave").number
_PORT = PIPELINE.priority("classify", "port")
_RESERVED = PIPELINE.priority("classify", "reserved")
_VLAN = PIPELINE.priority("classify", "vlan")
_STATION = PIPELINE.priority("learned", "station")
_HOME = PIPELINE.priority("forward", "home")
_MEMBER = PIPELINE.priority("forward", "member")
_SHARED = PIPELINE.priority("forward", "shared")
_FLOOD = PIPELINE.priority("forward", "flood")
_LEAVE_PORT = PIPELINE.priority("leave", "port")
_LEAVE_HIDDEN = PIPELINE.priority("leave", "hidden")
_LEAVE_RESERVED = PIPELINE.priority("leave", "reserved")
_READ_HINT = Resubmit(PIPELINE.edge("classify", "learned"))
_DECIDE = Resubmit(PIPELINE.edge("classify", "forward"))
_CHECK_TAG = Resubmit(PIPELINE.edge("forward", "leave"))
_FORGET_PORT = SetField("in_port", 0)

# What an entry is made of. The bit of a source address that would make it a group address (bit 40) is not copied but zero: no frame can
# teach a switch where "everyone" lives. VLANs learn apart, so a service that passes a frame on in another VLAN does not move the
# stations.
_ENTRY = (
    MatchCopy(METADATA.name, 0, METADATA.width, METADATA.name, 0),
    MatchCopy("vlan_vid", 0, 12, "vlan_vid", 0),
    MatchCopy("eth_dst", 0, 40, "eth_src", 0),
    MatchValue("eth_dst", 40, 1, 0),
    MatchCopy("eth_dst", 41, 7, "eth_src", 41),
    LoadCopy(HINT.name, 0, HINT["vlan"].first + HINT["vlan"].bits, ORIGIN.name, 0),
)


class InvalidSwitchError(ValueError):
    """A port number or a VLAN that no flow can name, or a port that two switches, or one switch twice, claim. What resolves chains must
    not let it come so far.
    """


@dataclass(frozen=True)
class ChainSwitches:
    """The switches of one chain as their ports on the bridge, in the order of the chain."""

    owner: ObjectKey
    switches: tuple[tuple[SwitchPort, ...], ...]

    @classmethod
    def of_ports(cls, owner: ObjectKey, switches: Iterable[Iterable[int]]) -> ChainSwitches:
        """Switches of whole ports, by their numbers."""
        return cls(owner, tuple(tuple(map(SwitchPort, ports)) for ports in switches))


def compile_switches(chains: Sequence[ChainSwitches], reserved: Collection[SwitchPort] = ()) -> FlowState:
    """The flows that make a bridge forward among the ports of each switch, and nowhere else.

    `reserved` are VLANs that are interfaces of their own, be they in a switch or not: their frames are not those of the port that they
    are on. The same chains, in any order, give equal states. A switch with fewer than two ports gets no flows of its own.
    InvalidSwitchError if a port is claimed twice.
    """
    numbers = number_owners(chain.owner for chain in chains)
    _check(chains)
    apart = _vlans_of_ports([*reserved, *(port for chain in chains for ports in chain.switches for port in ports)])
    flows: list[Flow] = []
    for chain in sorted(chains, key=lambda chain: chain.owner):
        for position, ports in enumerate(chain.switches):
            if len(ports) > 1:
                members = tuple(sorted(ports, key=register))
                flows.extend(_Switch(numbers[chain.owner], position, members, apart).flows())
    return FlowState(frozenset(flows))


def _check(chains: Iterable[ChainSwitches]) -> None:
    claims: dict[SwitchPort, tuple[ObjectKey, int]] = {}
    for chain in sorted(chains, key=lambda chain: chain.owner):
        for position, ports in enumerate(chain.switches):
            for port in ports:
                _claim(claims, port, chain.owner, position)


def _claim(claims: dict[SwitchPort, tuple[ObjectKey, int]], port: SwitchPort, owner: ObjectKey, position: int) -> None:
    where = f"{owner}, switch {position}"
    if not 1 <= port.number <= LARGEST_PORT:
        raise InvalidSwitchError(f"{where}: port number {port.number} lies outside 1..{LARGEST_PORT}")
    if port.vlan is not None and not 1 <= port.vlan <= LARGEST_VLAN:
        raise InvalidSwitchError(f"{where}: VLAN {port.vlan} of port {port.number} lies outside 1..{LARGEST_VLAN}")
    if port in claims:
        holder, held = claims[port]
        raise InvalidSwitchError(f"{where}: {port} is a port of {holder}, switch {held}, already")
    claims[port] = owner, position


def _vlans_of_ports(ports: Iterable[SwitchPort]) -> dict[int, list[int]]:
    vlans: dict[int, set[int]] = {}
    for port in ports:
        if port.vlan is not None:
            vlans.setdefault(port.number, set()).add(port.vlan)
    return {number: sorted(found) for number, found in vlans.items()}


@dataclass(frozen=True)
class _Switch:
    """A switch of two ports or more. `apart` has the VLANs of each port of the bridge that are interfaces of their own."""

    owner: int
    position: int
    ports: tuple[SwitchPort, ...]
    apart: dict[int, list[int]]

    def flows(self) -> Iterator[Flow]:
        for port in self.ports:
            yield from self._apart(port)
        if len(self.ports) == 2:
            first, second = self.ports
            yield self._enter(first, self._send(second))
            yield self._enter(second, self._send(first))
        else:
            yield from self._learning()

    def _enter(self, port: SwitchPort, actions: tuple[Action, ...]) -> Flow:
        """What becomes of a frame that comes in by `port`: without its tag, where it has one, and ready to go back where it came from."""
        forget = (_FORGET_PORT,) if self._shares(port) else ()
        cookie = self._cookie(port)
        if port.vlan is None:
            return Flow(CLASSIFY, _PORT, (("in_port", port.number, None),), (*forget, *actions), cookie)
        return Flow(CLASSIFY, _VLAN, _tagged(port.number, port.vlan), (PopVlan(), *forget, *actions), cookie)

    def _apart(self, port: SwitchPort) -> Iterator[Flow]:
        """The flows that keep `port` and the VLANs on it apart."""
        if not self._is_guarded(port):
            return
        target: Condition = (TARGET.name, TARGET["port"].place(port.number), None)
        yield Flow(LEAVE, _LEAVE_PORT, (target,), (Output(port.number),), self._cookie(port))
        for kind in TAG_TYPES:
            hidden: Match = (("eth_type", kind, None), target, ("vlan_vid", 0, None))
            yield Flow(LEAVE, _LEAVE_HIDDEN, hidden, (), self._cookie(port))
        for vlan in self.apart[port.number]:
            yield Flow(CLASSIFY, _RESERVED, _tagged(port.number, vlan), (), self._cookie(port))
            yield Flow(LEAVE, _LEAVE_RESERVED, (target, ("vlan_vid", VLAN_PRESENT | vlan, None)), (), self._cookie(port))

    def _is_guarded(self, port: SwitchPort) -> bool:
        return port.vlan is None and port.number in self.apart

    @cached_property
    def _shared(self) -> frozenset[int]:
        """Numbers of the ports of the bridge that carry more than one port of the switch."""
        return frozenset(number for number, count in Counter(port.number for port in self.ports).items() if count > 1)

    def _shares(self, port: SwitchPort) -> bool:
        return port.number in self._shared

    def _send(self, port: SwitchPort) -> tuple[Action, ...]:
        if port.vlan is not None:
            return PushVlan(), SetField("vlan_vid", VLAN_PRESENT | port.vlan), Output(port.number)
        if self._is_guarded(port):
            return SetField(TARGET.name, TARGET["port"].place(port.number)), _CHECK_TAG
        return (Output(port.number),)

    def _send_all(self, ports: Iterable[SwitchPort]) -> tuple[Action, ...]:
        """To the ports that take the frame as it is first: a tag that was pushed stays on."""
        actions: list[Action] = []
        for port in sorted(ports, key=lambda port: (port.vlan is not None, register(port))):
            sending = self._send(port)
            actions += sending[1:] if sending[0] in actions and port.vlan is not None else sending
        return tuple(actions)

    def _learning(self) -> Iterator[Flow]:
        mark = metadata(self.owner, self.position)
        of_switch: Condition = (METADATA.name, mark, None)
        for port in self.ports:
            hint: Condition = (HINT.name, register(port), None)
            origin: Condition = (ORIGIN.name, register(port), None)
            learn = Learn(LEARNED, _STATION, cookie(LEARNED_KIND, self.owner, port.number), LEARNED_SECONDS, _ENTRY)
            marks = SetField(METADATA.name, mark), SetField(ORIGIN.name, register(port))
            yield self._enter(port, (*marks, learn, _READ_HINT, _DECIDE))
            yield Flow(FORWARD, _MEMBER, (of_switch, hint), self._send(port), self._cookie(port))
            if self._shares(port):
                yield Flow(FORWARD, _HOME, (of_switch, hint, origin), (), self._cookie(port))
                others = self._send_all(other for other in self.ports if other != port)
                yield Flow(FORWARD, _SHARED, (of_switch, origin), others, self._cookie(port))
        yield Flow(FORWARD, _FLOOD, (of_switch,), self._send_all(self.ports), cookie(STATIC_KIND, self.owner))

    def _cookie(self, port: SwitchPort) -> int:
        return cookie(STATIC_KIND, self.owner, port.number)


def _tagged(number: int, vlan: int) -> Match:
    return ("in_port", number, None), ("vlan_vid", VLAN_PRESENT | vlan, None)
