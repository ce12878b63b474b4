"""Secure mode: flows go when the API server has been away for the time that is set, or the agent has died, and come back on contact."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from typing import TYPE_CHECKING

import pytest
from tests.integration.agent.stations import crossing
from tests.integration.agent.test_guarding import counted

from dpuchain.agent.process import Settings, run
from dpuchain.api.fleet import AgentSettings, AgentSettingsData
from dpuchain.api.kinds import AGENT_SETTINGS, NAMESPACE, SERVICE_CHAIN
from dpuchain.api.kubernetes import Metadata
from dpuchain.api.meta import ObjectKey, ObjectMeta
from dpuchain.api.names import AGENT_SETTINGS_NAME, OPERATOR_NAMESPACE
from dpuchain.flows.identity import number_owners
from dpuchain.flows.pipeline import COOKIE
from dpuchain.kube.client import Client
from dpuchain.kube.errors import AlreadyExists, NotFound
from dpuchain.lab.process import Command, Process
from dpuchain.ovs.decode import Update
from dpuchain.ovs.openflow import OpenFlow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.integration.agent.stations import Station
    from tests.integration.agent.world import World
    from tests.integration.relay import Relay

    from dpuchain.lab.cluster import Cluster
    from dpuchain.lab.openvswitch import OpenVSwitch

TIMEOUT = 2.0
KEY = ObjectKey(OPERATOR_NAMESPACE, AGENT_SETTINGS_NAME)


@pytest.fixture
async def secure(client: Client) -> AsyncIterator[Callable[[float | None], Awaitable[None]]]:
    """Return `secure(seconds)`: have the agents of the cluster told so; None tells them nothing."""

    async def tell(seconds: float | None) -> None:
        if seconds is None:
            with contextlib.suppress(NotFound):
                await client.delete(AGENT_SETTINGS, KEY)
            return
        data = AgentSettingsData(secure_flow_deletion_milliseconds=str(round(1000 * seconds)))
        metadata = ObjectMeta(name=KEY.name, namespace=KEY.namespace)
        await client.apply(AGENT_SETTINGS, AgentSettings(metadata=metadata, data=data), field_owner="test")

    with contextlib.suppress(AlreadyExists):
        await client.create(NAMESPACE, Metadata(metadata=ObjectMeta(name=OPERATOR_NAMESPACE)))
    yield tell
    await tell(None)


@pytest.fixture
async def relayed_agent(world: World, api_server: Cluster, relay: Relay, tmp_path: Path) -> AsyncIterator[None]:
    """An agent that reaches the API server through the relay."""
    (tmp_path / "sys/class/net").mkdir(parents=True)
    switch = world.switch
    settings = Settings(world.node, "br-sfc", switch.database, switch.management, tmp_path / "cni.sock", sysfs=tmp_path / "sys")
    task = asyncio.ensure_future(run(Client.from_kubeconfig(relay.kubeconfig(api_server), user_agent="agent"), settings))
    yield
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled(), task.exception()


@pytest.fixture
async def process(world: World, api_server: Cluster, relay: Relay, tmp_path: Path) -> AsyncIterator[Process]:
    """An agent as a process of its own, through the relay."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(relay.kubeconfig(api_server)))
    places = {
        "node": world.node,
        "ovsdb": world.switch.database,
        "openflow": world.switch.management,
        "cni-socket": tmp_path / "cni.sock",
        "kubeconfig": kubeconfig,
    }
    options = [f"--{name}={place}" for name, place in places.items()]
    process = Process.start(Command("agent", [sys.executable, "-m", "dpuchain", "agent", *options]), tmp_path / "agent.log")
    yield process
    await process.stop()


async def everything(world: World) -> list[str]:
    """All flows of ours, what switches learned among them."""
    return [line for line in (await world.switch.ofctl("dump-flows", "--no-stats")).splitlines() if "cookie=0xd9c" in line]


async def until_empty(world: World) -> None:
    async def so() -> bool:
        return not await everything(world)

    await world.until_so(so, "empty", 30)


