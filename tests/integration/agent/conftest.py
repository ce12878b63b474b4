"""An agent of a node of its own for each test, between the shared API server and a private Open vSwitch."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import pytest
from tests.integration.agent.stations import Station
from tests.integration.agent.world import World

from dpuchain.agent.process import Settings, run
from dpuchain.api.kinds import SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.api.meta import key_of
from dpuchain.kube.client import Client
from dpuchain.lab.process import run as command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from dpuchain.lab.cluster import Cluster
    from dpuchain.lab.openvswitch import OpenVSwitch


@pytest.fixture
def switch(ovs: OpenVSwitch) -> OpenVSwitch:
    """The node's switch: one of dummy devices, unless a module has another."""
    return ovs


@pytest.fixture
async def world(client: Client, namespace: str, switch: OpenVSwitch) -> AsyncIterator[World]:
    world = World(client, namespace, switch)
    async with asyncio.TaskGroup() as group:
        watches = [group.create_task(cache.run()) for cache in (world.chains, world.interfaces)]
        yield world
        for kind in (SERVICE_CHAIN, SERVICE_INTERFACE):  # so that the namespace can go though no agent runs any more
            for item in (await client.list(kind, namespace=namespace)).items:
                await client.patch(kind, key_of(item), {"metadata": {"finalizers": None}})
                if item.metadata.deletion_timestamp is None:
                    await client.delete(kind, key_of(item))
        for watch in watches:
            watch.cancel()


@pytest.fixture
async def start_agent(world: World, api_server: Cluster, tmp_path: Path) -> AsyncIterator[Callable[[], asyncio.Task[None]]]:
    """Return `start_agent()`: an agent of the test's node on the test's switch, as a task; it ends with the test."""
    (tmp_path / "sys/class/net").mkdir(parents=True)
    tasks: list[asyncio.Task[None]] = []

    def start() -> asyncio.Task[None]:
        switch = world.switch
        settings = Settings(world.node, "br-sfc", switch.database, switch.management, tmp_path / "cni.sock", "", sysfs=tmp_path / "sys")
        task = asyncio.ensure_future(run(Client.from_kubeconfig(api_server.kubeconfig, user_agent="agent"), settings))
        tasks.append(task)
        return task

    yield start
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, asyncio.CancelledError), outcome


@pytest.fixture
def agent(start_agent: Callable[[], asyncio.Task[None]]) -> asyncio.Task[None]:
    return start_agent()


@pytest.fixture
async def stations() -> AsyncIterator[tuple[dict[str, str], dict[str, Station]]]:
    """Three devices by the names `a`, `b` and `c`, and the stations at their far ends."""
    label = secrets.token_hex(4)
    near = {name: f"n{label}{name}" for name in "abc"}
    far = {name: f"f{label}{name}" for name in "abc"}
    found: dict[str, Station] = {}
    try:
        for name in "abc":
            await command("ip", "link", "add", near[name], "type", "veth", "peer", far[name])
            for end in (near[name], far[name]):
                await command("ip", "link", "set", end, "addrgenmode", "none", "up")
            found[name] = Station(far[name])
        yield near, found
    finally:
        for station in found.values():
            station.close()
        for device in near.values():
            await command("ip", "link", "del", device)
