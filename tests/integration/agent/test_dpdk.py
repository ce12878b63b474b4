"""An Open vSwitch with DPDK, as on a DPU: its forwarding has threads of its own. The devices are packet sockets of the kernel's."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest
from tests.integration.agent.world import add_device

from dpuchain.lab.process import run as command
from dpuchain.lab.traffic import End, Stream

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.integration.agent.world import World

    from dpuchain.lab.openvswitch import OpenVSwitch

ATTEMPTS = 3


@pytest.fixture
def switch(make_ovs: Callable[..., OpenVSwitch]) -> OpenVSwitch:
    return make_ovs(dummy=False, dpdk=True)


@pytest.fixture
async def ends(agent: asyncio.Task[None], tmp_path: Path) -> AsyncIterator[dict[str, End]]:
    """The representors of two functions, VF 0 and VF 1, each with its other end in a namespace of its own."""
    label = secrets.token_hex(4)
    found = {f"n{label}{name}": End(f"dpdk-{label}{name}", f"f{label}{name}") for name in "ab"}
    try:
        for number, (device, end) in enumerate(found.items()):
            add_device(tmp_path / "sys", device, f"c1pf0vf{number}")
            await command("ip", "netns", "add", end.namespace)
            await command("ip", "link", "add", device, "type", "veth", "peer", end.interface, "netns", end.namespace)
            await command("ip", "link", "set", device, "addrgenmode", "none", "up")
            await command("ip", "-netns", end.namespace, "link", "set", end.interface, "addrgenmode", "none", "up")
        yield found
    finally:
        for end in found.values():
            await command("ip", "netns", "del", end.namespace)


async def test_ports_of_dpdk_work_once_open_vswitch_knows_their_devices(world: World, ends: dict[str, End]) -> None:
    """Where the name of a port does not tell DPDK which device it is, as on a BlueField it does, that is said, and left to who knows."""
    await wire(world, ends)
    for device in ends:
        assert (await world.switch.vsctl("get", "interface", device, "type")).strip() == "dpdk"
        assert f"iface={device}" in await world.switch.vsctl("get", "interface", device, "options:dpdk-devargs")


async def test_killed_database_stops_no_frame(world: World, ends: dict[str, End]) -> None:
    await wire(world, ends)
    first, second = ends.values()
    right = sorted(await world.flows())
    outcomes = []
    for _ in range(ATTEMPTS):  # a busy machine may lose a frame by itself; what is lost because of the database is lost each time
        with Stream(first, second) as stream:
            await world.switch.restart_server()
            await world.until(lambda: world.ready(world.chains, "chain") == "False", "known to be away")
            await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready again")
        outcomes.append(stream.outcome)
        assert stream.outcome is not None
        assert stream.outcome.sent > 1000
        if stream.outcome.lost == 0:
            break
    else:
        pytest.fail(f"frames are lost each time: {outcomes}")
    assert sorted(await world.flows()) == right


async def wire(world: World, ends: dict[str, End]) -> None:
    """Make a chain of the two devices, each of which is a port of type dpdk."""
    for number, (name, device) in enumerate(zip("ab", ends, strict=True)):
        await world.add(name, "vf", pfID=0, vfID=number)
        await world.until(lambda name=name: "missing 'options:dpdk-devargs'" in world.message(world.interfaces, name), "told")  # type: ignore[misc]
        await world.switch.vsctl("set", "interface", device, f"options:dpdk-devargs=net_af_packet{number},iface={device}")
        await world.until(lambda name=name: world.ready(world.interfaces, name) == "True", "ready")  # type: ignore[misc]
    await world.add_chain("chain", ("a", "b"))
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
