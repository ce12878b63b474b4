"""Flows as values: hashable, comparable, free of wire formats.

Two flows are equal exactly when a switch treats them alike and their cookies agree, whichever way they came to be: compiled, or read back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from msgspec import Struct

# One condition of a match: field, value, mask. A mask of None stands for "all bits". A match is sorted by field.
Condition: TypeAlias = tuple[str, int, int | None]
Match: TypeAlias = tuple[Condition, ...]

# Bit of `vlan_vid` that says that there is a tag at all (OpenFlow 1.4, 7.2.3.7: OFPVID_PRESENT).
VLAN_PRESENT = 0x1000


class Output(Struct, frozen=True, gc=False):
    """Send the frame out of `port`; Open vSwitch does nothing if it came in there."""

    port: int


class SetField(Struct, frozen=True, gc=False):
    """Set a whole field of the frame or of its metadata."""

    field: str
    value: int


class Load(Struct, frozen=True, gc=False):
    """Set bits `first` .. `first + bits - 1` of a field."""

    field: str
    first: int
    bits: int
    value: int


class PushVlan(Struct, frozen=True, gc=False):
    """Put an 802.1Q tag, of VLAN 0 until it is set, before those that the frame has."""


class PopVlan(Struct, frozen=True, gc=False):
    """Take the outermost tag off the frame."""


class Resubmit(Struct, frozen=True, gc=False):
    """Look the frame up in `table`, do what is found there, and come back."""

    table: int


class MatchCopy(Struct, frozen=True, gc=False):
    """Part of `Learn`: the entry matches bits of `field` as they are in bits of the frame's `source`."""

    field: str
    first: int
    bits: int
    source: str
    source_first: int


class MatchValue(Struct, frozen=True, gc=False):
    """Part of `Learn`: the entry matches bits of `field` that equal `value`."""

    field: str
    first: int
    bits: int
    value: int


class LoadCopy(Struct, frozen=True, gc=False):
    """Part of `Learn`: the entry loads, into bits of `field`, what is now in bits of the frame's `source`."""

    field: str
    first: int
    bits: int
    source: str
    source_first: int


LearnPart: TypeAlias = MatchCopy | MatchValue | LoadCopy


class Learn(Struct, frozen=True, gc=False):
    """Put an entry, made of `parts`, into `table`, in the place of one with the same match; it lives `hard_timeout` seconds after the
    last frame that taught it.
    """

    table: int
    priority: int
    cookie: int
    hard_timeout: int
    parts: tuple[LearnPart, ...]


class Opaque(Struct, frozen=True, gc=False):
    """Something read from a switch that no flow of ours contains, as the bytes that it came in. Equal to nothing that is compiled."""

    data: bytes


Action: TypeAlias = Output | SetField | Load | PushVlan | PopVlan | Resubmit | Learn | Opaque


class FlowKey(Struct, frozen=True, gc=False):
    """What a table can hold once: two flows of one key cannot exist side by side."""

    table: int
    priority: int
    match: Match

    def order(self) -> tuple[int, int, tuple[tuple[str, int, int], ...]]:
        """Something to sort by; of no meaning but that it is the same everywhere."""
        return self.table, -self.priority, tuple((field, value, -1 if mask is None else mask) for field, value, mask in self.match)


class Flow(Struct, frozen=True, gc=False):
    """One entry of a flow table. Timeouts are in seconds, 0 for none. `flags` are OpenFlow's; ours have none."""

    table: int
    priority: int
    match: Match
    actions: tuple[Action, ...]
    cookie: int
    idle_timeout: int = 0
    hard_timeout: int = 0
    flags: int = 0

    @property
    def key(self) -> FlowKey:
        """What identifies the flow in its switch."""
        return FlowKey(self.table, self.priority, self.match)


class Flush(Struct, frozen=True, gc=False):
    """All entries of `table`, or of every table (None), whose cookie equals `cookie` in the bits of `mask` shall go."""

    table: int | None
    cookie: int
    mask: int


@dataclass(frozen=True)
class FlowState:
    """The flows of one bridge that are ours: those compiled, and the entries that the switch learned by them.

    What another round has left, be it compiled or learned, counts among `flows`.
    """

    flows: frozenset[Flow] = frozenset()
    learned: frozenset[Flow] = frozenset()


@dataclass(frozen=True)
class FlowChanges:
    """What makes one state into another, in an order that is the same for the same states. Truthy if there is anything to do.

    `modify` holds the flows as they shall be. `delete` holds them as they are, so that a switch can be asked to delete exactly these.
    """

    add: tuple[Flow, ...] = ()
    modify: tuple[Flow, ...] = ()
    delete: tuple[Flow, ...] = ()
    flush: tuple[Flush, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.add or self.modify or self.delete or self.flush)

    def __len__(self) -> int:
        return len(self.add) + len(self.modify) + len(self.delete) + len(self.flush)