async def prepare(world: World) -> list[str]:
    """A wire of p0 and p1 and a switch of p2, p3 and p4, Ready; returns their flows."""
    for number in range(5):
        await world.add_physical(f"p{number}")
    await world.add_chain("chain", ("p0", "p1"), ("p2", "p3", "p4"))
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    return sorted(await world.flows())


async def until_leased(world: World) -> list[str]:
    """Wait until every flow is to end; returns them."""

    async def so() -> bool:
        return all("hard_timeout" in flow for flow in await world.flows())

    await world.until_so(so, "leased")
    return sorted(await world.flows())


async def learn(world: World) -> None:
    """Have the larger switch learn a station."""
    await world.switch.appctl("netdev-dummy/receive", "p2", "ff" * 6 + "02000000000a" + "88b5" + "00" * 46)

    async def so() -> bool:
        return len(await everything(world)) > len(await world.flows())

    await world.until_so(so, "learned")


@pytest.mark.usefixtures("relayed_agent")
@pytest.mark.parametrize("away", ["refuse", "stall"])
async def test_flows_go_when_the_api_server_has_been_away_for_so_long_and_come_back_with_it(
    world: World, relay: Relay, secure: Callable[[float | None], Awaitable[None]], away: str
) -> None:
    permanent = await prepare(world)
    await secure(TIMEOUT)
    leased = await until_leased(world)
    await learn(world)
    await world.switch.ofctl("add-flow", "cookie=0x77,table=0,priority=5,actions=drop")
    began = time.monotonic()
    getattr(relay, away)()
    await until_empty(world)
    assert time.monotonic() - began > TIMEOUT * 7 / 8 - 0.2, "the last contact is an eighth of the time old at most"
    assert "cookie=0x77" in await world.switch.ofctl("dump-flows")
    assert len(await world.numbers()) == 5, "ports stay"
    relay.drop()
    relay.resume()
    await world.until_flows(leased)
    await world.until_quiet()
    assert world.ready(world.chains, "chain") == "True"
    await secure(None)
    await world.until_flows(permanent)


@pytest.mark.usefixtures("relayed_agent")
async def test_silence_is_no_loss_and_flows_live_on(world: World, secure: Callable[[float | None], Awaitable[None]]) -> None:
    await secure(1.0)
    await prepare(world)
    leased = await until_leased(world)
    changes: list[Update] = []
    async with observer(world) as openflow:
        openflow.watch(changes.extend)
        await asyncio.sleep(5)
    assert {change.event for change in changes} <= {"modified"}, "a flow ended"
    assert sorted(await world.flows()) == leased
    assert world.ready(world.chains, "chain") == "True"


@contextlib.asynccontextmanager
async def observer(world: World) -> AsyncIterator[OpenFlow]:
    """Another connection to the switch, which is told of what the agent changes."""
    openflow = OpenFlow(world.switch.management)
    task = asyncio.ensure_future(openflow.run())
    try:
        await openflow.synced()
        yield openflow
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.usefixtures("relayed_agent")
@pytest.mark.parametrize("away", ["refuse", "stall"])
async def test_what_was_deleted_meanwhile_does_not_come_back_for_a_moment(
    world: World, relay: Relay, secure: Callable[[float | None], Awaitable[None]], away: str
) -> None:
    """Though a watch may be slower to come back than the answer that says that the API server lives."""
    await secure(TIMEOUT)
    await prepare(world)
    for name in ("q0", "q1"):
        await world.add_physical(name)
    await world.add_chain("stays", ("q0", "q1"))
    await world.until(lambda: world.ready(world.chains, "stays") == "True", "ready")
    await until_leased(world)
    getattr(relay, away)()
    await until_empty(world)
    await asyncio.sleep(3)  # so that the next attempt of a watch is not near
    await world.client.patch(SERVICE_CHAIN, ObjectKey(world.namespace, "chain"), {"metadata": {"finalizers": None}})
    await world.client.delete(SERVICE_CHAIN, ObjectKey(world.namespace, "chain"))
    numbers = number_owners([ObjectKey(world.namespace, name) for name in ("chain", "stays")])
    added: set[int] = set()
    async with observer(world) as openflow:
        openflow.watch(lambda updates: added.update(COOKIE["owner"].read(update.cookie) for update in updates if update.event == "added"))
        relay.resume()  # and what had been kept back comes, as over a connection that TCP has kept alive

        async def back() -> bool:
            return len(await world.flows()) == 2

        await world.until_so(back, "back")
        await world.until_quiet()
    assert added == {numbers[ObjectKey(world.namespace, "stays")]}


