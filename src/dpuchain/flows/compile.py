"""From switches, as lists of port numbers, to flows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dpuchain.api.meta import ObjectKey
from dpuchain.flows.identity import number_owners
from dpuchain.flows.model import Flow, FlowState, Learn, LoadCopy, MatchCopy, MatchValue, Output, Resubmit, SetField
from dpuchain.flows.pipeline import HINT, LARGEST_PORT, LEARNED_KIND, LEARNED_SECONDS, METADATA, PIPELINE, STATIC_KIND, cookie, metadata

CLASSIFY = PIPELINE.table("classify").number
LEARNED = PIPELINE.learning("classify", "learned")
FORWARD = PIPELINE.table("forward").number
_PORT = PIPELINE.priority("classify", "port")
_STATION = PIPELINE.priority("learned", "station")
_MEMBER = PIPELINE.priority("forward", "member")
_FLOOD = PIPELINE.priority("forward", "flood")
_READ_HINT = Resubmit(PIPELINE.edge("classify", "learned"))
_DECIDE = Resubmit(PIPELINE.edge("classify", "forward"))

# What an entry is made of. The bit of a source address that would make it a group address (bit 40) is not copied but zero: no frame can
# teach a switch where "everyone" lives. VLANs learn apart, so a service that passes a frame on in another VLAN does not move the
# stations.
_ENTRY = (
    MatchCopy(METADATA.name, 0, METADATA.width, METADATA.name, 0),
    MatchCopy("vlan_vid", 0, 12, "vlan_vid", 0),
    MatchCopy("eth_dst", 0, 40, "eth_src", 0),
    MatchValue("eth_dst", 40, 1, 0),
    MatchCopy("eth_dst", 41, 7, "eth_src", 41),
    LoadCopy(HINT.name, HINT["port"].first, HINT["port"].bits, "in_port", 0),
)


class InvalidSwitchError(ValueError):
    """A port number that no flow can name, or a port that two switches, or one switch twice, claim. What resolves chains must not let it
    come so far.
    """


@dataclass(frozen=True)
class ChainSwitches:
    """The switches of one chain as the numbers of their ports on the bridge, in the order of the chain."""

    owner: ObjectKey
    switches: tuple[tuple[int, ...], ...]


def compile_switches(chains: Sequence[ChainSwitches]) -> FlowState:
    """The flows that make a bridge forward among the ports of each switch, and nowhere else.

    The same chains, in any order, give equal states. A switch with fewer than two ports gets no flows. InvalidSwitchError if a port is
    claimed twice.
    """
    numbers = number_owners(chain.owner for chain in chains)
    claims: dict[int, tuple[ObjectKey, int]] = {}
    flows: list[Flow] = []
    for chain in sorted(chains, key=lambda chain: chain.owner):
        for position, ports in enumerate(chain.switches):
            for port in ports:
                _claim(claims, port, chain.owner, position)
            flows.extend(_switch(numbers[chain.owner], position, tuple(sorted(ports))))
    return FlowState(frozenset(flows))


def _claim(claims: dict[int, tuple[ObjectKey, int]], port: int, owner: ObjectKey, position: int) -> None:
    if not 1 <= port <= LARGEST_PORT:
        message = f"{owner}, switch {position}: port number {port} lies outside 1..{LARGEST_PORT}"
        raise InvalidSwitchError(message)
    if port in claims:
        holder, held = claims[port]
        message = f"{owner}, switch {position}: port {port} is a port of {holder}, switch {held}, already"
        raise InvalidSwitchError(message)
    claims[port] = owner, position


def _switch(owner: int, position: int, ports: tuple[int, ...]) -> Iterator[Flow]:
    if len(ports) == 2:
        first, second = ports
        yield _wire(owner, first, second)
        yield _wire(owner, second, first)
    elif len(ports) > 2:
        yield from _learning_switch(owner, metadata(owner, position), ports)


def _wire(owner: int, source: int, target: int) -> Flow:
    return Flow(CLASSIFY, _PORT, (("in_port", source, None),), (Output(target),), cookie(STATIC_KIND, owner, source))


def _learning_switch(owner: int, mark: int, ports: tuple[int, ...]) -> Iterator[Flow]:
    set_mark = SetField(METADATA.name, mark)
    of_switch = (METADATA.name, mark, None)
    for port in ports:
        static = cookie(STATIC_KIND, owner, port)
        learn = Learn(LEARNED, _STATION, cookie(LEARNED_KIND, owner, port), LEARNED_SECONDS, _ENTRY)
        yield Flow(CLASSIFY, _PORT, (("in_port", port, None),), (set_mark, learn, _READ_HINT, _DECIDE), static)
        yield Flow(FORWARD, _MEMBER, (of_switch, (HINT.name, port, None)), (Output(port),), static)
    yield Flow(FORWARD, _FLOOD, (of_switch,), tuple(Output(port) for port in ports), cookie(STATIC_KIND, owner))
