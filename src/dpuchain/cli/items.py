"""The tree that `describe` shows: a value, which is also what `-o json` prints, and how much of it is shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from dpuchain.api.conditions import find
from dpuchain.api.meta import Condition, Model, Object
from dpuchain.api.names import READY
from dpuchain.api.resource import Resource
from dpuchain.chain.report import Chain, Port, Switch

T = TypeVar("T", bound=Object)
Fact = str | int
FAULTS_SHOWN, HEALTHY_SHOWN = 10, 2
"""Nodes that are shown with all below them: with faults, and without."""


class Item(Model, frozen=True, kw_only=True):
    """A line of the tree. `ready` is absent where there is nothing to be said about it; `problems` say what is wrong."""

    kind: str
    name: str
    namespace: str = ""
    ready: bool | None = None
    state: str = ""
    problems: tuple[str, ...] = ()
    facts: dict[str, Fact] = msgspec.field(default_factory=dict)
    children: tuple[Item, ...] = ()

    def walk(self) -> Iterator[Item]:
        """The item and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    @property
    def faulty(self) -> bool:
        """Whether something is wrong with it or anything below it."""
        return any(item.ready is False or item.problems for item in self.walk())


def of_object(resource: Resource[T], item: T, conditions: Sequence[Condition], children: Iterable[Item] = ()) -> Item:
    """The line of an object: its Ready condition and whatever other is not true; what Ready itself says only where no other does."""
    ready = find(conditions, READY)
    good = ready is not None and ready.status == "True" and ready.observed_generation >= item.metadata.generation
    others = [condition for condition in conditions if condition.status != "True" and condition.type != READY]
    causes = others or ([ready] if ready and not good else [])
    return Item(
        kind=resource.kind,
        name=item.metadata.name,
        namespace=item.metadata.namespace,
        ready=good,
        state="Ready" if good else f"not Ready ({ready.reason if ready else 'no status'})",
        problems=tuple(f"{cause.type}: {cause.message or cause.reason}" for cause in causes),
        children=tuple(children),
    )


def of_chain(chain: Chain) -> list[Item]:
    """The switches of a chain on a node, down to the ports."""
    return [_switch(number, switch) for number, switch in enumerate(chain.switches)]


def flow_facts(chain: Chain) -> dict[str, Fact]:
    """How many flows a chain has, and how many are not as they should be, where any are not."""
    off = {"missing": chain.missing, "surplus": chain.surplus}
    return {"flows": chain.flows, **{name: count for name, count in off.items() if count}}


def _switch(number: int, switch: Switch) -> Item:
    facts: dict[str, Fact] = {"serviceMTU": switch.service_mtu, **({} if switch.mtu is None else {"smallestMTU": switch.mtu})}
    ports = tuple(of_port(port) for port in switch.ports)
    told = {problem for port in ports for problem in port.problems}
    problems = tuple(problem for problem in switch.problems if problem not in told)
    return Item(kind="Switch", name=str(number), ready=False if switch.problems else None, problems=problems, facts=facts, children=ports)


def of_port(port: Port) -> Item:
    """The line of an interface on a node: its port, link and counters."""
    seen: dict[str, Fact | None] = {
        "port": port.port or None,
        "ofport": port.number,
        "vlan": port.vlan,
        "link": port.link,
        "mtu": port.mtu,
        "flows": port.flows,
        "flowPackets": port.entered,
        "received": port.received,
        "sent": port.sent,
        "dropped": port.dropped or None,
        "errors": port.errors or None,
    }
    facts = {name: fact for name, fact in seen.items() if fact is not None} if port.port else {}
    good = bool(port.port) and port.link == "up" and not port.problems
    return Item(kind="Port", name=port.called, ready=good, state="" if port.port else "no port", problems=port.problems, facts=facts)


COUNTERS = ("flowPackets", "received", "sent", "dropped", "errors", "learned")
"""Facts that change while nothing happens but traffic."""


def still(item: Item) -> Item:
    """The item without what traffic alone changes."""
    facts = {name: fact for name, fact in item.facts.items() if name not in COUNTERS}
    return msgspec.structs.replace(item, facts=facts, children=tuple(map(still, item.children)))


def in_order(nodes: Iterable[Item]) -> list[Item]:
    """Nodes by name, dpu-2 before dpu-10."""
    return sorted(nodes, key=lambda node: _natural(node.name))


def _natural(name: str) -> list[tuple[int, int | str]]:
    """The parts of a name, numbers as numbers."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split("([0-9]+)", name) if part]


def shown(nodes: Sequence[Item]) -> list[Item]:
    """Which nodes are shown with all below them, of nodes in order: the first of those with faults, and of those without."""
    faulty = [node for node in nodes if node.faulty]
    return faulty[:FAULTS_SHOWN] + [node for node in nodes if not node.faulty][:HEALTHY_SHOWN]


def folded(item: Item) -> Item:
    """The tree with as many nodes at each place as are shown, and the others counted: those with faults first."""
    nodes = in_order(child for child in item.children if child.kind == "Node")
    others = [folded(child) for child in item.children if child.kind != "Node"]
    kept = shown(nodes)
    left = [node for node in nodes if node not in kept]
    faulty = sum(node.faulty for node in left)
    counts = [Item(kind="", name=f"{faulty} more not Ready", ready=False)] if faulty else []
    if len(left) > faulty:
        counts.append(Item(kind="", name=f"{len(left) - faulty} more Ready", ready=True))
    good = [node for node in kept if not node.faulty]
    bad = [node for node in kept if node.faulty]
    return msgspec.structs.replace(item, children=(*others, *bad, *counts[: bool(faulty)], *good, *counts[bool(faulty) :]))
