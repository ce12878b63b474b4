"""The world as caches have it, kept as the value that `chain.review` judges: all clusters, or one DPU cluster from inside."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from dpuchain.api import kinds
from dpuchain.api.chain import DPUServiceChain, ServiceChain, ServiceChainSet
from dpuchain.api.interface import DPUServiceInterface, ServiceInterface, ServiceInterfaceSet
from dpuchain.api.kubernetes import Metadata, Pod
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.names import CHAIN_SET_NAME_LABEL, INTERFACE_SET_NAME_LABEL, SERVICE_LABEL
from dpuchain.api.resource import Resource
from dpuchain.chain.fleet import Fleet
from dpuchain.chain.project import cluster_selector, selects
from dpuchain.chain.review import Verdict, review
from dpuchain.kube.cache import Cache, Change
from dpuchain.kube.client import Client
from dpuchain.kube.identity import cluster_identity
from dpuchain.kube.secrets import client_by
from dpuchain.runtime.clusters import DpuClusters
from dpuchain.runtime.host_objects import HostObjects

HERE = ObjectKey("", "(this one)")
"""What the DPU cluster is called from inside: what the host cluster calls it is not known there."""


@dataclass(frozen=True)
class Inside:
    """What of a DPU cluster is looked at: not the objects that controllers make on each node, which follow from the rest."""

    client: Client
    chain_sets: Cache[ServiceChainSet]
    interface_sets: Cache[ServiceInterfaceSet]
    chains: Cache[ServiceChain]
    interfaces: Cache[ServiceInterface]
    nodes: Cache[Metadata]
    pods: Cache[Pod]

    @classmethod
    def of(cls, client: Client) -> Inside:
        """The caches of one cluster; each is to be run."""
        return cls(
            client,
            Cache(client, kinds.SERVICE_CHAIN_SET),
            Cache(client, kinds.SERVICE_INTERFACE_SET),
            Cache(client, kinds.SERVICE_CHAIN, label_selector=f"!{CHAIN_SET_NAME_LABEL}"),
            Cache(client, kinds.SERVICE_INTERFACE, label_selector=f"!{INTERFACE_SET_NAME_LABEL}"),
            Cache(client, kinds.NODE, metadata_only=True),
            Cache(client, kinds.POD, label_selector=SERVICE_LABEL),
        )

    @classmethod
    def by_kubeconfig(cls, _: ObjectKey, kubeconfig: bytes) -> Inside:
        """The same, of the cluster that a kubeconfig names. Raises InvalidKubeconfig."""
        return cls.of(client_by(kubeconfig, "dpuchain-admission"))

    @property
    def caches(self) -> tuple[Cache[Any], ...]:
        """All of its caches."""
        return (self.chain_sets, self.interface_sets, self.chains, self.interfaces, self.nodes, self.pods)

    @property
    def runners(self) -> tuple[()]:
        """What else works as long as the connection lasts: nothing."""
        return ()

    @property
    def synced(self) -> bool:
        """Whether all has been read once."""
        return all(cache.is_synced for cache in self.caches)

    @property
    def problem(self) -> str | None:
        """Why it is not known how the cluster is now; None if it is."""
        for cache in self.caches:
            if cache.failing is not None:
                return str(cache.failing)
        return None if self.synced else "is being read for the first time"


class World(Protocol):
    """What is judged in."""

    kinds: tuple[Resource[Any], ...]
    """The kinds of objects that are asked about."""
    fleet: Fleet
    """What is known."""

    @property
    def problem(self) -> str | None:
        """Why nothing can be answered yet; None if it can."""

    async def run(self) -> None:
        """Keep it as it is until cancelled."""

    def review(self, old: Any, new: Any) -> Verdict:
        """Judge a change of an object of one of the kinds."""


class HostWorld:
    """The host cluster, and all DPU clusters that its DPUClusters name."""

    kinds: tuple[Resource[Any], ...] = (
        kinds.DPU_SERVICE_CHAIN,
        kinds.DPU_SERVICE_INTERFACE,
        kinds.DPU_SERVICE,
        kinds.DPU_CLUSTER,
        kinds.DPF_OPERATOR_CONFIG,
    )

    def __init__(self, client: Client) -> None:
        self.fleet = Fleet()
        self._client = client
        self.objects = HostObjects.of(client)
        self.members: DpuClusters[Inside] = DpuClusters(client, self.objects.clusters, Inside.by_kubeconfig)
        self._taken: dict[ObjectKey, Inside] = {}
        self._begun = self._known = False
        self.members.subscribe(lambda _: None, lambda *_: self._look_at_members(), self._look_at_members)

    def _changed(self, change: Change[Any]) -> None:
        self.fleet = self.fleet.changed(change.old, change.new)

    def _look_at_members(self) -> None:
        """Take each cluster in as soon as all of it has been read, and not before: what an earlier connection saw stays till then."""
        for cluster, member, _ in self.members:
            key = key_of(cluster)
            if member is not None and member.synced and self._taken.get(key) is not member:
                self._taken[key] = member
                self.fleet = self.fleet.forget(key)
                for cache in member.caches:
                    cache.subscribe(functools.partial(self._changed_inside, key, member))
        for key in [key for key in self._taken if self.objects.clusters.get(key) is None]:
            del self._taken[key]
            self.fleet = self.fleet.forget(key)

    async def run(self) -> None:
        """Keep it as it is until cancelled; DPU clusters are not connected to before it is known which there are."""
        async with asyncio.TaskGroup() as group:
            for cache in self.objects:
                group.create_task(cache.run())
            self.fleet = replace(self.fleet, host=await cluster_identity(self._client))
            for cache in self.objects:
                cache.subscribe(self._changed)
            await self.objects.synced()
            self._begun = True
            await self.members.run()

    def _changed_inside(self, key: ObjectKey, member: Inside, change: Change[Any]) -> None:
        if self._taken.get(key) is member:  # else it is a connection that is given up
            self.fleet = self.fleet.changed(change.old, change.new, key)

    @property
    def problem(self) -> str | None:
        """Why nothing can be answered yet; None if it can."""
        for cache in self.objects:
            if not cache.is_synced:
                return f"{cache.resource.plural} have not been read yet"
        self._known = self._known or (self._begun and self.members.settled)  # a cluster that comes later must not silence us
        return None if self._known else "not all DPU clusters have been read yet"

    def review(self, old: Any, new: Any) -> Verdict:
        """Judge a change of an object of the host cluster."""
        verdict = review(self.fleet, old, new)
        return Verdict(verdict.refusals, (*verdict.warnings, *self._unknown(new)))

    def _unknown(self, item: Any) -> Iterator[str]:
        """The clusters that an object belongs into and that cannot be looked at."""
        if isinstance(item, DPUServiceChain | DPUServiceInterface):
            for cluster, _, problem in self.members:
                if problem is not None and selects(cluster_selector(item.spec), cluster):
                    seen = "is taken to be as it was last seen" if key_of(cluster) in self._taken else "is not looked at"
                    yield f"DPUCluster {key_of(cluster)} {seen}: {problem}"


class MemberWorld:
    """One DPU cluster, seen from inside."""

    kinds: tuple[Resource[Any], ...] = (
        kinds.SERVICE_CHAIN_SET,
        kinds.SERVICE_INTERFACE_SET,
        kinds.SERVICE_CHAIN,
        kinds.SERVICE_INTERFACE,
    )

    def __init__(self, client: Client) -> None:
        self.fleet = Fleet(services=None, config=None)
        self.inside = Inside.of(client)
        for cache in self.inside.caches:
            cache.subscribe(self._changed)

    async def run(self) -> None:
        """Keep it as it is until cancelled."""
        async with asyncio.TaskGroup() as group:
            for cache in self.inside.caches:
                group.create_task(cache.run())

    def _changed(self, change: Change[Any]) -> None:
        self.fleet = self.fleet.changed(change.old, change.new, HERE)

    @property
    def problem(self) -> str | None:
        """Why nothing can be answered yet; None if it can."""
        unread = next((cache for cache in self.inside.caches if not cache.is_synced), None)
        return None if unread is None else f"{unread.resource.plural} have not been read yet"

    def review(self, old: Any, new: Any) -> Verdict:
        """Judge a change of an object of the DPU cluster."""
        return review(self.fleet, old, new, HERE)
