"""Real frames through patches and VLANs: devices of the kernel, Open vSwitch on its userspace datapath, flows by the agent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.integration.agent.stations import ALICE, BOB, Station

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.agent.world import World

    from dpuchain.lab.openvswitch import OpenVSwitch


@pytest.fixture
def switch(make_ovs: Callable[..., OpenVSwitch]) -> OpenVSwitch:
    return make_ovs(dummy=False)


async def ready(world: World) -> None:
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")


async def expect(station: Station, text: bytes, *tags: int) -> None:
    """The next frame that the station hears is this one; so none came before it that should not have."""
    async with asyncio.timeout(10):
        assert await station.hear() == (text, tags)


async def test_vlan_is_untagged_in_the_chain_and_tagged_outside(
    world: World, agent: asyncio.Task[None], stations: tuple[dict[str, str], dict[str, Station]]
) -> None:
    """`a` is an uplink with VLANs 10 and 20, itself in a chain with `b`; VLAN 10 is in one with `c`; VLAN 20 in none."""
    devices, at = stations
    for name in "abc":
        await world.add_physical(name, devices[name])
    await world.add("blue", "vlan", vlanID=10, parentInterfaceRef="a")
    await world.add("idle", "vlan", vlanID=20, parentInterfaceRef="a")
    await world.add_chain("chain", ("a", "b"), ("blue", "c"))
    await ready(world)
    at["a"].send(b"blue", 10)
    await expect(at["c"], b"blue")
    at["a"].send(b"idle", 20)
    at["a"].send(b"plain")
    at["a"].send(b"other", 30)
    await expect(at["b"], b"plain")
    await expect(at["b"], b"other", 30)
    at["c"].send(b"reply")
    await expect(at["a"], b"reply", 10)
    at["c"].send(b"inner", 7)
    await expect(at["a"], b"inner", 10, 7)
    at["b"].send(b"forged", 10)
    at["b"].send(b"idle", 20)
    at["b"].send(b"allowed", 30)
    await expect(at["a"], b"allowed", 30)
    at["c"].send(b"end")
    await expect(at["a"], b"end", 10)
    at["a"].send(b"end", 10)
    await expect(at["c"], b"end")


async def test_vlans_of_one_port_and_a_device_learn_from_each_other(
    world: World, agent: asyncio.Task[None], stations: tuple[dict[str, str], dict[str, Station]]
) -> None:
    devices, at = stations
    for name in "ab":
        await world.add_physical(name, devices[name])
    for number in (10, 20):
        await world.add(f"vlan{number}", "vlan", vlanID=number, parentInterfaceRef="a")
    await world.add_chain("chain", ("vlan10", "vlan20", "b"))
    await ready(world)
    at["a"].send(b"hello", 10, source=ALICE)
    await expect(at["a"], b"hello", 20)
    await expect(at["b"], b"hello")
    at["b"].send(b"to alice", source=BOB, target=ALICE)
    await expect(at["a"], b"to alice", 10)
    at["a"].send(b"to bob", 20, source=ALICE, target=BOB)
    await expect(at["b"], b"to bob")
    async with asyncio.timeout(10):
        heard: tuple[int, ...] = (10,)
        while heard == (10,):  # what the switch has cached of the earlier answer is looked at anew within a moment
            at["b"].send(b"moved", source=BOB, target=ALICE)
            _, heard = await at["a"].hear()
    assert heard == (20,)


async def test_patch_carries_frames_to_what_the_other_bridge_has(
    world: World, agent: asyncio.Task[None], stations: tuple[dict[str, str], dict[str, Station]]
) -> None:
    devices, at = stations
    await world.switch.vsctl("add-br", "br-x", "--", "set", "bridge", "br-x", "datapath_type=netdev")
    await world.switch.vsctl("add-port", "br-x", devices["b"])
    await world.add_physical("a", devices["a"])
    await world.add("link", "patch", peerBridge="br-x")
    await world.add("tagged", "vlan", vlanID=10, parentInterfaceRef="link")
    await world.add_physical("c", devices["c"])
    await world.add_chain("chain", ("a", "link"), ("tagged", "c"))
    await ready(world)
    at["a"].send(b"there", source=ALICE)
    await expect(at["b"], b"there")
    at["b"].send(b"and back", source=BOB)
    await expect(at["a"], b"and back")
    at["b"].send(b"tagged", 10, source=BOB)
    await expect(at["c"], b"tagged")
    at["c"].send(b"reply", source=ALICE)
    await expect(at["b"], b"reply", 10)
