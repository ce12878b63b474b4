"""What tests of a DPU cluster's controller see and do: the objects of their namespace, by another client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dpuchain.api.chain import (
    Port,
    ServiceChain,
    ServiceChainSet,
    ServiceChainSetSpec,
    ServiceChainSpec,
    ServiceChainTemplate,
    ServiceInterfaceReference,
    Switch,
)
from dpuchain.api.conditions import Finding, find
from dpuchain.api.interface import (
    Physical,
    ServiceInterfaceSet,
    ServiceInterfaceSetSpec,
    ServiceInterfaceSpec,
    ServiceInterfaceTemplate,
)
from dpuchain.api.kinds import NODE, SERVICE_CHAIN, SERVICE_CHAIN_SET, SERVICE_INTERFACE_SET
from dpuchain.api.kubernetes import Metadata
from dpuchain.api.meta import LabelSelector, ObjectKey, ObjectMeta, TemplateMeta
from dpuchain.api.names import SERVICE_CHAIN_FINALIZER
from dpuchain.kube.cache import Cache
from dpuchain.kube.writes import StatusReporter, remove_finalizer
from dpuchain.runtime.metrics import exposition

if TYPE_CHECKING:
    from collections.abc import Callable

    from dpuchain.kube.client import Client

SWITCH = Switch(ports=(Port(service_interface=ServiceInterfaceReference(match_labels={"port": "p0"})),))


class World:
    """The objects of the test's namespace as another client watches them, and the writes of a test."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.client = client
        self.namespace = namespace
        self.sets = Cache(client, SERVICE_CHAIN_SET, namespace=namespace)
        self.interface_sets = Cache(client, SERVICE_INTERFACE_SET, namespace=namespace)
        self.chains = Cache(client, SERVICE_CHAIN, namespace=namespace)
        self.events = 0
        self._changed = asyncio.Event()
        for cache in self.caches:
            cache.subscribe(self._note)

    @property
    def caches(self) -> tuple[Cache[Any], ...]:
        return (self.sets, self.interface_sets, self.chains)

    def _note(self, _: object) -> None:
        self.events += 1
        self._changed.set()

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(30):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pytest.fail(f"not {what}:\n" + "\n".join(str(item) for cache in self.caches for item in cache))

    def key(self, name: str) -> ObjectKey:
        return ObjectKey(self.namespace, name)

    @property
    def nodes(self) -> set[str | None]:
        """The nodes that have a chain which is not on its way out."""
        return {chain.spec.node for chain in self.chains if chain.metadata.deletion_timestamp is None}

    def ready(self, cache: Cache[Any], name: str) -> str | None:
        item = cache.get(self.key(name))
        condition = find(item.status.conditions, "Ready") if item is not None else None
        return condition.status if condition is not None else None

    async def add_node(self, name: str, **labels: str) -> str:
        labels = {"test": self.namespace, **labels}
        node = Metadata(metadata=ObjectMeta(name=f"{name}-{self.namespace}", labels=labels))
        await self.client.create(NODE, node)
        return node.metadata.name

    async def add_set(self, name: str, **labels: str) -> None:
        template = ServiceChainTemplate(metadata=TemplateMeta(labels={"of": "template"}), spec=ServiceChainSpec(switches=(SWITCH,)))
        selector = LabelSelector(match_labels={"test": self.namespace, **labels})
        meta = ObjectMeta(name=name, namespace=self.namespace)
        spec = ServiceChainSetSpec(node_selector=selector, template=template)
        await self.client.create(SERVICE_CHAIN_SET, ServiceChainSet(metadata=meta, spec=spec))

    async def add_nodes(self, count: int, **labels: str) -> set[str]:
        return set(await asyncio.gather(*(self.add_node(f"dpu-{number}", **labels) for number in range(count))))

    async def serve(self, name: str, nodes: set[str]) -> None:
        """Wait until a set is on these nodes and nowhere else, and say of each chain what its agent would when it works."""
        await self.until(lambda: {c.spec.node for c in self.chains if c.metadata.name.startswith(f"{name}-")} == nodes, "on its nodes")
        await self.report(ready=True)
        count = len(nodes), len(nodes)
        await self.until(lambda: self.ready(self.sets, name) == "True" and self.counters(name) == count, "ready")

    async def add_idle_set(self, name: str) -> None:
        """Make a set of interfaces on no node, and wait until the controller has told of it."""
        template = ServiceInterfaceTemplate(spec=ServiceInterfaceSpec(interface_type="physical", physical=Physical(interface_name="p0")))
        spec = ServiceInterfaceSetSpec(node_selector=LabelSelector(match_labels={"test": "nobody"}), template=template)
        item = ServiceInterfaceSet(metadata=ObjectMeta(name=name, namespace=self.namespace), spec=spec)
        await self.client.create(SERVICE_INTERFACE_SET, item)
        await self.until(lambda: self.ready(self.interface_sets, name) == "True", "ready")

    @property
    def unready(self) -> set[str | None]:
        """The nodes whose chain is said not to work."""
        return {c.spec.node for c in self.chains if (ready := find(c.status.conditions, "Ready")) is not None and ready.status == "False"}

    def counters(self, name: str) -> tuple[int | None, int | None]:
        """How many objects a set says that it has, and how many of them work."""
        item = self.sets.get(self.key(name))
        return (item.status.number_applied, item.status.number_ready) if item is not None else (0, 0)

    async def report(self, *, ready: bool, on: set[str] | None = None) -> None:
        """Say of each chain (`on` these nodes) what its agent would."""
        reporter: StatusReporter[ServiceChain] = StatusReporter(self.client, SERVICE_CHAIN, "test")
        for chain in self.chains:
            assert chain.metadata.creation_timestamp is not None
            finding = Finding("Ready", "True" if ready else "False", "Success" if ready else "Pending", "" if ready else "because")
            if on is None or chain.spec.node in on:
                await reporter.report(chain, [finding], chain.metadata.creation_timestamp)

    async def let_go(self) -> None:
        """Take the agent's finalizer off each chain that is being deleted, as its agent would."""
        for chain in self.chains:
            if chain.metadata.deletion_timestamp is not None:
                await remove_finalizer(self.client, SERVICE_CHAIN, chain, SERVICE_CHAIN_FINALIZER)


async def measured(name: str, **labels: str) -> float:
    """A metric as it is told now; 0 if it is not told."""
    families = text_string_to_metric_families((await exposition()).decode())
    samples = (sample for family in families for sample in family.samples)
    return next((sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items()), 0.0)


async def until_measured(holds: Callable[[float], bool], name: str, **labels: str) -> None:
    """Wait until a metric is so."""
    async with asyncio.timeout(30):
        while not holds(await measured(name, **labels)):  # noqa: ASYNC110 - a metric tells nobody when it changes
            await asyncio.sleep(0.02)
