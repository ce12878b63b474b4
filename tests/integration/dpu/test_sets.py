"""The DPU cluster's controller on a real API server: sets and Nodes in, objects on nodes and counters out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from tests.integration.dpu.world import SWITCH

from dpuchain.api.chain import (
    ServiceChain,
    ServiceChainSet,
    ServiceChainSpec,
)
from dpuchain.api.interface import (
    ServiceInterfaceSet,
    ServiceInterfaceSetSpec,
    ServiceInterfaceSpec,
    ServiceInterfaceTemplate,
    ServicePort,
)
from dpuchain.api.kinds import (
    NETWORK_ATTACHMENT_DEFINITION,
    NODE,
    SERVICE_CHAIN,
    SERVICE_CHAIN_SET,
    SERVICE_INTERFACE_SET,
)
from dpuchain.api.kubernetes import Metadata
from dpuchain.api.meta import LabelSelector, ObjectKey, ObjectMeta, OwnerReference, key_of
from dpuchain.api.names import CHAIN_SET_NAME_LABEL, CHAIN_SET_NAMESPACE_LABEL, SERVICE_CHAIN_FINALIZER, SERVICE_CHAIN_SET_FINALIZER
from dpuchain.chain.expand import child_name
from dpuchain.kube.writes import remove_finalizer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from tests.integration.dpu.world import World


@pytest.mark.usefixtures("controller")
async def test_set_has_one_chain_on_each_selected_node_and_says_how_many_are_ready(world: World) -> None:
    first, second = await world.add_node("first", zone="a"), await world.add_node("second", zone="a")
    await world.add_node("third", zone="b")
    await world.add_set("chain", zone="a")
    await world.until(lambda: world.nodes == {first, second}, "on its nodes")
    chain = world.chains.get(world.key(child_name("chain", first)))
    assert chain is not None
    assert chain.metadata.labels[CHAIN_SET_NAME_LABEL] == "chain"
    assert chain.metadata.labels["of"] == "template"
    assert chain.metadata.owner_references[0].name == "chain"
    assert world.ready(world.sets, "chain") != "True"

    await world.report(ready=True)
    await world.until(lambda: world.ready(world.sets, "chain") == "True", "ready")
    item = world.sets.get(world.key("chain"))
    assert item is not None
    assert (item.status.number_applied, item.status.number_ready) == (2, 2)
    await world.report(ready=False)
    await world.until(lambda: world.ready(world.sets, "chain") == "False", "not ready")
    item = world.sets.get(world.key("chain"))
    assert item is not None
    assert "because" in item.status.conditions[0].message


@pytest.mark.usefixtures("controller")
async def test_labels_of_nodes_are_followed_and_nothing_else_is_touched(world: World) -> None:
    first, second = await world.add_node("first", zone="a"), await world.add_node("second", zone="b")
    await world.add_set("chain", zone="a")
    await world.until(lambda: world.nodes == {first}, "on its node")
    await world.client.patch(NODE, ObjectKey("", second), {"metadata": {"labels": {"zone": "a"}}})
    await world.until(lambda: world.nodes == {first, second}, "on both")
    kept = world.chains.get(world.key(child_name("chain", first)))
    await world.client.patch(NODE, ObjectKey("", second), {"metadata": {"labels": {"zone": None}}})
    await world.until(lambda: world.nodes == {first}, "gone from the second")
    await world.let_go()
    await world.until(lambda: len(world.chains) == 1, "gone")
    assert world.chains.get(world.key(child_name("chain", first))) == kept


@pytest.mark.usefixtures("controller")
async def test_edit_of_a_chain_is_undone(world: World) -> None:
    node = await world.add_node("first")
    await world.add_set("chain")
    await world.until(lambda: world.nodes == {node}, "there")
    key = world.key(child_name("chain", node))
    await world.client.patch(SERVICE_CHAIN, key, {"spec": {"switches": [{"ports": [{"serviceInterface": {"matchLabels": {"a": "b"}}}]}]}})
    await world.until(lambda: (chain := world.chains.get(key)) is not None and chain.metadata.generation == 3, "undone")
    chain = world.chains.get(key)
    assert chain is not None
    assert chain.spec.switches == (SWITCH,)


@pytest.mark.usefixtures("controller")
async def test_set_waits_for_its_chains_to_go(world: World) -> None:
    node = await world.add_node("first")
    await world.add_set("chain")
    await world.until(lambda: world.nodes == {node}, "there")
    await world.client.delete(SERVICE_CHAIN_SET, world.key("chain"))
    await world.until(lambda: world.nodes == set(), "being deleted")
    await world.until(
        lambda: (
            (item := world.sets.get(world.key("chain"))) is not None
            and [condition.reason for condition in item.status.conditions[:1]] == ["AwaitingDeletion"]
        ),
        "waiting",
    )
    item = world.sets.get(world.key("chain"))
    assert item is not None
    assert item.metadata.finalizers == (SERVICE_CHAIN_SET_FINALIZER,)
    await world.let_go()
    await world.until(lambda: len(world.sets) == len(world.chains) == 0, "gone")


@pytest.mark.usefixtures("controller")
async def test_set_that_waits_says_how_many_chains_remain_and_where(world: World) -> None:
    nodes = {await world.add_node(name) for name in ("first", "second")}
    await world.add_set("chain")
    await world.until(lambda: world.nodes == nodes, "there")
    await world.client.delete(SERVICE_CHAIN_SET, world.key("chain"))

    def message() -> str:
        item = world.sets.get(world.key("chain"))
        return item.status.conditions[0].message if item is not None and item.status.conditions else ""

    await world.until(lambda: "2 objects still exist" in message() and not world.nodes, "told of both")
    assert all(f"Object: {key_of(chain)}\n  Node: {chain.spec.node}" in message() for chain in world.chains)
    first = next(iter(world.chains))
    await remove_finalizer(world.client, SERVICE_CHAIN, first, SERVICE_CHAIN_FINALIZER)
    await world.until(lambda: "1 objects still exist" in message(), "told of the other")
    assert str(key_of(first)) not in message()


@pytest.mark.usefixtures("controller")
async def test_edited_selector_moves_the_chains(world: World) -> None:
    first, second = await world.add_node("first", zone="a"), await world.add_node("second", zone="b")
    await world.add_set("chain", zone="a")
    await world.until(lambda: world.nodes == {first}, "on the first")
    selector = {"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}, {"key": "test", "operator": "Exists"}]}
    await world.client.patch(SERVICE_CHAIN_SET, world.key("chain"), {"spec": {"nodeSelector": {"matchLabels": None, **selector}}})
    await world.until(lambda: second in world.nodes and first not in world.nodes, "on the second")


@pytest.mark.usefixtures("controller")
async def test_label_that_the_template_loses_goes_and_somebody_elses_stays(world: World) -> None:
    node = await world.add_node("first")
    await world.add_set("chain")
    await world.until(lambda: world.nodes == {node}, "there")
    key = world.key(child_name("chain", node))
    await world.client.patch(SERVICE_CHAIN, key, {"metadata": {"labels": {"theirs": "stays"}}})
    await world.client.patch(SERVICE_CHAIN_SET, world.key("chain"), {"spec": {"template": {"metadata": {"labels": {"of": None}}}}})
    await world.until(lambda: (chain := world.chains.get(key)) is not None and "of" not in chain.metadata.labels, "gone")
    chain = world.chains.get(key)
    assert chain is not None
    assert chain.metadata.labels["theirs"] == "stays"


@pytest.mark.usefixtures("controller")
async def test_chain_whose_labels_are_taken_off_gets_them_back(world: World) -> None:
    node = await world.add_node("first")
    await world.add_set("chain")
    await world.until(lambda: world.nodes == {node}, "there")
    key = world.key(child_name("chain", node))
    before = world.chains.get(key)
    assert before is not None
    await world.client.patch(SERVICE_CHAIN, key, {"metadata": {"labels": None}})
    await world.until(
        lambda: (
            (chain := world.chains.get(key)) is not None
            and chain.metadata.resource_version != before.metadata.resource_version
            and chain.metadata.labels == before.metadata.labels
        ),
        "labelled again",
    )
    assert len(world.chains) == 1


def left_behind(world: World, name: str, node: str, owner: ServiceChainSet | None = None, *, of: str = "chain") -> ServiceChain:
    """A child as DPF's controllers make it: its name ends in random letters."""
    labels = {CHAIN_SET_NAME_LABEL: of, CHAIN_SET_NAMESPACE_LABEL: world.namespace}
    references: tuple[OwnerReference, ...] = ()
    if owner is not None:
        reference = OwnerReference(api_version=SERVICE_CHAIN_SET.api_version, kind="ServiceChainSet", name=of, uid=owner.metadata.uid)
        references = (reference,)
    meta = ObjectMeta(
        name=name, namespace=world.namespace, labels=labels, finalizers=(SERVICE_CHAIN_FINALIZER,), owner_references=references
    )
    return ServiceChain(metadata=meta, spec=ServiceChainSpec(node=node, switches=(replace(SWITCH, service_mtu=9000),)))


