"""Ready is evidence: it turns with a link, an error of a port or a missing flow, and turns back with them, of what they concern alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from dpuchain.lab.process import run as command

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.agent.stations import Station
    from tests.integration.agent.world import World

    from dpuchain.kube.cache import Change
    from dpuchain.lab.openvswitch import OpenVSwitch


@pytest.fixture
def switch(make_ovs: Callable[..., OpenVSwitch]) -> OpenVSwitch:
    return make_ovs(dummy=False)


@pytest.fixture
async def devices(world: World, agent: asyncio.Task[None], stations: tuple[dict[str, str], dict[str, Station]]) -> dict[str, str]:
    """A chain of `a` and `b`, and one of VLANs 10 and 20 of `c`, all of them Ready; returns the devices' names."""
    devices, _ = stations
    for name in "abc":
        await world.add_physical(name, devices[name])
    for number in (10, 20):
        await world.add(f"vlan{number}", "vlan", vlanID=number, parentInterfaceRef="c")
    await world.add_chain("wire", ("a", "b"))
    await world.add_chain("other", ("vlan10", "vlan20"))
    await until(world, "True", "wire", "other", "a", "b", "c", "vlan10", "vlan20")
    return devices


def ready(world: World, name: str) -> str | None:
    return world.ready(world.chains, name) or world.ready(world.interfaces, name)


async def until(world: World, status: str, *names: str) -> None:
    await world.until(lambda: all(ready(world, name) == status for name in names), f"{status}: {', '.join(names)}")


async def untouched(world: World, *names: str) -> None:
    """These stayed Ready, though everything that was told has been looked at."""
    await world.until_quiet()
    assert {ready(world, name) for name in names} == {"True"}


async def test_link(world: World, devices: dict[str, str]) -> None:
    await command("ip", "link", "set", devices["a"].replace("n", "f", 1), "down")
    await until(world, "False", "wire", "a")
    assert f"interface {devices['a']}: link is down" in world.message(world.chains, "wire")
    assert f"interface {devices['a']}: link is down" in world.message(world.interfaces, "a")
    await untouched(world, "b", "c", "other", "vlan10")
    await command("ip", "link", "set", devices["a"].replace("n", "f", 1), "up")
    await until(world, "True", "wire", "a")


async def test_link_of_a_parent_is_its_vlans(world: World, devices: dict[str, str]) -> None:
    await command("ip", "link", "set", devices["c"].replace("n", "f", 1), "down")
    await until(world, "False", "other", "c", "vlan10", "vlan20")
    await untouched(world, "wire", "a", "b")
    await command("ip", "link", "set", devices["c"].replace("n", "f", 1), "up")
    await until(world, "True", "other", "c", "vlan10", "vlan20")


async def test_error_of_a_port(world: World, devices: dict[str, str]) -> None:
    await world.switch.vsctl("--no-wait", "set", "interface", devices["b"], "type=nonsense")
    await until(world, "False", "wire", "b")
    assert "could not open network device" in world.message(world.interfaces, "b")
    await untouched(world, "a", "c", "other")
    await world.switch.vsctl("set", "interface", devices["b"], "type=system")
    await until(world, "True", "wire", "b")
    assert await world.passes(devices["a"], devices["b"])


async def test_flow_that_cannot_be_put_back(world: World, devices: dict[str, str]) -> None:
    """The switch is told to take no more flows than it has."""
    right = sorted(await world.flows())
    limit = sum("table=" not in flow or "table=0," in flow for flow in right) - 1
    table = ("--", "--id=@t", "create", "Flow_Table", f"flow_limit={limit}")
    await world.switch.vsctl("set", "bridge", "br-sfc", "flow_tables:0=@t", *table)
    number = (await world.numbers())[devices["a"]]
    await world.switch.ofctl("del-flows", "--strict", f"table=0,priority=1000,in_port={number}")
    await until(world, "False", "wire")
    message = world.message(world.chains, "wire")
    assert "1 of its flows are not on the switch and 0 are there that should not be (br-sfc.mgmt: flow refused" in message
    await untouched(world, "a", "b", "other", "vlan10")
    await world.switch.vsctl("clear", "bridge", "br-sfc", "flow_tables")
    await until(world, "True", "wire")
    await world.until_flows(right)


async def test_flow_of_a_vlan_that_cannot_be_put_back(world: World, devices: dict[str, str]) -> None:
    right = sorted(await world.flows())
    limit = sum("table=" not in flow or "table=0," in flow for flow in right) - 1
    table = ("--", "--id=@t", "create", "Flow_Table", f"flow_limit={limit}")
    await world.switch.vsctl("set", "bridge", "br-sfc", "flow_tables:0=@t", *table)
    await world.switch.ofctl("del-flows", "--strict", f"table=0,priority=3000,in_port={(await world.numbers())[devices['c']]},dl_vlan=10")
    await until(world, "False", "other", "vlan10", "vlan20")
    await untouched(world, "c", "wire")
    await world.switch.vsctl("clear", "bridge", "br-sfc", "flow_tables")
    await until(world, "True", "other", "vlan10", "vlan20")


async def test_what_is_new_is_told_of_once_whether_it_works_or_not(world: World, devices: dict[str, str]) -> None:
    said: dict[str, list[str | None]] = {}

    def note(change: Change[Any]) -> None:
        if change.new is not None and change.new.status.conditions:
            said.setdefault(change.key.name, []).append(ready(world, change.key.name))

    world.chains.subscribe(note)
    world.interfaces.subscribe(note)
    said.clear()
    await world.add_chain("early", ("vlan30", "vlan31"))
    for number in (30, 31):
        await world.add(f"vlan{number}", "vlan", vlanID=number, parentInterfaceRef="c")
    await world.add_chain("waiting", ("nobody", "none"))
    await until(world, "True", "early", "vlan30", "vlan31")
    await until(world, "False", "waiting")
    assert said == {"early": ["True"], "vlan30": ["True"], "vlan31": ["True"], "waiting": ["False"]}
