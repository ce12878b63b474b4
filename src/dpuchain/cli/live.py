"""The world as API servers have it now, read once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dpuchain.api import kinds
from dpuchain.api.chain import ServiceChain
from dpuchain.api.fleet import DPUCluster
from dpuchain.api.interface import ServiceInterface
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.names import SERVICE_LABEL
from dpuchain.api.resource import Resource
from dpuchain.chain.fleet import Fleet
from dpuchain.cli.manifests import HOST_KINDS, MEMBER_KINDS
from dpuchain.kube.client import Client
from dpuchain.kube.errors import KubeError, NotFound
from dpuchain.kube.identity import FIRST_NAMESPACE
from dpuchain.kube.kubeconfig import found, namespace_in
from dpuchain.kube.secrets import client_by, kubeconfig_in

USER_AGENT = "dpuchain-plan"
DEFAULT_NAMESPACE = "default"
"""Of objects that name none, where nothing else says."""


@dataclass
class World:
    """The fleet, and what of it could not be read."""

    fleet: Fleet = field(default_factory=Fleet)
    unread: list[str] = field(default_factory=list)


async def read(client: Client) -> World:
    """The host cluster, and all DPU clusters that its DPUClusters name. What cannot be read is named, not taken for nothing."""
    world = World()
    async with client:
        host = await client.get(kinds.NAMESPACE, ObjectKey("", FIRST_NAMESPACE))
        world.fleet = replace(world.fleet, host=host.metadata.uid)
        await _take(world, client, HOST_KINDS, None, "the host cluster")
        clusters = list(world.fleet.clusters.values())
        await asyncio.gather(*(_read_cluster(world, client, cluster) for cluster in clusters))
    return world


async def _read_cluster(world: World, host: Client, cluster: DPUCluster) -> None:
    key = key_of(cluster)
    if cluster.spec.kubeconfig is None:
        world.unread.append(f"DPUCluster {key} has no spec.kubeconfig yet")
        return
    name = ObjectKey(key.namespace, cluster.spec.kubeconfig)
    try:
        try:
            data = (await host.get(kinds.SECRET, name)).data
        except NotFound:
            data = None
        client = client_by(kubeconfig_in(data), USER_AGENT)
    except KubeError as error:
        world.unread.append(f"DPUCluster {key}: its kubeconfig in Secret {name}: {error}")
        return
    async with client:
        await _take(world, client, MEMBER_KINDS, key, f"DPUCluster {key}")


async def _take(world: World, client: Client, resources: Iterable[Resource[Any]], cluster: ObjectKey | None, what: str) -> None:
    async def one(resource: Resource[Any]) -> tuple[Any, ...]:
        selector = SERVICE_LABEL if resource is kinds.POD else ""
        try:
            listing = await client.list(resource, label_selector=selector, metadata_only=resource is kinds.NODE)
        except KubeError as error:
            world.unread.append(f"{what}: {error}")
            return ()
        world.unread += [f"{what}: {error}" for error in listing.invalid.values()]
        return listing.items

    items = [item for listed in await asyncio.gather(*map(one, resources)) for item in listed]
    for item in items:
        world.fleet = world.fleet.put(item, cluster)
    if cluster is not None:
        world.fleet = world.fleet.with_existing(cluster, (item for item in items if isinstance(item, ServiceChain | ServiceInterface)))


def client_for(kubeconfig: Path | None, context: str | None) -> Client:
    """A client for the host cluster, by the kubeconfig that kubectl would use. Raises InvalidKubeconfig."""
    return Client.from_kubeconfig(found(kubeconfig, os.environ), context=context, user_agent=USER_AGENT)


def namespace(kubeconfig: Path | None, context: str | None) -> str:
    """Where kubectl would put an object that names no namespace. Raises InvalidKubeconfig."""
    return namespace_in(found(kubeconfig, os.environ), context) or DEFAULT_NAMESPACE
