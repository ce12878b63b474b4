"""A controller whose watches are cut, or whose point the API server has forgotten, reads no more than it must, and writes nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.proxy import Fate, Refusal, Seen

from dpuchain.api.kinds import SERVICE_CHAIN
from dpuchain.chain.expand import child_name
from dpuchain.kube import client as kube_client

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.dpu.world import World
    from tests.proxy import Proxy

EXPIRED = Refusal(410)


@pytest.mark.usefixtures("proxied")
async def test_watches_that_are_cut_go_on_where_they_were(world: World, proxy: Proxy) -> None:
    nodes = await world.add_nodes(3)
    await world.add_set("chain")
    await world.serve("chain", nodes)
    proxy.seen.clear()
    for number in range(3):
        proxy.reset_all()
        node = await world.add_node(f"late-{number}")
        await world.until(lambda node=node: node in world.nodes, "on the new node")  # type: ignore[misc]  # mypy infers no defaults
    assert [request for request in proxy.seen if request.lists] == []


@pytest.mark.usefixtures("proxied")
async def test_a_point_that_the_server_has_forgotten_costs_a_list_of_that_kind_and_no_write(world: World, proxy: Proxy) -> None:
    nodes = await world.add_nodes(3)
    await world.add_set("chain")
    await world.serve("chain", nodes)
    await world.add_idle_set("before")
    forgotten = [EXPIRED]

    async def forget(request: Seen) -> Fate:
        return forgotten.pop() if forgotten and request.watches and request.is_of("servicechains") else None

    proxy.rule = forget
    proxy.seen.clear()
    proxy.reset_all()
    node = await world.add_node("late")
    await world.serve("chain", {*nodes, node})
    assert not forgotten
    assert [request.is_of("servicechains") for request in proxy.seen if request.lists] == [True]
    assert {request.path for request in proxy.writes if not request.of_status and not request.is_of("events")} == {
        SERVICE_CHAIN.path(world.namespace, child_name("chain", node))
    }


async def test_large_lists_are_read_in_pages_and_begun_anew_when_the_server_has_forgotten_them(
    world: World, proxy: Proxy, start: Callable[..., asyncio.Task[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = await world.add_nodes(5)
    await world.add_set("chain")
    first = start()
    await world.serve("chain", nodes)
    first.cancel()
    await asyncio.wait([first])
    monkeypatch.setattr(kube_client, "PAGE", 2)
    forgotten = [EXPIRED]

    async def forget(request: Seen) -> Fate:
        return forgotten.pop() if forgotten and "continue=" in request.query and request.is_of("servicechains") else None

    proxy.rule = forget
    start(proxy.kubeconfig)
    await world.add_idle_set("after")
    pages = [request for request in proxy.seen if request.lists and request.is_of("servicechains")]
    assert ["continue=" in page.query for page in pages] == [False, True, False, True, True]
    assert all("limit=2" in request.query for request in proxy.seen if request.lists)
    assert [request for request in proxy.writes if request.is_of("servicechains")] == []
