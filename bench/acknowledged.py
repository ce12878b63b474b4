"""Frames that pass through what was taken out of a chain after that was acknowledged, by a status of the chain's new generation.

Two stations send each other 4,000 frames a second through a port, or a switch, while it is taken out of its chain, again and again.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from bench.objects import add_interfaces, attach, chain
from bench.rack import NAMESPACE, Rack
from bench.wires import Station
from dpuchain.api.chain import ServiceChain
from dpuchain.api.conditions import find
from dpuchain.api.kinds import SERVICE_CHAIN
from dpuchain.api.meta import ObjectKey
from dpuchain.api.names import READY
from dpuchain.kube.cache import Cache
from dpuchain.kube.client import Client
from dpuchain.lab.traffic import End, Stream

REMOVALS = 20
PATIENCE = 30.0
LISTEN = 0.3
PORTS = ("g0", "g1", "g2", "g3")
KEY = ObjectKey(NAMESPACE, PORTS[0])
AFTER = (PORTS[:2],)
WITH_PORT = (PORTS[:3],)
WITH_SWITCH = (PORTS[:2], PORTS[2:])


async def leaks(rack: Rack, cluster: Client) -> tuple[int, int]:
    """The frames after the acknowledgement: of all removals of a port, and of all removals of a switch."""
    ends = await asyncio.to_thread(attach, rack, PORTS)
    await add_interfaces(rack, cluster, PORTS)
    await cluster.create(SERVICE_CHAIN, chain(*AFTER))
    chains = Cache(cluster, SERVICE_CHAIN, namespace=NAMESPACE)
    changing = Changing(cluster, chains)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(chains.run())
        try:
            through_port = await _all(changing, WITH_PORT, (ends["g0"], ends["g2"]))
            through_switch = await _all(changing, WITH_SWITCH, (ends["g2"], ends["g3"]))
        finally:
            watching.cancel()
    return through_port, through_switch


class Changing:
    """Changes the chain and returns when that is acknowledged."""

    def __init__(self, cluster: Client, chains: Cache[ServiceChain]) -> None:
        self._cluster = cluster
        self._chains = chains
        self._changed = asyncio.Event()
        chains.subscribe(lambda _: self._changed.set())

    async def to(self, switches: tuple[tuple[str, ...], ...]) -> None:
        """Have these switches, and wait until the chain is Ready with them."""
        spec: dict[str, Any] = msgspec.to_builtins(chain(*switches).spec)
        generation = (await self._cluster.patch(SERVICE_CHAIN, KEY, {"spec": spec})).metadata.generation
        async with asyncio.timeout(PATIENCE):
            while not self._ready(generation):
                self._changed.clear()
                await self._changed.wait()

    def _ready(self, generation: int) -> bool:
        item = self._chains.get(KEY)
        ready = find(item.status.conditions, READY) if item else None
        return ready is not None and (ready.status, ready.observed_generation) == ("True", generation)


async def _all(changing: Changing, before: tuple[tuple[str, ...], ...], ends: tuple[End, End]) -> int:
    first, second = ends
    with Station(first) as near, Station(second) as far, Stream(first, second):
        return sum([await _once(changing, before, near, far) for _ in range(REMOVALS)])


async def _once(changing: Changing, before: tuple[tuple[str, ...], ...], near: Station, far: Station) -> int:
    await changing.to(before)
    near.heard(), far.heard()
    await asyncio.sleep(LISTEN)
    if not (near.heard() and far.heard()):
        raise RuntimeError("no frames pass before anything is removed")
    await changing.to(AFTER)
    near.heard(), far.heard()
    await asyncio.sleep(LISTEN)
    return len(near.heard()) + len(far.heard())
