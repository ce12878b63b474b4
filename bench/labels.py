"""A label that changes on one node of many: what the DPU cluster's controller writes, and how long it takes.

No rack: an API server and etcd alone, Nodes that nobody runs, and the controller in this process.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from dpuchain.api.chain import ServiceChainSet
from dpuchain.api.crds import DPU_KINDS, manifests
from dpuchain.api.interface import ServiceInterfaceSet
from dpuchain.api.kinds import NODE, SERVICE_CHAIN, SERVICE_CHAIN_SET, SERVICE_INTERFACE, SERVICE_INTERFACE_SET
from dpuchain.api.kubernetes import Metadata
from dpuchain.api.meta import ObjectKey, ObjectMeta
from dpuchain.dpu.process import run
from dpuchain.kube.cache import Cache
from dpuchain.kube.client import APPLY_PATCH, Client
from dpuchain.kube.errors import NotFound, Throttled
from dpuchain.lab.cluster import Cluster
from dpuchain.lab.manifests import dpu_definitions
from dpuchain.lab.toolchain import Toolchain

NODES = 300
SETS = 10
"""Half of them of interfaces, half of chains; each selects the nodes with the label."""
RUNS = 20
NAMESPACE = "dpf-operator-system"
SELECTED = {"bench": "selected"}
WRITES = ("POST", "PUT", "PATCH", "APPLY", "DELETE")
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

    async def writes(self) -> float:
        """The writes that the API server has answered so far, leases aside."""
        text = (await self.client.request("GET", "/metrics")).decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            if family.name == "apiserver_request"
            for sample in family.samples
            if sample.labels["verb"] in WRITES and sample.labels["resource"] not in ("leases", "apiservices", "flowschemas")
        )


async def measure() -> tuple[float, list[float], list[float]]:
    """Writes of one label change beyond the objects that it changes; seconds of each change; seconds until a new node has its objects."""
    with tempfile.TemporaryDirectory(prefix="dpuchain-bench-") as directory:
        cluster = Cluster("labels", Path(directory), Toolchain())
        await cluster.start()
        try:
            async with Client.from_kubeconfig(cluster.kubeconfig, user_agent="bench") as client, asyncio.TaskGroup() as group:
                await _define(client)
                fleet = Fleet(client)
                tasks = [group.create_task(cache.run()) for cache in fleet.caches]
                await _populate(client)
                own = Client.from_kubeconfig(cluster.kubeconfig, user_agent="dpuchain-dpu")
                tasks.append(group.create_task(run(own, "", None)))
                await fleet.until(lambda: fleet.counted == [NODES - 1] * SETS)
                surplus, changes = await _change_labels(fleet)
                joins = await _join(fleet)
                for task in tasks:
                    task.cancel()
        finally:
            await cluster.stop()
    return surplus, changes, joins


async def _change_labels(fleet: Fleet) -> tuple[float, list[float]]:
    """Give the last node the label and take it off, again and again."""
    last = f"node-{NODES - 1}"
    seconds: list[float] = []
    surplus = 0.0
    for number in range(RUNS):
        selected = number % 2 == 0
        # The label's own patch; for each set a child that is made and a status that counts it, or a child that is deleted and (by us, as
        # its agent) freed of its finalizer, and a status that counts it out and then says that it is gone.
        due = 1 + SETS * 2 if selected else 1 + SETS * 4
        before = await fleet.writes()
        began = time.perf_counter()
        await fleet.client.patch(NODE, ObjectKey("", last), {"metadata": {"labels": SELECTED if selected else dict.fromkeys(SELECTED)}})
        if selected:
            seconds.append(await fleet.until(lambda: fleet.children(last) == SETS) - began)
            await fleet.until(lambda: fleet.counted == [NODES] * SETS)
        else:
            await _let_go(fleet, last)
            await fleet.until(lambda: fleet.counted == [NODES - 1] * SETS and fleet.children(last) == 0)
        surplus = max(surplus, await fleet.writes() - before - due)
    return surplus, seconds


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


async def _define(client: Client) -> None:
    for definition in dpu_definitions():
        kind = {"Namespace": "/api/v1/namespaces"}.get(definition["kind"], "/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
        path = f"{kind}/{definition['metadata']['name']}"
        body = msgspec.json.encode(definition)
        await client.request("PATCH", path, body=body, content_type=APPLY_PATCH, query={"fieldManager": "bench", "force": "true"})
    for definition in manifests(DPU_KINDS):
        path = f"/apis/{definition['spec']['group']}/{definition['spec']['versions'][0]['name']}/{definition['spec']['names']['plural']}"
        await _served(client, path)


async def _served(client: Client, path: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await client.request("GET", path)
            except (NotFound, Throttled):
                await asyncio.sleep(0.05)
            else:
                return


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
