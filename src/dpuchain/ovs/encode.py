"""Flows to bytes: the messages that dpuchain sends, in OpenFlow 1.4.

Actions and matches are encoded once each and remembered, since thousands of flows share a few; of `learn`, all but the cookie.
"""

from __future__ import annotations

import functools
import struct

from dpuchain.flows.model import (
    Action,
    Flow,
    Flush,
    Learn,
    LearnPart,
    Load,
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
from dpuchain.ovs import protocol as of

_COOKIE = struct.Struct("!Q")
_COOKIE_OFFSET = of.EXPERIMENTER_HEADER.size + 6


def message(kind: int, transaction: int, body: bytes = b"") -> bytes:
    """One OpenFlow message."""
    return of.HEADER.pack(of.VERSION, kind, of.HEADER.size + len(body), transaction) + body


def monitor_request(monitor: int, table: int) -> bytes:
    """Body of the multipart request to be told of each change in `table`; the number tells monitors of one connection apart."""
    head = of.MULTIPART_HEADER.pack(of.MULTIPART_FLOW_MONITOR, 0)
    body = of.MONITOR_REQUEST_BODY.pack(monitor, of.ANY_PORT, of.ANY_GROUP, of.MONITOR_CHANGES, table, of.MONITOR_ADD)
    return head + body + match(())


def hello(transaction: int) -> bytes:
    """The greeting, which offers version 1.4 alone (7.5.1: one element, the bitmap of versions)."""
    return message(of.HELLO, transaction, struct.pack("!HHI", 1, 8, 1 << of.VERSION))


def add(flow: Flow) -> bytes:
    """Body of the message that puts `flow` into its table, in the place of a flow with the same key."""
    return _modification(of.COMMAND_ADD, flow, 0) + match(flow.match) + instructions(flow.actions)


def renew(flow: Flow) -> bytes:
    """Body of the message that has the timeouts of `flow` begin anew, where it is there; its counters go on.

    To Open vSwitch a modification of a flow's actions, be it to the same ones, is the moment that its hard timeout counts from.
    """
    return _modification(of.COMMAND_MODIFY_STRICT, flow, of.EVERY_COOKIE_BIT) + match(flow.match) + instructions(flow.actions)


def delete(flow: Flow) -> bytes:
    """Body of the message that deletes exactly `flow`: one with the same key but another cookie stays."""
    return _modification(of.COMMAND_DELETE_STRICT, flow, of.EVERY_COOKIE_BIT) + match(flow.match)


def flush(pattern: Flush) -> bytes:
    """Body of the message that deletes every flow with a cookie like `pattern`'s from its table, or from all."""
    table = of.ALL_TABLES if pattern.table is None else pattern.table
    head = pattern.cookie, pattern.mask, table, of.COMMAND_DELETE
    return of.FLOW_MOD_BODY.pack(*head, 0, 0, 0, of.NO_BUFFER, of.ANY_PORT, of.ANY_GROUP, 0, 0) + match(())


def _modification(command: int, flow: Flow, mask: int) -> bytes:
    return of.FLOW_MOD_BODY.pack(
        flow.cookie,
        mask,
        flow.table,
        command,
        flow.idle_timeout,
        flow.hard_timeout,
        flow.priority,
        of.NO_BUFFER,
        of.ANY_PORT,
        of.ANY_GROUP,
        flow.flags,
        0,
    )


def match(conditions: Match) -> bytes:
    """A match with its padding, fields in the order of their headers, in which each comes after those that it presumes (7.2.3.6)."""
    body = b"".join(sorted([_condition(field, value, mask) for field, value, mask in conditions]))
    length = of.MATCH_HEADER.size + len(body)
    return of.MATCH_HEADER.pack(of.MATCH_OXM, length) + body + bytes(of.padding(length))


def _condition(field: str, value: int, mask: int | None) -> bytes:
    kind = of.MATCH_FIELDS.get(field)
    if kind is None:
        header = of.header_of_unknown(field)
        return header.to_bytes(4, "big") + value.to_bytes(header & 0xFF, "big")
    if mask is None:
        return (kind.header | kind.size).to_bytes(4, "big") + value.to_bytes(kind.size, "big")
    head = (kind.header | 0x100 | 2 * kind.size).to_bytes(4, "big")
    return head + value.to_bytes(kind.size, "big") + mask.to_bytes(kind.size, "big")


def instructions(actions: tuple[Action, ...]) -> bytes:
    """The one instruction that flows of ours have: do these actions now. Nothing at all for no actions, which drops the frame."""
    if not actions:
        return b""
    body = b"".join([_learn(action) if isinstance(action, Learn) else _simple(action) for action in actions])
    return of.INSTRUCTION_HEADER.pack(of.APPLY_ACTIONS, of.INSTRUCTION_HEADER.size + len(body)) + body


@functools.lru_cache(maxsize=4096)
def _simple(item: Action) -> bytes:
    match item:
        case Output(port):
            return of.ACTION_HEADER.pack(of.ACTION_OUTPUT, 16) + of.OUTPUT_BODY.pack(
                port, of.WHOLE_FRAME if port == of.TO_CONTROLLER else 0
            )
        case PushVlan():
            return of.ACTION_HEADER.pack(of.ACTION_PUSH_VLAN, 8) + of.PUSH_BODY.pack(of.TAGGED)
        case PopVlan():
            return of.ACTION_HEADER.pack(of.ACTION_POP_VLAN, 8) + bytes(4)
        case Resubmit(table):
            return _experimenter(of.SUBTYPE_RESUBMIT_TABLE, of.RESUBMIT_BODY.pack(of.RESUBMIT_IN_PORT, table))
        case Load(field, first, bits, value):
            kind = of.ACTION_FIELDS[field]
            return _experimenter(of.SUBTYPE_LOAD, of.LOAD_BODY.pack(first << 6 | bits - 1, kind.header | kind.size, value))
        case SetField(field, value):
            kind = of.ACTION_FIELDS[field]
            body = (kind.header | kind.size).to_bytes(4, "big") + value.to_bytes(kind.size, "big")
            length = of.ACTION_HEADER.size + len(body)
            fill = of.padding(length)
            return of.ACTION_HEADER.pack(of.ACTION_SET_FIELD, length + fill) + body + bytes(fill)
    message = f"{item} was read from a switch; it cannot be sent to one"
    raise ValueError(message)


def _experimenter(subtype: int, body: bytes) -> bytes:
    length = of.EXPERIMENTER_HEADER.size + len(body)
    fill = of.padding(length)
    return of.EXPERIMENTER_HEADER.pack(of.ACTION_EXPERIMENTER, length + fill, of.NICIRA, subtype) + body + bytes(fill)


def _learn(learn: Learn) -> bytes:
    pattern = _learn_pattern(learn.table, learn.priority, learn.hard_timeout, learn.parts)
    return pattern[:_COOKIE_OFFSET] + _COOKIE.pack(learn.cookie) + pattern[_COOKIE_OFFSET + _COOKIE.size :]


@functools.lru_cache(maxsize=256)
def _learn_pattern(table: int, priority: int, hard_timeout: int, parts: tuple[LearnPart, ...]) -> bytes:
    head = of.LEARN_BODY.pack(0, hard_timeout, priority, 0, 0, table, 0, 0)
    return _experimenter(of.SUBTYPE_LEARN, head + b"".join(_learn_part(part) for part in parts))


def _learn_part(part: LearnPart) -> bytes:
    match part:
        case MatchCopy(field, first, bits, source, source_first):
            return of.LEARN_PART.pack(bits) + _place(source, source_first) + _place(field, first)
        case LoadCopy(field, first, bits, source, source_first):
            return of.LEARN_PART.pack(of.LEARN_LOAD | bits) + _place(source, source_first) + _place(field, first)
        case MatchValue(field, first, bits, value):
            size = (bits + 15) // 16 * 2
            return of.LEARN_PART.pack(of.LEARN_FROM_VALUE | bits) + value.to_bytes(size, "big") + _place(field, first)


def _place(field: str, first: int) -> bytes:
    kind = of.ACTION_FIELDS[field]
    return of.LEARN_FIELD.pack(kind.header | kind.size, first)


def flow_request(table: int, cookie: int, mask: int) -> bytes:
    """Body of the request for all flows of `table` with such a cookie."""
    return of.MULTIPART_HEADER.pack(of.MULTIPART_FLOW, 0) + _pattern(table, cookie, mask)


def count_request(cookie: int, mask: int) -> bytes:
    """Body of the request for how many flows of all tables have such a cookie."""
    return of.MULTIPART_HEADER.pack(of.MULTIPART_AGGREGATE, 0) + _pattern(of.ALL_TABLES, cookie, mask)


def _pattern(table: int, cookie: int, mask: int) -> bytes:
    return of.FLOW_REQUEST_BODY.pack(table, of.ANY_PORT, of.ANY_GROUP, cookie, mask) + match(())


def port_request() -> bytes:
    """Body of the request for the counters of all ports."""
    return of.MULTIPART_HEADER.pack(of.MULTIPART_PORTS, 0) + of.PORT_REQUEST_BODY.pack(of.ANY_PORT)


def frames_wanted() -> bytes:
    """Body of the message that has the switch send us the frames that flows send to a controller."""
    return of.CONFIG_BODY.pack(0, of.WHOLE_FRAME)


def packet_out(port: int, frame: bytes) -> bytes:
    """Body of the message that has the switch take `frame` as come in by `port`, and look it up in its tables."""
    actions = _simple(Output(of.TO_TABLES))
    return of.PACKET_OUT_BODY.pack(of.NO_BUFFER, port, len(actions)) + actions + frame


def bundle_control(bundle: int, kind: int) -> bytes:
    """Body of the message that opens, commits or discards a bundle, atomic and in order."""
    return of.BUNDLE_CONTROL_BODY.pack(bundle, kind, of.BUNDLE_ATOMIC_ORDERED)


def bundle_add(bundle: int, transaction: int, flow_mod: bytes) -> bytes:
    """Body of the message that puts a flow modification into a bundle; both carry one transaction number (7.3.9.4)."""
    return of.BUNDLE_ADD_BODY.pack(bundle, of.BUNDLE_ATOMIC_ORDERED) + message(of.FLOW_MOD, transaction, flow_mod)
