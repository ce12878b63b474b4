"""The agent's loop between a real API server and a real Open vSwitch (with dummy devices): objects in, ports, flows and status out."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest

from dpuchain.agent.process import Settings, run
from dpuchain.api.chain import Port, ServiceChain, ServiceChainSpec, ServiceInterfaceReference, Switch
from dpuchain.api.conditions import find
from dpuchain.api.interface import Physical, PhysicalFunction, ServiceInterface, ServiceInterfaceSpec
from dpuchain.api.kinds import SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.api.meta import ObjectKey, ObjectMeta, key_of
from dpuchain.api.names import SERVICE_CHAIN_FINALIZER, SERVICE_INTERFACE_FINALIZER
from dpuchain.kube.cache import Cache
from dpuchain.kube.client import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from dpuchain.lab.cluster import Cluster
    from dpuchain.lab.openvswitch import OpenVSwitch


class World:
    """What a test sees: the node's objects as another client watches them, and the switch."""

    def __init__(self, client: Client, namespace: str, switch: OpenVSwitch) -> None:
        self.client = client
        self.namespace = namespace
        self.node = f"node-of-{namespace}"  # the API server is shared
        self.switch = switch
        self.chains = Cache(client, SERVICE_CHAIN, namespace=namespace)
        self.interfaces = Cache(client, SERVICE_INTERFACE, namespace=namespace)
        self._changed = asyncio.Event()
        self.chains.subscribe(lambda _: self._changed.set())
        self.interfaces.subscribe(lambda _: self._changed.set())

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait for the objects to be so."""
        try:
            async with asyncio.timeout(15):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            state = [*self.chains, *self.interfaces]
            flows, ports = await self.switch.ofctl("dump-flows"), await self.switch.vsctl("show")
            pytest.fail(f"not {what}:\n" + "\n".join(map(str, state)) + f"\n{flows}\n{ports}")

    def ready(self, cache: Cache[Any], name: str) -> str | None:
        """Status of an object's Ready condition, if it speaks of the object's generation."""
        item = cache.get(ObjectKey(self.namespace, name))
        if item is None:
            return None
        condition = find(item.status.conditions, "Ready")
        return condition.status if condition and condition.observed_generation == item.metadata.generation else None

    def message(self, cache: Cache[Any], name: str) -> str:
        """Message of an object's Ready condition."""
        item = cache.get(ObjectKey(self.namespace, name))
        condition = find(item.status.conditions, "Ready") if item else None
        return condition.message if condition else ""

    def meta(self, name: str, finalizer: str) -> ObjectMeta:
        return ObjectMeta(name=name, namespace=self.namespace, labels={"port": name}, finalizers=(finalizer,))

    async def add_physical(self, name: str, device: str = "") -> None:
        spec = ServiceInterfaceSpec(node=self.node, interface_type="physical", physical=Physical(interface_name=device or name))
        await self.client.create(SERVICE_INTERFACE, ServiceInterface(metadata=self.meta(name, SERVICE_INTERFACE_FINALIZER), spec=spec))

    async def add_pf(self, name: str, number: int) -> None:
        spec = ServiceInterfaceSpec(node=self.node, interface_type="pf", pf=PhysicalFunction(pf_id=number))
        await self.client.create(SERVICE_INTERFACE, ServiceInterface(metadata=self.meta(name, SERVICE_INTERFACE_FINALIZER), spec=spec))

    async def add_chain(self, name: str, *switches: tuple[str, ...]) -> None:
        spec = ServiceChainSpec(
            node=self.node,
            switches=tuple(
                Switch(ports=tuple(Port(service_interface=ServiceInterfaceReference(match_labels={"port": port})) for port in switch))
                for switch in switches
            ),
        )
        await self.client.create(SERVICE_CHAIN, ServiceChain(metadata=self.meta(name, SERVICE_CHAIN_FINALIZER), spec=spec))

    async def flows(self) -> list[str]:
        return [line for line in (await self.switch.ofctl("dump-flows", "--no-stats")).splitlines() if "cookie=0xd9c" in line]

    async def until_flows(self, right: list[str]) -> None:
        """Wait until our flows are these; the switch tells the agent of its flows, and nobody tells the test."""
        for _ in range(200):
            if (now := sorted(await self.flows())) == right:
                return
            await asyncio.sleep(0.05)
        pytest.fail("the flows are\n" + "\n".join(now) + "\ninstead of\n" + "\n".join(right))

    async def passes(self, source: str, target: str) -> bool:
        """Whether the switch itself says that a frame which enters by `source` leaves by `target`."""
        number = (await self.switch.vsctl("get", "interface", source, "ofport")).strip()
        other = (await self.switch.vsctl("get", "interface", target, "ofport")).strip()
        frame = f"in_port={number},dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02"
        trace = await self.switch.appctl("ofproto/trace", "br-sfc", frame)
        actions = next(line for line in trace.splitlines() if line.startswith("Datapath actions:"))
        datapath = await self.switch.appctl("dpctl/show") if "drop" not in actions else ""
        return (
            f"port {_datapath_number(datapath, target)}" == f"port {actions.removeprefix('Datapath actions: ').strip()}" and other != "-1"
        )


