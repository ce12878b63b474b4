"""The host controller as a process: caches, connections, loops, leadership and endpoints, wired up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from dpuchain.api.fleet import DPUCluster
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.chain.project import concerns
from dpuchain.chain.release import release_name
from dpuchain.host.helm import Helm
from dpuchain.host.identity import cluster_identity
from dpuchain.host.kinds import CHAINS, INTERFACES
from dpuchain.host.members import Member, Members
from dpuchain.host.projection import Projection
from dpuchain.host.releases import OWNER_LABEL, RELEASE_NAME
from dpuchain.host.services import Services
from dpuchain.host.targets import Target
from dpuchain.host.world import HostObjects
from dpuchain.kube.cache import Cache, Change
from dpuchain.kube.client import Client, Fence
from dpuchain.kube.leases import Election
from dpuchain.runtime.clock import SystemClock
from dpuchain.runtime.controller import Controller
from dpuchain.runtime.health import serve

LEASE = ObjectKey(OPERATOR_NAMESPACE, "dpuchain-host")
WORKERS = 4
"""Objects of a kind that are looked at at once."""
SERVICE_WORKERS = 64
"""Services that are looked at at once; most of them only wait: how many commands of Helm run at once, `host.helm` says."""


Kinds: TypeAlias = Sequence[tuple[Cache[Any], Callable[[ObjectKey], None]]]
"""Caches, each with what has one of its objects looked at."""


async def run(client: Client, helm: Helm, health_address: str, identity: str | None) -> None:
    """Work until cancelled; with an `identity`, only while it holds the Lease. Raises LeadershipLost."""
    objects = HostObjects.of(client)
    async with client, serve(health_address, {"api": lambda: objects.problem}), asyncio.TaskGroup() as group:
        caches = [group.create_task(cache.run()) for cache in objects]
        if identity is None:
            await _work(client, objects, helm)
        else:
            election = Election(client, LEASE, identity)
            await election.lead(lambda: _work(client.fenced(election.fence), objects, helm, election.fence))
        for cache in caches:
            cache.cancel()


async def _work(client: Client, objects: HostObjects, helm: Helm, fence: Fence = lambda: None) -> None:
    await objects.synced()
    clock = SystemClock()
    host = Target.of_host(client, helm.host)
    members = Members(client, objects.clusters, fence)
    identity = await cluster_identity(client)
    chains = _controller("dpuservicechains", Projection(CHAINS, client, objects, members, identity, clock).reconcile, WORKERS)
    interfaces = _controller("dpuserviceinterfaces", Projection(INTERFACES, client, objects, members, identity, clock).reconcile, WORKERS)
    services = _controller("dpuservices", Services(client, objects, members, host, helm, clock).reconcile, SERVICE_WORKERS)

    def joined(member: Member) -> None:
        member.chain_sets.subscribe(lambda change: chains.enqueue(change.key))
        member.interface_sets.subscribe(lambda change: interfaces.enqueue(change.key))
        follow(member)

    def follow(target: Target) -> None:
        target.daemon_sets.subscribe(lambda change: _services_of(change, objects, services.enqueue))
        target.releases.subscribe(lambda change: _services_of(change, objects, services.enqueue))

    kinds = ((objects.chains, chains.enqueue), (objects.interfaces, interfaces.enqueue), (objects.services, services.enqueue))

    def look_at_services() -> None:
        _enqueue(kinds[2:])

    def cluster_changed(before: DPUCluster | None, after: DPUCluster | None) -> None:
        _enqueue(kinds, lambda item: concerns(item, before, after))

    def interface_changed(change: Change[Any]) -> None:
        interfaces.enqueue(change.key)
        look_at_services()

    members.subscribe(joined, cluster_changed, lambda: _enqueue(kinds))
    objects.chains.subscribe(lambda change: chains.enqueue(change.key))
    objects.interfaces.subscribe(interface_changed)
    objects.services.subscribe(lambda _: look_at_services())
    objects.configs.subscribe(lambda _: _enqueue(kinds[:1]))
    follow(host)
    async with asyncio.TaskGroup() as group:
        for cache in host.caches:
            cache.subscribe_failing(look_at_services)
            group.create_task(cache.run())
        group.create_task(_then(host.caches, look_at_services))
        for runner in (members, chains, interfaces, services):
            group.create_task(runner.run())


async def _then(caches: Iterable[Cache[Any]], look: Callable[[], None]) -> None:
    """Look when all have been read once."""
    for cache in caches:
        await cache.synced()
    look()


def _controller(name: str, reconcile: Any, workers: int) -> Controller[ObjectKey]:
    return Controller(name, reconcile, clock=SystemClock(), workers=workers)


def _enqueue(kinds: Kinds, concerned: Callable[[Any], bool] = lambda _: True) -> None:
    for cache, look in kinds:
        for item in cache:
            if concerned(item):
                look(key_of(item))


def _services_of(change: Change[Any], objects: HostObjects, look: Callable[[ObjectKey], None]) -> None:
    """Have the services looked at that a release's record, or a DaemonSet of it, belongs to."""
    uids = {item.metadata.labels.get(OWNER_LABEL) for item in (change.old, change.new) if item is not None}
    releases = {item.metadata.annotations.get(RELEASE_NAME) for item in (change.old, change.new) if item is not None}
    releases |= {item.metadata.labels.get("name") for item in (change.old, change.new) if item is not None}
    for service in objects.services:
        if service.metadata.uid in uids or release_name(service) in releases:
            look(key_of(service))
