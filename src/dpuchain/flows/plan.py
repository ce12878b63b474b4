"""What a change of manifests does, as one value: objects in clusters and on nodes, ports and flows, pods, paths, and what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dpuchain.api.meta import Object, ObjectKey, untraced
from dpuchain.api.names import TEMPLATE_DIGEST_ANNOTATION
from dpuchain.chain.comparison import Standing, compare
from dpuchain.chain.consequences import Path, Restart, paths, releases, replaced_by_helm, restarts
from dpuchain.chain.findings import REFUSED, WARNED, Found, among_objects, on_nodes
from dpuchain.chain.fleet import Fleet
from dpuchain.chain.foresight import Foresight
from dpuchain.chain.identities import identity_findings
from dpuchain.chain.manifests import Manifest, present
from dpuchain.chain.objects import issues
from dpuchain.chain.problems import Ref, ref
from dpuchain.flows.diff import diff
from dpuchain.flows.explain import describe
from dpuchain.flows.forecast import flow_state, names_of, numbered, port_names
from dpuchain.flows.model import Flow

Action = Literal["create", "change", "delete"]


@dataclass(frozen=True)
class Change:
    """What becomes of one object, port or release, with its content before and after."""

    action: Action
    kind: str
    name: str
    old: Any = field(default=None, repr=False)
    new: Any = field(default=None, repr=False)


@dataclass(frozen=True)
class FlowChange:
    """The flows that a bridge gets and loses, by the names of ports and chains, and how many it has then. One that changes is in both."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    total: int


@dataclass(frozen=True)
class ClusterChange:
    """What happens in a cluster, nodes aside; in the host cluster, if that is None."""

    cluster: ObjectKey | None
    objects: tuple[Change, ...]


@dataclass(frozen=True)
class NodeChange:
    """What happens on each of some equal nodes."""

    cluster: ObjectKey
    nodes: tuple[str, ...]
    objects: tuple[Change, ...]
    ports: tuple[Change, ...]
    flows: FlowChange
    cut: tuple[Path, ...]
    opened: tuple[Path, ...]

    def __bool__(self) -> bool:
        return bool(self.objects or self.ports or self.flows.added or self.flows.removed)


@dataclass(frozen=True)
class PathChange:
    """Two ends that reach each other no longer, or from now on, and on how many DPUs."""

    path: Path
    opened: bool
    dpus: int

    def __str__(self) -> str:
        dpus = "1 DPU" if self.dpus == 1 else f"{self.dpus} DPUs"
        return f"{self.path.one} on {dpus} {'reaches' if self.opened else 'no longer reaches'} {self.path.other}"


@dataclass(frozen=True)
class Plan:
    """All of it. Of the pods that are replaced, the chart says whether they really are."""

    clusters: tuple[ClusterChange, ...]
    nodes: tuple[NodeChange, ...]
    restarts: tuple[Restart, ...]
    replaced: tuple[Restart, ...]
    paths: tuple[PathChange, ...]
    conflicts: tuple[Found, ...]
    warnings: tuple[Found, ...]

    def __bool__(self) -> bool:
        return bool(self.clusters or self.nodes)


def plan(before: Fleet, after: Fleet, host: Iterable[Change] = (), concerned: Collection[Ref] = ()) -> Plan:
    """What makes the one world into the other; `host` is what happens to the objects of the host cluster.

    Of what is wrong afterwards is told what is new, and what has to do with the objects that are `concerned`.
    """
    standings = compare(before, after)
    nodes = tuple(filter(None, (_on_nodes(standing) for standing in standings if standing.nodes)))
    found = [*among_objects(issues(before), issues(after), concerned), *on_nodes(standings, concerned)]
    found += identity_findings(before, after, concerned)
    services = sorted((after.services or {}).values(), key=lambda service: service.metadata.name)
    return Plan(
        clusters=tuple(change for change in _in_clusters(before, after, host) if change.objects),
        nodes=nodes,
        restarts=tuple(restarts(standings, before)),
        replaced=tuple(restart for service in services for restart in replaced_by_helm(before, after, service)),
        paths=tuple(_paths(nodes)),
        conflicts=tuple(entry for entry in found if entry.kind in REFUSED),
        warnings=tuple(entry for entry in found if entry.kind in WARNED),
    )


def _in_clusters(before: Fleet, after: Fleet, host: Iterable[Change]) -> Iterator[ClusterChange]:
    yield ClusterChange(None, (*host, *_releases(before, after, None)))
    for cluster in sorted({*before.clusters, *after.clusters, *before.members, *after.members}):
        sets = changes(_sets(before, cluster), _sets(after, cluster))
        yield ClusterChange(cluster, (*sets, *_releases(before, after, cluster)))


