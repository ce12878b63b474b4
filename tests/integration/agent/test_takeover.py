"""An agent of another round takes over a switch that forwards: what its predecessor left is exchanged at once, and nothing beside it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.integration.agent.stations import crossing

from dpuchain.api.meta import ObjectKey
from dpuchain.flows.diff import diff
from dpuchain.flows.model import Action, Flow, FlowState, Learn, Resubmit
from dpuchain.flows.pipeline import COOKIE, ROUND
from dpuchain.flows.predecessor import cookie_of
from dpuchain.ovs.openflow import OpenFlow

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.agent.stations import Station
    from tests.integration.agent.world import World

    from dpuchain.lab.openvswitch import OpenVSwitch

SHIFT = 20


@pytest.fixture
def switch(make_ovs: Callable[..., OpenVSwitch]) -> OpenVSwitch:
    return make_ovs(dummy=False)


def of_round(flow: Flow, number: int) -> Flow:
    """What another round had in this one's place: the same, but with its tables elsewhere."""

    def cookie(value: int) -> int:
        return value & ~COOKIE["round"].mask | COOKIE["round"].place(number)

    def place(table: int) -> int:
        return table + SHIFT if table else 0

    actions: list[Action] = []
    for action in flow.actions:
        if isinstance(action, Resubmit):
            actions.append(Resubmit(place(action.table)))
        elif isinstance(action, Learn):
            actions.append(msgspec.structs.replace(action, table=place(action.table), cookie=cookie(action.cookie)))
        else:
            actions.append(action)
    return msgspec.structs.replace(flow, table=place(flow.table), actions=tuple(actions), cookie=cookie(flow.cookie))


async def become(world: World, number: int) -> list[str]:
    """Have the switch as an agent of another round left it; returns the flows that it had before."""
    before = sorted(await world.flows())
    openflow = OpenFlow(world.switch.management)
    task = asyncio.create_task(openflow.run())
    try:
        await openflow.synced()
        state = await openflow.read_state()
        other = FlowState(frozenset(of_round(flow, number) for flow in state.flows))
        await openflow.apply(diff(state, FlowState()))
        await openflow.apply(diff(FlowState(), other))
    finally:
        task.cancel()
        await asyncio.wait([task])
    for table in ("port", "interface"):
        for name in (await world.switch.vsctl("list-ports", "br-sfc")).split():
            await world.switch.vsctl("remove", table, name, "external_ids", "dpuchain-round")
    return before


@pytest.mark.parametrize("number", [ROUND - 1, ROUND + 1])
async def test_flows_of_another_round_are_exchanged_without_a_frame_lost_and_ports_keep_their_numbers(
    world: World,
    start_agent: Callable[[], asyncio.Task[None]],
    stations: tuple[dict[str, str], dict[str, Station]],
    number: int,
) -> None:
    devices, at = stations
    agent = start_agent()
    for name in "abc":
        await world.add_physical(name, devices[name])
    await world.add_chain("chain", ("a", "b", "c"))
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    agent.cancel()
    await asyncio.wait([agent])
    right = await become(world, number)
    await world.switch.ofctl("add-flow", "cookie=0x77,table=0,priority=5,actions=drop")
    numbers = await world.numbers()
    async with crossing(at["a"], at["b"]) as crossed:
        at["b"].send(b"here I am", source=b"\x02\0\0\0\0\x0b")
        await crossed.further(200)
        start_agent()
        await world.until_flows(right)
        await crossed.further(200)
    assert not crossed.lost
    assert set(crossed.heard.values()) == {1}
    assert await world.numbers() == numbers
    assert "cookie=0x77" in await world.switch.ofctl("dump-flows")

    async def marked() -> bool:
        return (await world.switch.vsctl("get", "port", devices["a"], "external_ids:dpuchain-round")).strip() == '"1"'

    await world.until_so(marked, "marked with the round of its flows")


async def become_dpfs(world: World, chain: str, *switches: tuple[str, ...]) -> list[str]:
    """Have the switch as DPF's controller programs it; returns the flows that it had before."""
    before = sorted(await world.flows())
    await become(world, ROUND)
    await world.switch.ofctl("del-flows", "cookie=0xd9c0000000000000/0xfff0000000000000")
    numbers = await world.numbers()
    cookie = f"cookie={cookie_of(ObjectKey(world.namespace, chain)):#x}"
    group = "01:00:00:00:00:00/01:00:00:00:00:00"
    for switch in switches:
        for device in switch:
            port, peers = numbers[device], [numbers[other] for other in switch if other != device]
            everywhere = ",".join(f"output:{peer}" for peer in peers)
            learnt = [
                f"learn({cookie},idle_timeout=10,table=1,priority=1,in_port={peer},NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])"
                for peer in peers
            ]
            for flow in (
                f"table=0,priority=0,in_port={port},actions={','.join(learnt)},resubmit(,1)",
                f"table=1,priority=2,in_port={port},dl_dst={group},actions={everywhere}",
                f"table=1,priority=0,in_port={port},actions={everywhere}",
            ):
                await world.switch.ofctl("add-flow", f"{cookie},{flow}")
    return before


@pytest.mark.parametrize("ports", ["ab", "abc"])
async def test_flows_of_dpf_are_exchanged_without_a_frame_lost_or_doubled(
    world: World,
    start_agent: Callable[[], asyncio.Task[None]],
    stations: tuple[dict[str, str], dict[str, Station]],
    ports: str,
) -> None:
    devices, at = stations
    agent = start_agent()
    for name in ports:
        await world.add_physical(name, devices[name])
    await world.add_chain("chain", tuple(ports))
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    agent.cancel()
    await asyncio.wait([agent])
    right = await become_dpfs(world, "chain", tuple(devices[name] for name in ports))
    elsewhere = cookie_of(ObjectKey(world.namespace, "another"))
    for cookie in (0x77, elsewhere):
        await world.switch.ofctl("add-flow", f"cookie={cookie:#x},table=200,priority={cookie & 0xFF},actions=drop")
    numbers = await world.numbers()
    async with crossing(at["a"], at["b"]) as crossed:
        at["b"].send(b"here I am", source=b"\x02\0\0\0\0\x0b")
        await crossed.further(200)
        start_agent()
        await world.until_flows(right)
        await crossed.further(200)

        async def exchanged() -> bool:
            return f"{cookie_of(ObjectKey(world.namespace, 'chain')):#x}" not in await world.switch.ofctl("dump-flows")

        await world.until_so(exchanged, "without DPF's flows")
    assert not crossed.lost
    assert set(crossed.heard.values()) == {1}
    assert await world.numbers() == numbers
    left = await world.switch.ofctl("dump-flows")
    assert "cookie=0x77" in left
    assert f"cookie={elsewhere:#x}" in left