async def test_chains_that_dpf_left_are_adopted_and_none_is_doubled(world: World, start: Callable[..., asyncio.Task[None]]) -> None:
    first, second = await world.add_node("first"), await world.add_node("second")
    await world.add_set("chain")
    owner = await world.client.get(SERVICE_CHAIN_SET, world.key("chain"))
    kept = await world.client.create(SERVICE_CHAIN, left_behind(world, "chain-x7k2p", first, owner))
    other = await world.client.create(SERVICE_CHAIN, left_behind(world, "chain-zzzzz", first, owner))
    start()
    await world.until(lambda: world.nodes == {first, second}, "on both nodes")
    await world.until(lambda: any(c.metadata.deletion_timestamp is not None for c in world.chains), "one too many")
    await world.let_go()
    await world.until(lambda: len(world.chains) == 2, "one on each node")
    adopted = {chain.spec.node: chain for chain in world.chains}
    assert adopted[first].metadata.uid in (kept.metadata.uid, other.metadata.uid)
    assert adopted[first].metadata.name in ("chain-x7k2p", "chain-zzzzz")
    assert adopted[second].metadata.name == child_name("chain", second)
    await world.until(lambda: all(chain.spec.switches == (SWITCH,) for chain in world.chains), "brought up to date")
    assert adopted[first].metadata.finalizers == (SERVICE_CHAIN_FINALIZER,)


