"""Flows as text for people, close to what `ovs-ofctl dump-flows` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
from dpuchain.flows.pipeline import COOKIE, HINT, METADATA, ORIGIN, TARGET

_ADDRESSES = ("eth_dst", "eth_src")
_PLAIN = ("in_port",)
_REGISTERS = (HINT.name, ORIGIN.name, TARGET.name)


@dataclass(frozen=True)
class Names:
    """What ports and chains are called where their numbers say nothing to anybody; what is not in it keeps its number."""

    ports: Mapping[int, str] = field(default_factory=dict)
    chains: Mapping[int, str] = field(default_factory=dict)

    def port(self, number: int) -> str:
        """A port of the bridge."""
        return self.ports.get(number, str(number))

    def owner(self, cookie: int) -> str:
        """The chain that a flow's cookie names."""
        number = COOKIE["owner"].read(cookie)
        return f"chain={self.chains[number]}" if number in self.chains else f"cookie={cookie:#018x}"

    def value(self, name: str, value: int) -> str:
        """What a field of a frame, or of its metadata, holds."""
        if name in _ADDRESSES:
            return ":".join(f"{byte:02x}" for byte in value.to_bytes(6, "big"))
        if name in _PLAIN:
            return self.port(value)
        if name == METADATA.name and METADATA["owner"].read(value) in self.chains:
            return f"{self.chains[METADATA['owner'].read(value)]}#{METADATA['switch'].read(value)}"
        if name in _REGISTERS and HINT["port"].read(value) in self.ports:
            vlan = HINT["vlan"].read(value)
            return self.port(HINT["port"].read(value)) + (f".{vlan}" if vlan else "")
        return f"{value:#x}"


NUMBERS = Names()


def describe(flow: Flow, names: Names = NUMBERS) -> str:
    """One line that says what `flow` matches and does."""
    head = [names.owner(flow.cookie), f"table={flow.table}", f"priority={flow.priority}"]
    timeouts = [f"{name}={value}" for name, value in (("idle_timeout", flow.idle_timeout), ("hard_timeout", flow.hard_timeout)) if value]
    match = [_condition(condition, names) for condition in flow.match]
    actions = ",".join(_action(action, names) for action in flow.actions) or "drop"
    return f"{', '.join([*head, *timeouts, *match])} actions={actions}"


def _condition(condition: Condition, names: Names) -> str:
    name, value, mask = condition
    return f"{name}={names.value(name, value)}" if mask is None else f"{name}={NUMBERS.value(name, value)}/{mask:#x}"


def _bits(name: str, first: int, bits: int) -> str:
    return f"{name}[{first}..{first + bits - 1}]"


_FIXED: dict[Action, str] = {PushVlan(): "push_vlan:0x8100", PopVlan(): "pop_vlan"}


def _action(action: Action, names: Names) -> str:
    text = f"unknown({action.data.hex()})" if isinstance(action, Opaque) else _FIXED.get(action, "")
    match action:
        case Output(port):
            text = f"output:{names.port(port)}"
        case Resubmit(table):
            text = f"resubmit(,{table})"
        case SetField(name, value):
            text = f"set_field:{names.value(name, value)}->{name}"
        case Load(name, first, bits, value):
            text = f"load:{value:#x}->{_bits(name, first, bits)}"
        case Learn(table, priority, cookie, hard_timeout, parts):
            made = ",".join(_part(part) for part in parts)
            text = f"learn(table={table},priority={priority},{names.owner(cookie)},hard_timeout={hard_timeout},{made})"
    return text


def _part(part: LearnPart) -> str:
    match part:
        case MatchCopy(name, first, bits, source, source_first):
            return f"{_bits(name, first, bits)}={_bits(source, source_first, bits)}"
        case MatchValue(name, first, bits, value):
            return f"{_bits(name, first, bits)}={value:#x}"
        case LoadCopy(name, first, bits, source, source_first):
            return f"load:{_bits(source, source_first, bits)}->{_bits(name, first, bits)}"
