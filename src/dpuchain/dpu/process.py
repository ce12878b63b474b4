"""The DPU cluster's controller as a process: caches, loops, leadership and endpoints, wired up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from dpuchain.api.kubernetes import Metadata
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.chain.expand import set_of_child
from dpuchain.chain.selectors import matches
from dpuchain.dpu.kinds import CHAINS, INTERFACES, AnyKind
from dpuchain.dpu.restarts import Restarts, Settings
from dpuchain.dpu.sets import SetLoop
from dpuchain.dpu.world import BY_NODE, ClusterObjects
from dpuchain.kube.cache import Cache, Change
from dpuchain.kube.client import Client
from dpuchain.kube.leases import Election
from dpuchain.runtime.clock import SystemClock
from dpuchain.runtime.controller import Controller
from dpuchain.runtime.health import serve

LEASE = ObjectKey(OPERATOR_NAMESPACE, "dpuchain-dpu")
WORKERS = 4
"""Sets that are looked at at once."""


async def run(client: Client, health_address: str, identity: str | None, settings: Settings | None = None) -> None:
    """Work until cancelled; with an `identity`, only while it holds the Lease. Raises LeadershipLost."""
    objects = ClusterObjects.of(client)

    async def work() -> None:
        await _work(client, objects, settings or Settings())

    async with client, serve(health_address, {"api": lambda: objects.problem}), asyncio.TaskGroup() as group:
        caches = [group.create_task(cache.run()) for cache in objects]
        if identity is None:
            await work()
        else:
            await Election(client, LEASE, identity).lead(work)
        for cache in caches:
            cache.cancel()


async def _work(client: Client, objects: ClusterObjects, settings: Settings) -> None:
    await objects.synced()
    clock = SystemClock()
    restarts = Restarts(client, objects, settings, clock)
    chain_loop = SetLoop(CHAINS, client, objects, clock, lambda chain_set: [restarts.finding(chain_set)])
    interface_loop = SetLoop(INTERFACES, client, objects, clock)
    chains = Controller(CHAINS.resource.plural, chain_loop.reconcile, clock=clock, workers=WORKERS)
    interfaces = Controller(INTERFACES.resource.plural, interface_loop.reconcile, clock=clock, workers=WORKERS)
    restarter = Controller("restarts", restarts.reconcile, clock=clock)
    _subscribe(CHAINS, objects, chains.enqueue)
    _subscribe(INTERFACES, objects, interfaces.enqueue)
    restarts.subscribe(restarter.enqueue, chains.enqueue)
    async with asyncio.TaskGroup() as group:
        for controller in (chains, interfaces, restarter):
            group.create_task(controller.run())


def _subscribe(kind: AnyKind, objects: ClusterObjects, look: Callable[[ObjectKey], None]) -> None:
    """Have a set looked at when it changes, or a child of it, or a node that it selects or selected, or its network."""
    sets, children = kind.sets(objects), kind.children(objects)
    sets.subscribe(lambda change: look(change.key))

    def child_changed(change: Change[Any]) -> None:
        for child in (change.old, change.new):
            key = set_of_child(child) if child is not None else None
            if key is not None:
                look(key)

    def node_changed(change: Change[Metadata]) -> None:
        for key in _sets_of_node(sets, children, change):
            look(key)

    def network_changed(change: Change[Metadata]) -> None:
        if change.old is None or change.new is None:
            for item in sets:
                if getattr(item.spec.template.spec, "service", None) is not None:
                    look(key_of(item))

    children.subscribe(child_changed)
    objects.nodes.subscribe(node_changed)
    objects.networks.subscribe(network_changed)


def _sets_of_node(sets: Cache[Any], children: Cache[Any], change: Change[Metadata]) -> set[ObjectKey]:
    """The sets that a node's change concerns: those that select it now and did not, or the other way round. A heartbeat concerns none."""
    old, new = (item if item is not None and item.metadata.deletion_timestamp is None else None for item in (change.old, change.new))
    if old is not None and new is not None and old.metadata.labels == new.metadata.labels:
        return set()
    found = set()
    for item in sets:
        selector = item.spec.node_selector
        before = old is not None and matches(selector, old.metadata.labels)
        after = new is not None and matches(selector, new.metadata.labels)
        if before != after:
            found.add(key_of(item))
    if change.new is None:  # children that wait for its agent must be freed
        found |= {key for child in children.by_index(BY_NODE, change.key.name) if (key := set_of_child(child)) is not None}
    return found
