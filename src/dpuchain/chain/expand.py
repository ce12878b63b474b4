"""From a set in a DPU cluster to one object on each selected node."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from msgspec.structs import replace

from dpuchain.api.chain import ServiceChain, ServiceChainSet
from dpuchain.api.interface import ServiceInterface, ServiceInterfaceSet
from dpuchain.api.meta import LabelSelector, Object, ObjectKey, ObjectMeta, OwnerReference, TemplateMeta, key_of
from dpuchain.api.names import (
    CHAIN_SET_NAME_LABEL,
    CHAIN_SET_NAMESPACE_LABEL,
    INTERFACE_SET_NAME_LABEL,
    INTERFACE_SET_NAMESPACE_LABEL,
    SERVICE_CHAIN_FINALIZER,
    SERVICE_GROUP,
    SERVICE_ID_LABEL,
    SERVICE_INTERFACE_FINALIZER,
    VERSION,
)
from dpuchain.chain.selectors import matches
from dpuchain.chain.template import metadata_of

C = TypeVar("C", ServiceChain, ServiceInterface)

SET_KINDS = ("ServiceChainSet", "ServiceInterfaceSet")
LONGEST_NAME = 63
DIGEST = 10
"""Hexadecimal digits of the node's name in a child's name: two of 3,000 nodes share them with a probability of 4 in a million."""


@dataclass(frozen=True)
class Expansion(Generic[C]):
    """What there should be for a set: the objects, one a node, and those that are there and should not be."""

    wanted: tuple[C, ...]
    surplus: tuple[C, ...]


@dataclass(frozen=True)
class Maker(Generic[C]):
    """How a set makes its children, one on each node that it selects. `child` is each of them but for name and node."""

    parent: ObjectKey
    selector: LabelSelector | None
    child: C

    def selects(self, node: Object) -> bool:
        """Whether the node is to have a child. One that is being deleted gets none."""
        return node.metadata.deletion_timestamp is None and matches(self.selector, node.metadata.labels)

    def own_name(self, node: str) -> str:
        """What the child on a node is called if it has no other name already."""
        return child_name(self.parent.name, node)

    def on_node(self, node: str, present: Sequence[C]) -> tuple[C, tuple[C, ...]]:
        """The child on a selected node, and those of the `present` ones there that are too many.

        A child that is there keeps its name, whoever gave it (DPF's controllers append random letters); of several our own name wins, then
        the oldest. One that is being deleted counts as not there unless it bears the name itself.
        """
        own = self.own_name(node)
        first = min(present, key=lambda child: _seniority(child, own), default=None)
        name = first.metadata.name if first is not None and first.metadata.deletion_timestamp is None else own
        wanted = replace(self.child, metadata=replace(self.child.metadata, name=name), spec=replace(self.child.spec, node=node))
        return wanted, tuple(child for child in present if child.metadata.name != name)


def chain_maker(chain_set: ServiceChainSet) -> Maker[ServiceChain]:
    """How the ServiceChains of a set are made."""
    template = chain_set.spec.template
    labels = {CHAIN_SET_NAME_LABEL: chain_set.metadata.name, CHAIN_SET_NAMESPACE_LABEL: chain_set.metadata.namespace}
    metadata = _child_metadata(chain_set, "ServiceChainSet", template.metadata, labels, SERVICE_CHAIN_FINALIZER)
    return Maker(key_of(chain_set), chain_set.spec.node_selector, ServiceChain(metadata=metadata, spec=template.spec))


def interface_maker(interface_set: ServiceInterfaceSet) -> Maker[ServiceInterface]:
    """How the ServiceInterfaces of a set are made."""
    template = interface_set.spec.template
    labels = {INTERFACE_SET_NAME_LABEL: interface_set.metadata.name, INTERFACE_SET_NAMESPACE_LABEL: interface_set.metadata.namespace}
    if template.spec.interface_type == "service" and template.spec.service is not None:
        labels[SERVICE_ID_LABEL] = template.spec.service.service_id
    metadata = _child_metadata(interface_set, "ServiceInterfaceSet", template.metadata, labels, SERVICE_INTERFACE_FINALIZER)
    return Maker(key_of(interface_set), interface_set.spec.node_selector, ServiceInterface(metadata=metadata, spec=template.spec))


def service_chains(chain_set: ServiceChainSet, nodes: Iterable[Object], existing: Iterable[ServiceChain]) -> Expansion[ServiceChain]:
    """The ServiceChains of a set, given the cluster's nodes and the set's present children."""
    return expand(chain_maker(chain_set), nodes, existing)


def service_interfaces(
    interface_set: ServiceInterfaceSet, nodes: Iterable[Object], existing: Iterable[ServiceInterface]
) -> Expansion[ServiceInterface]:
    """The ServiceInterfaces of a set, given the cluster's nodes and the set's present children."""
    return expand(interface_maker(interface_set), nodes, existing)


def expand(maker: Maker[C], nodes: Iterable[Object], existing: Iterable[C]) -> Expansion[C]:
    """What there should be for a set on all nodes together, in the order of the nodes."""
    selected = sorted({node.metadata.name for node in nodes if maker.selects(node)})
    homes = {maker.own_name(node): node for node in selected}
    by_node: defaultdict[str | None, list[C]] = defaultdict(list)
    for child in existing:
        by_node[home_of(child, homes)].append(child)
    found = [maker.on_node(node, by_node.pop(node, [])) for node in selected]
    surplus = [child for _, too_many in found for child in too_many] + [child for children in by_node.values() for child in children]
    return Expansion(tuple(wanted for wanted, _ in found), tuple(sorted(surplus, key=key_of)))


def home_of(child: C, homes: Mapping[str, str]) -> str | None:
    """The node that a child is on, given the selected nodes by the names of their children: one that bears the name of another node's
    child is that node's, whatever somebody wrote into its spec.
    """
    return homes.get(child.metadata.name, child.spec.node)


def child_name(set_name: str, node: str) -> str:
    """Name of the child of a set on a node: the same each time, different for each node, at most 63 characters."""
    digest = hashlib.sha256(node.encode()).hexdigest()[:DIGEST]
    head = set_name[: LONGEST_NAME - DIGEST - 1].rstrip("-.")
    if len(head) < len(set_name):  # two long names with the same beginning must not meet
        digest = hashlib.sha256(f"{set_name}/{node}".encode()).hexdigest()[:DIGEST]
    return f"{head}-{digest}"


def set_of_child(child: Object) -> ObjectKey | None:
    """Key of the set that a child's labels name, or its owner references if somebody took the labels off; None if there is none."""
    labels = child.metadata.labels
    for name, namespace in (
        (CHAIN_SET_NAME_LABEL, CHAIN_SET_NAMESPACE_LABEL),
        (INTERFACE_SET_NAME_LABEL, INTERFACE_SET_NAMESPACE_LABEL),
    ):
        if name in labels:
            return ObjectKey(labels.get(namespace, child.metadata.namespace), labels[name])
    owners = [owner for owner in child.metadata.owner_references if owner.kind in SET_KINDS]
    return ObjectKey(child.metadata.namespace, owners[0].name) if owners else None


def _seniority(child: Object, own_name: str) -> tuple[bool, bool, str, str]:
    meta = child.metadata
    created = meta.creation_timestamp.isoformat() if meta.creation_timestamp else ""
    return meta.deletion_timestamp is not None, meta.name != own_name, created, meta.name


def _child_metadata(parent: Object, kind: str, template: TemplateMeta, labels: Mapping[str, str], finalizer: str) -> ObjectMeta:
    """Metadata of each child, but for its name."""
    owner = OwnerReference(
        api_version=f"{SERVICE_GROUP}/{VERSION}",
        kind=kind,
        name=parent.metadata.name,
        uid=parent.metadata.uid,
        controller=True,
        block_owner_deletion=True,
    )
    return replace(metadata_of(parent.metadata.namespace, template, labels, finalizer), owner_references=(owner,))
