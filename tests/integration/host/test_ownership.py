"""Whose a set in a DPU cluster is: taken over, left alone and named, or removed because its object is gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.integration.host.test_sets import RECONCILED, both, set_in

from dpuchain.api import kinds, names
from dpuchain.api.chain import DPUServiceChain, ServiceChainSet
from dpuchain.chain.project import chain_set_of
from dpuchain.kube.identity import cluster_identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.host.conftest import World


async def left_behind(world: World, host: str) -> ServiceChainSet:
    """A set of a chain that is gone, as a write of a killed controller leaves it that arrives after its successor has looked."""
    chain = msgspec.convert(
        {
            "metadata": {"name": "chain", "namespace": world.namespace, "uid": "gone"},
            "spec": {
                "template": {"spec": {"template": {"spec": {"switches": [{"ports": [{"serviceInterface": {"matchLabels": {"a": "b"}}}]}]}}}}
            },
        },
        DPUServiceChain,
    )
    await world.make_namespace(world.north)
    return await world.north.client.apply(kinds.SERVICE_CHAIN_SET, chain_set_of(chain, host), field_owner=names.HOST_FIELD_OWNER)


@pytest.mark.usefixtures("controller")
async def test_set_of_a_chain_that_is_gone_is_removed(world: World) -> None:
    await both(world)
    await left_behind(world, await cluster_identity(world.client))
    await world.until(lambda: any(item.metadata.deletion_timestamp is not None for item in world.north.chain_sets), "being deleted")
    await world.north.let_go()
    await world.until(lambda: world.everywhere() == set(), "gone")


async def test_set_that_is_left_when_a_cluster_joins_is_removed(world: World, start: Callable[..., asyncio.Task[None]]) -> None:
    await left_behind(world, await cluster_identity(world.client))
    start()
    await world.add_cluster("north")
    await world.until(lambda: any(item.metadata.deletion_timestamp is not None for item in world.north.chain_sets), "being deleted")


@pytest.mark.usefixtures("controller")
async def test_set_of_another_host_cluster_stays_and_is_named(world: World) -> None:
    await both(world)
    kept = await left_behind(world, "another")
    await world.add_chain("probe")
    await world.told(world.chains, "probe", RECONCILED, "True")
    assert await world.north.client.get(kinds.SERVICE_CHAIN_SET, world.key("chain")) == kept
    await world.add_chain()
    await world.told(world.chains, "chain", RECONCILED, "False", "was made by DPUServiceChain with uid gone of host cluster another")
    assert await world.north.client.get(kinds.SERVICE_CHAIN_SET, world.key("chain")) == kept


@pytest.mark.usefixtures("controller")
async def test_set_of_an_earlier_chain_of_the_same_name_is_taken_over(world: World) -> None:
    await left_behind(world, await cluster_identity(world.client))
    await world.add_chain()
    await both(world)
    await world.told(world.chains, "chain", RECONCILED, "True")
    chain = world.chains.get(world.key("chain"))
    assert chain is not None
    live = set_in(world, world.north)
    assert live.metadata.labels[names.OWNER_UID_LABEL] == chain.metadata.uid
    assert live.spec == chain.spec.template.spec


@pytest.mark.usefixtures("controller")
async def test_set_of_somebody_else_is_not_overwritten(world: World) -> None:
    theirs = msgspec.convert(
        {
            "metadata": {"name": "chain", "namespace": world.namespace, "labels": {"mine": "yes"}},
            "spec": {"template": {"spec": {"switches": [{"ports": [{"serviceInterface": {"matchLabels": {"a": "b"}}}]}]}}},
        },
        ServiceChainSet,
    )
    await world.make_namespace(world.north)
    kept = await world.north.client.create(kinds.SERVICE_CHAIN_SET, theirs)
    await both(world)
    await world.add_chain()
    words = f"ServiceChainSet {world.key('chain')} exists already and was made by somebody else, by hand or by another controller"
    await world.told(world.chains, "chain", RECONCILED, "False", words)
    await world.until(lambda: "south" in world.everywhere(), "in the other cluster")
    assert set_in(world, world.north) == kept
    await world.client.delete(kinds.DPU_SERVICE_CHAIN, world.key("chain"))
    await world.until(lambda: set_in(world, world.south).metadata.deletion_timestamp is not None, "being deleted")
    await world.south.let_go()
    await world.until(lambda: len(world.chains) == 0, "gone")
    assert await world.north.client.get(kinds.SERVICE_CHAIN_SET, world.key("chain")) == kept
