"""Flow tables of a real Open vSwitch, changed and read back over its OpenFlow socket."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.integration.doors import opened

from dpuchain.api.meta import ObjectKey
from dpuchain.flows.compile import ChainSwitches, compile_switches
from dpuchain.flows.diff import diff
from dpuchain.flows.identity import number_owners
from dpuchain.flows.model import FlowChanges, FlowState, Output, Resubmit
from dpuchain.flows.pipeline import PROBE_KIND, STATIC_KIND, cookie
from dpuchain.lab.openvswitch import OpenVSwitch
from dpuchain.ovs.decode import Update
from dpuchain.ovs.errors import Rejected, Unreachable
from dpuchain.ovs.openflow import OpenFlow

FIRST, SECOND = ObjectKey("default", "first"), ObjectKey("default", "second")


def compiled(*chains: tuple[ObjectKey, tuple[tuple[int, ...], ...]]) -> FlowState:
    return compile_switches([ChainSwitches.of_ports(owner, switches) for owner, switches in chains])


async def test_what_is_read_back_equals_what_was_sent(ovs: OpenVSwitch) -> None:
    want = compiled((FIRST, ((1, 2), (3, 4, 5))), (SECOND, ((6, 7, 8, 9), (10, 11))))
    async with opened(OpenFlow(ovs.management)) as openflow:
        assert await openflow.read_state() == FlowState()
        await openflow.apply(diff(FlowState(), want))
        assert await openflow.read_state() == want
        assert not diff(await openflow.read_state(), want)
        number = number_owners([FIRST, SECOND])[SECOND]
        assert (await openflow.read_state(owner=number)).flows < want.flows


async def test_the_largest_chain_is_installed_read_back_and_removed(ovs: OpenVSwitch) -> None:
    want = compiled((FIRST, tuple(tuple(range(1 + 50 * index, 51 + 50 * index)) for index in range(50))))
    async with opened(OpenFlow(ovs.management)) as openflow:
        await openflow.apply(diff(FlowState(), want))
        assert await openflow.read_state() == want
        await openflow.apply(diff(want, FlowState()))
        assert await openflow.read_state() == FlowState()


async def test_there_and_back_again(ovs: OpenVSwitch) -> None:
    a = compiled((FIRST, ((1, 2, 3), (4, 5))))
    b = compiled((FIRST, ((1, 2, 6), (4, 5, 3))), (SECOND, ((7, 8),)))
    async with opened(OpenFlow(ovs.management)) as openflow:
        for state in (a, b, a, FlowState(), b):
            await openflow.apply(diff(await openflow.read_state(), state))
            assert await openflow.read_state() == state


async def test_foreign_flows_are_not_seen_and_not_touched(ovs: OpenVSwitch) -> None:
    foreign = [
        "cookie=0xd9c,table=0,priority=50,in_port=1,actions=drop",
        "cookie=0xcbf29ce484222325,table=1,actions=output:3",
    ]
    for flow in foreign:
        await ovs.ofctl("add-flow", flow)
    want = compiled((FIRST, ((1, 2, 3), (4, 5))))
    async with opened(OpenFlow(ovs.management)) as openflow:
        assert await openflow.read_state() == FlowState()
        await openflow.apply(diff(FlowState(), want))
        await openflow.apply(diff(want, FlowState()))
    left = await ovs.ofctl("dump-flows", "--no-stats")
    assert {line.split(",")[0].strip() for line in left.splitlines() if "cookie" in line} == {"cookie=0xd9c", "cookie=0xcbf29ce484222325"}


async def test_changes_by_others_under_our_cookie_are_seen_and_undone(ovs: OpenVSwitch) -> None:
    want = compiled((FIRST, ((1, 2), (3, 4, 5))))
    wire = next(flow for flow in want.flows if flow.match == (("in_port", 1, None),))
    async with opened(OpenFlow(ovs.management)) as openflow:
        await openflow.apply(diff(FlowState(), want))
        changes = [
            f"cookie={wire.cookie:#x},table=0,priority=1000,in_port=1,actions=push_vlan:0x8100,set_field:4097->vlan_vid,group:7,output:2",
            f"cookie={wire.cookie:#x},table=0,priority=7,ip,nw_src=10.0.0.0/8,actions=ct(commit,table=3),goto_table:9",
            f"cookie={wire.cookie:#x},table=77,priority=7,reg3=1/3,vlan_tci=0x1000/0x1000,actions=note:01.02,learn(table=9,output:NXM_OF_IN_PORT[])",
        ]
        await ovs.ofctl("add-group", "group_id=7,type=all,bucket=output:1")
        for flow in changes:
            await ovs.ofctl("add-flow", flow)
        seen = await openflow.read_state()
        assert len(seen.flows) == len(want.flows) + 2
        assert wire not in seen.flows
        await openflow.apply(diff(seen, want))
        assert await openflow.read_state() == want


async def test_a_refused_flow_is_named_and_nothing_of_its_bundle_is_done(ovs: OpenVSwitch) -> None:
    want = compiled((FIRST, ((1, 2),)))
    bad = next(iter(want.flows))
    refused = msgspec.structs.replace(bad, table=4, actions=(Output(0xFFFFFF01), Resubmit(3)))
    async with opened(OpenFlow(ovs.management)) as openflow:
        with pytest.raises(Rejected, match=r"br-sfc.mgmt: action refused \(OpenFlow error 2/4\): Flow\(table=4") as caught:
            await openflow.apply(FlowChanges(add=(*want.flows, refused)))
        assert caught.value.code == "2/4"
        assert await openflow.read_state() == FlowState()
        await openflow.apply(FlowChanges(add=tuple(want.flows)))
        assert await openflow.read_state() == want


async def test_a_deletion_spares_a_flow_that_somebody_else_has_put_in_its_place(ovs: OpenVSwitch) -> None:
    want = compiled((FIRST, ((1, 2),)))
    async with opened(OpenFlow(ovs.management)) as openflow:
        await openflow.apply(diff(FlowState(), want))
        await ovs.ofctl("add-flow", "cookie=0x5,table=0,priority=1000,in_port=1,actions=drop")
        await openflow.apply(diff(want, FlowState()))
    assert "cookie=0x5" in await ovs.ofctl("dump-flows")


async def test_a_restarted_switch_is_found_again_with_empty_tables(ovs: OpenVSwitch, background: Any) -> None:
    want = compiled((FIRST, ((1, 2), (3, 4, 5))))
    told: list[bool] = []
    async with opened(OpenFlow(ovs.management)) as openflow:
        openflow.subscribe(lambda: told.append(openflow.connected))
        await openflow.apply(diff(FlowState(), want))
        await asyncio.to_thread(background.run, ovs.stop_daemon())
        async with asyncio.timeout(10):
            while openflow.connected:
                await openflow._changed.wait()
        with pytest.raises(Unreachable, match=r"br-sfc\.mgmt"):
            await openflow.read_state()
        with pytest.raises(Unreachable):
            await openflow.apply(diff(FlowState(), want))
        await openflow.apply(FlowChanges())
        await asyncio.to_thread(background.run, ovs.start_daemon())
        async with asyncio.timeout(10):
            await openflow.synced()
        assert await openflow.read_state() == FlowState()
        await openflow.apply(diff(FlowState(), want))
        assert await openflow.read_state() == want
        assert told == [False, True]


async def test_a_bridge_without_openflow_1_4_says_what_to_do(ovs: OpenVSwitch) -> None:
    await ovs.vsctl("set", "bridge", "br-sfc", "protocols=OpenFlow10,OpenFlow13")
    openflow = OpenFlow(ovs.management)
    task = asyncio.create_task(openflow.run())
    try:
        async with asyncio.timeout(10):
            while not isinstance(openflow.failure, Rejected):  # noqa: ASYNC110  # failed attempts are not told one by one
                await asyncio.sleep(0.01)
        assert "ovs-vsctl add bridge BRIDGE protocols OpenFlow14" in str(openflow.failure)
        await ovs.vsctl("add", "bridge", "br-sfc", "protocols", "OpenFlow14")
        async with asyncio.timeout(10):
            await openflow.synced()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_many_writers_at_once_do_not_mix_their_bundles(ovs: OpenVSwitch) -> None:
    states = [compiled((ObjectKey("default", f"chain-{index}"), ((2 * index + 1, 2 * index + 2),))) for index in range(50)]
    async with opened(OpenFlow(ovs.management)) as openflow:
        await asyncio.gather(*(openflow.apply(diff(FlowState(), state)) for state in states))
        assert (await openflow.read_state()).flows == frozenset().union(*(state.flows for state in states))


async def test_no_socket_is_unreachable_and_says_so(tmp_path: Path) -> None:
    openflow = OpenFlow(tmp_path / "br-sfc.mgmt")
    task = asyncio.create_task(openflow.run())
    await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    assert not openflow.connected
    assert "the bridge does not exist" in str(openflow.failure)
    with pytest.raises(Unreachable, match="the bridge does not exist"):
        await openflow.read_state()
    task.cancel()
    await asyncio.wait([task])


async def test_changes_of_others_are_told_and_our_own_are_not(ovs: OpenVSwitch) -> None:
    want = compiled((FIRST, ((1, 2), (3, 4, 5))))
    told: list[Update] = []
    changed = asyncio.Event()

    def note(updates: list[Update]) -> None:
        told.extend(updates)
        changed.set()

    async def next_update() -> list[Update]:
        async with asyncio.timeout(10):
            await changed.wait()
        changed.clear()
        return [told.pop() for _ in range(len(told))]

    async with opened(OpenFlow(ovs.management)) as openflow:
        openflow.watch(note)
        await openflow.apply(diff(FlowState(), want))
        await openflow.apply(diff(want, compiled((FIRST, ((1, 2),)))))
        await ovs.ofctl("add-flow", "cookie=0x77,table=0,priority=9,in_port=9,actions=drop")
        assert await next_update() == [Update("added", 0, 9, 0x77)], "our own changes were told, or another's was not"
        await ovs.ofctl("mod-flows", "cookie=0x77/-1,actions=output:1")
        assert [update.event for update in await next_update()] == ["modified"]
        await ovs.ofctl("del-flows", "cookie=0x77/-1")
        assert [update.event for update in await next_update()] == ["removed"]
        await ovs.ofctl("add-flow", f"cookie={cookie(PROBE_KIND, 0, 9)},table=0,priority=4000,in_port=9,actions=controller")
        await ovs.ofctl("add-flow", "cookie=0x77,table=9,priority=9,actions=drop")
        await ovs.ofctl("add-flow", f"cookie={cookie(STATIC_KIND, 1)},table=9,priority=8,actions=drop")
        assert await next_update() == [Update("added", 9, 8, cookie(STATIC_KIND, 1))], (
            "another's flow in another's table was told, or a probe's"
        )
