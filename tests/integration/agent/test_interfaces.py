"""Every type of interface, from its ServiceInterface to Open vSwitch and back."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import pytest
from tests.integration.agent.world import add_device

from dpuchain.agent.process import Settings, run
from dpuchain.api.kinds import SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.api.meta import ObjectKey
from dpuchain.api.names import INTERFACE_SET_NAME_LABEL
from dpuchain.kube.client import Client
from dpuchain.lab.process import run as command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.integration.agent.world import World

    from dpuchain.lab.cluster import Cluster


async def add_bridge(world: World, name: str) -> None:
    await world.switch.vsctl("add-br", name, "--", "set", "bridge", name, "datapath_type=netdev")


async def value(world: World, table: str, name: str, column: str) -> str:
    return (await world.switch.vsctl("get", table, name, column)).strip().strip('"')


async def ports(world: World, bridge: str) -> list[str]:
    return (await world.switch.vsctl("list-ports", bridge)).split()


async def until_ready(world: World, *names: str) -> None:
    await world.until(lambda: all(world.ready(world.interfaces, name) == "True" for name in names), f"ready: {', '.join(names)}")


async def until_told(world: World, name: str, words: str) -> None:
    await world.until(lambda: words in world.message(world.interfaces, name), f"told: {words}")
    assert world.ready(world.interfaces, name) == "False"


async def test_patch_is_made_whole_carries_a_chain_and_goes_at_both_ends(world: World, agent: asyncio.Task[None]) -> None:
    await add_bridge(world, "br-x")
    await world.add("link", "patch", peerBridge="br-x", peerPatchName="mine", peerExternalIDs={"who": "x"})
    await world.add_physical("p0")
    await world.add_chain("chain", ("p0", "link"))
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    await until_ready(world, "link")
    assert await value(world, "interface", "p_brsfc_to_mine", "options:peer") == "mine"
    assert await value(world, "interface", "mine", "options:peer") == "p_brsfc_to_mine"
    assert await value(world, "interface", "mine", "external_ids:who") == "x"
    for end in ("p_brsfc_to_mine", "mine"):
        assert await value(world, "interface", end, "external_ids:dpf-id") == f"{world.namespace}/link"
    assert await ports(world, "br-x") == ["mine"]
    assert len(await world.flows()) == 2

    await world.client.delete(SERVICE_CHAIN, ObjectKey(world.namespace, "chain"))
    await world.remove("link")
    await world.until(lambda: len(world.interfaces) == 1, "gone")
    assert await ports(world, "br-x") == []
    assert await ports(world, "br-sfc") == ["p0"]


async def test_patch_waits_for_its_bridge_and_follows_it(world: World, agent: asyncio.Task[None]) -> None:
    await world.add("link", "patch", peerBridge="br-x")
    await until_told(world, "link", "failed to get bridge br-x: it does not exist")
    assert await ports(world, "br-sfc") == [], "half of a patch was made"
    await add_bridge(world, "br-x")
    await until_ready(world, "link")
    (end,) = await ports(world, "br-x")
    await world.switch.vsctl("del-port", end)
    async with asyncio.timeout(10):
        while await ports(world, "br-x") != [end]:  # noqa: ASYNC110  # each look waits for Open vSwitch
            await asyncio.sleep(0)
    await world.switch.vsctl("del-br", "br-x")
    await until_told(world, "link", "failed to get bridge br-x")
    await add_bridge(world, "br-x")
    await until_ready(world, "link")


async def test_ovn_is_patched_to_its_bridge(world: World, agent: asyncio.Task[None]) -> None:
    await world.add("ovn", "ovn")
    await until_told(world, "ovn", "failed to get bridge br-ovn")
    await add_bridge(world, "br-ovn")
    await until_ready(world, "ovn")
    assert await ports(world, "br-ovn") == ["puplinkbrovntobrsfc"]
    assert await ports(world, "br-sfc") == ["puplinkbrsfctobrovn"]


async def test_ports_of_other_bridges_are_left_where_they_are(world: World, agent: asyncio.Task[None]) -> None:
    for bridge in ("br-x", "br-y"):
        await add_bridge(world, bridge)
    await world.switch.vsctl("add-port", "br-y", "p7", "--", "add-port", "br-y", "mine", "--", "add-port", "br-x", "eth7")
    await world.add_physical("p7")
    await world.add("link", "patch", peerBridge="br-x", peerPatchName="mine")
    await world.add("other", "patch", peerBridge="br-x", peerPatchName="eth7")
    await until_told(world, "p7", "port p7 already exists on a bridge other than br-sfc")
    await until_told(world, "link", "port mine already exists on a bridge other than br-x")
    await until_told(world, "other", "port eth7 of bridge br-x is there already, of type system")
    assert (await ports(world, "br-y"), await ports(world, "br-x"), await ports(world, "br-sfc")) == (["mine", "p7"], ["eth7"], [])
    await world.switch.vsctl("del-port", "mine")
    await until_ready(world, "link")


async def test_what_can_never_work_is_said(world: World, agent: asyncio.Task[None]) -> None:
    await world.add("reserved", "patch", peerBridge="br-x", peerExternalIDs={"dpf-id": "x"})
    await world.add("virtual", "pf", pfID=0, virtualNetwork="v")
    await world.add_physical("p0")
    await world.add("number", "vlan", vlanID=4095, parentInterfaceRef="p0")
    await until_told(world, "reserved", "external ID dpf-id is a reserved and managed internally, it cannot be set by users")
    await until_told(world, "virtual", "belongs to virtual network v: it gets no port of the bridge and cannot be chained")
    await until_told(world, "number", "spec.vlan.vlanID: 4095 is not the number of a VLAN; use 1 to 4094")
    assert await ports(world, "br-sfc") == ["p0"]


async def test_vlans_on_a_parent_that_is_in_a_chain_too(world: World, agent: asyncio.Task[None]) -> None:
    for name in ("p0", "p1", "p2"):
        await world.add_physical(name)
    await world.add("blue", "vlan", vlanID=10, parentInterfaceRef="uplink")
    await until_told(world, "blue", "spec.vlan.parentInterfaceRef: uplink: no ServiceInterface of this node")
    labels = {"metadata": {"labels": {INTERFACE_SET_NAME_LABEL: "uplink"}}}
    await world.client.patch(SERVICE_INTERFACE, ObjectKey(world.namespace, "p0"), labels)
    await until_ready(world, "blue")
    await world.add("second", "vlan", vlanID=10, parentInterfaceRef="p0")
    await until_told(
        world, "second", f"VLAN 10 of ServiceInterface {world.namespace}/p0 is owned by ServiceInterface {world.namespace}/blue"
    )
    await world.add_chain("chain", ("p0", "p1"), ("blue", "p2"))
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    assert await world.passes("p0", "p1")
    numbers = {name: (await value(world, "interface", name, "ofport")) for name in ("p0", "p1", "p2")}
    flows = await world.flows()
    assert any(f"in_port={numbers['p0']},dl_vlan=10 actions=pop_vlan,output:{numbers['p2']}" in flow.replace('"', "") for flow in flows), (
        flows
    )

    await world.remove("blue")
    await until_ready(world, "second")
    await world.until(lambda: world.ready(world.chains, "chain") == "False", "left without its port")
    assert await world.passes("p0", "p1"), "what is right goes on"
    await world.remove("p0")
    await until_told(world, "second", "spec.vlan.parentInterfaceRef: p0: no ServiceInterface of this node")


async def test_physical_port_is_left_behind_where_that_is_asked_for(world: World, agent: asyncio.Task[None]) -> None:
    await world.add("p0", "physical", annotations={"svc.dpu.nvidia.com/noop-physical-removal": ""}, interfaceName="p0")
    await until_ready(world, "p0")
    await world.remove("p0")
    await world.until(lambda: len(world.interfaces) == 0, "gone")
    assert await ports(world, "br-sfc") == ["p0"]
    assert "dpf-id" not in await value(world, "interface", "p0", "external_ids")
    await world.add_physical("next", "p0")
    await until_ready(world, "next")


async def test_new_ports_are_of_dpdk_where_open_vswitch_starts_it(world: World, agent: asyncio.Task[None]) -> None:
    """This Open vSwitch has no DPDK: the type is asked for. What becomes of it with DPDK: test_dpdk.py."""
    await world.add_physical("p0")
    await until_ready(world, "p0")
    await world.switch.vsctl("--no-wait", "set", "Open_vSwitch", ".", "other_config:dpdk-init=true")
    await world.add_physical("p1")
    await world.until(lambda: world.ready(world.interfaces, "p1") is not None, "looked at")
    assert (await value(world, "interface", "p1", "type"), await value(world, "interface", "p0", "type")) == ("dpdk", "")


@pytest.fixture
async def devices() -> AsyncIterator[tuple[str, str]]:
    """Names for a pair of devices of this machine; what was made of them goes."""
    name = f"f{secrets.token_hex(4)}"
    yield f"{name}a", f"{name}b"
    for end in (f"{name}a", f"{name}b", f"{name}c"):
        if end in await command("ip", "-o", "link"):
            await command("ip", "link", "del", end)
            return


async def test_representor_is_taken_up_when_the_kernel_tells_of_it(
    world: World, agent: asyncio.Task[None], tmp_path: Path, devices: tuple[str, str]
) -> None:
    """The kernel's event is real, of a device of no interest; what sysfs says then is made."""

    def appear(name: str, port_name: str) -> None:
        add_device(tmp_path / "sys", name, port_name)

    appear("p0", "p0")
    await command("ip", "link", "add", devices[0], "type", "veth", "peer", devices[1])
    await world.add("guest", "vf", pfID=0, vfID=3)
    await until_told(world, "guest", "no representor found for PF 0, VF 3 of controller 1 on the DPU's NIC")
    appear("odd", "c1pf0vf3")
    await command("ip", "link", "set", devices[0], "name", f"{devices[0][:-1]}c")
    await until_ready(world, "guest")
    assert await ports(world, "br-sfc") == ["odd"]
    appear("twin", "c1pf0vf3")
    await command("ip", "link", "del", devices[1])
    await until_told(world, "guest", "multiple representors found for PF 0, VF 3 of controller 1 on the DPU's NIC: odd, twin")


async def test_type_of_ports_can_be_forced(world: World, api_server: Cluster, tmp_path: Path) -> None:
    (tmp_path / "sys/class/net").mkdir(parents=True)
    forced = Settings(world.node, "br-sfc", world.switch.database, world.switch.management, tmp_path / "cni.sock", "dpdk", tmp_path / "sys")
    task = asyncio.ensure_future(run(Client.from_kubeconfig(api_server.kubeconfig, user_agent="agent"), forced))
    await world.add_physical("p0")
    await world.until(lambda: world.ready(world.interfaces, "p0") is not None, "looked at")
    assert await value(world, "interface", "p0", "type") == "dpdk"
    task.cancel()
    await asyncio.wait([task])
