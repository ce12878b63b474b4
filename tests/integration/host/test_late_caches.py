"""What a cache does not show yet is not taken for absent: here the caches of a DPU cluster stay empty, as just after a write."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from dpuchain.api import kinds, names
from dpuchain.api.fleet import DPUCluster
from dpuchain.host.delivery import Delivery, Source
from dpuchain.host.helm import Helm
from dpuchain.host.kinds import CHAINS
from dpuchain.host.members import Member, Members
from dpuchain.host.projection import Projection
from dpuchain.host.services import Services
from dpuchain.host.targets import Target
from dpuchain.kube.cache import Cache
from dpuchain.lab.charts import REPOSITORY
from dpuchain.runtime.clock import SystemClock
from dpuchain.runtime.host_objects import HostObjects

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.integration.host.conftest import World


class Behind(Members):
    """One DPU cluster whose caches know nothing yet, though they believe they do."""

    def __init__(self, world: World, member: Member) -> None:
        super().__init__(world.client, world.clusters)
        self.member = member

    def __iter__(self) -> Iterator[tuple[DPUCluster, Member | None, str | None]]:
        for cluster in self.clusters:
            yield cluster, self.member, None


@pytest.fixture
async def behind(world: World) -> AsyncIterator[Behind]:
    await world.add_bare_cluster("north")
    await world.until(lambda: len(world.clusters) == 1, "seen")
    member = Member.of(world.key("north"), world.kubeconfig("north"))
    for cache in member.caches:
        cache._synced.set()
    async with member.client:
        yield Behind(world, member)


@pytest.fixture
def objects(world: World) -> HostObjects:
    configs = Cache(world.client, kinds.DPF_OPERATOR_CONFIG)
    return HostObjects(world.chains, world.interfaces, world.services, world.clusters, configs)


async def test_chain_stays_as_long_as_the_api_server_has_its_set(world: World, behind: Behind, objects: HostObjects) -> None:
    source = Source(CHAINS, world.client, objects, "host")
    deliveries = {behind.member.cluster: Delivery(source, behind.member, lambda _: None)}
    (delivery,) = deliveries.values()
    loop = Projection(source, behind, deliveries, SystemClock())
    key = world.key("chain")
    await world.add_chain()
    await world.until(lambda: len(world.chains) == 1, "seen")
    await loop.reconcile(key)
    await world.taken_up("chain")
    await delivery.reconcile(key)
    await world.until(lambda: world.everywhere() == {"north"}, "written")
    await world.client.delete(kinds.DPU_SERVICE_CHAIN, key)
    await world.until(lambda: any(chain.metadata.deletion_timestamp for chain in world.chains), "being deleted")
    await delivery.reconcile(key)
    await loop.reconcile(key)
    assert (await world.client.get(kinds.DPU_SERVICE_CHAIN, key)).metadata.finalizers == (names.DPU_SERVICE_CHAIN_FINALIZER,)
    await world.until(lambda: any(item.metadata.deletion_timestamp for item in world.north.chain_sets), "being deleted")
    await world.north.let_go()
    await world.until(lambda: len(world.north.chain_sets) == 0, "gone")
    await world.told(world.chains, "chain", names.CHAIN_SET_READY, "False", "1 objects still exist across all DPU clusters")
    await delivery.reconcile(key)
    await loop.reconcile(key)
    await world.until(lambda: len(world.chains) == 0, "gone")


@pytest.fixture
async def host(world: World) -> AsyncIterator[Target]:
    """The host cluster as a place for releases; its caches are read."""
    target = Target.of_host(world.client, world.fleet.host.kubeconfig)
    async with asyncio.TaskGroup() as group:
        watches = [group.create_task(cache.run()) for cache in target.caches]
        for cache in target.caches:
            await cache.synced()
        yield target
        for watch in watches:
            watch.cancel()


async def test_release_is_installed_once_and_uninstalled(world: World, behind: Behind, objects: HostObjects, host: Target) -> None:
    fleet = world.fleet
    loop = Services(world.client, objects, behind, host, Helm(fleet.helm, {REPOSITORY: f"{fleet.url}/doca"}), SystemClock())
    key = world.key("service")
    await world.add_service()
    await world.until(lambda: len(world.services) == 1, "seen")
    await loop.reconcile(key)
    assert [record.metadata.labels["version"] for record in await world.records(world.north)] == ["1"]
    await world.told(world.services, "service", names.APPLICATIONS_RECONCILED, "True")
    await loop.reconcile(key)
    assert [record.metadata.labels["version"] for record in await world.records(world.north)] == ["1"]
    await world.client.delete(kinds.DPU_SERVICE, key)
    await world.until(lambda: any(service.metadata.deletion_timestamp for service in world.services), "being deleted")
    await loop.reconcile(key)
    assert await world.records(world.north) == ()
    await world.until(lambda: len(world.services) == 0, "gone")
