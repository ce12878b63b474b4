"""The host controller as a process: caches, connections, loops, leadership and endpoints, wired up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.chain.release import release_name
from dpuchain.host.helm import Helm
from dpuchain.host.kinds import CHAINS, INTERFACES
from dpuchain.host.members import Member, Members
from dpuchain.host.projection import Projection
from dpuchain.host.services import OWNER_LABEL, RELEASE_NAME, Services
from dpuchain.host.world import HostObjects
from dpuchain.kube.cache import Cache, Change
from dpuchain.kube.client import Client
from dpuchain.kube.leases import Election
from dpuchain.runtime.clock import SystemClock
from dpuchain.runtime.controller import Controller
from dpuchain.runtime.health import serve

LEASE = ObjectKey(OPERATOR_NAMESPACE, "dpuchain-host")
WORKERS = 4
"""Objects of a kind that are looked at at once."""
SERVICE_WORKERS = 2
"""Services that are looked at at once; Helm is a process of its own, which takes a core for a second."""


async def run(client: Client, helm: Helm, health_address: str, identity: str | None) -> None:
    """Work until cancelled; with an `identity`, only while it holds the Lease. Raises LeadershipLost."""
    objects = HostObjects.of(client)
    async with client, serve(health_address, {"api": lambda: objects.problem}), asyncio.TaskGroup() as group:
        caches = [group.create_task(cache.run()) for cache in objects]
        if identity is None:
            await _work(client, objects, helm)
        else:
            await Election(client, LEASE, identity).lead(lambda: _work(client, objects, helm))
        for cache in caches:
            cache.cancel()


async def _work(client: Client, objects: HostObjects, helm: Helm) -> None:
    await objects.synced()
    clock = SystemClock()
    members = Members(client, objects.clusters)
    chains = _controller("dpuservicechains", Projection(CHAINS, client, objects, members, clock).reconcile, WORKERS)
    interfaces = _controller("dpuserviceinterfaces", Projection(INTERFACES, client, objects, members, clock).reconcile, WORKERS)
    services = _controller("dpuservices", Services(client, objects, members, helm, clock).reconcile, SERVICE_WORKERS)

    def joined(member: Member) -> None:
        member.chain_sets.subscribe(lambda change: chains.enqueue(change.key))
        member.interface_sets.subscribe(lambda change: interfaces.enqueue(change.key))
        member.daemon_sets.subscribe(lambda change: _services_of(change, objects, services.enqueue))
        member.releases.subscribe(lambda change: _services_of(change, objects, services.enqueue))

    def look_at_all() -> None:
        for cache, controller in ((objects.chains, chains), (objects.interfaces, interfaces), (objects.services, services)):
            _enqueue_all(cache, controller.enqueue)

    def interface_changed(change: Change[Any]) -> None:
        interfaces.enqueue(change.key)
        _enqueue_all(objects.services, services.enqueue)

    members.subscribe(joined, look_at_all)
    objects.chains.subscribe(lambda change: chains.enqueue(change.key))
    objects.interfaces.subscribe(interface_changed)
    objects.services.subscribe(lambda _: _enqueue_all(objects.services, services.enqueue))
    objects.configs.subscribe(lambda _: _enqueue_all(objects.chains, chains.enqueue))
    async with asyncio.TaskGroup() as group:
        for runner in (members, chains, interfaces, services):
            group.create_task(runner.run())


def _controller(name: str, reconcile: Any, workers: int) -> Controller[ObjectKey]:
    return Controller(name, reconcile, clock=SystemClock(), workers=workers)


def _enqueue_all(cache: Cache[Any], look: Callable[[ObjectKey], None]) -> None:
    for item in cache:
        look(key_of(item))


def _services_of(change: Change[Any], objects: HostObjects, look: Callable[[ObjectKey], None]) -> None:
    """Have the services looked at that a release's record, or a DaemonSet of it, belongs to."""
    uids = {item.metadata.labels.get(OWNER_LABEL) for item in (change.old, change.new) if item is not None}
    releases = {item.metadata.annotations.get(RELEASE_NAME) for item in (change.old, change.new) if item is not None}
    releases |= {item.metadata.labels.get("name") for item in (change.old, change.new) if item is not None}
    for service in objects.services:
        if service.metadata.uid in uids or release_name(service) in releases:
            look(key_of(service))
