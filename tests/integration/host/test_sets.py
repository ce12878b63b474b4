"""Chains and interfaces of the host cluster become sets in the DPU clusters, and what the sets say comes back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from dpuchain.api import kinds, names
from dpuchain.api.chain import ServiceChainSet
from dpuchain.host.process import LEASE
from dpuchain.kube.identity import cluster_identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.host.conftest import Place, World

RECONCILED, READY = names.CHAIN_SET_RECONCILED, names.CHAIN_SET_READY
BOTH = {"north", "south"}


async def both(world: World) -> None:
    await world.add_cluster("north", environment="production", rack="1")
    await world.add_cluster("south", environment="staging")


async def made_in_both(world: World, **chain: Any) -> None:
    await both(world)
    await world.add_chain(**chain)
    await world.until(lambda: world.everywhere() == BOTH, "in both clusters")


async def ready_in_both(world: World, **chain: Any) -> None:
    await made_in_both(world, **chain)
    for place in world.places.values():
        await world.report(place)
    await world.told(world.chains, "chain", names.READY, "True")


def set_in(world: World, place: Place) -> ServiceChainSet:
    found = place.chain_sets.get(world.key("chain"))
    assert found is not None
    return found


@pytest.mark.usefixtures("controller")
async def test_set_is_made_in_both_clusters_in_a_namespace_that_was_missing(world: World) -> None:
    await made_in_both(world, mtu=1400, labels={"team": "net"})
    await world.add_interface("eth1")
    chain = world.chains.get(world.key("chain"))
    assert chain is not None
    assert names.DPU_SERVICE_CHAIN_FINALIZER in chain.metadata.finalizers
    for place in world.places.values():
        made = set_in(world, place)
        assert made.spec == chain.spec.template.spec
        owner = {
            names.OWNER_KIND_LABEL: "DPUServiceChain",
            names.OWNER_UID_LABEL: chain.metadata.uid,
            names.HOST_LABEL: await cluster_identity(world.client),
        }
        assert made.metadata.labels == {"team": "net", **owner}
        assert made.metadata.finalizers == (names.SERVICE_CHAIN_SET_FINALIZER,)
        await world.until(lambda place=place: place.interface_sets.get(world.key("eth1")) is not None, "there")  # type: ignore[misc]


@pytest.mark.usefixtures("controller")
async def test_status_comes_back_from_each_cluster(world: World) -> None:
    await made_in_both(world)
    await world.told(world.chains, "chain", RECONCILED, "True")
    await world.report(world.north)
    await world.report(world.south, problem="no p0 on dpu-7")
    words = f"* Cluster: {world.namespace}/south\n  Object: {world.key('chain')}\n  no p0 on dpu-7"
    await world.told(world.chains, "chain", READY, "False", words)
    await world.until(lambda: "north" not in world.message(world.chains, "chain", READY), "silent about the other")
    await world.report(world.south)
    await world.told(world.chains, "chain", names.READY, "True")


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ({"matchLabels": {"environment": "production"}}, {"north"}),
        ({"matchExpressions": [{"key": "environment", "operator": "In", "values": ["production", "staging"]}]}, BOTH),
        ({"matchExpressions": [{"key": "environment", "operator": "NotIn", "values": ["production"]}]}, {"south"}),
        ({"matchExpressions": [{"key": "rack", "operator": "Exists"}]}, {"north"}),
        ({"matchExpressions": [{"key": "rack", "operator": "DoesNotExist"}]}, {"south"}),
    ],
)
@pytest.mark.parametrize("field", ["dpuClusterSelector", "clusterSelector"])
@pytest.mark.usefixtures("controller")
async def test_selector_says_which_clusters(world: World, field: str, selector: dict[str, Any], selected: set[str]) -> None:
    await both(world)
    selectors: dict[str, Any] = {field: selector}
    await world.add_chain(**selectors)
    await world.until(lambda: world.everywhere() == selected, "in the selected clusters")
    await world.told(world.chains, "chain", RECONCILED, "True")
    assert world.everywhere() == selected


@pytest.mark.usefixtures("controller")
async def test_deprecated_selector_yields_to_the_other(world: World) -> None:
    await both(world)
    old, new = {"matchLabels": {"environment": "staging"}}, {"matchLabels": {"environment": "production"}}
    await world.add_chain(clusterSelector=old, dpuClusterSelector=new)
    await world.told(world.chains, "chain", RECONCILED, "True")
    assert world.everywhere() == {"north"}


@pytest.mark.usefixtures("controller")
async def test_sets_move_with_the_labels_of_clusters(world: World) -> None:
    await both(world)
    await world.add_chain(dpuClusterSelector={"matchLabels": {"environment": "production"}})
    await world.until(lambda: world.everywhere() == {"north"}, "in the selected cluster")
    await world.client.patch(kinds.DPU_CLUSTER, world.key("south"), {"metadata": {"labels": {"environment": "production"}}})
    await world.until(lambda: world.everywhere() == BOTH, "in both")
    await world.client.patch(kinds.DPU_CLUSTER, world.key("north"), {"metadata": {"labels": {"environment": "none"}}})
    await world.until(lambda: set_in(world, world.north).metadata.deletion_timestamp is not None, "being deleted")
    await world.told(world.chains, "chain", RECONCILED, "False", "Stale objects still exist across non matching DPUClusters:")
    await world.north.let_go()
    await world.until(lambda: world.everywhere() == {"south"}, "gone from the other")
    await world.told(world.chains, "chain", RECONCILED, "True")


@pytest.mark.usefixtures("controller")
async def test_impossible_selector_is_named_and_removes_nothing(world: World) -> None:
    await ready_in_both(world)
    selector = {"matchExpressions": [{"key": "rack", "operator": "In", "values": []}]}
    await world.client.patch(kinds.DPU_SERVICE_CHAIN, world.key("chain"), {"spec": {"dpuClusterSelector": selector}})
    await world.told(world.chains, "chain", RECONCILED, "False", "spec.dpuClusterSelector.matchExpressions[0]")
    for place in world.places.values():
        live = await place.client.get(kinds.SERVICE_CHAIN_SET, world.key("chain"))
        assert live.metadata.deletion_timestamp is None


@pytest.mark.usefixtures("controller")
async def test_clusters_join_and_leave(world: World) -> None:
    await world.add_chain()
    await world.told(world.chains, "chain", RECONCILED, "False", "no DPUCluster is selected")
    await world.add_cluster("north")
    await world.until(lambda: world.everywhere() == {"north"}, "in the first")
    await world.add_cluster("south")
    await world.until(lambda: world.everywhere() == BOTH, "in both")
    await world.report(world.north)
    await world.told(world.chains, "chain", READY, "False", "south")
    await world.client.delete(kinds.DPU_CLUSTER, world.key("south"))
    await world.told(world.chains, "chain", names.READY, "True")
    assert world.everywhere() == BOTH, "a cluster that left was still written to"


@pytest.mark.usefixtures("controller")
async def test_edits_to_sets_are_undone(world: World) -> None:
    await ready_in_both(world, labels={"team": "net"})
    before = set_in(world, world.south)
    labels = {"team": "mine", "other": "stays", names.OWNER_KIND_LABEL: None}
    switches = [{"ports": [{"serviceInterface": {"matchLabels": {"port": "p9"}}}]}]
    patch = {"metadata": {"labels": labels}, "spec": {"template": {"spec": {"switches": switches}}}}
    edited = await world.south.client.patch(kinds.SERVICE_CHAIN_SET, world.key("chain"), patch)
    await world.until(lambda: set_in(world, world.south).metadata.generation > edited.metadata.generation, "written again")
    after = set_in(world, world.south)
    assert after.spec == before.spec
    assert after.metadata.labels == {**before.metadata.labels, "other": "stays"}

    uid = set_in(world, world.north).metadata.uid
    await world.north.client.delete(kinds.SERVICE_CHAIN_SET, world.key("chain"))
    await world.until(lambda: set_in(world, world.north).metadata.deletion_timestamp is not None, "being deleted")
    await world.north.let_go()
    await world.until(lambda: "north" in world.everywhere() and set_in(world, world.north).metadata.uid != uid, "made again")


@pytest.mark.usefixtures("controller")
async def test_label_that_the_template_no_longer_has_goes_from_the_sets(world: World) -> None:
    await made_in_both(world, labels={"team": "net", "old": "yes"})
    await world.client.patch(kinds.DPU_SERVICE_CHAIN, world.key("chain"), {"spec": {"template": {"metadata": {"labels": {"old": None}}}}})
    await world.until(
        lambda: all("old" not in set_in(world, place).metadata.labels for place in world.places.values()), "without the label"
    )
    assert set_in(world, world.north).metadata.labels["team"] == "net"


async def test_label_that_was_taken_from_the_template_while_nobody_looked_goes_too(
    world: World, start: Callable[..., asyncio.Task[None]]
) -> None:
    first = start()
    await made_in_both(world, labels={"team": "net", "old": "yes"})
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await world.client.patch(kinds.DPU_SERVICE_CHAIN, world.key("chain"), {"spec": {"template": {"metadata": {"labels": {"old": None}}}}})
    start()
    await world.until(
        lambda: all("old" not in set_in(world, place).metadata.labels for place in world.places.values()), "without the label"
    )
    assert set_in(world, world.north).metadata.labels["team"] == "net"


@pytest.mark.usefixtures("controller")
async def test_mtu_above_the_high_speed_mtu_is_refused_until_that_is_raised(world: World) -> None:
    await world.add_cluster("north")
    await world.add_chain(mtu=2000)
    words = "Error occurred: MTU 2000 can't be bigger than the high speed MTU 1500"
    await world.told(world.chains, "chain", RECONCILED, "False", words)
    assert world.message(world.chains, "chain", RECONCILED) == words
    await world.set_high_speed_mtu(1900)
    await world.told(world.chains, "chain", RECONCILED, "False", "high speed MTU 1900")
    assert world.everywhere() == set()
    await world.set_high_speed_mtu(9216)
    await world.until(lambda: world.everywhere() == {"north"}, "written")
    await world.told(world.chains, "chain", RECONCILED, "True")


@pytest.mark.usefixtures("controller")
async def test_chain_waits_for_its_sets_to_go(world: World) -> None:
    await ready_in_both(world)
    await world.client.delete(kinds.DPU_SERVICE_CHAIN, world.key("chain"))
    await world.told(world.chains, "chain", READY, "False", "2 objects still exist across all DPU clusters")
    condition = world.condition(world.chains, "chain", names.READY)
    assert condition is not None
    assert condition.reason == names.AWAITING_DELETION
    await world.until(lambda: all(set_in(world, place).metadata.deletion_timestamp for place in world.places.values()), "being deleted")
    await world.north.let_go()
    await world.told(
        world.chains, "chain", READY, "False", f"1 objects still exist across all DPU clusters\n* Cluster: {world.namespace}/south"
    )
    await world.south.let_go()
    await world.until(lambda: len(world.chains) == 0 and world.everywhere() == set(), "gone everywhere")


@pytest.mark.usefixtures("controller")
async def test_chain_that_is_deleted_at_once_leaves_nothing(world: World) -> None:
    await both(world)
    names_of = [f"chain-{number}" for number in range(8)]
    for name in names_of:
        await world.add_chain(name)
        if name != "chain-0":  # which is not waited for at all
            await world.taken_up(name)
        await world.client.delete(kinds.DPU_SERVICE_CHAIN, world.key(name))
    for name in names_of:
        while world.chains.get(world.key(name)) is not None:
            await world.next_change()
            for place in world.places.values():
                await place.let_go()
    for place in world.places.values():
        assert (await place.client.list(kinds.SERVICE_CHAIN_SET, namespace=world.namespace)).items == ()


@pytest.mark.usefixtures("controller")
async def test_settled_world_is_not_written(world: World) -> None:
    await ready_in_both(world)
    before = {key: version for key, version in (await world.versions()).items() if key[0] != "host/dpuclusters"}
    note = {"metadata": {"annotations": {"note": "x"}}}
    await world.client.patch(kinds.DPU_CLUSTER, world.key("north"), note)
    await world.client.patch(kinds.SECRET, world.key("south-kubeconfig"), note)
    await world.set_high_speed_mtu(9000)
    for name in ("one", "two"):  # looked at after the events before them
        await world.add_chain(name)
        await world.told(world.chains, name, RECONCILED, "True")
    now = await world.versions()
    assert {key: now[key] for key in before} == before


async def test_restarted_controller_writes_nothing(world: World, start: Callable[..., asyncio.Task[None]]) -> None:
    first = start()
    await ready_in_both(world)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    before = await world.versions()
    start()
    await world.add_chain("probe")
    await world.until(lambda: world.everywhere("probe") == BOTH, "at work")
    await world.told(world.chains, "probe", RECONCILED, "True")
    now = await world.versions()
    assert {key: now[key] for key in before} == before


async def test_one_of_two_leads_and_the_other_takes_over(world: World, start: Callable[..., asyncio.Task[None]]) -> None:
    await both(world)

    def holder() -> str:
        lease = world.leases.get(LEASE)
        return lease.spec.holder_identity if lease is not None else ""

    first = start("first")
    await world.until(lambda: holder() == "first", "led by the first")
    start("second")
    await world.add_chain()
    await world.until(lambda: world.everywhere() == BOTH, "made by the first")
    assert holder() == "first"
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await world.add_chain("next")
    await world.until(lambda: world.everywhere("next") == BOTH, "made by the second")
    assert holder() == "second"


@pytest.mark.usefixtures("controller")
async def test_deprecated_selector_is_honoured_and_warned_of_once(world: World) -> None:
    await both(world)
    await world.add_chain(clusterSelector={"matchLabels": {"environment": "production"}})
    await world.add_interface("eth1", clusterSelector={"matchLabels": {"environment": "staging"}})
    await world.until(lambda: world.everywhere() == {"north"}, "in the selected cluster")
    await world.until(lambda: world.south.interface_sets.get(world.key("eth1")) is not None, "in the selected cluster")
    assert world.north.interface_sets.get(world.key("eth1")) is None
    await world.report(world.north)
    await world.told(world.chains, "chain", names.READY, "True")
    events = (await world.client.list(kinds.EVENT, namespace=world.namespace)).items
    warnings = [(e.involved_object.name, e.type, e.message, e.count) for e in events if e.reason == "DeprecatedField"]
    text = "spec.clusterSelector is deprecated: use spec.dpuClusterSelector, which wins where both are set"
    assert sorted(warnings) == [("chain", "Warning", text, 1), ("eth1", "Warning", text, 1)]
    await world.client.patch(
        kinds.DPU_SERVICE_CHAIN, world.key("chain"), {"spec": {"dpuClusterSelector": {"matchLabels": {"environment": "staging"}}}}
    )
    await world.until(lambda: world.south.chain_sets.get(world.key("chain")) is not None, "in the cluster of the selector that wins")


@pytest.mark.usefixtures("controller")
async def test_interface_goes_where_its_selector_says(world: World) -> None:
    await both(world)
    for name, environment in (("eth1", "production"), ("eth2", "staging")):
        expression = {"key": "environment", "operator": "In", "values": [environment]}
        await world.add_interface(name, dpuClusterSelector={"matchExpressions": [expression]})
    await world.add_interface("eth3")

    def placed(place: Place) -> set[str]:
        return {item.metadata.name for item in place.interface_sets}

    await world.until(lambda: (placed(world.north), placed(world.south)) == ({"eth1", "eth3"}, {"eth2", "eth3"}), "where they belong")
    moved = {"matchExpressions": None, "matchLabels": {"environment": "staging"}}
    await world.client.patch(kinds.DPU_SERVICE_INTERFACE, world.key("eth1"), {"spec": {"dpuClusterSelector": moved}})
    await world.until(lambda: "eth1" in placed(world.south), "moved")
    await world.until(lambda: any(item.metadata.deletion_timestamp is not None for item in world.north.interface_sets), "leaving")
    await world.north.let_go()
    await world.until(lambda: placed(world.north) == {"eth3"}, "gone from where it was")