def _datapath_number(show: str, name: str) -> str:
    for line in show.splitlines():
        head, _, rest = line.strip().partition(": ")
        if head.startswith("port ") and rest.split(" ")[0] == name:
            return head.removeprefix("port ")
    return "none"


@pytest.fixture
async def world(client: Client, namespace: str, ovs: OpenVSwitch) -> AsyncIterator[World]:
    world = World(client, namespace, ovs)
    async with asyncio.TaskGroup() as group:
        watches = [group.create_task(cache.run()) for cache in (world.chains, world.interfaces)]
        yield world
        for kind in (SERVICE_CHAIN, SERVICE_INTERFACE):  # so that the namespace can go though no agent runs any more
            for item in (await client.list(kind, namespace=namespace)).items:
                await client.patch(kind, key_of(item), {"metadata": {"finalizers": None}})
                if item.metadata.deletion_timestamp is None:
                    await client.delete(kind, key_of(item))
        for watch in watches:
            watch.cancel()


@pytest.fixture
async def start_agent(
    world: World, api_server: Cluster, ovs: OpenVSwitch, tmp_path: Path
) -> AsyncIterator[Callable[[], asyncio.Task[None]]]:
    """Return `start_agent()`: an agent of the test's node on the test's switch, as a task; it ends with the test."""
    tasks: list[asyncio.Task[None]] = []

    def start() -> asyncio.Task[None]:
        settings = Settings(world.node, "br-sfc", ovs.database, ovs.management, tmp_path / "cni.sock", "")
        task = asyncio.ensure_future(run(Client.from_kubeconfig(api_server.kubeconfig, user_agent="agent"), settings))
        tasks.append(task)
        return task

    yield start
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, asyncio.CancelledError), outcome


@pytest.fixture
def agent(start_agent: Callable[[], asyncio.Task[None]]) -> asyncio.Task[None]:
    return start_agent()


async def test_chain_of_two_devices_becomes_a_wire_and_goes_without_a_trace(world: World, agent: asyncio.Task[None]) -> None:
    await world.add_physical("p0")
    await world.add_pf("host", 0)
    await world.add_chain("chain", ("p0", "host"))
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    assert await world.passes("p0", "pf0hpf")
    assert await world.passes("pf0hpf", "p0")
    assert (await world.switch.vsctl("get", "interface", "p0", "mtu_request")).strip() == "9216"
    assert (await world.switch.vsctl("get", "interface", "p0", "external_ids:dpf-id")).strip() == f'"{world.namespace}/p0"'
    assert (await world.switch.vsctl("get", "port", "p0", "external_ids:dpf-type")).strip() == "physical"
    assert world.ready(world.interfaces, "p0") == "True"

    await world.client.delete(SERVICE_CHAIN, ObjectKey(world.namespace, "chain"))
    await world.until(lambda: len(world.chains) == 0, "gone")
    assert await world.flows() == []
    assert "p0" in await world.switch.vsctl("list-ports", "br-sfc")
    for name in ("p0", "host"):
        await world.client.delete(SERVICE_INTERFACE, ObjectKey(world.namespace, name))
    await world.until(lambda: len(world.interfaces) == 0, "gone")
    assert await world.switch.vsctl("list-ports", "br-sfc") == ""


