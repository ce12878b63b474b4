"""From a set in a DPU cluster to one object on each selected node."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from msgspec.structs import replace

from dpuchain.api.chain import ServiceChain, ServiceChainSet
from dpuchain.api.interface import ServiceInterface, ServiceInterfaceSet
from dpuchain.api.meta import Object, ObjectKey, ObjectMeta, OwnerReference, TemplateMeta, key_of
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


def service_chains(chain_set: ServiceChainSet, nodes: Iterable[Object], existing: Iterable[ServiceChain]) -> Expansion[ServiceChain]:
    """The ServiceChains of a set, given the cluster's nodes and the set's present children."""
    template = chain_set.spec.template
    labels = {CHAIN_SET_NAME_LABEL: chain_set.metadata.name, CHAIN_SET_NAMESPACE_LABEL: chain_set.metadata.namespace}
    names, surplus = _names(chain_set, chain_set.spec.node_selector, nodes, existing)
    common = _child_metadata(chain_set, "ServiceChainSet", template.metadata, labels, SERVICE_CHAIN_FINALIZER)
    wanted = (ServiceChain(metadata=replace(common, name=name), spec=replace(template.spec, node=node)) for node, name in names.items())
    return Expansion(tuple(wanted), surplus)


def service_interfaces(
    interface_set: ServiceInterfaceSet, nodes: Iterable[Object], existing: Iterable[ServiceInterface]
) -> Expansion[ServiceInterface]:
    """The ServiceInterfaces of a set, given the cluster's nodes and the set's present children."""
    template = interface_set.spec.template
    labels = {INTERFACE_SET_NAME_LABEL: interface_set.metadata.name, INTERFACE_SET_NAMESPACE_LABEL: interface_set.metadata.namespace}
    if template.spec.interface_type == "service" and template.spec.service is not None:
        labels[SERVICE_ID_LABEL] = template.spec.service.service_id
    names, surplus = _names(interface_set, interface_set.spec.node_selector, nodes, existing)
    common = _child_metadata(interface_set, "ServiceInterfaceSet", template.metadata, labels, SERVICE_INTERFACE_FINALIZER)
    wanted = (ServiceInterface(metadata=replace(common, name=name), spec=replace(template.spec, node=node)) for node, name in names.items())
    return Expansion(tuple(wanted), surplus)


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


def _names(parent: Object, selector: Any, nodes: Iterable[Object], existing: Iterable[C]) -> tuple[Mapping[str, str], tuple[C, ...]]:
    """The name of the child on each selected node, in the order of the nodes, and the children that are too many.

    A child that is there keeps its name, whoever gave it (DPF's controllers append random letters); of several on one node our own name
    wins, then the oldest. One that is being deleted counts as not there unless it bears the name itself. One that bears the name of
    another node's child is that node's, whatever somebody wrote into its spec.
    """
    selected = sorted({n.metadata.name for n in nodes if n.metadata.deletion_timestamp is None and matches(selector, n.metadata.labels)})
    home = {child_name(parent.metadata.name, node): node for node in selected}
    by_node: defaultdict[str | None, list[C]] = defaultdict(list)
    for child in existing:
        by_node[home.get(child.metadata.name, child.spec.node)].append(child)
    names: dict[str, str] = {}
    surplus: list[C] = []
    for own, node in home.items():
        present = sorted(by_node.pop(node, []), key=lambda child: _seniority(child, own))
        kept = present[0] if present and present[0].metadata.deletion_timestamp is None else None
        names[node] = kept.metadata.name if kept is not None else own
        surplus += [child for child in present if child.metadata.name != names[node]]
    surplus += [child for children in by_node.values() for child in children]
    return names, tuple(sorted(surplus, key=key_of))


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
