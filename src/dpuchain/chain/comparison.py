"""Two worlds side by side: what would be on the nodes of each cluster, before and after, equal nodes once.

Nodes are equal that the same sources are on, before and after. Beside those that exist, a node is considered for each node selector in use,
and a cluster for each cluster selector: one of which no more is known than that it is selected. So two objects that select alike are found
to be at odds though there is no node yet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from dpuchain.api.conditions import is_true
from dpuchain.api.meta import Object, ObjectKey, key_of
from dpuchain.api.names import INTERFACE_RECONCILED
from dpuchain.chain.fleet import Fleet, Place, Source
from dpuchain.chain.foresight import Foresight, foresee, holders_of
from dpuchain.chain.nodes import Nodes
from dpuchain.chain.ports import claim_of, dpf_id_of
from dpuchain.chain.selectors import Requirements, described, implies

_Picked: TypeAlias = Sequence[tuple[Source, frozenset[str]]]


@dataclass(frozen=True)
class Standing:
    """What would be on equal nodes, before and after."""

    cluster: ObjectKey | None
    """None for a cluster of which it is only known which selector picks it."""
    where: str
    """The cluster, in words."""
    nodes: tuple[str, ...]
    """Their names; empty for a node of which it is only known which selector picks it."""
    selector: str
    """That selector; empty where it picks every node."""
    before: Foresight
    after: Foresight


def compare(before: Fleet, after: Fleet, focus: Collection[Place] | None = None) -> list[Standing]:
    """What would be on the nodes of all clusters; with a `focus`, only where one of these sources is, before or after, and only what can
    have to do with them.
    """
    kept = None if focus is None else _related(before, after, focus)
    found: list[Standing] = []
    for cluster in sorted({*before.clusters, *after.clusters, *before.members, *after.members}):
        found += _Cluster(before, after, cluster, kept, focus).standings()
    return found + list(_nowhere(before, after, kept, focus))


def at_node(before: Fleet, after: Fleet, cluster: ObjectKey, node: str) -> Standing:
    """What would be on one node, whichever others are equal to it: only names of objects differ between those."""
    there = _Cluster(before, after, cluster, None, None)
    return there.standing((node,))


class _Cluster:
    """One DPU cluster in both worlds."""

    def __init__(
        self, before: Fleet, after: Fleet, cluster: ObjectKey, kept: Collection[Place] | None, focus: Collection[Place] | None
    ) -> None:
        self._before = before
        self._after = after
        self._cluster = cluster
        self._focus = focus
        self._sources_before = list(before.placed(cluster, kept))
        self._sources_after = list(after.placed(cluster, kept))

    def standings(self) -> Iterator[Standing]:
        """Of the nodes that exist, and of those that might."""
        if self._focus is not None and not any(source.place in self._focus for source in (*self._sources_before, *self._sources_after)):
            return
        covered: list[set[Place]] = []
        for nodes in self._classes():
            standing = self.standing(tuple(sorted(nodes)))
            covered.append({source.place for source in standing.after.origins.values()})
            yield standing
        yield from self._imagined(covered)

    @cached_property
    def _nodes(self) -> tuple[Nodes, Nodes]:
        return self._before.member(self._cluster).nodes, self._after.member(self._cluster).nodes

    @cached_property
    def _picked(self) -> tuple[_Picked, _Picked]:
        """The sources with the nodes that each is on."""
        before, after = self._nodes
        return (
            [(source, source.picked(before)) for source in self._sources_before],
            [(source, source.picked(after)) for source in self._sources_after],
        )

    def standing(self, names: tuple[str, ...]) -> Standing:
        """Of equal nodes: worked out for the first."""
        here_before, here_after = ([source for source, picked in found if names[0] in picked] for found in self._picked)
        node_before, node_after = (nodes.items.get(names[0]) for nodes in self._nodes)
        first = self._foresee(self._before, here_before, node_before, self._held(names[0]))
        second = self._foresee(self._after, here_after, node_after, holders_of(first))
        return Standing(self._cluster, f"in DPUCluster {self._cluster}", names, "", first, second)

    def _held(self, node: str) -> dict[str, str]:
        """The marks of the interfaces of which it is known that they have their port."""
        found = {}
        for (kind, _, on), items in self._before.member(self._cluster).existing.items():
            if on == node and kind == "ServiceInterface":
                working = (item for item in items if is_true(item.status.conditions, INTERFACE_RECONCILED, item.metadata.generation))
                found.update({port: dpf_id_of(item) for item in working if (port := claim_of(item).port) is not None})
        return found

    def _classes(self) -> list[frozenset[str]]:
        """The nodes that exist, before or after, apart where anything tells them apart."""
        (before, after), (picked_before, picked_after) = self._nodes, self._picked
        everything = [*picked_before, *picked_after]
        if self._focus is None:
            start = frozenset((*before.items, *after.items))
        else:
            start = frozenset().union(*(picked for source, picked in everything if source.place in self._focus))
        classes = [start] if start else []
        apart = {before.picked(None), after.picked(None), *(picked for _, picked in everything)}
        for picked in apart:
            classes = [part for nodes in classes for part in (nodes & picked, nodes - picked) if part]
        return sorted(classes, key=min)

    def _imagined(self, covered: Sequence[set[Place]]) -> Iterator[Standing]:
        for needs, (here_before, here_after) in _patterns(self._sources_before, self._sources_after, self._focus, covered):
            first = self._foresee(self._before, here_before, None, {})
            second = self._foresee(self._after, here_after, None, holders_of(first))
            yield Standing(self._cluster, f"in DPUCluster {self._cluster}", (), described(needs), first, second)

    def _foresee(self, fleet: Fleet, sources: Sequence[Source], node: Object | None, holders: dict[str, str]) -> Foresight:
        existing = fleet.member(self._cluster).existing
        serving = fleet.serving(self._cluster)
        if node is None:
            objects = [(source, source.example) for source in sources]
            return foresee("any", objects, serving, holders)
        name, found = node.metadata.name, []
        for source in sources:
            of = existing.get((type(source.example).__name__, key_of(source.made), name), ())
            child = source.on(node, of)
            if child is not None:
                found.append((source, child))
        return foresee(name, found, serving, holders)


def _nowhere(before: Fleet, after: Fleet, kept: Collection[Place] | None, focus: Collection[Place] | None) -> Iterator[Standing]:
    """Clusters that might be: one for each cluster selector in use, unless one that exists has all that would be there."""
    first = [source for source in before.sources.values() if _is_wide(source) and (kept is None or source.place in kept)]
    second = [source for source in after.sources.values() if _is_wide(source) and (kept is None or source.place in kept)]
    there = [{source.place for source in after.placed(cluster, kept)} for cluster in after.clusters]
    for needs in {source.cluster_needs: None for source in second}:
        here_before = [source for source in first if implies(needs, source.cluster_needs)]
        here_after = [source for source in second if implies(needs, source.cluster_needs)]
        places = {source.place for source in here_after}
        if any(places <= others for others in there):
            continue
        chosen = described(needs)
        where = f"in any DPUCluster that selector {chosen} picks" if chosen else "in any DPUCluster"
        for nodes, (on_before, on_after) in _patterns(here_before, here_after, focus, ()):
            one = foresee("any", [(source, source.example) for source in on_before], None, {})
            other = foresee("any", [(source, source.example) for source in on_after], None, holders_of(one))
            yield Standing(None, where, (), described(nodes), one, other)


def _is_wide(source: Source) -> bool:
    """Whether it is an object of the host cluster whose selectors can pick something."""
    return source.place.cluster is None and source.selector_problem is None


def _patterns(
    before: Sequence[Source], after: Sequence[Source], focus: Collection[Place] | None, covered: Sequence[set[Place]]
) -> Iterator[tuple[Requirements, tuple[list[Source], list[Source]]]]:
    """The node selectors in use, with the sources that any node which one picks has; but not where an existing node has all of them."""
    wide_before = [source for source in before if source.node is None]
    wide_after = [source for source in after if source.node is None and source.selector_problem is None]
    done: list[set[Place]] = list(covered)
    for needs in {source.node_needs: None for source in wide_after}:
        here = [source for source in wide_after if implies(needs, source.node_needs)]
        places = {source.place for source in here}
        if (focus is not None and places.isdisjoint(focus)) or any(places <= others for others in done):
            continue
        done.append(places)
        yield needs, ([source for source in wide_before if implies(needs, source.node_needs)], here)


def _related(before: Fleet, after: Fleet, focus: Iterable[Place]) -> set[Place]:
    """The places of all that can have to do with what is in focus: found from one to the next by what they claim or name."""
    everything = [*before.sources.values(), *(source for place, source in after.sources.items() if before.sources.get(place) is not source)]
    found = set(focus)
    reached = [source for source in everything if source.place in found]
    rest = [source for source in everything if source.place not in found]
    while reached:
        source = reached.pop()
        near = [other for other in rest if source.meets(other)]
        found |= {other.place for other in near}
        reached += [other for other in rest if other.place in found]
        rest = [other for other in rest if other.place not in found]
    return found
