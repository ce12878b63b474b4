"""The agent's loop between a real API server and a real Open vSwitch (with dummy devices): objects in, ports, flows and status out."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from dpuchain.api.kinds import SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.api.meta import ObjectKey
from dpuchain.ovs.openflow import OpenFlow

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.agent.world import World

    from dpuchain.ovs.decode import Update


async def test_chain_of_two_devices_becomes_a_wire_and_goes_without_a_trace(world: World, agent: asyncio.Task[None]) -> None:
    await world.add_physical("p0")
    await world.add("host", "pf", pfID=0)
    await world.add_chain("chain", ("p0", "host"))
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    assert await world.passes("p0", "pf0hpf")
    assert await world.passes("pf0hpf", "p0")
    assert (await world.switch.vsctl("get", "interface", "p0", "mtu_request")).strip() == "9216"
    assert (await world.switch.vsctl("get", "interface", "p0", "external_ids:dpf-id")).strip() == f'"{world.namespace}/p0"'
    assert (await world.switch.vsctl("get", "port", "p0", "external_ids:dpf-type")).strip() == "physical"
    assert world.ready(world.interfaces, "p0") == "True"

    await world.client.delete(SERVICE_CHAIN, ObjectKey(world.namespace, "chain"))
    await world.until(lambda: len(world.chains) == 0, "gone")
    assert await world.flows() == []
    assert "p0" in await world.switch.vsctl("list-ports", "br-sfc")
    for name in ("p0", "host"):
        await world.client.delete(SERVICE_INTERFACE, ObjectKey(world.namespace, name))
    await world.until(lambda: len(world.interfaces) == 0, "gone")
    assert await world.switch.vsctl("list-ports", "br-sfc") == ""


async def test_chain_that_vanishes_and_is_made_again_at_once_loses_no_flow(world: World, agent: asyncio.Task[None]) -> None:
    """A machine that is busy may come too late with the new one, but not each time."""
    for name in ("p0", "p1"):
        await world.add_physical(name)
    await world.add_chain("chain", ("p0", "p1"), finalizers=())
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    changes: list[Update] = []
    openflow = OpenFlow(world.switch.management)
    openflow.watch(changes.extend)
    watching = asyncio.ensure_future(openflow.run())
    await openflow.synced()
    key, untouched = ObjectKey(world.namespace, "chain"), False
    for _ in range(5):
        changes.clear()
        await world.client.delete(SERVICE_CHAIN, key)
        await world.add_chain("chain", ("p0", "p1"), finalizers=())
        await world.until_quiet()
        await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
        await openflow.read_state()  # what was told before has come by then
        untouched = untouched or not changes
    assert untouched
    await world.client.delete(SERVICE_CHAIN, key)
    await world.until_flows([])
    watching.cancel()


async def test_what_comes_later_completes_the_chain(world: World, agent: asyncio.Task[None]) -> None:
    await world.add_chain("chain", ("p0", "p1"))
    await world.until(lambda: world.ready(world.chains, "chain") == "False", "refused")
    words = f"no serviceInterface in namespace({world.namespace}) matching labels(map[port:p0]) on node({world.node}) found"
    assert words in world.message(world.chains, "chain")
    await world.add_physical("p0")
    await world.add_physical("p1")
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    assert await world.passes("p0", "p1")


async def test_second_claimant_of_a_port_is_told_and_takes_over_when_the_first_goes(world: World, agent: asyncio.Task[None]) -> None:
    await world.add_physical("first", "p0")
    await world.until(lambda: world.ready(world.interfaces, "first") == "True", "ready")
    await world.add_physical("second", "p0")
    await world.until(lambda: world.ready(world.interfaces, "second") == "False", "refused")
    assert f"port p0 is owned by ServiceInterface {world.namespace}/first" in world.message(world.interfaces, "second")
    await world.add_chain("chain", ("second", "first"))
    await world.until(lambda: world.ready(world.chains, "chain") == "False", "refused")
    assert f"failed to find matching interface with external_ids: map[dpf-id:{world.namespace}/second]" in world.message(
        world.chains, "chain"
    )
    number = await world.switch.vsctl("get", "interface", "p0", "ofport")
    await world.client.delete(SERVICE_INTERFACE, ObjectKey(world.namespace, "first"))
    await world.until(lambda: world.ready(world.interfaces, "second") == "True", "taken over")
    assert await world.switch.vsctl("get", "interface", "p0", "ofport") == number


async def test_flows_are_back_after_a_restart_of_the_daemon(world: World, agent: asyncio.Task[None]) -> None:
    await world.add_physical("p0")
    await world.add_physical("p1")
    await world.add_chain("chain", ("p0", "p1"))
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    await world.switch.stop_daemon()
    await world.until(lambda: world.ready(world.chains, "chain") == "False", "known to be away")
    await world.switch.start_daemon()
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready again")
    assert await world.passes("p0", "p1")


async def test_restarted_agent_leaves_what_is_right_and_removes_what_nobody_wants(
    world: World, start_agent: Callable[[], asyncio.Task[None]]
) -> None:
    first = start_agent()
    for name in ("p0", "p1", "p2", "p3"):
        await world.add_physical(name)
    await world.add_chain("stays", ("p0", "p1"))
    await world.until(lambda: world.ready(world.chains, "stays") == "True", "ready")
    before = await world.flows()
    await world.add_chain("goes", ("p2", "p3"))
    await world.until(lambda: world.ready(world.chains, "goes") == "True", "ready")
    assert len(await world.flows()) == 4
    await world.switch.ofctl("add-flow", "cookie=0x1234,priority=7,in_port=99,actions=drop")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await world.client.delete(SERVICE_CHAIN, ObjectKey(world.namespace, "goes"))
    await world.client.delete(SERVICE_INTERFACE, ObjectKey(world.namespace, "p3"))
    start_agent()
    await world.until(lambda: len(world.chains) == 1 and len(world.interfaces) == 3, "gone")
    after = await world.flows()
    assert sorted(after) == sorted(before)
    assert len(after) == 2
    assert "p3" not in (await world.switch.vsctl("list-ports", "br-sfc")).split()
    assert "0x1234" in await world.switch.ofctl("dump-flows"), "a flow that is not ours was removed"


async def test_without_its_bridge_nothing_is_ready_and_with_it_everything(world: World, agent: asyncio.Task[None]) -> None:
    await world.switch.vsctl("del-br", "br-sfc")
    await world.add_physical("p0")
    await world.until(lambda: "bridge br-sfc does not exist" in world.message(world.interfaces, "p0"), "told")
    await world.switch.vsctl("add-br", "br-sfc", "--", "set", "bridge", "br-sfc", "datapath_type=netdev", "fail_mode=secure")
    await world.until(lambda: world.ready(world.interfaces, "p0") == "True", "ready")


async def test_object_that_changes_is_followed(world: World, agent: asyncio.Task[None]) -> None:
    for name in ("p0", "p1", "p2"):
        await world.add_physical(name)
    await world.add_chain("chain", ("p0", "p1"))
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    switches = [{"ports": [{"serviceInterface": {"matchLabels": {"port": name}}} for name in ("p0", "p2")]}]
    await world.client.patch(SERVICE_CHAIN, ObjectKey(world.namespace, "chain"), {"spec": {"switches": switches}})
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    assert await world.passes("p0", "p2")
    assert not await world.passes("p0", "p1")


async def test_restart_of_the_database_changes_no_flow(world: World, agent: asyncio.Task[None]) -> None:
    for name in ("p0", "p1"):
        await world.add_physical(name)
    await world.add_chain("chain", ("p0", "p1"))
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    right = sorted(await world.flows())
    monitor = await asyncio.create_subprocess_exec(
        *("stdbuf", "--output=L", "ovs-ofctl", "-O", "OpenFlow14", "monitor", f"unix:{world.switch.management}", "watch:"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **world.switch.environment},
    )
    assert monitor.stdout is not None
    assert monitor.stderr is not None
    await monitor.stdout.readline()  # what there is; what comes goes to the other stream
    await world.switch.restart_server()
    await world.until(lambda: world.ready(world.chains, "chain") == "False", "known to be away")
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready again")
    monitor.terminate()
    events = (await monitor.stderr.read()).decode()
    assert "event=" not in events, events
    assert sorted(await world.flows()) == right
