"""How a DPU cluster's controller writes: many at once, no more than the API server serves well, in fair turns, and nothing needless."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from tests.integration.dpu.gate import Gate, makes
from tests.integration.dpu.world import SWITCH, measured, until_measured
from tests.proxy import Fate, Proxy, Refusal, Seen

from dpuchain.api.kinds import SERVICE_CHAIN, SERVICE_CHAIN_SET
from dpuchain.api.meta import key_of
from dpuchain.runtime import fanout

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.dpu.world import World

AT_FIRST, AT_MOST = 4, 6


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer writes at once, so that a few nodes are many."""
    monkeypatch.setattr(fanout, "FIRST", AT_FIRST)
    monkeypatch.setattr(fanout, "MOST", AT_MOST)


def sets(requests: list[Seen]) -> list[str]:
    """Of which set each is."""
    return [request.path.rpartition("/")[2].rpartition("-")[0] for request in requests]


async def until_waiting(count: int) -> None:
    await until_measured(lambda waiting: waiting == count, "dpuchain_writes_waiting")


async def spoil(world: World, *names: str) -> None:
    """Somebody edits objects on nodes, and we have heard of it."""
    switches = [{"ports": [{"serviceInterface": {"matchLabels": {"spoilt": "yes"}}}]}]
    for name in names:
        await world.client.patch(SERVICE_CHAIN, world.key(name), {"spec": {"switches": switches}})
    await world.until(lambda: all(c.spec.switches != (SWITCH,) for c in world.chains if c.metadata.name in names), "spoilt")


@pytest.mark.usefixtures("proxied")
async def test_writes_go_out_at_once_each_of_them_once_and_no_set_waits_for_another(world: World, proxy: Proxy) -> None:
    nodes = await world.add_nodes(14) | {await world.add_node("own", size="small")}
    gate = Gate(proxy)
    await world.add_set("big")
    await gate.until(lambda: len(gate.came) == AT_FIRST)
    await world.add_set("small", size="small")
    await until_waiting(len(nodes) - AT_FIRST + 1)
    assert len(gate.came) == AT_FIRST, "no more at once than that"
    gate.open()
    await world.until(lambda: len(world.chains) == len(nodes) + 1, "on all nodes")
    assert sorted(sets(gate.came)) == ["big"] * len(nodes) + ["small"]
    assert "small" in sets(gate.came)[: AT_FIRST + 2]
    assert len({request.path for request in gate.came}) == len(gate.came)


async def test_what_a_person_has_changed_goes_before_what_mends_itself(
    world: World, proxy: Proxy, start: Callable[..., asyncio.Task[None]]
) -> None:
    nodes = await world.add_nodes(10)
    await world.add_set("old")
    first = start()
    await world.serve("old", nodes)
    first.cancel()
    await asyncio.wait([first])
    await spoil(world, *(chain.metadata.name for chain in world.chains))
    gate = Gate(proxy)
    start(proxy.kubeconfig)
    await gate.until(lambda: len(gate.came) == AT_FIRST)
    await world.add_set("new")
    await until_waiting(2 * len(nodes) - AT_FIRST)
    gate.open()
    await world.until(lambda: all(c.spec.switches == (SWITCH,) for c in world.chains) and len(world.chains) == 20, "mended")
    assert sets(gate.came) == ["old"] * AT_FIRST + ["new"] * len(nodes) + ["old"] * (len(nodes) - AT_FIRST)


async def test_a_controller_that_begins_writes_only_what_differs(
    world: World, proxy: Proxy, start: Callable[..., asyncio.Task[None]]
) -> None:
    nodes = await world.add_nodes(6)
    await world.add_set("chain")
    first = start()
    await world.serve("chain", nodes)
    first.cancel()
    await asyncio.wait([first])
    spoilt = min(chain.metadata.name for chain in world.chains)
    await spoil(world, spoilt)
    before = {key_of(chain): chain for chain in world.chains if chain.metadata.name != spoilt}
    start(proxy.kubeconfig)
    await world.until(lambda: (c := world.chains.get(world.key(spoilt))) is not None and c.spec.switches == (SWITCH,), "mended")
    assert [request.path for request in proxy.writes if makes(request)] == [SERVICE_CHAIN.path(world.namespace, spoilt)]
    assert {key_of(chain): chain for chain in world.chains if chain.metadata.name != spoilt} == before


@pytest.mark.usefixtures("proxied")
async def test_a_server_that_asks_to_wait_is_left_alone_for_so_long_and_then_asked_for_less(world: World, proxy: Proxy) -> None:
    nodes = await world.add_nodes(10)
    gate = Gate(proxy)
    refused: list[float] = []
    came: list[float] = []

    async def refuse(request: Seen) -> Fate:
        if makes(request) and len(refused) < AT_FIRST:
            refused.append(time.monotonic())
            return Refusal(429, retry_after=1)
        if makes(request):
            came.append(time.monotonic())
        return await gate.rule(request)

    proxy.rule = refuse
    await world.add_set("chain")
    await gate.until(lambda: len(gate.came) == fanout.FEWEST)
    assert came[0] - refused[-1] >= 1
    assert await measured("dpuchain_writes_in_flight") == await measured("dpuchain_writes_in_flight_limit") == fanout.FEWEST
    gate.open()
    await world.serve("chain", nodes)


@pytest.mark.usefixtures("proxied")
async def test_a_server_that_answers_slowly_is_asked_for_less_at_once(world: World, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "SLOW", 0.05)
    nodes = await world.add_nodes(10)

    async def delay(request: Seen) -> Fate:
        await asyncio.sleep(0.1 if makes(request) else 0)
        return None

    proxy.rule = delay
    await world.add_set("chain")
    await world.serve("chain", nodes)
    assert await measured("dpuchain_writes_in_flight_limit") == fanout.FEWEST


@pytest.mark.usefixtures("proxied")
async def test_what_is_being_deleted_is_not_deleted_again_while_its_watch_is_behind(world: World, proxy: Proxy) -> None:
    nodes = await world.add_nodes(3)
    await world.add_set("chain")
    await world.serve("chain", nodes)
    gate = Gate(proxy, lambda request: request.watches and request.is_of("servicechains"))
    proxy.reset_all()
    await gate.until(lambda: len(gate.came) == 1)
    await world.client.delete(SERVICE_CHAIN_SET, world.key("chain"))
    await world.until(lambda: not world.nodes, "being deleted")
    for again in ("once", "twice"):  # the first may be the pass that deletes
        looked = await measured("dpuchain_reconciles_total", controller=SERVICE_CHAIN_SET.plural)
        await world.client.patch(SERVICE_CHAIN_SET, world.key("chain"), {"metadata": {"annotations": {"looked": again}}})
        await until_measured(looked.__lt__, "dpuchain_reconciles_total", controller=SERVICE_CHAIN_SET.plural)
    gate.open()
    await world.let_go()
    await world.until(lambda: len(world.sets) == len(world.chains) == 0, "gone")
    assert [request.method for request in proxy.writes if makes(request)].count("DELETE") == len(nodes)
