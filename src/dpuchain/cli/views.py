"""What `describe` reads for each kind of thing, and the tree that it makes of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from dpuchain.api.kinds import (
    DPU_SERVICE,
    DPU_SERVICE_CHAIN,
    DPU_SERVICE_INTERFACE,
    NODE_STATUS,
    POD,
    SERVICE_CHAIN,
    SERVICE_CHAIN_SET,
    SERVICE_INTERFACE,
    SERVICE_INTERFACE_SET,
)
from dpuchain.api.kubernetes import Node, Pod
from dpuchain.api.meta import Object, ObjectKey, key_of
from dpuchain.api.names import (
    CHAIN_SET_NAME_LABEL,
    CHAIN_SET_NAMESPACE_LABEL,
    INTERFACE_SET_NAME_LABEL,
    INTERFACE_SET_NAMESPACE_LABEL,
    SERVICE_LABEL,
)
from dpuchain.api.resource import Resource
from dpuchain.api.service import DPUService
from dpuchain.chain.project import selects
from dpuchain.chain.release import service_id
from dpuchain.chain.report import Report
from dpuchain.chain.selectors import matches
from dpuchain.cli.fleet import Fleet, Member
from dpuchain.cli.items import Item, flow_facts, in_order, of_chain, of_object, of_port
from dpuchain.kube.cache import Cache

Reports = Mapping[tuple[ObjectKey, str], Report | str]
"""What agents told, by cluster and node; a text says why one did not."""


Build = Callable[[Member], Iterable[Item]]
"""Makes what is below a DPU cluster."""


@dataclass(frozen=True)
class Wanted:
    """What somebody wants to see: one object or, without a name, all; of one namespace or, without one, of all."""

    namespace: str
    name: str

    @property
    def fields(self) -> str:
        """The field selector that finds it."""
        return f"metadata.name={self.name}" if self.name else ""


class View(ABC):
    """Caches to be run, and the tree of what is in them."""

    def __init__(self, fleet: Fleet) -> None:
        self.members = fleet.members

    @property
    @abstractmethod
    def caches(self) -> Sequence[Cache[Any]]:
        """All that is read."""

    @abstractmethod
    def build(self, reports: Reports) -> list[Item]:
        """The trees, with what agents told of their nodes; an empty list if there is no such thing."""

    def clusters(self, item: Object, caches: Mapping[ObjectKey, Sequence[Cache[Any]]], build: Build) -> Iterator[Item]:
        """The line of each DPU cluster that is selected, or that has something all the same, with what `build` makes below it."""
        for member in self.members:
            key = key_of(member.cluster)
            problem = member.problem or next((str(c.failing.error) for c in caches.get(key, ()) if c.failing is not None), None)
            children = tuple(build(member)) if problem is None else ()
            if problem is None and not children and not _is_selected(item, member):
                continue
            yield Item(
                kind="DPUCluster",
                name=key.name,
                namespace=key.namespace,
                ready=False if problem is not None else None,
                problems=() if problem is None else (problem,),
                children=children,
            )


def _is_selected(item: Any, member: Member) -> bool:
    if isinstance(item, DPUService):
        return not item.spec.deploy_in_cluster and matches(item.spec.dpu_cluster_selector, member.cluster.metadata.labels)
    return selects(item.spec, member.cluster)


@dataclass(frozen=True)
class Levels:
    """The kinds of one thing on its way down, and the labels by which a child names its set."""

    host: Resource[Any]
    sets: Resource[Any]
    children: Resource[Any]
    name_label: str
    namespace_label: str


CHAINS = Levels(DPU_SERVICE_CHAIN, SERVICE_CHAIN_SET, SERVICE_CHAIN, CHAIN_SET_NAME_LABEL, CHAIN_SET_NAMESPACE_LABEL)
INTERFACES = Levels(
    DPU_SERVICE_INTERFACE, SERVICE_INTERFACE_SET, SERVICE_INTERFACE, INTERFACE_SET_NAME_LABEL, INTERFACE_SET_NAMESPACE_LABEL
)


class SetView(View):
    """A DPUServiceChain or DPUServiceInterface, its sets, and their objects on the nodes."""

    def __init__(self, fleet: Fleet, wanted: Wanted, levels: Levels) -> None:
        super().__init__(fleet)
        self._levels = levels
        self._host = Cache(fleet.host, levels.host, namespace=wanted.namespace, field_selector=wanted.fields)
        label = f"{levels.name_label}={wanted.name}" if wanted.name else levels.name_label
        self._parts = {
            key_of(member.cluster): (
                Cache(member.client, levels.sets, namespace=wanted.namespace, field_selector=wanted.fields),
                Cache(member.client, levels.children, namespace=wanted.namespace, label_selector=label),
            )
            for member in fleet.members
            if member.client is not None
        }

    @property
    def caches(self) -> Sequence[Cache[Any]]:
        """All that is read."""
        return (self._host, *(cache for parts in self._parts.values() for cache in parts))

    def build(self, reports: Reports) -> list[Item]:
        """The trees."""
        found = []
        for item in sorted(self._host, key=key_of):
            below = self.clusters(item, self._parts, partial(self._sets, key_of(item), reports))
            found.append(of_object(self._levels.host, item, item.status.conditions, below))
        return found

    def _sets(self, key: ObjectKey, reports: Reports, member: Member) -> Iterator[Item]:
        cluster = key_of(member.cluster)
        sets, children = self._parts[cluster]
        item = sets.get(key)
        if item is None:
            return
        owner = {self._levels.name_label: key.name, self._levels.namespace_label: key.namespace}
        nodes = in_order(
            self._node(child, reports.get((cluster, child.spec.node or "")))
            for child in children
            if owner.items() <= child.metadata.labels.items()
        )
        line = of_object(self._levels.sets, item, item.status.conditions, nodes)
        applied, ready = item.status.number_applied or 0, item.status.number_ready or 0
        yield msgspec.structs.replace(line, facts={"applied": applied, "ready": ready})

    def _node(self, child: Any, report: Report | str | None) -> Item:
        below = of_object(self._levels.children, child, child.status.conditions)
        if isinstance(report, Report):
            below = _detailed(below, key_of(child), report)
        return node_line(child.spec.node or "(no node)", (below,), report)


def _detailed(line: Item, key: ObjectKey, report: Report) -> Item:
    """The line of a node's object with what the agent tells of it."""
    chain, port = report.chain_of(key), report.port_of(key)
    if line.kind == SERVICE_CHAIN.kind and chain is not None:
        return msgspec.structs.replace(line, facts=flow_facts(chain), children=tuple(of_chain(chain)))
    if line.kind == SERVICE_INTERFACE.kind and port is not None:
        return msgspec.structs.replace(line, children=(of_port(port),))
    return msgspec.structs.replace(line, problems=(*line.problems, "its agent does not know it yet"))


