"""What a controller tells of its backlog: the figures are those of writes that were kept back, refused and answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.integration.dpu.gate import Gate, makes
from tests.integration.dpu.world import measured, until_measured
from tests.proxy import Fate, Refusal, Seen

from dpuchain.api.kinds import SERVICE_CHAIN_SET
from dpuchain.runtime import fanout

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from tests.integration.dpu.world import World
    from tests.proxy import Proxy

AT_ONCE, NODES = 4, 10
LOOP = {"controller": SERVICE_CHAIN_SET.plural}
LAGS, CONVERGED = "dpuchain_watch_lag_seconds_count", "dpuchain_convergence_seconds_count"


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST", "MOST"):
        monkeypatch.setattr(fanout, name, AT_ONCE)


async def test_what_waits_is_told_with_its_age_until_it_is_done(
    world: World, proxy: Proxy, start: Callable[..., asyncio.Task[None]]
) -> None:
    nodes = await world.add_nodes(NODES)
    gate = Gate(proxy)
    lags, converged = await measured(LAGS, kind="ServiceChain"), await measured(CONVERGED, kind="ServiceChainSet")
    start(proxy.kubeconfig)
    await until_measured(lambda limit: limit == AT_ONCE, "dpuchain_writes_in_flight_limit")
    await world.add_set("chain")
    await gate.until(lambda: len(gate.came) == AT_ONCE)
    assert await measured("dpuchain_writes_in_flight") == AT_ONCE
    assert await measured("dpuchain_writes_waiting") == NODES - AT_ONCE
    late = await world.add_node("late")
    await until_measured(lambda length: length == 1, "dpuchain_queue_length", **LOOP)
    age = await measured("dpuchain_queue_oldest_seconds", **LOOP)
    await until_measured(lambda older: older > age > 0, "dpuchain_queue_oldest_seconds", **LOOP)
    gate.open()
    await world.serve("chain", {*nodes, late})
    await until_measured(lambda count: count == converged + 1, CONVERGED, kind="ServiceChainSet")
    assert await measured(LAGS, kind="ServiceChain") == lags + NODES + 1
    for name in ("dpuchain_writes_in_flight", "dpuchain_writes_waiting"):
        assert await measured(name) == 0
    await until_measured(lambda length: length == 0, "dpuchain_queue_length", **LOOP)
    assert await measured("dpuchain_queue_oldest_seconds", **LOOP) == 0


@pytest.mark.usefixtures("proxied")
async def test_what_failed_and_is_tried_again_is_counted(world: World, proxy: Proxy) -> None:
    nodes = await world.add_nodes(2)
    refusals = [Refusal(500), Refusal(409), Refusal(503)]

    async def refuse(request: Seen) -> Fate:
        return refusals.pop() if refusals and makes(request) else None

    proxy.rule = refuse
    before = await measured("dpuchain_retries_total", **LOOP)
    await world.add_set("chain")
    await world.serve("chain", nodes)
    assert not refusals
    assert await measured("dpuchain_retries_total", **LOOP) - before >= 2, "two of them may have been of one pass"