async def test_flows_go_though_the_agent_is_killed(
    world: World, process: Process, secure: Callable[[float | None], Awaitable[None]]
) -> None:
    await secure(1.0)
    await prepare(world)
    leased = await until_leased(world)
    await learn(world)
    await asyncio.sleep(3)
    assert sorted(await world.flows()) == leased, "a living agent's flows ended"
    os.kill(process.pid, 9)
    await process.ended()

    async def cut_off() -> bool:
        return not any("table=" not in flow or "table=0," in flow for flow in await everything(world))

    await world.until_so(cut_off, "without a flow that brings frames in", 5)
    await until_empty(world)
    process.start_again()
    await world.until_flows(leased)


async def test_agent_that_starts_without_the_api_server_does_not_keep_flows(
    world: World, process: Process, relay: Relay, secure: Callable[[float | None], Awaitable[None]]
) -> None:
    await secure(1.0)
    await prepare(world)
    await until_leased(world)
    relay.refuse()
    os.kill(process.pid, 9)
    await process.ended()
    process.start_again()
    await until_empty(world)


@pytest.mark.usefixtures("relayed_agent")
async def test_flows_go_though_the_database_was_away_too(
    world: World, relay: Relay, secure: Callable[[float | None], Awaitable[None]]
) -> None:
    """As long as ovsdb-server is away, ovs-vswitchd 3.1 takes no change of a flow, and ends none: it does when that is back."""
    await secure(TIMEOUT)
    await prepare(world)
    leased = await until_leased(world)
    assert world.switch._server is not None
    await world.switch._server.stop()
    relay.refuse()
    await asyncio.sleep(2 * TIMEOUT)
    world.switch._server.start_again()
    await until_empty(world)
    relay.resume()
    await world.until_flows(leased)
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")


@pytest.mark.usefixtures("relayed_agent")
async def test_foreign_changes_are_undone_in_secure_mode_too_and_renewals_are_none(
    world: World, secure: Callable[[float | None], Awaitable[None]]
) -> None:
    await secure(TIMEOUT)
    await prepare(world)
    leased = await until_leased(world)
    before = counted()
    await asyncio.sleep(TIMEOUT)
    assert counted() == before
    await world.switch.ofctl("del-flows", "table=0,in_port=p0")
    await world.until_flows(leased)
    await world.until_quiet()
    assert counted()["flow-deleted"] == before["flow-deleted"] + 1


class TestFrames:
    """On devices of the kernel."""

    @pytest.fixture
    def switch(self, make_ovs: Callable[..., OpenVSwitch]) -> OpenVSwitch:
        return make_ovs(dummy=False)

    @pytest.mark.usefixtures("relayed_agent")
    async def test_renewals_and_changes_of_mode_cost_no_frame(
        self,
        world: World,
        stations: tuple[dict[str, str], dict[str, Station]],
        secure: Callable[[float | None], Awaitable[None]],
    ) -> None:
        devices, at = stations
        for name in "abc":
            await world.add_physical(name, devices[name])
        await world.add_chain("chain", ("a", "b", "c"))
        await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
        permanent = sorted(await world.flows())
        async with crossing(at["a"], at["b"]) as crossed:
            for seconds in (1.0, 3.0):
                await secure(seconds)
                await until_leased(world)
                await asyncio.sleep(2)
                await crossed.further(200)
                await secure(None)
                await world.until_flows(permanent)
                await crossed.further(200)
        assert not crossed.lost
        assert set(crossed.heard.values()) == {1}
