"""A namespace of the shared API server with nodes of its own, and the controller of a DPU cluster, directly or through a proxy."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.dpu.world import World
from tests.proxy import Proxy, within

from dpuchain.api.kinds import NODE, SERVICE_CHAIN, SERVICE_CHAIN_SET, SERVICE_INTERFACE, SERVICE_INTERFACE_SET
from dpuchain.api.meta import key_of
from dpuchain.dpu.process import run
from dpuchain.kube.client import Client
from dpuchain.runtime.endpoints import NOWHERE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from dpuchain.api.resource import Resource
    from dpuchain.lab.cluster import Cluster


@pytest.fixture
async def world(client: Client, namespace: str) -> AsyncIterator[World]:
    world = World(client, namespace)
    async with asyncio.TaskGroup() as group:
        watches = [group.create_task(cache.run()) for cache in world.caches]
        yield world
        for kind in (SERVICE_CHAIN_SET, SERVICE_INTERFACE_SET, SERVICE_CHAIN, SERVICE_INTERFACE):
            await asyncio.gather(*(_remove(client, kind, item) for item in (await client.list(kind, namespace=namespace)).items))
        nodes = (await client.list(NODE, label_selector=f"test={namespace}")).items
        await asyncio.gather(*(client.delete(NODE, key_of(node)) for node in nodes))
        for watch in watches:
            watch.cancel()


async def _remove(client: Client, kind: Resource[Any], item: Any) -> None:
    await client.patch(kind, key_of(item), {"metadata": {"finalizers": None}})
    if item.metadata.deletion_timestamp is None:
        await client.delete(kind, key_of(item))


@pytest.fixture
async def proxy(world: World, api_server: Cluster) -> AsyncIterator[Proxy]:
    """A proxy that shows the test's namespace and nodes alone."""
    proxy = Proxy(api_server)
    proxy.narrow = within(world.namespace)
    async with proxy.serve():
        yield proxy


@pytest.fixture
async def start(world: World, api_server: Cluster) -> AsyncIterator[Callable[..., asyncio.Task[None]]]:
    """Return `start(kubeconfig=None)`: a controller, on the API server itself if no other way is given; it ends with the test."""
    tasks: list[asyncio.Task[None]] = []
    assert world.namespace

    def begin(kubeconfig: bytes | None = None) -> asyncio.Task[None]:
        way = json.loads(kubeconfig if kubeconfig is not None else api_server.kubeconfig.read_bytes())
        tasks.append(asyncio.ensure_future(run(Client.from_kubeconfig(way, user_agent="dpu"), NOWHERE, None)))
        return tasks[-1]

    yield begin
    for task in tasks:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.fixture
def controller(start: Callable[..., asyncio.Task[None]]) -> None:
    start()


@pytest.fixture
def proxied(start: Callable[..., asyncio.Task[None]], proxy: Proxy) -> asyncio.Task[None]:
    """A controller that works through the proxy."""
    return start(proxy.kubeconfig)
