"""The DPU cluster's controller as a process: caches, loops, leadership and endpoints, wired up."""

from __future__ import annotations

import asyncio

from dpuchain.api.meta import ObjectKey
from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.dpu.kinds import CHAINS, INTERFACES
from dpuchain.dpu.restarts import Restarts, Settings
from dpuchain.dpu.sets import SetLoop
from dpuchain.dpu.world import ClusterObjects
from dpuchain.kube.client import Client
from dpuchain.kube.leases import Election
from dpuchain.runtime.clock import SystemClock
from dpuchain.runtime.controller import Controller
from dpuchain.runtime.endpoints import Endpoints, published
from dpuchain.runtime.fanout import FanOut
from dpuchain.runtime.metrics import Reading, reading
from dpuchain.runtime.readings import conditions, leading, readiness

LEASE = ObjectKey(OPERATOR_NAMESPACE, "dpuchain-dpu")
WORKERS = 200
"""Sets that are looked at at once: all that there are, since a look waits until all of its writes are answered, and no set is to wait for
another's thousand. The fan-out bounds the writes and deals out the turns.
"""


async def run(client: Client, endpoints: Endpoints, identity: str | None, settings: Settings | None = None) -> None:
    """Work until cancelled; with an `identity`, only while it holds the Lease. Raises LeadershipLost."""
    objects = ClusterObjects.of(client)
    checks = {"api": lambda: objects.problem}
    own = client.apart()
    election = Election(own, LEASE, identity) if identity is not None else None

    async def read() -> Reading:
        return reading(readiness(checks), leading(election), conditions((objects.chain_sets, objects.interface_sets)))

    async with client, own, published(endpoints, client, checks, read), asyncio.TaskGroup() as group:
        caches = [group.create_task(cache.run()) for cache in objects]
        if election is None:
            await _work(client, objects, settings or Settings())
        else:
            await election.lead(lambda: _work(client.fenced(election.fence), objects, settings or Settings()))
        for cache in caches:
            cache.cancel()


async def _work(client: Client, objects: ClusterObjects, settings: Settings) -> None:
    await objects.synced()
    clock = SystemClock()
    restarts = Restarts(client, objects, settings, clock)
    fan_out = FanOut(clock)
    chain_loop = SetLoop(CHAINS, client, objects, fan_out, clock, lambda chain_set: [restarts.finding(chain_set)])
    interface_loop = SetLoop(INTERFACES, client, objects, fan_out, clock)
    chains = Controller(CHAINS.resource.plural, chain_loop.reconcile, clock=clock, workers=WORKERS, kind=CHAINS.resource.kind)
    interfaces = Controller(
        INTERFACES.resource.plural, interface_loop.reconcile, clock=clock, workers=WORKERS, kind=INTERFACES.resource.kind
    )
    restarter = Controller("restarts", restarts.reconcile, clock=clock, kind=CHAINS.resource.kind)
    chain_loop.subscribe(chains.enqueue)
    interface_loop.subscribe(interfaces.enqueue)
    restarts.subscribe(restarter.enqueue, chains.enqueue)
    async with asyncio.TaskGroup() as group:
        for controller in (chains, interfaces, restarter):
            group.create_task(controller.run())
