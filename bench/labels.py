"""A label that changes on one node of many: what the DPU cluster's controller writes, and how long it takes.

No rack: an API server and etcd alone, Nodes that nobody runs, and the controller as a process of its own.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bench.clusters import define, requests, writes
from bench.figures import Figure, percentile
from bench.fleet.usage import usage
from dpuchain.api.chain import ServiceChainSet
from dpuchain.api.interface import ServiceInterfaceSet
from dpuchain.api.kinds import NODE, SERVICE_CHAIN, SERVICE_CHAIN_SET, SERVICE_INTERFACE, SERVICE_INTERFACE_SET
from dpuchain.api.kubernetes import Metadata
from dpuchain.api.meta import ObjectKey, ObjectMeta
from dpuchain.kube.cache import Cache
from dpuchain.kube.client import Client
from dpuchain.lab.cluster import Cluster
from dpuchain.lab.manifests import dpu_definitions
from dpuchain.lab.process import Command, Process
from dpuchain.lab.toolchain import Toolchain

NODES = 300
SETS = 10
"""Half of them of interfaces, half of chains; each selects the nodes with the label."""
RUNS = 20
NAMESPACE = "dpf-operator-system"
SELECTED = {"bench": "selected"}
QUIET_SECONDS = 1.2
"""Without a write: the status of a set that has changed several times of late is written once a second (dpu/sets.py), and what is written
then, and what the controller spends on it, belongs to the change.
"""
PATIENCE = 120.0


class Fleet:
    """A cluster with its nodes and sets, watched from outside of the controller."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.chains = Cache(client, SERVICE_CHAIN)
        self.interfaces = Cache(client, SERVICE_INTERFACE)
        self.chain_sets = Cache(client, SERVICE_CHAIN_SET)
        self.interface_sets = Cache(client, SERVICE_INTERFACE_SET)
        self._changed = asyncio.Event()
        for cache in self.caches:
            cache.subscribe(lambda _: self._changed.set())

    @property
    def caches(self) -> tuple[Cache[Any], ...]:
        return (self.chains, self.interfaces, self.chain_sets, self.interface_sets)

    def children(self, node: str) -> int:
        """How many objects a node has."""
        return sum(item.spec.node == node for cache in (self.chains, self.interfaces) for item in cache)

    @property
    def counted(self) -> list[int | None]:
        """What each set says of its children."""
        return [item.status.number_applied for cache in (self.chain_sets, self.interface_sets) for item in cache]

    async def until(self, holds: Callable[[], bool]) -> float:
        """Wait until it is so; returns the moment."""
        async with asyncio.timeout(PATIENCE):
            while not holds():
                self._changed.clear()
                await self._changed.wait()
        return time.perf_counter()

    async def writes(self) -> int:
        """The writes that the API server has answered so far, leases aside."""
        return writes(await requests(self.client))

    async def written(self) -> int:
        """The same, once nothing has been written for a while."""
        before, now = -1, await self.writes()
        while before != now:
            await asyncio.sleep(QUIET_SECONDS)
            before, now = now, await self.writes()
        return now


@dataclass(frozen=True)
class LabelChange:
    """What one change of a label has cost: writes beyond the objects that it changes, and the controller's processor time in seconds.

    `seconds` is how long the objects took to be there; None where the label was taken off.
    """

    surplus: int
    processor: float
    seconds: float | None