def node_line(name: str, children: Iterable[Item], report: Report | str | None, ready: bool | None = None) -> Item:
    """The line of a node, with what is wrong with its agent."""
    below = tuple(children)
    problems = report.problems if isinstance(report, Report) else (report,) if report is not None else ()
    good = all(item.ready is not False for item in below) and ready is not False and not problems
    return Item(kind="Node", name=name, ready=good, state="Ready" if good else "not Ready", problems=problems, children=below)


class ServiceView(View):
    """A DPUService, and the pods of it on the nodes with their ports."""

    def __init__(self, fleet: Fleet, wanted: Wanted) -> None:
        super().__init__(fleet)
        self._host = Cache(fleet.host, DPU_SERVICE, namespace=wanted.namespace, field_selector=wanted.fields)
        self._pods = {
            key_of(member.cluster): (Cache(member.client, POD, namespace=wanted.namespace, label_selector=SERVICE_LABEL),)
            for member in fleet.members
            if member.client is not None
        }

    @property
    def caches(self) -> Sequence[Cache[Any]]:
        """All that is read."""
        return (self._host, *(cache for (cache,) in self._pods.values()))

    def build(self, reports: Reports) -> list[Item]:
        """The trees."""
        found = []
        for item in sorted(self._host, key=key_of):
            below = self.clusters(item, self._pods, partial(self._on_nodes, item, reports))
            line = of_object(DPU_SERVICE, item, item.status.conditions, below)
            found.append(msgspec.structs.replace(line, facts={"serviceID": service_id(item)}))
        return found

    def _on_nodes(self, item: DPUService, reports: Reports, member: Member) -> Iterator[Item]:
        namespace, service = item.metadata.namespace, service_id(item)
        cluster = key_of(member.cluster)
        (pods,) = self._pods[cluster]
        by_node: dict[str, list[Pod]] = {}
        for pod in sorted(pods, key=key_of):
            if (pod.metadata.namespace, pod.metadata.labels.get(SERVICE_LABEL)) == (namespace, service):
                by_node.setdefault(pod.spec.node_name, []).append(pod)
        for node, found in sorted(by_node.items()):
            report = reports.get((cluster, node))
            ports = [of_port(p) for p in report.interfaces if p.service == service] if isinstance(report, Report) else []
            yield node_line(node or "(no node)", [*map(_pod, found), *ports], report)


