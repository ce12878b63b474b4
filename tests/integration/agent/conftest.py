"""An agent of a node of its own for each test, between the shared API server and a private Open vSwitch."""

from __future__ import annotations

import asyncio
import json
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.integration.agent.asker import Asker
from tests.integration.agent.stations import Station
from tests.integration.agent.world import World

from dpuchain.agent.process import Settings, run
from dpuchain.api.access import SERVICE_ACCOUNT
from dpuchain.api.kinds import NAMESPACE, SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.api.kubernetes import Metadata
from dpuchain.api.meta import ObjectMeta, key_of
from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.kube.client import APPLY_PATCH, Client
from dpuchain.kube.errors import AlreadyExists
from dpuchain.lab.ports import ReservedPort
from dpuchain.lab.process import run as command
from dpuchain.runtime.endpoints import Endpoints

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from dpuchain.lab.cluster import Cluster
    from dpuchain.lab.openvswitch import OpenVSwitch


ASKING = "deploy/charts/dpuchain-dpu/templates/asking.yaml"
PLURALS = {"ServiceAccount": "serviceaccounts", "ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings"}


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
def agents() -> list[asyncio.Task[None]]:
    """The agents that the test has started."""
    return []


@pytest.fixture
async def start_agent(
    world: World, api_server: Cluster, tmp_path: Path, agents: list[asyncio.Task[None]]
) -> AsyncIterator[Callable[..., asyncio.Task[None]]]:
    """Return `start_agent(address="", metrics="")`: an agent of the test's node on the test's switch, as a task; it ends with the test."""
    (tmp_path / "sys/class/net").mkdir(parents=True)

    def start(address: str = "", metrics: str = "") -> asyncio.Task[None]:
        switch, socket, sysfs = world.switch, tmp_path / "cni.sock", tmp_path / "sys"
        settings = Settings(
            *(world.node, "br-sfc", switch.database, switch.management, socket),
            sysfs=sysfs,
            address=address,
            endpoints=Endpoints(metrics=metrics),
        )
        task = asyncio.ensure_future(run(Client.from_kubeconfig(api_server.kubeconfig, user_agent="agent"), settings))
        agents.append(task)
        return task

    yield start
    for task in agents:
        task.cancel()
    for outcome in await asyncio.gather(*agents, return_exceptions=True):
        assert isinstance(outcome, asyncio.CancelledError), outcome


@pytest.fixture
async def rights(client: Client, pytestconfig: pytest.Config) -> None:
    """The rights as they are deployed."""
    with suppress(AlreadyExists):
        await client.create(NAMESPACE, Metadata(metadata=ObjectMeta(name=OPERATOR_NAMESPACE)))
    query = {"fieldManager": "tests", "force": "true"}
    for item in yaml.safe_load_all((pytestconfig.rootpath / ASKING).read_text()):
        root = "/api" if item["apiVersion"] == "v1" else "/apis"
        folder = f"namespaces/{OPERATOR_NAMESPACE}/" if "namespace" in item["metadata"] else ""
        path = f"{root}/{item['apiVersion']}/{folder}{PLURALS[item['kind']]}/{item['metadata']['name']}"
        await client.request("PATCH", path, body=json.dumps(item).encode(), content_type=APPLY_PATCH, query=query)
    with suppress(AlreadyExists):
        nobody = Metadata(metadata=ObjectMeta(name="nobody", namespace=OPERATOR_NAMESPACE))
        await client.create(SERVICE_ACCOUNT, nobody)


@pytest.fixture
async def asker(world: World, client: Client, rights: None, api_server: Cluster, start_agent: Callable[..., asyncio.Task[None]]) -> Asker:
    """An agent of the test's node, and who asks it."""
    with ReservedPort("127.0.0.1") as reserved:
        port = reserved.number
    start_agent(f"127.0.0.1:{port}")
    return Asker(client, port)


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
