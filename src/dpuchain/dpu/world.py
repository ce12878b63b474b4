"""The objects of a DPU cluster, as the caches of its controller have them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dpuchain.api.chain import ServiceChain, ServiceChainSet
from dpuchain.api.interface import ServiceInterface, ServiceInterfaceSet
from dpuchain.api.kinds import (
    NETWORK_ATTACHMENT_DEFINITION,
    NODE,
    POD,
    SERVICE_CHAIN,
    SERVICE_CHAIN_SET,
    SERVICE_INTERFACE,
    SERVICE_INTERFACE_SET,
)
from dpuchain.api.kubernetes import Metadata, Pod
from dpuchain.api.meta import ObjectKey
from dpuchain.api.names import RESTARTING_ANNOTATION, SERVICE_LABEL
from dpuchain.chain.expand import child_name, set_of_child
from dpuchain.kube.cache import Cache, problem_of
from dpuchain.kube.client import Client
from dpuchain.kube.sharing import Pool

BY_SET = "set"
BY_NODE = "node"
STRAYS = "strays"
"""Index of the children that are not found by their name, under set and node."""
RESTARTING = "restarting"
"""Index of the ServiceChains whose node's pods are being restarted: all of them are under True."""

SPREAD_SECONDS = 1.0
"""Over which replicas spread their lists of the nodes' objects, which are large, after an API server was started anew."""


@dataclass(frozen=True)
class ClusterObjects:
    """Live copies of what the controller looks at; of Nodes and networks the metadata alone, of pods those of services."""

    chain_sets: Cache[ServiceChainSet]
    interface_sets: Cache[ServiceInterfaceSet]
    chains: Cache[ServiceChain]
    interfaces: Cache[ServiceInterface]
    nodes: Cache[Metadata]
    pods: Cache[Pod]
    networks: Cache[Metadata]

    @classmethod
    def of(cls, client: Client) -> ClusterObjects:
        """The caches of one cluster; each is to be run."""
        objects = cls(
            Cache(client, SERVICE_CHAIN_SET),
            Cache(client, SERVICE_INTERFACE_SET),
            Cache(client, SERVICE_CHAIN, share=Pool()),
            Cache(client, SERVICE_INTERFACE, share=Pool()),
            Cache(client, NODE, metadata_only=True),
            Cache(client, POD, label_selector=SERVICE_LABEL),
            Cache(client, NETWORK_ATTACHMENT_DEFINITION, metadata_only=True),
        )
        for children in (objects.chains, objects.interfaces):
            _index(children)
            children.spread = SPREAD_SECONDS
        objects.chains.index(RESTARTING, lambda chain: [True] if RESTARTING_ANNOTATION in chain.metadata.annotations else [])
        objects.pods.index(BY_NODE, lambda pod: filter(None, [pod.spec.node_name]))
        return objects

    def __iter__(self) -> Iterator[Cache[Any]]:
        return iter((self.chain_sets, self.interface_sets, self.chains, self.interfaces, self.nodes, self.pods, self.networks))

    async def synced(self) -> None:
        """Return when all that decides about objects on nodes has been read once; networks only decide about words."""
        for cache in self:
            if cache is not self.networks:
                await cache.synced()

    @property
    def problem(self) -> str | None:
        """What is in the way of knowing the cluster's objects; None if nothing is."""
        return problem_of(cache for cache in self if cache is not self.networks)


def _stray(child: Any) -> Iterator[tuple[ObjectKey, str]]:
    """Set and node of a child that does not have the name that we give: one of another controller, or moved by hand."""
    key, node = set_of_child(child), child.spec.node or ""
    if key is not None and child.metadata.name != child_name(key.name, node):
        yield key, node


def _index(children: Cache[Any]) -> None:
    children.index(BY_SET, lambda child: filter(None, [set_of_child(child)]))
    children.index(STRAYS, _stray)
    children.index(BY_NODE, lambda child: filter(None, [child.spec.node]))
