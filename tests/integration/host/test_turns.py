"""A new serviceMTU restarts the nodes of one DPU cluster after the other, whatever becomes of the clusters and of who leads them.

Host controller and DPU controllers are real; kubelets, DaemonSets and agents are played by the test.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.integration.played import NODES, PlayedCluster, played

from dpuchain.api import kinds, names
from dpuchain.api.chain import DPUServiceChain
from dpuchain.chain.restarts import NOT_OUR_TURN, Limit
from dpuchain.dpu.restarts import Settings
from dpuchain.host.turns import TURN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.integration.host.conftest import World

READY = names.CHAIN_SET_READY
LONG_AGO = "2020-01-01T00:00:00Z"


class Both:
    """A chain of the host cluster in two DPU clusters, and the host controller."""

    def __init__(self, world: World, north: PlayedCluster, south: PlayedCluster, start: Callable[[], asyncio.Task[None]]) -> None:
        self.world = world
        self.north, self.south = north, south
        self._start = start
        self._host = start()

    async def replace_host(self) -> None:
        """The host controller is killed and another takes over."""
        self._host.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._host
        self._host = self._start()

    async def build(self) -> None:
        await self.world.set_high_speed_mtu(9216)
        ports = [[{"serviceInterface": {"matchLabels": {"of": service}}}] for service in ("fw", "lb")]
        selector = {"matchLabels": {"test": self.world.namespace}}
        switches = [{"ports": ports[0]}, {"ports": ports[1]}]
        template = {"spec": {"nodeSelector": selector, "template": {"spec": {"switches": switches}}}}
        meta = {"name": "chain", "namespace": self.world.namespace}
        chain = msgspec.convert({"metadata": meta, "spec": {"template": template}}, DPUServiceChain)
        for name, cluster in (("north", self.north), ("south", self.south)):
            await self.world.make_namespace(self.world.places[name])
            await cluster.furnish()
            await self.world.add_cluster(name)
        await self.world.client.create(kinds.DPU_SERVICE_CHAIN, chain)
        for cluster in (self.north, self.south):
            await cluster.fill()
        await self.world.told(self.world.chains, "chain", names.READY, "True")

    async def change_mtu(self, mtu: int) -> None:
        chain = await self.world.client.get(kinds.DPU_SERVICE_CHAIN, self.world.key("chain"))
        first, *others = msgspec.to_builtins(chain.spec.template.spec.template.spec.switches)
        switches = [{**first, "serviceMTU": mtu}, *others]
        patch = {"spec": {"template": {"spec": {"template": {"spec": {"switches": switches}}}}}}
        await self.world.client.patch(kinds.DPU_SERVICE_CHAIN, self.world.key("chain"), patch)
        await self.north.see(mtu)
        # Whoever could begin first has the first turn: that it is this one's makes the tests the same each time.
        await self.north.until(lambda: turn(self.north) is not None or "maxUnavailable is 0" in self.north.message, "the first")
        await self.south.see(mtu)

    async def only(self, cluster: PlayedCluster, node: str) -> None:
        """Wait until the pod of that node is on its way out; those of all other nodes stay, as their API servers know."""
        await cluster.until(lambda: cluster.leaving() == cluster.marked == {node}, f"restarting {node}")
        for place, other in (("north", self.north), ("south", self.south)):
            pods = (await other.client.list(kinds.POD, namespace=other.namespace)).items
            leaving = {pod.spec.node_name for pod in pods if pod.metadata.deletion_timestamp is not None}
            assert leaving == ({other.node(node)} if other is cluster else set()), place

    async def restart_all(self, cluster: PlayedCluster, mtu: int) -> None:
        """One node after the other goes and comes back."""
        for name in NODES:
            await self.only(cluster, name)
            await cluster.bring_back(name, mtu)

    async def waits(self, words: str) -> None:
        """Wait until the chain says this of the second cluster, which waits for the first."""
        where = f"* Cluster: {self.world.namespace}/south\n  Object: {self.world.key('chain')}\n"
        text = f"waits for DPUCluster {self.world.namespace}/north, which has the turn to restart pods for a new serviceMTU{words}"
        await self.world.until(
            lambda: where in (told := self.world.message(self.world.chains, "chain", READY)) and text in told.partition(where)[2],
            f"told {text!r}",
        )

    async def done(self) -> None:
        """Wait until all is Ready and nobody has the turn."""
        for cluster in (self.north, self.south):
            await cluster.told("True")
            await cluster.until(lambda at=cluster: not at.marked and not turn(at), "over")  # type: ignore[misc]  # mypy infers no defaults
        await self.world.told(self.world.chains, "chain", names.READY, "True")
        await self.world.until(lambda: self.holder == "", "given back")

    @property
    def holder(self) -> str | None:
        """Who has the turn, as the host cluster has it."""
        lease = self.world.leases.get(TURN)
        return lease.spec.holder_identity if lease is not None else None


def turn(cluster: PlayedCluster) -> str | None:
    """The annotation of the chain's set in a cluster."""
    return next((item.metadata.annotations.get(names.RESTART_TURN_ANNOTATION) for item in cluster.sets), None)


