"""DPU clusters that are dead, silent, strange or slow, all at a time: the others have what they should as if they were alone."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.host.test_clusters import mtu_in
from tests.proxy import Fate, Proxy, Seen

from dpuchain.api import kinds, names
from dpuchain.kube import client as kube_client
from dpuchain.runtime import clusters as dpu_clusters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.integration.host.conftest import World

RECONCILED = names.CHAIN_SET_RECONCILED
SLOWNESS = 0.3
"""Seconds before each request is passed on."""
WHY = {"dead": "Connect call failed", "strange": "certificate", "silent": "timed out|Timeout|no answer"}


@pytest.fixture
async def silent(world: World) -> AsyncIterator[Proxy]:
    """A proxy before the second DPU cluster."""
    async with Proxy(world.fleet.members["south"]).serve() as proxy:
        yield proxy


@pytest.fixture
async def slow(world: World) -> AsyncIterator[Proxy]:
    """Another."""
    async with Proxy(world.fleet.members["south"]).serve() as proxy:
        yield proxy


def by_way_of(kubeconfig: bytes, server: str) -> bytes:
    content: dict[str, Any] = json.loads(kubeconfig)
    content["clusters"][0]["cluster"]["server"] = server
    return json.dumps(content).encode()


async def test_bad_clusters_hinder_no_other_and_one_that_answers_again_needs_no_restart(
    world: World, silent: Proxy, slow: Proxy, start: Callable[..., asyncio.Task[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dpu_clusters, "FIRST_LOOK_SECONDS", 0.5)
    monkeypatch.setattr(kube_client, "TIMEOUT", 3.0)
    answers = asyncio.Event()

    async def never(_: Seen) -> Fate:
        await answers.wait()
        return None

    async def late(_: Seen) -> Fate:
        await asyncio.sleep(SLOWNESS)
        return None

    silent.rule, slow.rule = never, late
    await world.add_cluster("north")
    await world.add_cluster("slow", slow.kubeconfig)
    await world.add_cluster("silent", silent.kubeconfig)
    await world.add_cluster("dead", by_way_of(world.kubeconfig("south"), "https://127.0.0.1:9"))
    await world.add_cluster("strange", by_way_of(world.kubeconfig("south"), world.fleet.members["north"].server))
    start()
    await world.add_chain()
    await world.until(lambda: world.everywhere() == {"north", "south"}, "in the good one and in the slow one")
    for name, why in WHY.items():
        told = re.compile(rf"\* Cluster: {world.namespace}/{name}\n.* cannot be reached since \S+Z: .*({why})")
        await world.until(lambda told=told: told.search(world.message(world.chains, "chain", RECONCILED)) is not None, told.pattern)  # type: ignore[misc]
    first = since(world, "silent")
    for mtu in (1300, 1301):
        await world.set_mtu(mtu)
        await world.until(lambda mtu=mtu: mtu_in(world, world.north) == mtu_in(world, world.south) == mtu, "changed")  # type: ignore[misc]
    await world.until(lambda: since(world, "silent") == first, "told since when it has been so")
    for name in ("dead", "strange", "slow"):
        await world.client.delete(kinds.DPU_CLUSTER, world.key(name))
    answers.set()
    await world.told(world.chains, "chain", RECONCILED, "True")
    await world.add_chain("next")
    await world.until(lambda: world.everywhere("next") == {"north", "south"}, "in the one that answers again, too")


async def test_one_that_is_older_and_silent_does_not_hold_up_the_others_when_the_controller_starts(
    world: World, start: Callable[..., asyncio.Task[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the two might lead to the same API server, as far as their addresses tell."""
    monkeypatch.setattr(dpu_clusters, "FIRST_LOOK_SECONDS", 600.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"https://127.0.0.1:{server.getsockname()[1]}"
        await world.add_cluster("elder", by_way_of(world.kubeconfig("south"), address))
        await world.until(lambda: len(world.clusters) == 1, "seen")
        await world.add_cluster("north")
        await world.add_chain()
        task = start()
        await world.until(lambda: world.everywhere() == {"north"}, "in the one that answers")
        task.cancel()
        await asyncio.wait([task])


def since(world: World, name: str) -> str | None:
    """Since when a cluster is said to be away."""
    found = re.search(
        rf"DPUCluster {world.namespace}/{name} cannot be reached since (\S+Z)", world.message(world.chains, "chain", RECONCILED)
    )
    return found[1] if found else None