async def test_what_an_earlier_run_left_of_sets_that_are_gone_is_removed(world: World, start: Callable[..., asyncio.Task[None]]) -> None:
    node = await world.add_node("first")
    await world.add_set("stays")
    await world.add_set("chain")
    owner = await world.client.get(SERVICE_CHAIN_SET, world.key("chain"))
    await world.client.create(SERVICE_CHAIN, left_behind(world, "chain-owned", node, owner))
    await world.client.create(SERVICE_CHAIN, left_behind(world, "chain-orphan", node, of="never-was"))
    await world.client.create(SERVICE_CHAIN, left_behind(world, "chain-nowhere", "no-such-node", of="never-was"))
    by_hand = ObjectMeta(name="by-hand", namespace=world.namespace)
    await world.client.create(SERVICE_CHAIN, ServiceChain(metadata=by_hand, spec=ServiceChainSpec(node=node, switches=(SWITCH,))))
    await world.client.delete(SERVICE_CHAIN_SET, world.key("chain"))  # it has no finalizer yet: no controller ran
    start()
    await world.until(lambda: world.chains.get(world.key("chain-nowhere")) is None, "gone with its node")
    leaving = {"chain-owned", "chain-orphan"}
    await world.until(
        lambda: {c.metadata.name for c in world.chains if c.metadata.deletion_timestamp is not None} == leaving, "being deleted"
    )
    await world.let_go()
    await world.until(lambda: {c.metadata.name for c in world.chains} == {"by-hand", child_name("stays", node)}, "removed")


@pytest.mark.usefixtures("controller")
async def test_chain_of_a_node_that_is_gone_goes_without_its_agent(world: World) -> None:
    node = await world.add_node("first")
    await world.add_set("chain")
    await world.until(lambda: world.nodes == {node}, "there")
    await world.client.delete(NODE, ObjectKey("", node))
    await world.until(lambda: len(world.chains) == 0, "gone")


@pytest.mark.usefixtures("controller")
async def test_missing_network_is_named_until_it_comes(world: World) -> None:
    port = ServicePort(service_id="service", network="wanted", interface_name="eth1")
    template = ServiceInterfaceTemplate(spec=ServiceInterfaceSpec(interface_type="service", service=port))
    spec = ServiceInterfaceSetSpec(node_selector=LabelSelector(match_labels={"test": world.namespace}), template=template)
    item = ServiceInterfaceSet(metadata=ObjectMeta(name="eth1", namespace=world.namespace), spec=spec)
    await world.client.create(SERVICE_INTERFACE_SET, item)
    await world.until(lambda: world.ready(world.interface_sets, "eth1") == "False", "refused")
    found = world.interface_sets.get(world.key("eth1"))
    assert found is not None
    assert f"NetworkAttachmentDefinition {world.namespace}/wanted does not exist" in found.status.conditions[0].message
    network = Metadata(metadata=ObjectMeta(name="wanted", namespace=world.namespace))
    await world.client.create(NETWORK_ATTACHMENT_DEFINITION, network)
    await world.until(lambda: world.ready(world.interface_sets, "eth1") == "True", "ready")
