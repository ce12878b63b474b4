"""The host controller as a process: caches, connections, loops, leadership and endpoints, wired up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dpuchain.api.meta import ObjectKey
from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.chain.installation import Package
from dpuchain.host.delivery import Source
from dpuchain.host.helm import Helm
from dpuchain.host.installation import InstallationLoop
from dpuchain.host.kinds import CHAINS, INTERFACES
from dpuchain.host.loops import ProjectedLoops, ServiceLoop
from dpuchain.host.members import Members, cluster_health
from dpuchain.host.orphans import OrphanLoop
from dpuchain.host.releases import Releases
from dpuchain.host.services import Services
from dpuchain.host.settings import AgentSettingsLoop
from dpuchain.host.targets import Target
from dpuchain.host.turns import Turns
from dpuchain.kube.client import Client, Fence
from dpuchain.kube.identity import cluster_identity
from dpuchain.kube.leases import Election
from dpuchain.runtime.clock import SystemClock
from dpuchain.runtime.endpoints import Endpoints, published
from dpuchain.runtime.host_objects import HostObjects
from dpuchain.runtime.metrics import Reading, reading
from dpuchain.runtime.readings import conditions, leading, readiness

LEASE = ObjectKey(OPERATOR_NAMESPACE, "dpuchain-host")


async def run(client: Client, helm: Helm, endpoints: Endpoints, identity: str | None, package: Package | None = None) -> None:
    """Work until cancelled; with an `identity`, only while it holds the Lease. Raises LeadershipLost.

    `package` is what is installed in every DPU cluster; None: nothing is.
    """
    objects = HostObjects.of(client)
    checks = {"api": lambda: objects.problem}
    own = client.apart()
    election = Election(own, LEASE, identity) if identity is not None else None
    members: list[Members] = []

    async def read() -> Reading:
        clusters = [cluster_health(found) for found in members]
        said = conditions((objects.chains, objects.interfaces, objects.services))
        return reading(readiness(checks), leading(election), said, *clusters)

    async with client, own, published(endpoints, client, checks, read), asyncio.TaskGroup() as group:
        caches = [group.create_task(cache.run()) for cache in objects]
        if election is None:
            await _work(client, objects, helm, package, members.append)
        else:
            await election.lead(lambda: _work(client.fenced(election.fence), objects, helm, package, members.append, election.fence))
        for cache in caches:
            cache.cancel()


async def _work(
    client: Client,
    objects: HostObjects,
    helm: Helm,
    package: Package | None,
    connected: Callable[[Members], None],
    fence: Fence = lambda: None,
) -> None:
    await objects.synced()
    clock = SystemClock()
    host = Target.of_host(client, helm.host)
    members = Members(client, objects.clusters, fence)
    connected(members)
    identity = await cluster_identity(client)
    releases = Releases(helm, identity, clock)
    turns = Turns(client, members, identity, clock)
    chains = ProjectedLoops(Source(CHAINS, client, objects, identity), members, clock, turns.remark)
    interfaces = ProjectedLoops(Source(INTERFACES, client, objects, identity), members, clock)
    services = ServiceLoop(Services(client, objects, members, host, releases, clock), objects, host, clock)
    orphans = OrphanLoop(client, objects, members, host, releases, clock)
    settings = AgentSettingsLoop(client, objects, identity, clock)
    turns.subscribe(chains.look)
    for loop in (chains, interfaces, services, turns, settings):
        members.subscribe(loop.joined, loop.cluster_changed, loop.look_at_all)
    if package is not None:
        installation = InstallationLoop(client, objects.clusters, helm, package, identity, clock)
        members.subscribe(installation.joined, installation.cluster_changed, lambda: None)
    objects.configs.subscribe(lambda _: chains.look_at_all())
    objects.configs.subscribe(lambda _: settings.look_at_all())
    async with asyncio.TaskGroup() as group:
        for runner in (members, chains, interfaces, services, orphans, turns):
            group.create_task(runner.run())
