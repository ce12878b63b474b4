"""All that decides what is on the DPUs, as one value: what operators wrote, the DPU clusters, their nodes, and what was made there by hand.

An edit gives a new value, so that the world as it is and the world as it would be can be laid side by side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

from msgspec.structs import replace as replace_part

from dpuchain.api.chain import DPUServiceChain, ServiceChain, ServiceChainSet, ServiceChainSpec
from dpuchain.api.fleet import DPFOperatorConfig, DPUCluster
from dpuchain.api.interface import DPUServiceInterface, ServiceInterface, ServiceInterfaceSet
from dpuchain.api.kubernetes import Metadata, Pod
from dpuchain.api.meta import LabelSelector, Object, ObjectKey, key_of
from dpuchain.api.names import INTERFACE_SET_NAME_LABEL, OPERATOR_CONFIG_NAME, OPERATOR_NAMESPACE, OWNER_KIND_LABEL, OWNER_UID_LABEL
from dpuchain.api.service import DPUService
from dpuchain.chain import mtu
from dpuchain.chain.expand import Maker, chain_maker, interface_maker, set_of_child
from dpuchain.chain.nodes import Nodes, Pods, Service
from dpuchain.chain.ports import claim_of, function_of, service_of
from dpuchain.chain.problems import Problem, Ref, ref
from dpuchain.chain.project import chain_set_of, cluster_selector, interface_set_of, is_from, is_ours, owner_conflict, selects
from dpuchain.chain.release import service_id
from dpuchain.chain.selectors import Requirements, matches, requirements
from dpuchain.chain.selectors import problem as selector_problem
from dpuchain.chain.vlans import vlan_of

Made: TypeAlias = ServiceChainSet | ServiceInterfaceSet | ServiceChain | ServiceInterface
SETS = (ServiceChainSet, ServiceInterfaceSet)
LAST = datetime.max.replace(tzinfo=UTC)
"""When what is not there yet is made: after all that is."""
ANYWHERE = "any"
"""Name of a node that stands for each that is selected."""


class Place(NamedTuple):
    """Where an object is: in which DPU cluster (None: in the host cluster), of which kind, and under which key."""

    cluster: ObjectKey | None
    kind: str
    key: ObjectKey


@dataclass(frozen=True)
class Source:
    """What node objects come from: an object of the host cluster, a set that is not of one, or a node object that is of no set."""

    place: Place
    ref: Ref
    """The object that people know: of a set that was made from an object of the host cluster, that object."""
    made: Made
    """What is in the DPU cluster because of it."""
    item: Any
    """The object itself."""

    @cached_property
    def is_chain(self) -> bool:
        """Whether it makes chains; else it makes interfaces."""
        return isinstance(self.made, ServiceChainSet | ServiceChain)

    @property
    def node(self) -> str | None:
        """The only node that it is on; None if a selector says."""
        return None if isinstance(self.made, SETS) else self.made.spec.node or ""

    @property
    def node_selector(self) -> LabelSelector | None:
        """Which nodes a set selects."""
        return self.made.spec.node_selector if isinstance(self.made, SETS) else None

    @cached_property
    def node_needs(self) -> Requirements:
        """What a set asks of nodes."""
        return requirements(self.node_selector)

    @cached_property
    def cluster_needs(self) -> Requirements:
        """What an object of the host cluster asks of DPUClusters."""
        return requirements(cluster_selector(self.item.spec) if self.place.cluster is None else None)

    @property
    def chain_spec(self) -> ServiceChainSpec:
        """The spec of each of its chains."""
        assert isinstance(self.made, ServiceChainSet | ServiceChain), "asked of chains"
        return self.made.spec.template.spec if isinstance(self.made, ServiceChainSet) else self.made.spec

    @cached_property
    def wanted(self) -> tuple[Mapping[str, str], ...]:
        """The labels of the interfaces that each port of its chains is to be."""
        return tuple(port.service_interface.match_labels for switch in self.chain_spec.switches for port in switch.ports)

    @cached_property
    def selector_problem(self) -> str | None:
        """What is wrong with its selectors, because of which they pick nothing."""
        field = "spec.template.spec.nodeSelector" if self.place.cluster is None else "spec.nodeSelector"
        wrong = selector_problem(self.node_selector, field)
        if wrong is None and self.place.cluster is None:
            name = "spec.dpuClusterSelector" if self.item.spec.dpu_cluster_selector is not None else "spec.clusterSelector"
            wrong = selector_problem(cluster_selector(self.item.spec), name)
        return wrong

    @cached_property
    def example(self) -> ServiceChain | ServiceInterface:
        """A node object of it, on a node that stands for each."""
        child: Any = self.made if self.maker is None else self.maker.on_node(ANYWHERE, ())[0]
        assert isinstance(child, ServiceChain | ServiceInterface), "what is no set is a node object"
        return child

    @cached_property
    def maker(self) -> Maker[Any] | None:
        """How a set makes its objects; None of what is no set."""
        if isinstance(self.made, ServiceChainSet):
            return chain_maker(self.made)
        return interface_maker(self.made) if isinstance(self.made, ServiceInterfaceSet) else None

    @cached_property
    def claims(self) -> frozenset[Hashable]:
        """What two interfaces are at odds about if both have it: a port of the bridge, a VLAN's parent, an interface of a pod."""
        item = self.example
        if not isinstance(item, ServiceInterface):
            return frozenset()
        namespace, service, vlan, function = item.metadata.namespace, service_of(item), vlan_of(item), function_of(item)
        names = item.metadata.name, item.metadata.labels.get(INTERFACE_SET_NAME_LABEL)
        found: set[Hashable] = {("called", namespace, name) for name in names if name is not None}
        if service is not None:
            found.add(("pod", namespace, service.service_id, service.interface_name))
        if vlan is not None:
            found.add(("called", namespace, vlan.parent_interface_ref))
        if function is not None:
            found.add(("port", function.udev_name or function))
        port = claim_of(item).port
        return frozenset(found if port is None else {*found, ("port", port)})

    def meets(self, other: Source) -> bool:
        """Whether the two can have to do with one another on a node: a chain with an interface that it picks, two that claim the same."""
        if self.is_chain == other.is_chain:
            return not self.is_chain and not self.claims.isdisjoint(other.claims)
        chain, interface = (self, other) if self.is_chain else (other, self)
        if chain.made.metadata.namespace != interface.made.metadata.namespace:
            return False
        return any(mtu.carries(interface.example, wanted) for wanted in chain.wanted)

    def picked(self, nodes: Nodes) -> frozenset[str]:
        """The nodes that it is on."""
        if self.node is not None:
            return frozenset([self.node]) if self.node in nodes.items else frozenset()
        return nodes.picked(self.node_selector)

    def on(self, node: Object, existing: Sequence[Any] = ()) -> ServiceChain | ServiceInterface | None:
        """Its object on a node, given what is there of it already, as old as that is, or as the source is; None if it has none there."""
        if self.maker is None:
            child: Any = self.made if self.node == node.metadata.name else None
        else:
            child = self.maker.on_node(node.metadata.name, existing)[0] if self.maker.selects(node) else None
        if child is None:
            return None
        there = next((item for item in existing if item.metadata.name == child.metadata.name), self.item)
        created = there.metadata.creation_timestamp or LAST
        aged: ServiceChain | ServiceInterface = replace_part(child, metadata=replace_part(child.metadata, creation_timestamp=created))
        return aged


