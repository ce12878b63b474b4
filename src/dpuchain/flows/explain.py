"""Flows as text for people, close to what `ovs-ofctl dump-flows` prints."""

from __future__ import annotations

from dpuchain.flows.model import (
    Action,
    Condition,
    Flow,
    Learn,
    LearnPart,
    Load,
    LoadCopy,
    MatchCopy,
    MatchValue,
    Opaque,
    Output,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
)

_ADDRESSES = ("eth_dst", "eth_src")
_PLAIN = ("in_port",)


def describe(flow: Flow) -> str:
    """One line that says what `flow` matches and does."""
    head = [f"cookie={flow.cookie:#018x}", f"table={flow.table}", f"priority={flow.priority}"]
    timeouts = [f"{name}={value}" for name, value in (("idle_timeout", flow.idle_timeout), ("hard_timeout", flow.hard_timeout)) if value]
    match = [_condition(condition) for condition in flow.match]
    actions = ",".join(_action(action) for action in flow.actions) or "drop"
    return f"{', '.join([*head, *timeouts, *match])} actions={actions}"


def _value(field: str, value: int) -> str:
    if field in _ADDRESSES:
        return ":".join(f"{byte:02x}" for byte in value.to_bytes(6, "big"))
    if field in _PLAIN:
        return str(value)
    return f"{value:#x}"


def _condition(condition: Condition) -> str:
    field, value, mask = condition
    return f"{field}={_value(field, value)}" if mask is None else f"{field}={_value(field, value)}/{mask:#x}"


def _bits(field: str, first: int, bits: int) -> str:
    return f"{field}[{first}..{first + bits - 1}]"


_FIXED: dict[Action, str] = {PushVlan(): "push_vlan:0x8100", PopVlan(): "pop_vlan"}


def _action(action: Action) -> str:
    text = f"unknown({action.data.hex()})" if isinstance(action, Opaque) else _FIXED.get(action, "")
    match action:
        case Output(port):
            text = f"output:{port}"
        case Resubmit(table):
            text = f"resubmit(,{table})"
        case SetField(field, value):
            text = f"set_field:{_value(field, value)}->{field}"
        case Load(field, first, bits, value):
            text = f"load:{value:#x}->{_bits(field, first, bits)}"
        case Learn(table, priority, cookie, hard_timeout, parts):
            made = ",".join(_part(part) for part in parts)
            text = f"learn(table={table},priority={priority},cookie={cookie:#018x},hard_timeout={hard_timeout},{made})"
    return text


def _part(part: LearnPart) -> str:
    match part:
        case MatchCopy(field, first, bits, source, source_first):
            return f"{_bits(field, first, bits)}={_bits(source, source_first, bits)}"
        case MatchValue(field, first, bits, value):
            return f"{_bits(field, first, bits)}={value:#x}"
        case LoadCopy(field, first, bits, source, source_first):
            return f"load:{_bits(source, source_first, bits)}->{_bits(field, first, bits)}"
