"""The raw ceiling: a client that knows beforehand what to write, and does nothing but send it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import aiohttp
import msgspec

from bench.fleet import objects
from bench.fleet.plant import Plant
from dpuchain.api.kinds import SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.api.meta import key_of
from dpuchain.api.names import DPU_FIELD_OWNER
from dpuchain.api.resource import Resource
from dpuchain.kube.client import APPLY_PATCH, encode

CONCURRENCIES = (8, 16, 32, 64)
APPLY = f"fieldManager={DPU_FIELD_OWNER}&force=true"
DELETION = msgspec.json.encode({"propagationPolicy": "Background"})


@dataclass(frozen=True)
class Write:
    """One request, ready to be sent."""

    method: str
    path: str
    body: bytes
    content_type: str = "application/json"


def creation(resource: Resource[Any], item: Any) -> Write:
    """The write that makes an object in the cheapest way. What it says is its sender's for good: a later application that no longer says
    it does not take it back.
    """
    return Write("POST", f"{resource.path(item.metadata.namespace)}?fieldManager={DPU_FIELD_OWNER}", encode(resource, item))


def application(resource: Resource[Any], item: Any) -> Write:
    """The server-side apply that makes or changes an object."""
    return Write("PATCH", f"{resource.path(*key_of(item))}?{APPLY}", encode(resource, item), APPLY_PATCH)


def deletion(resource: Resource[Any], item: Any) -> Write:
    """The write that has an object deleted."""
    return Write("DELETE", resource.path(*key_of(item)), DELETION)


Make: TypeAlias = Callable[[Resource[Any], Any], Write]


class BareClient:
    """Sends writes, so many at once, with the rights and the priority of our controller."""

    def __init__(self, plant: Plant) -> None:
        cluster = plant.clusters["cluster-1"]
        connection = cluster.connection("system:serviceaccount:dpf-operator-system:dpuchain-dpu", ("system:serviceaccounts",))
        self._server = connection.server
        self._tls = connection.ssl_context()

    async def send(self, writes: Sequence[Write], at_once: int) -> float:
        """Send them all; returns the moment at which the last was answered."""
        left = iter(writes)
        connector = aiohttp.TCPConnector(limit=at_once, ssl=self._tls)
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(self._work(session, left))
        return time.monotonic()

    async def _work(self, session: aiohttp.ClientSession, left: Iterable[Write]) -> None:
        for write in left:
            done = False
            while not done:
                done = await self._once(session, write)

    async def _once(self, session: aiohttp.ClientSession, write: Write) -> bool:
        """Send one; whether it was done. If the API server asks to come back later, that moment has come on return."""
        headers = {"Content-Type": write.content_type}
        async with session.request(write.method, self._server + write.path, data=write.body, headers=headers) as response:
            text = await response.text()
            if response.status == 429:
                await asyncio.sleep(float(response.headers.get("Retry-After", "1")))
                return False
            if response.status >= 400:
                raise RuntimeError(f"{write.method} {write.path}: {text}")
            return True


@dataclass(frozen=True)
class Rates:
    """Objects a second that a client has made, changed and deleted, until a watch has told of the last of them."""

    created: float
    changed: float
    deleted: float


async def chain_rates(plant: Plant, client: BareClient, at_once: int, nodes: Sequence[str], make: Make = application) -> Rates:
    """The rates with one chain on each of these nodes, whose agents work on it and report as they do on any. `make` is how it is made:
    as we do it, or by `creation`.
    """
    before, after = (objects.raw_chains("raw", nodes, wire) for wire in (objects.WIRE, objects.HUB))
    count, tally = len(nodes), plant.tallies.of["raw"]

    async def rate(writes: Sequence[Write], done: Callable[[], bool], settled: Callable[[], bool]) -> float:
        await plant.collect()
        began = time.monotonic()
        seen = asyncio.create_task(plant.tallies.until(done))
        await client.send(writes, at_once)
        taken = await seen - began
        await plant.tallies.until(settled)
        await plant.quiet(1)
        return count / taken

    created = [make(SERVICE_CHAIN, item) for item in before]
    changed = [application(SERVICE_CHAIN, item) for item in after]
    deleted = [deletion(SERVICE_CHAIN, item) for item in after]
    return Rates(
        await rate(created, lambda: tally.present == count, lambda: tally.ready == count),
        await rate(changed, lambda: tally.changed == count, lambda: tally.ready == count),
        await rate(deleted, lambda: tally.present == 0, lambda: True),
    )


class Fill(NamedTuple):
    """Objects a second: made, and made and told of by their agents, who work on the same machine."""

    made: float
    told: float


async def fill_rate(plant: Plant, client: BareClient, at_once: int, devices: Sequence[str]) -> Fill:
    """The rates with an interface for each of the devices on each node, and as many chains. They are deleted in the end, untimed."""
    interfaces = [item for device in devices for item in objects.raw_interfaces(f"raw-{device}", plant.nodes, device)]
    wires = objects.wires(len(devices), devices)
    chains = [item for number, wire in enumerate(wires) for item in objects.raw_chains(f"raw-{number}", plant.nodes, wire)]
    names = [*(f"raw-{device}" for device in devices), *(f"raw-{number}" for number in range(len(wires)))]
    writes = [application(SERVICE_INTERFACE, item) for item in interfaces] + [application(SERVICE_CHAIN, item) for item in chains]
    began = time.monotonic()
    made = await client.send(writes, at_once) - began
    told = await plant.tallies.until(lambda: all(plant.tallies.of[name].told == len(plant.nodes) for name in names)) - began
    await client.send([deletion(SERVICE_CHAIN, item) for item in chains], at_once)
    await client.send([deletion(SERVICE_INTERFACE, item) for item in interfaces], at_once)
    await plant.tallies.until(lambda: all(plant.tallies.of[name].present == 0 for name in names))
    await plant.quiet(1)
    return Fill(len(writes) / made, len(writes) / max(made, told))