def host_source(item: DPUServiceChain | DPUServiceInterface, host: str) -> Source:
    """The source that an object of the host cluster of this identity is."""
    kind = type(item).__name__
    made = chain_set_of(item, host) if isinstance(item, DPUServiceChain) else interface_set_of(item, host)
    return Source(Place(None, kind, key_of(item)), ref(kind, item), made, item)


def member_source(cluster: ObjectKey, item: Made) -> Source:
    """The source that a set, or a node object of no set, is in a DPU cluster."""
    kind, labels = type(item).__name__, item.metadata.labels
    known_as = labels.get(OWNER_KIND_LABEL, kind) if OWNER_UID_LABEL in labels else kind
    return Source(Place(cluster, kind, key_of(item)), Ref(known_as, key_of(item)), item, item)


@dataclass(frozen=True)
class Member:
    """What is in a DPU cluster besides its sources."""

    nodes: Nodes = field(default_factory=Nodes)
    pods: Pods = field(default_factory=Pods)
    existing: Mapping[tuple[str, ObjectKey, str], tuple[Any, ...]] = field(default_factory=dict)
    """Objects of sets, by kind, set and node: where they are known, they keep name and age."""


@dataclass(frozen=True)
class Fleet:
    """The world, as far as it is known."""

    host: str = ""
    """Identity of the host cluster."""
    clusters: Mapping[ObjectKey, DPUCluster] = field(default_factory=dict)
    members: Mapping[ObjectKey, Member] = field(default_factory=dict)
    sources: Mapping[Place, Source] = field(default_factory=dict)
    interfaces: Mapping[ObjectKey, DPUServiceInterface] = field(default_factory=dict)
    services: Mapping[ObjectKey, DPUService] | None = field(default_factory=dict)
    """None where they cannot be seen, as from inside a DPU cluster: then each service is taken to have its pods."""
    config: DPFOperatorConfig | None = field(default_factory=DPFOperatorConfig)
    """The settings in force, which are their defaults where there are none; None where they cannot be seen."""

    @property
    def high_speed_mtu(self) -> int | None:
        """The bound of each serviceMTU; None where it cannot be seen."""
        return self.config.spec.networking.high_speed_mtu if self.config is not None else None

    def changed(self, old: Any, new: Any, cluster: ObjectKey | None = None) -> Fleet:
        """After `old`, an object of the host cluster or of a DPU cluster, became `new`: None where there was none, or is none any more.

        One that is being deleted is none.
        """
        if new is not None and new.metadata.deletion_timestamp is not None:
            new = None
        if old is None and new is None:
            return self
        return self._changed_on_host(old, new) if cluster is None else self._changed_in_member(cluster, old, new)

    def put(self, item: Any, cluster: ObjectKey | None = None) -> Fleet:
        """With an object that was not there."""
        return self.changed(None, item, cluster)

    def _changed_on_host(self, old: Any, new: Any) -> Fleet:
        match new if new is not None else old:
            case DPUServiceInterface() as item:
                return replace(self._changed_source(old, new), interfaces=_with(self.interfaces, key_of(item), new))
            case DPUServiceChain():
                return self._changed_source(old, new)
            case DPUService() as item:
                return replace(self, services=_with(self.services or {}, key_of(item), new))
            case DPUCluster() as item:
                return replace(self, clusters=_with(self.clusters, key_of(item), new))
        return replace(self, config=new or DPFOperatorConfig()) if is_in_force(new or old) else self

    def _changed_source(self, old: Any, new: Any) -> Fleet:
        """An object of the host cluster that goes takes along the sets that were made from it."""
        if new is not None:
            source = host_source(new, self.host)
            return replace(self, sources={**self.sources, source.place: source})
        owner = host_source(old, self.host)
        gone = {owner.place, *(place for place, source in self.sources.items() if _is_made_from(source, owner))}
        return replace(self, sources={place: source for place, source in self.sources.items() if place not in gone})

    def _changed_in_member(self, cluster: ObjectKey, old: Any, new: Any) -> Fleet:
        item, member = new if new is not None else old, self.member(cluster)
        if isinstance(item, Pod):
            return self.with_member(cluster, replace(member, pods=member.pods.changed(old, new)))
        if isinstance(item, Metadata):
            nodes = member.nodes.put(new) if new is not None else member.nodes.drop(item.metadata.name)
            return self.with_member(cluster, replace(member, nodes=nodes))
        if isinstance(item, ServiceChain | ServiceInterface) and set_of_child(item) is not None:
            return self  # it follows from its set
        place = Place(cluster, type(item).__name__, key_of(item))
        return replace(self, sources=_with(self.sources, place, None if new is None else member_source(cluster, new)))

    def with_existing(self, cluster: ObjectKey, items: Iterable[ServiceChain | ServiceInterface]) -> Fleet:
        """With these as the objects of sets that there are in a DPU cluster, so that what is foreseen has their names and their ages."""
        existing: defaultdict[tuple[str, ObjectKey, str], list[Any]] = defaultdict(list)
        for item in items:
            parent = set_of_child(item)
            if parent is not None:
                existing[type(item).__name__, parent, item.spec.node or ""].append(item)
        return self.with_member(cluster, replace(self.member(cluster), existing={key: tuple(there) for key, there in existing.items()}))

    def with_member(self, cluster: ObjectKey, member: Member) -> Fleet:
        """With a DPU cluster's nodes and pods as given."""
        return replace(self, members={**self.members, cluster: member})

    def forget(self, cluster: ObjectKey) -> Fleet:
        """With nothing known of what is in a DPU cluster."""
        sources = {place: source for place, source in self.sources.items() if place.cluster != cluster}
        return replace(self, members=_with(self.members, cluster, None), sources=sources)

    def member(self, cluster: ObjectKey) -> Member:
        """What is in a DPU cluster; nothing if that is not known."""
        return self.members.get(cluster, Member())

    def placed(self, cluster: ObjectKey, among: Collection[Place] | None = None) -> Iterator[Source]:
        """The sources of what is in a DPU cluster; only those at certain places, if these are given.

        A set of an object of the host cluster is not one besides that object. One that has the name of such an object and is somebody
        else's is: then the object has nothing there.
        """
        for source in self.sources.values():
            if among is not None and source.place not in among:
                continue
            if source.place.cluster is None:
                here = self.selects(source, cluster) and self.name_taken(source, cluster) is None
            else:
                here = source.place.cluster == cluster and not self._is_followed(source)
            if here:
                yield source

    def selects(self, source: Source, cluster: ObjectKey) -> bool:
        """Whether an object of the host cluster belongs into a DPU cluster. One whose serviceMTU is too large is written nowhere."""
        there, selector = self.clusters.get(cluster), cluster_selector(source.item.spec)
        return there is not None and selects(selector, there) and self.mtu_problem(source) is None

    def mtu_problem(self, source: Source) -> Problem | None:
        """Why the serviceMTU of a source is too large; None if it is not."""
        if self.high_speed_mtu is None or not source.is_chain or source.place.cluster is not None:
            return None
        return mtu.exceeds(source.chain_spec, self.high_speed_mtu)

    def name_taken(self, source: Source, cluster: ObjectKey) -> str | None:
        """Why an object of the host cluster cannot have its set in a DPU cluster, as somebody else has one of its name."""
        found = self.sources.get(Place(cluster, type(source.made).__name__, source.place.key))
        return owner_conflict(found.made if found is not None else None, source.made)

    def serving(self, cluster: ObjectKey) -> frozenset[Service] | None:
        """The services that have pods in a DPU cluster, or will; None if each has."""
        if self.services is None:
            return None
        wanted = {
            Service(service.metadata.namespace, service_id(service))
            for service in self.services.values()
            if self.installs(service, cluster)
        }
        return frozenset(wanted | self.member(cluster).pods.services.keys())

    def installs(self, service: DPUService, cluster: ObjectKey | None) -> bool:
        """Whether a service is to be in a DPU cluster; in the host cluster, if that is None."""
        if cluster is None or service.spec.deploy_in_cluster:
            return cluster is None and bool(service.spec.deploy_in_cluster)
        there = self.clusters.get(cluster)
        return there is not None and matches(service.spec.dpu_cluster_selector, there.metadata.labels)

    def _is_followed(self, source: Source) -> bool:
        """Whether a set in a DPU cluster is, or becomes, that of an object of the host cluster."""
        assert source.place.cluster is not None, "asked of what is in a DPU cluster"
        kind = {"ServiceChainSet": "DPUServiceChain", "ServiceInterfaceSet": "DPUServiceInterface"}.get(source.place.kind, "")
        owner = self.sources.get(Place(None, kind, source.place.key))
        if owner is None:  # a set of this host cluster whose object is gone goes too
            return bool(self.host) and is_from(source.made, self.host)
        if owner_conflict(source.made, owner.made) is not None or self.mtu_problem(owner) is not None:
            return False  # a set whose object cannot be written stays as it is
        return self.selects(owner, source.place.cluster) or _is_made_from(source, owner)


def is_in_force(config: DPFOperatorConfig) -> bool:
    """Whether it is the one that counts."""
    return key_of(config) == ObjectKey(OPERATOR_NAMESPACE, OPERATOR_CONFIG_NAME)


def _is_made_from(source: Source, owner: Source) -> bool:
    """Whether a set in a DPU cluster was made from an object of the host cluster."""
    return (type(source.made), source.place.key) == (type(owner.made), owner.place.key) and is_ours(source.made, owner.made)


def _with(items: Mapping[Any, Any], key: Any, item: Any) -> dict[Any, Any]:
    """`items` with `item` under `key`, or without that key if it is None."""
    others = {other: there for other, there in items.items() if other != key}
    return others if item is None else {**others, key: item}
