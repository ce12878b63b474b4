"""`simulate` and a real Open vSwitch agree, frame by frame, on random topologies: on the ports, and on what was learned."""

from __future__ import annotations

import asyncio
import random

import pytest

from dpuchain.api.meta import ObjectKey
from dpuchain.chain.ports import SwitchPort
from dpuchain.flows.compile import ChainSwitches, compile_switches
from dpuchain.flows.diff import diff
from dpuchain.flows.model import VLAN_PRESENT, FlowState
from dpuchain.flows.packets import Packet
from dpuchain.flows.pipeline import LEARNED_SECONDS
from dpuchain.flows.simulate import Frame, Sent, simulate
from dpuchain.lab.openvswitch import OpenVSwitch
from dpuchain.ovs.openflow import OpenFlow
from dpuchain.ovs.tracing import trace
from dpuchain.ovs.unixctl import call

PORTS = 12
STATIONS = (0x020000000001, 0x020000000002, 0x020000000003, 0x030000000001, 0x0180C200000E, 0xFFFFFFFFFFFF)
TAGS = (0, 0, *(VLAN_PRESENT | number for number in (0, 10, 10, 20, 4094, 4095)))

BODY = bytes.fromhex("000a0800")
"""Whatever the frame carries: where there is a second tag, that of VLAN 10 on IPv4."""
KINDS = (0x88B5, 0x88B5, 0x8100, 0x88A8)


def random_frame(chance: random.Random) -> Frame:
    """A frame of one tag, or none, or two; Open vSwitch looks at one and takes the other for what the frame carries."""
    tag = chance.choice(TAGS)
    return Frame(chance.choice(STATIONS), chance.choice(STATIONS), tag, chance.choice(KINDS) if tag else KINDS[0])


def on_the_wire(frame: Frame) -> str:
    tags = (frame.vlan_vid,) if frame.vlan_vid else ()
    return Packet(frame.eth_dst, frame.eth_src, frame.eth_type, BODY, tags).content.hex()


def random_world(chance: random.Random) -> FlowState:
    """Chains on ports, and on VLANs of some of them; what is left over is in no chain, or on a VLAN in none."""
    places = [SwitchPort(number) for number in range(1, PORTS + 1)]
    places += [SwitchPort(chance.randint(1, PORTS // 2), vlan) for vlan in (10, 20, 10, 20, 4094) if chance.random() < 0.8]
    places = list(dict.fromkeys(places))
    reserved = [place for place in places if place.vlan is not None]
    chance.shuffle(places)
    chains: list[ChainSwitches] = []
    while len(places) > 1:
        sizes = [chance.randint(1, 5) for _ in range(chance.randint(1, 2))]
        switches = tuple(tuple(places.pop() for _ in range(min(size, len(places)))) for size in sizes)
        chains.append(ChainSwitches(ObjectKey("default", f"chain-{len(chains)}"), switches))
    return compile_switches(chains, reserved)


class Bench:
    """A switch with its ports, asked the same questions as the simulation."""

    def __init__(self, ovs: OpenVSwitch, openflow: OpenFlow) -> None:
        self.ovs = ovs
        self.openflow = openflow

    async def add_ports(self) -> None:
        for number in range(1, PORTS + 1):
            name = f"d{number}"
            await self.ovs.vsctl("add-port", "br-sfc", name, "--", "set", "interface", name, f"ofport_request={number}")

    async def trace(self, frame: Frame, port: int) -> set[Sent]:
        tags = (frame.vlan_vid,) if frame.vlan_vid else ()
        packet = Packet(frame.eth_dst, frame.eth_src, frame.eth_type, BODY, tags)
        answer = await trace(self.ovs.directory, "br-sfc", port, packet)
        return {Sent(int(left.port.removeprefix("d")), left.tags) for left in answer.departures}

    async def receive(self, frame: Frame, port: int, expected: FlowState) -> None:
        """Let a frame come in, and wait for the switch to have learned what the simulation has."""
        # A frame that meets a cached datapath flow is learned from when the cache's counters are next collected, for the frame that made
        # the cache entry, and possibly after a later frame. Here each frame shall be looked at by itself.
        await call(self.ovs.control, "revalidator/purge")
        await call(self.ovs.control, "netdev-dummy/receive", f"d{port}", on_the_wire(frame))
        async with asyncio.timeout(10):
            while (state := await self.openflow.read_state()) != expected:
                assert state.flows == expected.flows
                await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(8))
async def test_simulation_and_switch_agree(ovs: OpenVSwitch, seed: int) -> None:
    chance = random.Random(seed)
    openflow = OpenFlow(ovs.management)
    task = asyncio.create_task(openflow.run())
    try:
        await openflow.synced()
        bench = Bench(ovs, openflow)
        await bench.add_ports()
        for _ in range(4):
            state = await openflow.read_state()
            await openflow.apply(diff(state, random_world(chance)))
            state = await openflow.read_state()
            for _ in range(25):
                frame = random_frame(chance)
                port = chance.randint(1, PORTS)
                after = simulate(state, frame, port)
                assert await bench.trace(frame, port) == after.sent
                state = after.state
                await bench.receive(frame, port, state)
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_station_is_forgotten_some_time_after_it_fell_silent_but_not_while_it_speaks(ovs: OpenVSwitch) -> None:
    silent, speaking, everyone = 0x020000000001, 0x020000000002, 0xFFFFFFFFFFFF
    openflow = OpenFlow(ovs.management)
    task = asyncio.create_task(openflow.run())
    try:
        await openflow.synced()
        bench = Bench(ovs, openflow)
        await bench.add_ports()
        state = compile_switches([ChainSwitches.of_ports(ObjectKey("default", "chain"), ((1, 2, 3),))])
        await openflow.apply(diff(FlowState(), state))
        for frame, port in ((Frame(everyone, silent), 1), (Frame(everyone, speaking), 2)):
            state = simulate(state, frame, port).state
            await bench.receive(frame, port, state)
        await call(ovs.control, "time/stop")
        for _ in range(2):
            # Towards the silent station there is traffic all the time; that must not keep it alive.
            await call(ovs.control, "netdev-dummy/receive", "d2", on_the_wire(Frame(silent, speaking)))
            await call(ovs.control, "time/warp", str(LEARNED_SECONDS * 600), "1000")
        async with asyncio.timeout(20):
            while len((state := await openflow.read_state()).learned) != 1:
                await call(ovs.control, "time/warp", "1000")
        assert simulate(state, Frame(speaking, silent), 3).ports == {2}
        assert simulate(state, Frame(silent, speaking), 3).ports == {1, 2}
    finally:
        task.cancel()
        await asyncio.wait([task])