async def measure() -> list[Figure]:
    """The figures of labels that change, and of nodes that join."""
    with tempfile.TemporaryDirectory(prefix="dpuchain-bench-") as directory:
        cluster = Cluster("labels", Path(directory), Toolchain())
        await cluster.start()
        controller: Process | None = None
        try:
            async with Client.from_kubeconfig(cluster.kubeconfig, user_agent="bench") as client, asyncio.TaskGroup() as group:
                await define(client, dpu_definitions())
                fleet = Fleet(client)
                tasks = [group.create_task(cache.run()) for cache in fleet.caches]
                await _populate(client)
                command = [sys.executable, "-m", "dpuchain", "dpu", f"--kubeconfig={cluster.kubeconfig}"]
                controller = Process.start(Command("dpu", command), Path(directory) / "dpu.log")
                await fleet.until(lambda: fleet.counted == [NODES - 1] * SETS)
                changes = await _change_labels(fleet, controller.pid)
                joins = await _join(fleet)
                for task in tasks:
                    task.cancel()
        finally:
            if controller is not None:
                await controller.stop()
            await cluster.stop()
    made = [change.seconds for change in changes if change.seconds is not None]
    of = f"label changed on 1 of {NODES} nodes, {SETS} sets"
    return [
        Figure(f"{of}: writes too many", max(change.surplus for change in changes), "", 0, RUNS),
        Figure(f"{of}: processor time of dpuchain dpu, the most", max(change.processor for change in changes) * 1000, "ms", 50, RUNS),
        Figure("label change → objects on the node, p99", percentile(made, 99), "ms", 2000, len(made)),
        Figure(f"new node → its {SETS} objects, p99", percentile(joins, 99), "ms", 2000, len(joins)),
    ]


async def _change_labels(fleet: Fleet, controller: int) -> list[LabelChange]:
    """Give the last node the label and take it off, again and again."""
    last = f"node-{NODES - 1}"
    found: list[LabelChange] = []
    for number in range(RUNS):
        selected = number % 2 == 0
        # The label's own patch; for each set a child that is made and a status that counts it, or a child that is deleted and (by us, as
        # its agent) freed of its finalizer, and a status that counts it out and then says that it is gone.
        due = 1 + SETS * 2 if selected else 1 + SETS * 4
        before, used = await fleet.writes(), usage(controller).seconds
        began = time.perf_counter()
        seconds: float | None = None
        await fleet.client.patch(NODE, ObjectKey("", last), {"metadata": {"labels": SELECTED if selected else dict.fromkeys(SELECTED)}})
        if selected:
            seconds = await fleet.until(lambda: fleet.children(last) == SETS) - began
            await fleet.until(lambda: fleet.counted == [NODES] * SETS)
        else:
            await _let_go(fleet, last)
            await fleet.until(lambda: fleet.counted == [NODES - 1] * SETS and fleet.children(last) == 0)
        written = await fleet.written()
        found.append(LabelChange(written - before - due, usage(controller).seconds - used, seconds))
    return found


async def _let_go(fleet: Fleet, node: str) -> None:
    """Take the finalizers off what is being deleted, as the node's agent would."""
    mine = [(cache, item) for cache in (fleet.chains, fleet.interfaces) for item in cache if item.spec.node == node]
    for cache, item in mine:
        key = ObjectKey(item.metadata.namespace, item.metadata.name)
        await fleet.until(lambda cache=cache, key=key: cache.get(key).metadata.deletion_timestamp is not None)  # type: ignore[misc]
        await fleet.client.patch(cache.resource, key, {"metadata": {"finalizers": None}})


async def _join(fleet: Fleet) -> list[float]:
    seconds = []
    for number in range(RUNS):
        name = f"new-{number}"
        began = time.perf_counter()
        await fleet.client.create(NODE, Metadata(metadata=ObjectMeta(name=name, labels=SELECTED)))
        seconds.append(await fleet.until(lambda name=name: fleet.children(name) == SETS) - began)  # type: ignore[misc]
    return seconds


async def _populate(client: Client) -> None:
    for number in range(NODES):
        labels = SELECTED if number < NODES - 1 else {}
        await client.create(NODE, Metadata(metadata=ObjectMeta(name=f"node-{number}", labels=labels)))
    for number in range(SETS // 2):
        meta = {"name": f"bench-{number}", "namespace": NAMESPACE}
        physical = {"interfaceType": "physical", "physical": {"interfaceName": f"p{number}"}}
        switches = [{"ports": [{"serviceInterface": {"matchLabels": {"port": f"p{number}"}}}]}]
        for resource, kind, template in (
            (SERVICE_INTERFACE_SET, ServiceInterfaceSet, {"metadata": {"labels": {"port": f"p{number}"}}, "spec": physical}),
            (SERVICE_CHAIN_SET, ServiceChainSet, {"spec": {"switches": switches}}),
        ):
            spec = {"nodeSelector": {"matchLabels": SELECTED}, "template": template}
            await client.create(resource, msgspec.convert({"metadata": meta, "spec": spec}, kind))  # type: ignore[type-var]
