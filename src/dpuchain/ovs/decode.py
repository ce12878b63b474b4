"""Bytes to flows: the messages that dpuchain receives.

Everything here either returns a value or raises `Invalid`, whatever the bytes are. What is well formed but not of our vocabulary, say a
flow that somebody else put under our cookie, becomes `Opaque`, which equals nothing that we compile.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple, ParamSpec, TypeVar

from dpuchain.flows.model import (
    Action,
    Flow,
    Learn,
    LearnPart,
    Load,
    LoadCopy,
    Match,
    MatchCopy,
    MatchValue,
    Opaque,
    Output,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
)
from dpuchain.ovs import protocol as of
from dpuchain.ovs.errors import Invalid

P = ParamSpec("P")
R = TypeVar("R")


class Header(NamedTuple):
    """Head of a message; `length` counts the head itself."""

    version: int
    kind: int
    length: int
    transaction: int


class Error(NamedTuple):
    """An error that the switch reports, with the beginning of the message that it is about."""

    kind: int
    code: int
    cause: bytes


class Counted(NamedTuple):
    """A flow, and how many packets and bytes have matched it; a change of its actions lets the count go on, a new bundle of the flow begins
    anew.
    """

    flow: Flow
    packets: int
    octets: int = 0


class PortCounters(NamedTuple):
    """What has passed a port since it was made, in packets. What the device does not count is 0."""

    received: int = 0
    sent: int = 0
    dropped: int = 0
    errors: int = 0


class Update(NamedTuple):
    """A change to a flow that somebody else made: `added`, `removed`, `modified`, or `unknown` where the switch lost count."""

    event: str
    table: int
    priority: int
    cookie: int


def _guarded(read: Callable[P, R]) -> Callable[P, R]:
    """Make every way in which bytes can be too few, or not what they should be, one error."""

    @functools.wraps(read)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return read(*args, **kwargs)
        except (struct.error, ValueError) as error:
            message = f"the switch sent an OpenFlow message that cannot be read ({read.__name__}): {error}"
            raise Invalid(message) from error

    return wrapper


@_guarded
def header(data: bytes) -> Header:
    """Head of the message that `data` begins with. Invalid if it claims to be shorter than a head."""
    head = Header(*of.HEADER.unpack_from(data))
    if head.length < of.HEADER.size:
        message = f"a message of {head.length} bytes is shorter than its head"
        raise ValueError(message)
    return head


@_guarded
def versions(body: bytes) -> int:
    """Bitmap of versions that a greeting offers; 0 if it says none but that in its head (7.5.1)."""
    for kind, part in _parts(body, of.ACTION_HEADER, pad=True):
        if kind == 1:
            return int(struct.unpack_from("!I", part, 4)[0])
    return 0


@_guarded
def error(body: bytes) -> Error:
    """What an error message says."""
    kind, code = of.ERROR_BODY.unpack_from(body)
    return Error(kind, code, body[of.ERROR_BODY.size :])


@_guarded
def bundle_reply(body: bytes) -> tuple[int, int]:
    """Number of the bundle and kind of the control message that is answered."""
    bundle, kind, _ = of.BUNDLE_CONTROL_BODY.unpack_from(body)
    return bundle, kind


@_guarded
def multipart(body: bytes) -> tuple[int, bool, bytes]:
    """Kind of a multipart reply, whether more of it follows, and its content."""
    kind, flags = of.MULTIPART_HEADER.unpack_from(body)
    return kind, bool(flags & of.MULTIPART_MORE), body[of.MULTIPART_HEADER.size :]


def flows(content: bytes) -> list[Flow]:
    """The flows in the content of one multipart reply."""
    return [counted.flow for counted in counted_flows(content)]


@_guarded
def counted_flows(content: bytes) -> list[Counted]:
    """The flows in the content of one multipart reply, with their counters."""
    found = []
    offset = 0
    while offset < len(content):
        length, table, _, _, priority, idle, hard, flags, _, cookie, packets, octets = of.FLOW_STATS_BODY.unpack_from(content, offset)
        end = offset + length
        start = offset + of.FLOW_STATS_BODY.size
        if not start <= end <= len(content):
            message = f"a flow of {length} bytes does not fit into {len(content) - offset}"
            raise ValueError(message)
        match_length = of.MATCH_HEADER.unpack_from(content, start)[1]
        actions_at = start + match_length + of.padding(match_length)
        if actions_at > end:
            message = f"a match of {match_length} bytes does not fit into its flow"
            raise ValueError(message)
        match = _match(content[start : start + match_length])
        actions = _instructions(content[actions_at:end])
        found.append(Counted(Flow(table, priority, match, actions, cookie, idle, hard, flags), packets, octets))
        offset = end
    return found


@_guarded
def flow_count(content: bytes) -> int:
    """How many flows an answer of sums speaks of."""
    return int(of.AGGREGATE_BODY.unpack_from(content)[2])


@_guarded
def port_counters(content: bytes) -> dict[int, PortCounters]:
    """The counters in the content of one multipart reply, by the numbers of the ports."""
    found: dict[int, PortCounters] = {}
    offset = 0
    while offset < len(content):
        length, port, *counts = of.PORT_STATS_BODY.unpack_from(content, offset)
        if length < of.PORT_STATS_BODY.size:
            message = f"the counters of a port take {length} bytes, fewer than there are"
            raise ValueError(message)
        received, sent, _, _, *failures = (0 if count == of.UNKNOWN_COUNT else count for count in counts)
        found[port] = PortCounters(received, sent, failures[0] + failures[1], failures[2] + failures[3])
        offset += length
    return found


@_guarded
def updates(content: bytes) -> list[Update]:
    """What a flow monitor tells of others' changes; what this connection has changed itself is left out."""
    found = []
    for event, length, part in _updates(content):
        if event in _UPDATES:
            if length < of.UPDATE_FULL.size:
                message = f"an update of {length} bytes is shorter than its head"
                raise ValueError(message)
            _, _, table, _, _, _, priority, cookie = of.UPDATE_FULL.unpack_from(part)
            found.append(Update(_UPDATES[event], table, priority, cookie))
        elif event != of.UPDATE_ABBREVIATED:
            found.append(Update("unknown", -1, -1, 0))  # the switch paused the monitor: whatever may have happened meanwhile
    return found


