"""Where a frame goes, by the flows alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from msgspec import Struct

from dpuchain.flows.compile import CLASSIFY
from dpuchain.flows.model import (
    VLAN_PRESENT,
    Action,
    Condition,
    Flow,
    FlowState,
    Learn,
    Load,
    LoadCopy,
    MatchCopy,
    MatchValue,
    Output,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
)


class Frame(Struct, frozen=True):
    """What flows look at. Addresses are numbers of 48 bits; `vlan_vid` is 0 without a tag, else the VLAN's number plus `VLAN_PRESENT`, as
    OpenFlow has it. `eth_type` is what follows the tag, if there is one.
    """

    eth_dst: int
    eth_src: int
    vlan_vid: int = 0
    eth_type: int = 0x88B5


class Sent(NamedTuple):
    """A frame that left by `port`, with its tags, the outermost first; each is the VLAN's number plus `VLAN_PRESENT`."""

    port: int
    tags: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a frame: the ports it left by, and the state after it, in which the switch may have learned an entry."""

    sent: frozenset[Sent]
    state: FlowState

    @property
    def ports(self) -> frozenset[int]:
        """Numbers of the ports that the frame left by, whatever tags it had then."""
        return frozenset(sent.port for sent in self.sent)


def simulate(state: FlowState, frame: Frame, in_port: int) -> Outcome:
    """Send `frame` through the flows of `state`, as Open vSwitch would.

    As there, an entry learned from a frame is not yet seen by that frame, and nothing leaves by the port it came in by. ValueError if a
    flow that matches has an action that none of ours has.
    """
    walk = _Walk(state, frame, in_port)
    walk.look_up(CLASSIFY)
    taught = {entry.key: entry for entry in walk.learned}
    learned = frozenset(entry for entry in state.learned if entry.key not in taught) | frozenset(taught.values())
    return Outcome(frozenset(walk.sent), FlowState(state.flows, learned))


class _Walk:
    """One frame on its way: its fields as they are now, and what it caused so far."""

    def __init__(self, state: FlowState, frame: Frame, in_port: int) -> None:
        self.flows = [*state.flows, *state.learned]
        self.fields = {
            "in_port": in_port,
            "eth_dst": frame.eth_dst,
            "eth_src": frame.eth_src,
            "vlan_vid": frame.vlan_vid,
            "eth_type": frame.eth_type,
            "metadata": 0,
            "reg0": 0,
            "reg1": 0,
            "reg2": 0,
        }
        self.inner: list[int] = []
        self.sent: list[Sent] = []
        self.learned: list[Flow] = []

    def look_up(self, table: int) -> None:
        matching = [flow for flow in self.flows if flow.table == table and self._matches(flow)]
        if matching:
            self._do(max(matching, key=lambda flow: flow.priority).actions)

    def _matches(self, flow: Flow) -> bool:
        return all(self._holds(condition) for condition in flow.match)

    def _holds(self, condition: Condition) -> bool:
        field, value, mask = condition
        if field not in self.fields:
            return False
        actual = self.fields[field]
        return actual == value if mask is None else actual & mask == value & mask

    def _do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Output(port):
                    if port != self.fields["in_port"]:
                        self.sent.append(Sent(port, self._tags()))
                case PushVlan():
                    self.inner[:0] = self._tags()[:1]
                    self.fields["vlan_vid"] = VLAN_PRESENT
                case PopVlan():
                    self.fields["vlan_vid"] = self.inner.pop(0) if self.inner else 0
                case SetField(field, value):
                    self.fields[field] = value
                case Load(field, first, bits, value):
                    kept = self.fields[field] & ~(((1 << bits) - 1) << first)
                    self.fields[field] = kept | value << first
                case Resubmit(table):
                    self.look_up(table)
                case Learn():
                    self.learned.append(self._entry(action))
                case _:
                    message = f"cannot tell what the action {action} does"
                    raise ValueError(message)

    def _tags(self) -> tuple[int, ...]:
        return (self.fields["vlan_vid"], *self.inner) if self.fields["vlan_vid"] else ()

    def _bits(self, field: str, first: int, bits: int) -> int:
        return self.fields[field] >> first & ((1 << bits) - 1)

    def _entry(self, learn: Learn) -> Flow:
        values: dict[str, int] = {}
        masks: dict[str, int] = {}
        actions: list[Action] = []
        for part in learn.parts:
            match part:
                case LoadCopy(field, first, bits, source, source_first):
                    actions.append(Load(field, first, bits, self._bits(source, source_first, bits)))
                    continue
                case MatchCopy(field, first, bits, source, source_first):
                    value = self._bits(source, source_first, bits)
                case MatchValue(field, first, bits, value):
                    pass
            values[field] = values.get(field, 0) | value << first
            masks[field] = masks.get(field, 0) | ((1 << bits) - 1) << first
        whole = {field: (1 << width) - 1 for field, width in _WIDTHS.items()}
        match = tuple((field, values[field], None if masks[field] == whole[field] else masks[field]) for field in sorted(values))
        return Flow(learn.table, learn.priority, match, tuple(actions), learn.cookie, hard_timeout=learn.hard_timeout)


_WIDTHS = {"in_port": 32, "eth_dst": 48, "eth_src": 48, "vlan_vid": 13, "metadata": 64, "reg0": 32, "reg1": 32, "reg2": 32}
