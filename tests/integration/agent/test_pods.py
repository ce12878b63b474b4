"""Several pods of one service on a node, as in a rolling update: traffic goes to the one that serves."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from dpuchain.api.kinds import POD, SERVICE_CHAIN
from dpuchain.api.meta import ObjectKey
from dpuchain.api.names import SERVICE_LABEL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.agent.world import World


class Pods:
    """Pods of the service `fw` on the node, and their ports as the CNI would have made them."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def add(self, name: str, *, ready: bool = True) -> None:
        world = self._world
        metadata = {"name": name, "labels": {SERVICE_LABEL: "fw"}}
        body = {"metadata": metadata, "spec": {"nodeName": world.node, "containers": [{"name": "c", "image": "none"}]}}
        await world.client.request("POST", POD.path(world.namespace), body=json.dumps(body).encode(), content_type="application/json")
        mark = f"external_ids:dpf-id={world.namespace}/{name}/eth1"
        owner = "external_ids:owner=ovs-cni.network.kubevirt.io"
        made = ("add-port", "br-sfc", name, "--", "set", "interface", name, mark, "--", "set", "port", name, owner)
        await world.switch.vsctl(*made)
        await self.say(name, ready=ready)

    async def say(self, name: str, *, ready: bool) -> None:
        condition = {"type": "Ready", "status": "True" if ready else "False"}
        status = {"status": {"phase": "Running", "conditions": [condition]}}
        await self._world.client.patch(POD, ObjectKey(self._world.namespace, name), status, subresource="status")

    async def terminate(self, name: str) -> None:
        """Have the pod terminating; without a kubelet it stays so."""
        await self._world.client.delete(POD, ObjectKey(self._world.namespace, name))

    async def remove(self, name: str) -> None:
        await self._world.switch.vsctl("del-port", name)
        options = json.dumps({"gracePeriodSeconds": 0}).encode()
        await self._world.client.request("DELETE", POD.path(self._world.namespace, name), body=options)


@pytest.fixture
async def pods(world: World) -> AsyncIterator[Pods]:
    account = b'{"metadata": {"name": "default"}}'  # which a controller manager would make
    path = f"/api/v1/namespaces/{world.namespace}/serviceaccounts"
    await world.client.request("POST", path, body=account, content_type="application/json")
    yield Pods(world)
    for pod in (await world.client.list(POD, namespace=world.namespace)).items:
        await world.client.request("DELETE", POD.path(world.namespace, pod.metadata.name), body=b'{"gracePeriodSeconds": 0}')


async def leads_to(world: World, pod: str) -> None:
    """Return when a frame that enters by p0 leaves by the pod's port."""
    async with asyncio.timeout(10):
        while not await world.passes("p0", pod):  # noqa: ASYNC110  # each look asks the switch
            await asyncio.sleep(0)


async def test_traffic_moves_to_the_pod_that_is_ready_and_nothing_is_ever_wrong(
    world: World, agent: asyncio.Task[None], pods: Pods
) -> None:
    await world.add_physical("p0")
    await world.add("eth1", "service", serviceID="fw", network="mybrsfc", interfaceName="eth1")
    await pods.add("old")
    await world.add_chain("chain", ("p0", "eth1"))
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    await leads_to(world, "old")
    said: set[tuple[str | None, str]] = set()
    for cache, name in ((world.chains, "chain"), (world.interfaces, "eth1")):
        cache.subscribe(lambda _, cache=cache, name=name: said.add((world.ready(cache, name), world.message(cache, name))))  # type: ignore[misc]

    await pods.add("new", ready=False)
    await pods.terminate("old")
    await leads_to(world, "old")
    await pods.say("new", ready=True)
    await leads_to(world, "new")
    await pods.remove("old")
    await pods.add("third", ready=False)
    await leads_to(world, "new")
    await pods.say("third", ready=True)
    await pods.say("new", ready=False)
    await leads_to(world, "third")
    await world.client.patch(SERVICE_CHAIN, ObjectKey(world.namespace, "chain"), {"metadata": {"labels": {"last": "event"}}})
    await world.until(lambda: any("last" in item.metadata.labels for item in world.chains), "seen to the end")
    assert {status for status, _ in said} == {"True"}, said