_UPDATES = {of.UPDATE_ADDED: "added", of.UPDATE_REMOVED: "removed", of.UPDATE_MODIFIED: "modified"}


def _updates(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    offset = 0
    while offset < len(content):
        length, event = of.UPDATE_HEADER.unpack_from(content, offset)
        if length < of.UPDATE_HEADER.size or offset + length > len(content):
            message = f"an update of {length} bytes does not fit into {len(content) - offset}"
            raise ValueError(message)
        yield event, length, content[offset : offset + length]
        offset += length


@_guarded
def packet_in(body: bytes) -> tuple[int, bytes]:
    """Cookie of the flow that sent a frame to us, and the frame."""
    *_, cookie = of.PACKET_IN_BODY.unpack_from(body)
    match_length = of.MATCH_HEADER.unpack_from(body, of.PACKET_IN_BODY.size)[1]
    return cookie, body[of.PACKET_IN_BODY.size + match_length + of.padding(match_length) + 2 :]


def _parts(data: bytes, head: struct.Struct, *, pad: bool = False) -> Iterator[tuple[int, bytes]]:
    """Kind and bytes, head included, of each part of `data`; each begins with kind and length."""
    offset = 0
    while offset < len(data):
        kind, length = head.unpack_from(data, offset)[:2]
        if length < head.size or offset + length > len(data):
            message = f"a part of {length} bytes does not fit into {len(data) - offset}"
            raise ValueError(message)
        yield kind, data[offset : offset + length]
        offset += length + (of.padding(length) if pad else 0)


@functools.lru_cache(maxsize=16384)
def _match(data: bytes) -> Match:
    conditions: list[tuple[str, int, int | None]] = []
    offset = of.MATCH_HEADER.size
    if of.MATCH_HEADER.unpack_from(data)[0] != of.MATCH_OXM:
        message = "a match is not of OpenFlow's extensible kind"
        raise ValueError(message)
    while offset < len(data):
        (head,) = struct.unpack_from("!I", data, offset)
        body = data[offset + 4 : offset + 4 + (head & 0xFF)]
        if len(body) != head & 0xFF:
            message = f"a match field {head:#010x} is cut off"
            raise ValueError(message)
        offset += 4 + len(body)
        conditions.append(_condition(head, body))
    return tuple(sorted(conditions, key=lambda condition: condition[0]))


def _condition(head: int, body: bytes) -> tuple[str, int, int | None]:
    masked = bool(head & 0x100)
    size = len(body) // 2 if masked else len(body)
    name, kind = of.FIELD_OF_HEADER.get(head & ~0x1FF, ("", None))
    if kind is None or kind.size != size:
        return of.name_of_unknown(head), int.from_bytes(body, "big"), None
    value = int.from_bytes(body[:size], "big")
    mask = int.from_bytes(body[size:], "big") if masked else None
    # The mask of a field may be all ones in the bits that the field has, or in the bytes that it is carried in.
    if mask is not None and mask & ((1 << kind.bits) - 1) == (1 << kind.bits) - 1:
        mask = None
    return name, value, mask


def _instructions(data: bytes) -> tuple[Action, ...]:
    if not data:
        return ()
    kind, length = of.INSTRUCTION_HEADER.unpack_from(data)
    if kind != of.APPLY_ACTIONS or length != len(data):
        # Well formed or not, no flow of ours has such instructions.
        return (Opaque(data),)
    return tuple(_action(part) for _, part in _parts(data[of.INSTRUCTION_HEADER.size :], of.ACTION_HEADER))


@functools.lru_cache(maxsize=16384)
def _action(data: bytes) -> Action:
    kind, length = of.ACTION_HEADER.unpack_from(data)
    if length % 8:
        message = f"an action of {length} bytes is not padded to eight"
        raise ValueError(message)
    if kind == of.ACTION_OUTPUT:
        return Output(of.OUTPUT_BODY.unpack_from(data, of.ACTION_HEADER.size)[0])
    if kind == of.ACTION_PUSH_VLAN and of.PUSH_BODY.unpack_from(data, of.ACTION_HEADER.size) == (of.TAGGED,):
        return PushVlan()
    if kind == of.ACTION_POP_VLAN:
        return PopVlan()
    if kind == of.ACTION_SET_FIELD:
        (head,) = struct.unpack_from("!I", data, of.ACTION_HEADER.size)
        start = of.ACTION_HEADER.size + 4
        name, value, mask = _condition(head, data[start : start + (head & 0xFF)])
        return Opaque(data) if mask is not None else SetField(name, value)
    if kind == of.ACTION_EXPERIMENTER:
        _, _, vendor, subtype = of.EXPERIMENTER_HEADER.unpack_from(data)
        reader = _READERS.get(subtype) if vendor == of.NICIRA else None
        return reader(data) if reader else Opaque(data)
    return Opaque(data)


def _resubmit(data: bytes) -> Action:
    port, table = of.RESUBMIT_BODY.unpack_from(data, of.EXPERIMENTER_HEADER.size)
    return Resubmit(table) if port == of.RESUBMIT_IN_PORT else Opaque(data)


def _load(data: bytes) -> Action:
    place, head, value = of.LOAD_BODY.unpack_from(data, of.EXPERIMENTER_HEADER.size)
    name, kind = of.FIELD_OF_HEADER.get(head & ~0x1FF, ("", None))
    first, bits = place >> 6, (place & 0x3F) + 1
    if kind is None:
        return Opaque(data)
    return SetField(name, value) if (first, bits) == (0, kind.bits) else Load(name, first, bits, value)


def _learn(data: bytes) -> Action:
    start = of.EXPERIMENTER_HEADER.size
    idle, hard, priority, cookie, flags, table, fin_idle, fin_hard = of.LEARN_BODY.unpack_from(data, start)
    parts = _learn_parts(data[start + of.LEARN_BODY.size :])
    if idle or flags or fin_idle or fin_hard or parts is None:
        return Opaque(data)
    return Learn(table, priority, cookie, hard, parts)


@functools.lru_cache(maxsize=256)
def _learn_parts(data: bytes) -> tuple[LearnPart, ...] | None:
    """The parts of an entry to be learned; None if one is not of our vocabulary."""
    parts: list[LearnPart] = []
    offset = 0
    while offset + of.LEARN_PART.size <= len(data):
        (head,) = of.LEARN_PART.unpack_from(data, offset)
        if head == 0:  # the padding has begun
            break
        offset += of.LEARN_PART.size
        kind, bits = head & of.LEARN_PART_KIND, head & of.LEARN_PART_BITS
        if kind == of.LEARN_FROM_VALUE:
            size = (bits + 15) // 16 * 2
            value = int.from_bytes(data[offset : offset + size], "big")
            target = _place(data, offset + size)
            offset += size + of.LEARN_FIELD.size
            part: LearnPart | None = MatchValue(target[0], target[1], bits, value) if target else None
        elif kind in (0, of.LEARN_LOAD):
            source, target = _place(data, offset), _place(data, offset + of.LEARN_FIELD.size)
            offset += 2 * of.LEARN_FIELD.size
            made = LoadCopy if kind else MatchCopy
            part = made(target[0], target[1], bits, source[0], source[1]) if source and target else None
        else:
            part = None
        if part is None:
            return None
        parts.append(part)
    return tuple(parts)


def _place(data: bytes, offset: int) -> tuple[str, int] | None:
    head, first = of.LEARN_FIELD.unpack_from(data, offset)
    name, kind = of.FIELD_OF_HEADER.get(head & ~0x1FF, ("", None))
    return None if kind is None else (name, first)


_READERS: dict[int, Callable[[bytes], Action]] = {
    of.SUBTYPE_LOAD: _load,
    of.SUBTYPE_RESUBMIT_TABLE: _resubmit,
    of.SUBTYPE_LEARN: _learn,
}