async def test_what_comes_later_completes_the_chain(world: World, agent: asyncio.Task[None]) -> None:
    await world.add_chain("chain", ("p0", "p1"))
    await world.until(lambda: world.ready(world.chains, "chain") == "False", "refused")
    words = f"no serviceInterface in namespace({world.namespace}) matching labels(map[port:p0]) on node({world.node}) found"
    assert words in world.message(world.chains, "chain")
    await world.add_physical("p0")
    await world.add_physical("p1")
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    assert await world.passes("p0", "p1")


async def test_second_claimant_of_a_port_is_told_and_takes_over_when_the_first_goes(world: World, agent: asyncio.Task[None]) -> None:
    await world.add_physical("first", "p0")
    await world.until(lambda: world.ready(world.interfaces, "first") == "True", "ready")
    await world.add_physical("second", "p0")
    await world.until(lambda: world.ready(world.interfaces, "second") == "False", "refused")
    assert f"port p0 is owned by ServiceInterface {world.namespace}/first" in world.message(world.interfaces, "second")
    await world.add_chain("chain", ("second", "first"))
    await world.until(lambda: world.ready(world.chains, "chain") == "False", "refused")
    assert f"failed to find matching interface with external_ids: map[dpf-id:{world.namespace}/second]" in world.message(
        world.chains, "chain"
    )
    number = await world.switch.vsctl("get", "interface", "p0", "ofport")
    await world.client.delete(SERVICE_INTERFACE, ObjectKey(world.namespace, "first"))
    await world.until(lambda: world.ready(world.interfaces, "second") == "True", "taken over")
    assert await world.switch.vsctl("get", "interface", "p0", "ofport") == number


async def test_flows_are_back_after_a_restart_of_the_daemon(world: World, agent: asyncio.Task[None]) -> None:
    await world.add_physical("p0")
    await world.add_physical("p1")
    await world.add_chain("chain", ("p0", "p1"))
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    await world.switch.stop_daemon()
    await world.until(lambda: world.ready(world.chains, "chain") == "False", "known to be away")
    await world.switch.start_daemon()
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready again")
    assert await world.passes("p0", "p1")


async def test_restarted_agent_leaves_what_is_right_and_removes_what_nobody_wants(
    world: World, start_agent: Callable[[], asyncio.Task[None]]
) -> None:
    first = start_agent()
    for name in ("p0", "p1", "p2", "p3"):
        await world.add_physical(name)
    await world.add_chain("stays", ("p0", "p1"))
    await world.until(lambda: world.ready(world.chains, "stays") == "True", "ready")
    before = await world.flows()
    await world.add_chain("goes", ("p2", "p3"))
    await world.until(lambda: world.ready(world.chains, "goes") == "True", "ready")
    assert len(await world.flows()) == 4
    await world.switch.ofctl("add-flow", "cookie=0x1234,priority=7,in_port=99,actions=drop")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await world.client.delete(SERVICE_CHAIN, ObjectKey(world.namespace, "goes"))
    await world.client.delete(SERVICE_INTERFACE, ObjectKey(world.namespace, "p3"))
    start_agent()
    await world.until(lambda: len(world.chains) == 1 and len(world.interfaces) == 3, "gone")
    after = await world.flows()
    assert sorted(after) == sorted(before)
    assert len(after) == 2
    assert "p3" not in (await world.switch.vsctl("list-ports", "br-sfc")).split()
    assert "0x1234" in await world.switch.ofctl("dump-flows"), "a flow that is not ours was removed"


