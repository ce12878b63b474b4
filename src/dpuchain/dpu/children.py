"""The children of sets on nodes: what is there, what is to be written, and how it stands. No request is made here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dpuchain.api.meta import ObjectKey
from dpuchain.chain.expand import home_of, set_of_child
from dpuchain.chain.status import standing
from dpuchain.dpu.kinds import AnyKind
from dpuchain.dpu.ledger import Ledger
from dpuchain.dpu.world import BY_SET, STRAYS, ClusterObjects
from dpuchain.kube.patches import needs_apply


@dataclass(frozen=True)
class Work:
    """What a look at some nodes of a set found to be done, each with its node: children to apply, to delete, to free of a dead agent."""

    apply: list[tuple[str, Any]] = field(default_factory=list)
    delete: list[tuple[str, Any]] = field(default_factory=list)
    free: list[tuple[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Spot:
    """One node: the child that should be there (None: none), the one that is there under its name, and those too many."""

    wanted: Any
    live: Any
    surplus: tuple[Any, ...]

    @property
    def up_to_date(self) -> bool:
        """Whether what is there is what should be."""
        return not needs_apply(self.wanted, self.live)


class Children:
    """Looks at the children of one kind of set, as the caches have them."""

    def __init__(self, kind: AnyKind, objects: ClusterObjects) -> None:
        self._objects = objects
        self._cache = kind.children(objects)

    def places(self, parent: ObjectKey) -> set[str]:
        """All nodes that a set may have to do with: those that exist, and those that a child of it names."""
        nodes = {node.metadata.name for node in self._objects.nodes}
        return nodes | {child.spec.node or "" for child in self._cache.by_index(BY_SET, parent)}

    def look(self, ledger: Ledger, nodes: Collection[str]) -> Work:
        """Look at some nodes of a set, note how they stand, and return what is to be done there."""
        work = Work()
        # In the order of the nodes, so that what all sets have on a node comes to its agent at about the same time.
        for node in sorted(self._mark(ledger, nodes)):
            spot = self._spot(ledger, node)
            ledger.refused.pop(node, None)
            self._note(ledger, node, spot)
            # One that is on its way out is waited for, since what is written to it goes with it.
            leaving = spot.live is not None and spot.live.metadata.deletion_timestamp is not None
            if spot.wanted is not None and not leaving and not spot.up_to_date:
                work.apply.append((node, spot.wanted))
            work.delete.extend((node, child) for child in spot.surplus if child.metadata.deletion_timestamp is None)
            there = (*spot.surplus, *([spot.live] if leaving else []))
            work.free.extend((node, child) for child in there if child.metadata.deletion_timestamp is not None and self.is_abandoned(child))
        return work

    def note(self, ledger: Ledger, nodes: Iterable[str]) -> None:
        """Note how some nodes stand after what was written."""
        for node in nodes:
            self._note(ledger, node, self._spot(ledger, node))

    def is_abandoned(self, child: Any) -> bool:
        """Whether the node of a child is gone, so that no agent is left to clean up."""
        return self._objects.nodes.get(ObjectKey("", child.spec.node or "")) is None

    def _mark(self, ledger: Ledger, nodes: Iterable[str]) -> set[str]:
        """Note which of the nodes are selected; returns them with those that this moves a child to or from."""
        found = set(nodes)
        for node in tuple(found):
            own = ledger.maker.own_name(node)
            if self._is_selected(ledger, node):
                ledger.homes[own] = node
            else:
                ledger.homes.pop(own, None)
            child = self._cache.get(ObjectKey(ledger.maker.parent.namespace, own))
            if child is not None:
                found.add(child.spec.node or "")
        return found

    def _is_selected(self, ledger: Ledger, node: str) -> bool:
        item = self._objects.nodes.get(ObjectKey("", node))
        return item is not None and ledger.maker.selects(item)

    def _spot(self, ledger: Ledger, node: str) -> _Spot:
        maker = ledger.maker
        present = list(self._present(ledger, node))
        if ledger.homes.get(maker.own_name(node)) != node:
            return _Spot(None, None, tuple(present))
        wanted, surplus = maker.on_node(node, present)
        live = next((child for child in present if child.metadata.name == wanted.metadata.name), None)
        return _Spot(wanted, live, surplus)

    def _present(self, ledger: Ledger, node: str) -> Iterator[Any]:
        """The set's children that are at home on a node, in their newest form."""
        parent = ledger.maker.parent
        own = ObjectKey(parent.namespace, ledger.maker.own_name(node))
        strays = self._cache.by_index(STRAYS, (parent, node))
        for child in (ledger.newest(own, self._cache.get(own)), *strays):
            if child is not None and set_of_child(child) == parent and home_of(child, ledger.homes) == node:
                yield child

    def _note(self, ledger: Ledger, node: str, spot: _Spot) -> None:
        if spot.wanted is None:
            ledger.note(node, None, len(spot.surplus))
            return
        conditions = spot.live.status.conditions if spot.live is not None else ()
        found = standing(spot.wanted, node, spot.live, conditions, up_to_date=spot.live is not None and spot.up_to_date)
        ledger.note(node, found, len(spot.surplus))