def _releases(before: Fleet, after: Fleet, cluster: ObjectKey | None) -> Iterator[Change]:
    old, new = releases(before, cluster, before), releases(after, cluster, before)
    return changes(
        {("Helm release", str(key)): digest for key, digest in old.items()},
        {("Helm release", str(key)): digest for key, digest in new.items()},
    )


def _sets(fleet: Fleet, cluster: ObjectKey) -> dict[tuple[str, str], Any]:
    return {(type(source.made).__name__, str(source.place.key)): essence(source.made) for source in fleet.placed(cluster)}


def _objects(foreseen: Foresight) -> dict[tuple[str, str], Any]:
    """The objects on a node, each under the key of what it comes from: what its own name is differs from node to node."""
    known: tuple[Object, ...] = (*foreseen.interfaces, *foreseen.chains)
    items = {ref(type(item).__name__, item): item for item in known}
    return {(there.kind, str(foreseen.origin(there).key)): essence(item) for there, item in items.items()}


def essence(item: Object) -> dict[str, Any]:
    """What of an object is written by people and by us, but for what follows from the rest."""
    annotations = {key: value for key, value in untraced(item.metadata.annotations).items() if key != TEMPLATE_DIGEST_ANNOTATION}
    content = {"labels": item.metadata.labels, "annotations": annotations, "spec": getattr(item, "spec", None)}
    return {key: value for key, value in content.items() if value}


def applied(before: Fleet, after: Fleet, manifests: Iterable[Manifest]) -> list[Change]:
    """What happens to the objects of the host cluster that manifests name."""
    wanted = [manifest for manifest in manifests if manifest.cluster is None]
    known = [
        {_title(manifest): essence(item) for manifest in wanted if (item := present(fleet, manifest)) is not None}
        for fleet in (before, after)
    ]
    return list(changes(*known))


def _title(manifest: Manifest) -> tuple[str, str]:
    return manifest.ref.kind, str(manifest.ref.key)


def changes(before: Mapping[tuple[str, str], Any], after: Mapping[tuple[str, str], Any]) -> Iterator[Change]:
    """What becomes of things, each under its kind and name."""
    for kind, name in sorted({*before, *after}):
        old, new = before.get((kind, name)), after.get((kind, name))
        if old != new:
            yield Change("create" if old is None else "delete" if new is None else "change", kind, name, old, new)


def _on_nodes(standing: Standing) -> NodeChange:
    assert standing.cluster is not None, "nodes that exist are in a cluster"
    before, after = standing.before, standing.after
    return NodeChange(
        cluster=standing.cluster,
        nodes=standing.nodes,
        objects=tuple(changes(_objects(before), _objects(after))),
        ports=tuple(changes(_ports(before), _ports(after))),
        flows=_flows(before, after),
        cut=tuple(sorted(paths(before) - paths(after))),
        opened=tuple(sorted(paths(after) - paths(before))),
    )


def _ports(foreseen: Foresight) -> dict[tuple[str, str], Any]:
    """The ports of the bridge, each with what it is to be: its owner is part of that."""
    return {("port", port.name): _port(foreseen, port.name, port.dpf_id or "") for port in foreseen.world.ports.values()}


def _port(foreseen: Foresight, name: str, mark: str) -> dict[str, Any]:
    wanted = foreseen.ports.wanted.get(name)
    if wanted is None:
        return {"pod": mark.rpartition("/")[0]}
    peer = {"peer": f"{wanted.peer.name} on {wanted.peer.bridge}", "peerExternalIDs": dict(wanted.peer.external_ids)} if wanted.peer else {}
    return {"owner": str(foreseen.origin(Ref("ServiceInterface", wanted.owner))), **wanted.external_ids, **peer}


def _flows(before: Foresight, after: Foresight) -> FlowChange:
    """What the agent would send to the bridge."""
    numbers = numbered([*port_names(before), *port_names(after)])
    old, new = flow_state(before, numbers), flow_state(after, numbers)
    difference = diff(old, new)
    present = {flow.key: flow for flow in old.flows}
    added = [*difference.add, *difference.modify]
    removed = [*difference.delete, *(present[flow.key] for flow in difference.modify)]
    return FlowChange(
        tuple(describe(flow, names_of(after, numbers)) for flow in _ordered(added)),
        tuple(describe(flow, names_of(before, numbers)) for flow in _ordered(removed)),
        len(new.flows),
    )


def _ordered(flows: Iterable[Flow]) -> list[Flow]:
    return sorted(flows, key=lambda flow: flow.key.order())


def _paths(nodes: Iterable[NodeChange]) -> Iterator[PathChange]:
    counts: Counter[tuple[bool, Path]] = Counter()
    for group in nodes:
        for opened, found in ((False, group.cut), (True, group.opened)):
            counts.update({(opened, path): len(group.nodes) for path in found})
    for (opened, path), dpus in sorted(counts.items()):
        yield PathChange(path, opened, dpus)