async def test_without_its_bridge_nothing_is_ready_and_with_it_everything(world: World, agent: asyncio.Task[None]) -> None:
    await world.switch.vsctl("del-br", "br-sfc")
    await world.add_physical("p0")
    await world.until(lambda: "bridge br-sfc does not exist" in world.message(world.interfaces, "p0"), "told")
    await world.switch.vsctl("add-br", "br-sfc", "--", "set", "bridge", "br-sfc", "datapath_type=netdev", "fail_mode=secure")
    await world.until(lambda: world.ready(world.interfaces, "p0") == "True", "ready")


async def test_object_that_changes_is_followed(world: World, agent: asyncio.Task[None]) -> None:
    for name in ("p0", "p1", "p2"):
        await world.add_physical(name)
    await world.add_chain("chain", ("p0", "p1"))
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    switches = [{"ports": [{"serviceInterface": {"matchLabels": {"port": name}}} for name in ("p0", "p2")]}]
    await world.client.patch(SERVICE_CHAIN, ObjectKey(world.namespace, "chain"), {"spec": {"switches": switches}})
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    assert await world.passes("p0", "p2")
    assert not await world.passes("p0", "p1")


async def test_restart_of_the_database_changes_no_flow(world: World, agent: asyncio.Task[None]) -> None:
    for name in ("p0", "p1"):
        await world.add_physical(name)
    await world.add_chain("chain", ("p0", "p1"))
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    right = sorted(await world.flows())
    monitor = await asyncio.create_subprocess_exec(
        "ovs-ofctl",
        *("-O", "OpenFlow14", "monitor", f"unix:{world.switch.management}", "watch:!initial"),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **world.switch.environment},
    )
    assert monitor.stderr is not None
    await monitor.stderr.readline()  # it watches
    await world.switch.restart_server()
    await world.until(lambda: world.ready(world.chains, "chain") == "False", "known to be away")
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready again")
    monitor.terminate()
    events = (await monitor.stderr.read()).decode()
    assert "event=" not in events, events
    assert sorted(await world.flows()) == right


async def test_changes_of_others_to_what_is_ours_are_undone_and_theirs_is_left(world: World, agent: asyncio.Task[None]) -> None:
    for name in ("p0", "p1", "p2"):
        await world.add_physical(name)
    await world.add_chain("chain", ("p0", "p1", "p2"))
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    right = sorted(await world.flows())
    await world.switch.ofctl("add-flow", "cookie=0x77,table=7,priority=9,actions=drop")
    brand = right[0].split("cookie=")[1].split(",")[0]
    for damage in (
        ("del-flows", "table=0,in_port=p0"),
        ("mod-flows", "--strict", "table=0,priority=1000,in_port=p0,actions=drop"),
        ("add-flow", f"cookie={brand},table=2,priority=5,actions=drop"),
        ("add-flow", "cookie=0x78,table=0,priority=1000,in_port=p1,actions=drop"),
        ("del-flows",),
    ):
        await world.switch.ofctl(*damage)
        await world.until_flows(right)
    await world.switch.vsctl("del-port", "br-sfc", "p0")
    await world.switch.vsctl("remove", "interface", "p1", "external_ids", "dpf-id")
    await world.until_flows(right)
    assert (await world.switch.vsctl("get", "interface", "p1", "external_ids:dpf-id")).strip() == f'"{world.namespace}/p1"'


async def test_fight_with_another_writer_is_slowed_and_told_until_it_ends(world: World, agent: asyncio.Task[None]) -> None:
    for name in ("p0", "p1"):
        await world.add_physical(name)
    await world.add_chain("chain", ("p0", "p1"))
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")

    async def other() -> None:
        while True:
            await world.switch.ofctl("del-flows", "table=0")

    writer = asyncio.ensure_future(other())
    await world.until(lambda: "somebody else keeps changing" in world.message(world.chains, "chain"), "told")
    writer.cancel()
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready again")
    assert await world.passes("p0", "p1")
