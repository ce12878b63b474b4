"""What comes just while the agent waits for the switch: a pass tells of the objects that it has looked at, and of no others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from bench.fleet.switch import MemoryDatabase, MemoryOpenFlow
from msgspec import to_builtins
from msgspec.structs import replace
from tests.integration.agent.world import World

from dpuchain.agent.attachment import DEVICE
from dpuchain.agent.contact import Contact
from dpuchain.agent.evidence import Subject
from dpuchain.agent.netlink import Aliases
from dpuchain.agent.node import NodeObjects
from dpuchain.agent.representors import Devices
from dpuchain.agent.status import Status
from dpuchain.agent.switch import Dpu, Switch
from dpuchain.api.conditions import find
from dpuchain.api.kinds import SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.api.meta import ObjectKey
from dpuchain.kube.errors import NotFound
from dpuchain.runtime.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from dpuchain.flows.model import FlowChanges
    from dpuchain.kube.client import Client


class HeldOpenFlow(MemoryOpenFlow):
    """Confirms changes, which are made at once, only while `confirming` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.confirming = asyncio.Event()
        self.confirming.set()
        self.applied = asyncio.Event()

    async def apply(self, changes: FlowChanges) -> None:
        await super().apply(changes)
        self.applied.set()
        await self.confirming.wait()


class Node:
    """An agent's switch and status, of which each step is taken by the test, and an API server's objects."""

    def __init__(self, client: Client, world: World, sysfs: Path) -> None:
        self.client = client
        self.world = world
        self.openflow = HeldOpenFlow()
        self.database = MemoryDatabase()
        self.objects = NodeObjects.of(client, world.node)
        clock = SystemClock()
        dpu = Dpu("br-sfc", self.database, self.openflow, Devices(sysfs), Aliases(DEVICE))
        self.status = Status(client, self.objects, clock)
        self.switch = Switch(dpu, self.objects, Contact(client, self.objects, clock), lambda _: None, clock)
        self._changed = asyncio.Event()
        for cache in self.objects:
            cache.subscribe(lambda _: self._changed.set())
        self.database.subscribe(self._changed.set)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(15):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def settle(self, subject: Subject) -> None:
        """A pass, and what it says of an object."""
        await self.switch.reconcile("")
        await self.tell(subject)

    async def tell(self, subject: Subject) -> None:
        """What was seen last of an object, however new it is."""
        self.status.evidence = self.switch.evidence
        if (wait := await self.status.reconcile(subject)) is not None:
            await asyncio.sleep(wait)
            await self.status.reconcile(subject)

    def cached(self, subject: Subject) -> Any:
        return (self.objects.chains if subject.kind == "ServiceChain" else self.objects.interfaces).get(subject.key)

    async def delete(self, subject: Subject) -> None:
        """Until the agent has heard of it."""
        await self.client.delete(SERVICE_CHAIN if subject.kind == "ServiceChain" else SERVICE_INTERFACE, subject.key)
        await self.until(lambda: self.cached(subject).metadata.deletion_timestamp is not None)

    async def held_pass(self) -> asyncio.Task[Any]:
        """A pass whose changes have been made and not been confirmed."""
        self.openflow.confirming.clear()
        self.openflow.applied.clear()
        running = asyncio.ensure_future(self.switch.reconcile(""))
        await asyncio.wait_for(self.openflow.applied.wait(), 15)
        return running