@pytest.fixture
async def both(world: World, start: Callable[[], asyncio.Task[None]]) -> AsyncIterator[Both]:
    async with contextlib.AsyncExitStack() as stack:
        north, south = [
            await stack.enter_async_context(played(place.client, world.namespace, world.fleet.members[name].kubeconfig))
            for name, place in world.places.items()
        ]
        both = Both(world, north, south, start)
        await both.build()
        yield both


async def test_nodes_of_two_clusters_are_never_restarted_together_and_all_are(both: Both) -> None:
    await both.change_mtu(2000)
    await both.only(both.north, "a")
    await both.south.told("False", NOT_OUR_TURN)
    assert both.south.condition.reason == names.PENDING
    await both.waits(f"; condition ServiceMTUApplied of its ServiceChainSet {both.world.key('chain')} says how far it is")
    await both.restart_all(both.north, 2000)
    await both.restart_all(both.south, 2000)
    await both.done()


async def test_whoever_takes_over_keeps_the_turn_where_it_is(both: Both) -> None:
    await both.change_mtu(2000)
    for cluster in (both.north, both.south):
        for name in NODES:
            await both.only(cluster, name)
            await both.replace_host()
            await both.only(cluster, name)
            await cluster.bring_back(name, 2000)
            await both.replace_host()
    await both.done()


async def test_a_change_meanwhile_is_carried_out_in_the_same_turn(both: Both) -> None:
    await both.change_mtu(2000)
    await both.only(both.north, "a")
    labels = {"spec": {"template": {"metadata": {"labels": {"team": "net"}}}}}
    await both.world.client.patch(kinds.DPU_SERVICE_CHAIN, both.world.key("chain"), labels)
    await both.north.until(lambda: all("team" in item.metadata.labels for item in both.north.sets), "applied")
    assert turn(both.north) is not None, "a label that the host controller applies leaves the turn alone"
    await both.change_mtu(3000)
    await both.only(both.north, "a")
    await both.restart_all(both.north, 3000)
    await both.restart_all(both.south, 3000)
    await both.done()


async def test_a_cluster_that_has_stopped_is_waited_for_and_one_that_is_paused_is_not(both: Both) -> None:
    await both.north.stop()
    both.north.start(Settings(Limit(0)))
    await both.change_mtu(2000)
    await both.north.told("False", "nothing is restarted, as maxUnavailable is 0")
    await both.restart_all(both.south, 2000)
    await both.south.told("True")
    await both.north.stop()
    both.north.start(Settings(patience=timedelta(minutes=7)))
    await both.change_mtu(3000)
    await both.only(both.north, "a")
    await both.north.mark("a", LONG_AGO)
    await both.waits(f" and has stopped; condition ServiceMTUApplied of its ServiceChainSet {both.world.key('chain')} says what to mend")
    await both.only(both.north, "a")
    await both.restart_all(both.north, 3000)
    await both.restart_all(both.south, 3000)
    await both.done()


async def test_a_cluster_that_is_away_is_waited_for_until_its_dpucluster_is_gone(both: Both) -> None:
    await both.change_mtu(2000)
    await both.only(both.north, "a")
    await both.north.stop()
    both.world.fleet.stop_api_server("north")
    try:
        await both.waits(" and cannot be reached since ")
        await both.replace_host()
        await both.world.add_chain("probe")
        await both.world.until(lambda: "south" in both.world.everywhere("probe"), "at work")
        await both.waits(" and cannot be reached since ")
        assert both.south.marked == set()
        assert both.holder == str(both.world.key("north"))
        await both.world.client.delete(kinds.DPU_CLUSTER, both.world.key("north"))
        for name in NODES:
            await both.south.until(lambda at=name: both.south.leaving() == {at}, f"restarting {name}")  # type: ignore[misc]
            await both.south.bring_back(name, 2000)
        await both.south.told("True")
    finally:
        both.world.fleet.start_api_server("north")
    await both.world.until(lambda: both.world.north.chain_sets.failing is None, "back")
