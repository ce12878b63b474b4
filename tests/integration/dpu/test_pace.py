"""What events cost: those that change nothing, nothing; others what they change. And how often a set's status is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.integration.dpu.world import measured

from dpuchain.api.kinds import NODE, SERVICE_CHAIN, SERVICE_CHAIN_SET
from dpuchain.api.meta import ObjectKey
from dpuchain.chain.expand import child_name
from dpuchain.dpu import sets

if TYPE_CHECKING:
    from tests.integration.dpu.world import World
    from tests.proxy import Proxy, Seen


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "PACE_SECONDS", 3600.0)


def without_events(requests: list[Seen]) -> list[tuple[str, str]]:
    """Method and path of each request but those for Kubernetes Events."""
    return [(request.method, request.path) for request in requests if not request.is_of("events")]


async def passes() -> float:
    return await measured("dpuchain_reconciles_total", controller=SERVICE_CHAIN_SET.plural)


@pytest.mark.usefixtures("proxied")
async def test_a_heartbeat_of_a_node_costs_neither_a_request_nor_a_pass(world: World, proxy: Proxy) -> None:
    nodes = await world.add_nodes(3)
    await world.add_set("chain")
    await world.serve("chain", nodes)
    await world.add_idle_set("before")
    proxy.seen.clear()
    proxy.heard = []
    looked = await passes()
    for beat in map(str, range(3)):
        for node in nodes:
            condition = {"type": "Ready", "status": "True", "reason": beat}
            await world.client.patch(NODE, ObjectKey("", node), {"status": {"conditions": [condition]}}, subresource="status")
            await world.client.patch(NODE, ObjectKey("", node), {"metadata": {"annotations": {"beat": f"{node}-{beat}"}}})
    async with asyncio.timeout(30):
        while not all(f"{node}-2" in str(proxy.heard) for node in nodes):  # noqa: ASYNC110 - the proxy tells nobody
            await asyncio.sleep(0.02)
    await world.add_idle_set("after")
    assert await passes() == looked
    assert {path for _, path in without_events(proxy.seen) if "/serviceinterfacesets/after" not in path} == set()
    told = [line for chunk in proxy.heard for line in chunk.splitlines() if b"beat" in line]
    assert told, "nothing was shown"
    assert all(b'"kind":"PartialObjectMetadata"' in line and b'"status":' not in line for line in told)


@pytest.mark.usefixtures("proxied")
async def test_a_label_of_a_node_touches_its_objects_alone(world: World, proxy: Proxy) -> None:
    nodes = await world.add_nodes(3)
    await world.add_set("all")
    await world.add_set("blue", colour="blue")
    await world.serve("all", nodes)
    await world.until(lambda: world.ready(world.sets, "blue") == "True", "ready")
    proxy.seen.clear()
    node = min(nodes)
    await world.client.patch(NODE, ObjectKey("", node), {"metadata": {"labels": {"colour": "blue"}}})
    await world.serve("blue", {node})
    await world.client.patch(NODE, ObjectKey("", node), {"metadata": {"labels": {"colour": None}}})
    child = SERVICE_CHAIN.path(world.namespace, child_name("blue", node))
    await world.until(lambda: any(c.metadata.deletion_timestamp is not None for c in world.chains), "being deleted")
    status = ("PATCH", SERVICE_CHAIN_SET.path(world.namespace, "blue", "status"))
    requests = without_events(proxy.seen)
    assert [request for request in requests if request != status] == [("PATCH", child), ("DELETE", child)]


@pytest.mark.usefixtures("proxied")
async def test_a_status_of_one_object_costs_one_write_of_its_sets_counters(world: World, proxy: Proxy) -> None:
    nodes = await world.add_nodes(5)
    await world.add_set("chain")
    await world.serve("chain", nodes)
    proxy.seen.clear()
    await world.report(ready=False, on={min(nodes)})
    await world.until(lambda: world.ready(world.sets, "chain") == "False", "not ready")
    assert without_events(proxy.seen) == [("PATCH", SERVICE_CHAIN_SET.path(world.namespace, "chain", "status"))]
    assert world.counters("chain") == (5, 4)


async def test_a_status_is_told_seldom_while_its_objects_change_and_at_once_when_it_settles(
    slowly: None, proxied: asyncio.Task[None], world: World, proxy: Proxy
) -> None:
    """One that is not settled would be told again after an hour here."""
    nodes = await world.add_nodes(8)
    await world.add_set("chain")
    for _ in range(2):
        await world.serve("chain", nodes)
        assert world.counters("chain") == (8, 8)
        for node in nodes:
            await world.report(ready=False, on={node})
        await world.until(lambda: world.unready == nodes, "not ready")
    await world.serve("chain", nodes)
    written = [request for request in proxy.writes if request.of_status and request.is_of("servicechainsets")]
    assert len(written) <= sets.BURST + 3, "a few at once, and one for each time that it settled"
    assert world.counters("chain") == (8, 8)