@pytest.fixture
async def node(client: Client, namespace: str, tmp_path: Path) -> AsyncIterator[Node]:
    """A node with ports p0 to p2 and a chain of two of them, of which nothing has been said yet."""
    (tmp_path / "class/net").mkdir(parents=True)
    world: Any = World(client, namespace, None)  # type: ignore[arg-type]  # whose switch is in memory
    found = Node(client, world, tmp_path)
    runners = [asyncio.ensure_future(part.run()) for part in (*found.objects, found.database, found.openflow)]
    for part in (*found.objects, found.database, found.openflow):
        await part.synced()
    for name in ("p0", "p1", "p2"):
        await world.add_physical(name)
    await world.add_chain("c", ("p0", "p1"))
    await found.until(lambda: len(found.objects.interfaces) == 3 and len(found.objects.chains) == 1)
    await found.switch.reconcile("")
    await found.until(lambda: all(row.ofport for row in found.database.bridges()["br-sfc"].values()))
    await found.switch.reconcile("")
    assert all(verdict.problems == () for verdict in found.switch.evidence.verdicts.values())
    yield found
    for item in (*found.objects.chains, *found.objects.interfaces):
        kind: Any = SERVICE_CHAIN if item in tuple(found.objects.chains) else SERVICE_INTERFACE
        await client.patch(kind, ObjectKey(namespace, item.metadata.name), {"metadata": {"finalizers": None}})
    for runner in runners:
        runner.cancel()
    await asyncio.wait(runners)


async def gone(node: Node, subject: Subject) -> None:
    """Deleted, found released, and away."""
    await node.delete(subject)
    await node.settle(subject)
    await node.until(lambda: node.cached(subject) is None)


async def test_a_chain_made_again_is_not_let_go_by_what_was_seen_of_its_predecessor(node: Node) -> None:
    chain = Subject("ServiceChain", ObjectKey(node.world.namespace, "c"))
    await gone(node, chain)
    await node.world.add_chain("c", ("p0", "p1"))
    await node.until(lambda: node.cached(chain) is not None)
    running = await node.held_pass()
    await node.delete(chain)
    await node.tell(chain)
    assert (await node.openflow.read_state()).flows
    assert (await node.client.get(SERVICE_CHAIN, chain.key)).metadata.finalizers, "let go while its flows are there"
    node.openflow.confirming.set()
    await running
    await node.settle(chain)
    assert not (await node.openflow.read_state()).flows
    with pytest.raises(NotFound):
        await node.client.get(SERVICE_CHAIN, chain.key)


async def test_an_interface_made_again_is_not_let_go_by_what_was_seen_of_its_predecessor(node: Node) -> None:
    interface = Subject("ServiceInterface", ObjectKey(node.world.namespace, "p2"))
    await gone(node, interface)
    await node.world.add_physical("p2")
    await node.world.add_chain("d", ("p2",))
    await node.until(lambda: node.cached(interface) is not None and len(node.objects.chains) == 2)
    running = await node.held_pass()
    await node.delete(interface)
    await node.tell(interface)
    assert "p2" in node.database.bridges()["br-sfc"]
    assert (await node.client.get(SERVICE_INTERFACE, interface.key)).metadata.finalizers, "let go while its port is there"
    node.openflow.confirming.set()
    await running
    await node.settle(interface)
    with pytest.raises(NotFound):
        await node.client.get(SERVICE_INTERFACE, interface.key)


async def test_a_pass_that_goes_on_for_long_says_nothing_of_an_object_that_was_changed_meanwhile(node: Node) -> None:
    chain = Subject("ServiceChain", ObjectKey(node.world.namespace, "c"))
    await gone(node, chain)
    await node.world.add_chain("c", ("p0", "p1"))
    await node.until(lambda: node.cached(chain) is not None)
    running = await node.held_pass()
    item = await node.client.get(SERVICE_CHAIN, chain.key)
    (switch,) = item.spec.switches
    smaller = replace(switch, ports=switch.ports[:1])
    await node.client.patch(SERVICE_CHAIN, chain.key, {"spec": {"switches": [to_builtins(smaller)]}})
    await node.until(lambda: node.cached(chain).metadata.generation > item.metadata.generation)
    node.openflow.confirming.set()
    await running
    await node.tell(chain)
    ready = find((await node.client.get(SERVICE_CHAIN, chain.key)).status.conditions, "Ready")
    assert ready is None or ready.observed_generation == item.metadata.generation, "said of flows that nobody has looked for"
    await node.settle(chain)
    ready = find((await node.client.get(SERVICE_CHAIN, chain.key)).status.conditions, "Ready")
    assert ready is not None
    assert ready.observed_generation == item.metadata.generation + 1
