"""From a conflict on a DPU to the words on the DPUServiceChain that is concerned."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec

from bench.rack import NAMESPACE, Rack
from dpuchain.api.chain import DPUServiceChain
from dpuchain.api.interface import DPUServiceInterface
from dpuchain.api.kinds import DPU_SERVICE_CHAIN, DPU_SERVICE_INTERFACE, SERVICE_CHAIN
from dpuchain.api.meta import ObjectKey
from dpuchain.kube.cache import Cache
from dpuchain.kube.client import Client

RUNS = 50
SECOND = "bench-second-p0"
CHAIN = "bench-conflict"
PATIENCE = 30.0
ON_FIRST = {"nodeSelector": {"matchLabels": {"kubernetes.io/hostname": "dpu-1"}}}
WORDS = "failed to find matching interface with external_ids: map[dpf-id:"


async def told(rack: Rack) -> list[float]:
    """Seconds from the ServiceChain's condition, as the agent on dpu-1 wrote it, to the same words on the DPUServiceChain."""
    host = Client.from_kubeconfig(rack.kubeconfig("host"), user_agent="bench")
    cluster = Client.from_kubeconfig(rack.kubeconfig("cluster-1"), user_agent="bench")
    async with host, cluster, asyncio.TaskGroup() as group:
        watched = Watched(host, cluster)
        tasks = [group.create_task(cache.run()) for cache in watched.caches]
        await host.create(DPU_SERVICE_INTERFACE, _second_interface())
        seconds = [await _once(host, watched) for _ in range(RUNS)]
        await host.delete(DPU_SERVICE_INTERFACE, ObjectKey(NAMESPACE, SECOND))
        for task in tasks:
            task.cancel()
    return seconds


class Watched:
    """The moments at which the words are first seen at both ends."""

    def __init__(self, host: Client, cluster: Client) -> None:
        self.top = Cache(host, DPU_SERVICE_CHAIN, namespace=NAMESPACE)
        self.bottom = Cache(cluster, SERVICE_CHAIN, namespace=NAMESPACE)
        self.caches: tuple[Cache[Any], ...] = (self.top, self.bottom)
        self.seen: dict[str, float] = {}
        self._changed = asyncio.Event()
        self.top.subscribe(lambda change: self._note("top", change.new))
        self.bottom.subscribe(lambda change: self._note("bottom", change.new))

    def _note(self, where: str, item: Any) -> None:
        if item is not None and item.metadata.name.startswith(CHAIN) and any(WORDS in c.message for c in item.status.conditions):
            self.seen.setdefault(where, time.perf_counter())
        self._changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not holds():
                self._changed.clear()
                await self._changed.wait()


async def _once(host: Client, watched: Watched) -> float:
    watched.seen.clear()
    await host.create(DPU_SERVICE_CHAIN, _chain())
    await watched.until(lambda: watched.seen.keys() >= {"top", "bottom"})
    await host.delete(DPU_SERVICE_CHAIN, ObjectKey(NAMESPACE, CHAIN))
    await watched.until(lambda: watched.top.get(ObjectKey(NAMESPACE, CHAIN)) is None)
    return max(0.0, watched.seen["top"] - watched.seen["bottom"])


def _second_interface() -> DPUServiceInterface:
    template = {"metadata": {"labels": {"bench": SECOND}}, "spec": {"interfaceType": "physical", "physical": {"interfaceName": "p0"}}}
    content = {"metadata": {"name": SECOND, "namespace": NAMESPACE}, "spec": {"template": {"spec": {**ON_FIRST, "template": template}}}}
    return msgspec.convert(content, DPUServiceInterface)


def _chain() -> DPUServiceChain:
    switches = [{"ports": [{"serviceInterface": {"matchLabels": {"bench": SECOND}}}]}]
    content = {
        "metadata": {"name": CHAIN, "namespace": NAMESPACE},
        "spec": {"template": {"spec": {**ON_FIRST, "template": {"spec": {"switches": switches}}}}},
    }
    return msgspec.convert(content, DPUServiceChain)
