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
    Output,
    Resubmit,
    SetField,
)

_ADDRESSES = ("eth_dst", "eth_src")
_PLAIN = ("in_port", "reg0", "vlan_vid")


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
    return str(value) if field in _PLAIN else f"{value:#x}"


def _condition(condition: Condition) -> str:
    field, value, mask = condition
    return f"{field}={_value(field, value)}" if mask is None else f"{field}={_value(field, value)}/{mask:#x}"


def _bits(field: str, first: int, bits: int) -> str:
    return f"{field}[{first}..{first + bits - 1}]"


def _action(action: Action) -> str:
    match action:
        case Output(port):
            return f"output:{port}"
        case Resubmit(table):
            return f"resubmit(,{table})"
        case SetField(field, value):
            return f"set_field:{_value(field, value)}->{field}"
        case Load(field, first, bits, value):
            return f"load:{value:#x}->{_bits(field, first, bits)}"
        case Learn(table, priority, cookie, hard_timeout, parts):
            made = ",".join(_part(part) for part in parts)
            return f"learn(table={table},priority={priority},cookie={cookie:#018x},hard_timeout={hard_timeout},{made})"
    return f"unknown({action.data.hex()})"


def _part(part: LearnPart) -> str:
    match part:
        case MatchCopy(field, first, bits, source, source_first):
            return f"{_bits(field, first, bits)}={_bits(source, source_first, bits)}"
        case MatchValue(field, first, bits, value):
            return f"{_bits(field, first, bits)}={value:#x}"
        case LoadCopy(field, first, bits, source, source_first):
            return f"load:{_bits(source, source_first, bits)}->{_bits(field, first, bits)}"