def _pod(pod: Pod) -> Item:
    going = pod.metadata.deletion_timestamp is not None
    why = [condition.message for condition in pod.status.conditions if condition.status != "True" and condition.message]
    return Item(
        kind="Pod",
        name=pod.metadata.name,
        namespace=pod.metadata.namespace,
        ready=pod.ready and not going,
        state="terminating" if going else "Ready" if pod.ready else pod.status.phase or "not Ready",
        problems=tuple(dict.fromkeys(why)),
    )


class NodeView(View):
    """A node of a DPU cluster: what its agent tells, chain by chain, and the interfaces that are in none."""

    def __init__(self, fleet: Fleet, wanted: Wanted) -> None:
        super().__init__(fleet)
        self._nodes = {
            key_of(member.cluster): (Cache(member.client, NODE_STATUS, field_selector=wanted.fields),)
            for member in fleet.members
            if member.client is not None
        }

    @property
    def caches(self) -> Sequence[Cache[Any]]:
        """All that is read."""
        return [cache for (cache,) in self._nodes.values()]

    def build(self, reports: Reports) -> list[Item]:
        """A tree for each cluster that has such a node."""
        found = []
        for member in self.members:
            cluster = key_of(member.cluster)
            for (cache,) in [self._nodes[cluster]] if cluster in self._nodes else []:
                nodes = in_order(self._node(node, reports.get((cluster, node.metadata.name))) for node in cache)
                if nodes:
                    found.append(Item(kind="DPUCluster", name=cluster.name, namespace=cluster.namespace, children=tuple(nodes)))
        return found

    @staticmethod
    def _node(node: Node, report: Report | str | None) -> Item:
        kubelet = () if node.ready else ("its kubelet is not Ready: see `kubectl describe node`",)
        children: list[Item] = []
        facts: dict[str, str | int] = {}
        if isinstance(report, Report):
            children = list(_of_report(report))
            facts = {
                "agent": report.version,
                "openvswitch": report.ovs,
                "bridge": report.bridge,
                "datapath": report.datapath,
                "learned": report.learned,
                "foreignFlows": report.foreign,
            }
        line = node_line(node.metadata.name, children, report, node.ready)
        return msgspec.structs.replace(line, facts=facts, problems=(*kubelet, *line.problems))


def _of_report(report: Report) -> Iterator[Item]:
    chained = {port.interface for chain in report.chains for switch in chain.switches for port in switch.ports}
    for chain in report.chains:
        good = not chain.problems
        namespace, _, name = chain.chain.rpartition("/")
        told = {problem for switch in chain.switches for problem in switch.problems}
        yield Item(
            kind=SERVICE_CHAIN.kind,
            name=name,
            namespace=namespace,
            ready=good,
            state="Ready" if good else "not Ready",
            problems=tuple(problem for problem in chain.problems if problem not in told),
            facts=flow_facts(chain),
            children=tuple(of_chain(chain)),
        )
    for port in report.interfaces:
        if port.interface not in chained:
            yield of_port(port)
