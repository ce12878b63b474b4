"""What nodes of others have costs an agent nothing: not a byte of it comes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from bench.fleet.switch import BRIDGE, FixedDevices, MemoryDatabase, MemoryOpenFlow, NoPods
from tests.proxy import Proxy

from dpuchain.agent.process import Doors, Settings, run
from dpuchain.api.conditions import find
from dpuchain.api.kinds import POD, SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.kube.cache import Cache
from dpuchain.kube.client import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dpuchain.api.resource import Resource
    from dpuchain.lab.cluster import Cluster

OTHERS = 4
"""Nodes that the agent is not on."""


class Node:
    """The objects of one node: an interface, a chain and a pod."""

    def __init__(self, client: Client, namespace: str, name: str) -> None:
        self.name = f"{name}-of-{namespace}"
        self._client = client
        self._namespace = namespace

    async def furnish(self) -> None:
        interface = {"node": self.name, "interfaceType": "physical", "physical": {"interfaceName": "p0"}}
        port = {"serviceInterface": {"matchLabels": {"of": self.name}}}
        await self._create(SERVICE_INTERFACE, interface)
        await self._create(SERVICE_CHAIN, {"node": self.name, "switches": [{"ports": [port]}]})
        pod = {"metadata": {"name": self.name}, "spec": {"nodeName": self.name, "containers": [{"name": "c", "image": "i"}]}}
        await self._client.request("POST", POD.path(self._namespace), body=json.dumps(pod).encode())

    async def _create(self, resource: Resource[Any], spec: dict[str, Any]) -> None:
        meta = {"name": self.name, "namespace": self._namespace, "labels": {"of": self.name}}
        await self._client.create(resource, msgspec.convert({"metadata": meta, "spec": spec}, resource.type))

    async def change(self) -> None:
        """Change everything of it, twice the interface."""
        key = ObjectKey(self._namespace, self.name)
        for port in ("p1", "p0"):
            await self._client.patch(SERVICE_INTERFACE, key, {"spec": {"physical": {"interfaceName": port}}})
        ports = [{"serviceInterface": {"matchLabels": {"of": "changed"}}}]
        await self._client.patch(SERVICE_CHAIN, key, {"spec": {"switches": [{"ports": ports}]}})
        await self._client.patch(POD, key, {"metadata": {"labels": {"changed": "yes"}}})
        await self._client.delete(SERVICE_CHAIN, key)
        await self._client.request("DELETE", POD.path(self._namespace, self.name), body=b'{"gracePeriodSeconds": 0}')


@pytest.fixture
async def proxy(api_server: Cluster) -> AsyncIterator[Proxy]:
    proxy = Proxy(api_server)
    proxy.heard = []
    async with proxy.serve():
        yield proxy


@pytest.fixture
async def agent_of(proxy: Proxy, tmp_path: Path) -> AsyncIterator[Any]:
    """Return `agent_of(node)`: an agent that works through the proxy, on a switch in memory; it ends with the test."""
    tasks: list[asyncio.Task[None]] = []

    def start(node: str) -> None:
        client = Client.from_kubeconfig(json.loads(proxy.kubeconfig), user_agent="agent")
        settings = Settings(node, BRIDGE, "memory", Path("memory"), tmp_path / "cni.sock")
        doors = Doors(MemoryDatabase, lambda _: MemoryOpenFlow(), lambda _: FixedDevices(("p0", "p1")), NoPods)
        tasks.append(asyncio.ensure_future(run(client, settings, doors)))

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_an_agent_hears_of_its_own_node_alone(client: Client, namespace: str, proxy: Proxy, agent_of: Any) -> None:
    await client.request("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", body=b'{"metadata": {"name": "default"}}')
    own, *others = [Node(client, namespace, name) for name in ("own", *(f"other-{number}" for number in range(OTHERS)))]
    for node in (own, *others):
        await node.furnish()
    interfaces = Cache(client, SERVICE_INTERFACE, namespace=namespace)
    changed = asyncio.Event()
    interfaces.subscribe(lambda _: changed.set())
    watching = asyncio.ensure_future(interfaces.run())

    async def told(generation: int) -> None:
        """Wait until the agent has told of its interface, as it is since so many changes."""
        async with asyncio.timeout(30):
            while True:
                item = interfaces.get(ObjectKey(namespace, own.name))
                ready = find(item.status.conditions, "Ready") if item is not None else None
                if ready is not None and (ready.status, ready.observed_generation) == ("True", generation):
                    return
                changed.clear()
                await changed.wait()

    agent_of(own.name)
    await told(1)
    for node in others:
        await node.change()
    await own.change()
    await told(3)
    assert proxy.heard is not None
    heard = b"".join(proxy.heard)
    assert heard.count(f'"name":"{own.name}"'.encode()) >= 5, "nothing was shown"
    assert b"other-" not in heard
    watching.cancel()
    await asyncio.wait([watching])
    for item in (await client.list(SERVICE_INTERFACE, namespace=namespace)).items:
        await client.delete(SERVICE_INTERFACE, key_of(item))
