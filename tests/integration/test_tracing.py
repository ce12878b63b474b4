"""One change, from an object of the host cluster to the flows of a real switch, as a collector is told of it by the real processes.

Host and DPU cluster are the same API server.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from dpuchain.agent import process as agent_process
from dpuchain.agent.process import Settings
from dpuchain.api import kinds
from dpuchain.api.chain import DPUServiceChain
from dpuchain.api.conditions import find
from dpuchain.api.fleet import DPUCluster
from dpuchain.api.interface import DPUServiceInterface
from dpuchain.api.kubernetes import Metadata, Secret
from dpuchain.api.meta import ObjectKey, ObjectMeta, key_of
from dpuchain.api.names import TRACEPARENT_ANNOTATION
from dpuchain.dpu import process as dpu_process
from dpuchain.host import process as host_process
from dpuchain.host.helm import Helm
from dpuchain.kube.cache import Cache
from dpuchain.kube.client import Client
from dpuchain.kube.secrets import KUBECONFIG_KEY
from dpuchain.lab.process import Command, Process
from dpuchain.runtime.endpoints import NOWHERE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from dpuchain.api.resource import Resource
    from dpuchain.lab.cluster import Cluster
    from dpuchain.lab.openvswitch import OpenVSwitch

WRITTEN: tuple[Resource[Any], ...] = (
    kinds.DPU_SERVICE_CHAIN,
    kinds.DPU_SERVICE_INTERFACE,
    kinds.SERVICE_CHAIN_SET,
    kinds.SERVICE_INTERFACE_SET,
    kinds.SERVICE_CHAIN,
    kinds.SERVICE_INTERFACE,
)


class Collector:
    """An OTLP receiver that keeps what it is told, and answers unless it hangs."""

    def __init__(self) -> None:
        self.spans: dict[str, dict[str, Any]] = {}
        self.requests = 0
        self.released = asyncio.Event()
        self.released.set()
        self.told = asyncio.Event()

    async def receive(self, request: web.Request) -> web.Response:
        self.requests += 1
        self.told.set()
        await self.released.wait()
        sent = ExportTraceServiceRequest()
        sent.MergeFromString(await request.read())
        for of_process in sent.resource_spans:
            resource = {item.key: item.value.string_value for item in of_process.resource.attributes}
            for span in (span for scope in of_process.scope_spans for span in scope.spans):
                values = {item.key: item.value for item in span.attributes}
                attributes = {key: getattr(value, value.WhichOneof("value")) for key, value in values.items()}
                self.spans[span.span_id.hex()] = {
                    "trace": span.trace_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "name": span.name,
                    "process": resource["service.name"],
                    "failed": span.status.code == 2,
                    **resource,
                    **attributes,
                }
        return web.Response(body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf")

    def tree(self, *roots: str) -> dict[str, Any]:
        """The spans below some, as names of processes and spans; those of one name together, as a status may be written twice."""
        below: dict[str, list[str]] = {}
        for key, span in self.spans.items():
            if span["parent"] in roots:
                below.setdefault(f"{span['process'].removeprefix('dpuchain-')}: {span['name']}", []).append(key)
        return {name: self.tree(*keys) for name, keys in below.items()}

    def root(self, kind: str, namespace: str, name: str) -> str:
        """The span that a trace about an object of the host cluster begins with; empty if there is none."""
        roots = {key: span for key, span in self.spans.items() if not span["parent"]}
        about = ("k8s.object.kind", "k8s.namespace.name", "k8s.object.name")
        found = [key for key, span in roots.items() if tuple(span[part] for part in about) == (kind, namespace, name)]
        assert len(found) <= 1, found
        return "".join(found)


class World:
    """The test's node, its processes, and the objects of its namespace as another client watches them."""

    def __init__(self, client: Client, namespace: str, cluster: Cluster, switch: OpenVSwitch, directory: Path) -> None:
        self.client = client
        self.namespace = namespace
        self.node = f"node-of-{namespace}"
        self.processes: list[Process] = []
        self._cluster, self._switch, self._directory = cluster, switch, directory
        self._changed = asyncio.Event()
        self.caches = {resource.kind: Cache(client, resource, namespace=namespace) for resource in WRITTEN}
        for cache in self.caches.values():
            cache.subscribe(lambda _: self._changed.set())

    async def until(self, holds: Callable[[], bool], what: str, collector: Collector | None = None) -> None:
        """Wait until it is so, looking whenever an object changes, or whoever else tells."""
        event = collector.told if collector is not None else self._changed
        try:
            async with asyncio.timeout(60):  # the processes start meanwhile
                while not holds():
                    event.clear()
                    await event.wait()
        except TimeoutError:
            found = collector.spans.items() if collector is not None else ()
            spans = [(span["parent"][:6], key[:6], span["process"], span["name"]) for key, span in found]
            logs = "\n".join(process.log.read_text()[-3000:] for process in self.processes)
            pytest.fail(f"not {what}: {spans}\n{logs}\n" + "\n".join(str(item) for cache in self.caches.values() for item in cache))

    def ready(self, kind: str, name: str) -> bool:
        item: Any = self.caches[kind].get(ObjectKey(self.namespace, name))
        condition = find(item.status.conditions, "Ready") if item is not None else None
        return condition is not None and (condition.status, condition.observed_generation) == ("True", item.metadata.generation)

    async def add_cluster(self) -> None:
        """The DPU cluster, which is the same API server, and the node in it."""
        content = base64.b64encode(self._cluster.kubeconfig.read_bytes()).decode()
        meta = ObjectMeta(name="east", namespace=self.namespace, labels={"test": self.namespace})
        await self.client.create(kinds.NODE, Metadata(metadata=ObjectMeta(name=self.node, labels={"test": self.namespace})))
        await self.client.create(kinds.SECRET, Secret(metadata=meta, data={KUBECONFIG_KEY: content}))
        spec = {"type": "static", "version": "v1.33.0", "kubeconfig": "east"}
        await self.client.create(kinds.DPU_CLUSTER, msgspec.convert({"metadata": msgspec.to_builtins(meta), "spec": spec}, DPUCluster))

    async def add_interface(self, name: str) -> None:
        physical = {"interfaceType": "physical", "physical": {"interfaceName": name}}
        await self._add(kinds.DPU_SERVICE_INTERFACE, DPUServiceInterface, name, {"metadata": {"labels": {"port": name}}, "spec": physical})

    async def add_chain(self, name: str, *ports: str) -> None:
        switch = {"ports": [{"serviceInterface": {"matchLabels": {"port": port}}} for port in ports]}
        await self._add(kinds.DPU_SERVICE_CHAIN, DPUServiceChain, name, {"spec": {"switches": [switch]}})

    async def _add(self, resource: Resource[Any], kind: Any, name: str, template: dict[str, Any]) -> None:
        selector = {"matchLabels": {"test": self.namespace}}
        content = {
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"dpuClusterSelector": selector, "template": {"spec": {"nodeSelector": selector, "template": template}}},
        }
        await self.client.create(resource, msgspec.convert(content, kind))

    def traced(self, name: str) -> bool:
        """Whether anything that was made of an object says something of a trace."""
        return any(
            item.metadata.name.startswith(name) and TRACEPARENT_ANNOTATION in item.metadata.annotations
            for cache in self.caches.values()
            for item in cache
        )

    async def versions(self) -> dict[tuple[str, ObjectKey], str]:
        """The resource version of everything, as the API server has it now: equal before and after if nobody wrote."""
        listings = [(resource.kind, await self.client.list(resource, namespace=self.namespace)) for resource in WRITTEN]
        return {(kind, key_of(item)): item.metadata.resource_version for kind, listing in listings for item in listing.items}

    def start(self, endpoint: str) -> None:
        """Start the host controller, the DPU cluster's controller and the agent."""
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        node = [
            f"--node={self.node}",
            f"--ovsdb={self._switch.database}",
            f"--openflow={self._switch.management}",
            f"--cni-socket={self._directory / 'cni.sock'}",
            "--address=",
        ]
        for kind, arguments in (("host", []), ("dpu", []), ("agent", node)):
            program = [sys.executable, "-m", "dpuchain", kind, f"--kubeconfig={self._cluster.kubeconfig}", *arguments]
            self.processes.append(Process.start(Command(kind, program, environment), self._directory / f"{kind}.log"))

    @contextlib.asynccontextmanager
    async def untraced(self) -> AsyncIterator[None]:
        """The same three in this process, where nothing is traced."""
        host, dpu, agent = (Client.from_kubeconfig(self._cluster.kubeconfig, user_agent="tests") for _ in range(3))
        socket, switch = self._directory / "cni.sock", self._switch
        settings = Settings(self.node, "br-sfc", switch.database, switch.management, socket)
        helm = Helm("helm", {}, self._cluster.kubeconfig)
        works = (host_process.run(host, helm, NOWHERE, None), dpu_process.run(dpu, NOWHERE, None), agent_process.run(agent, settings))
        tasks = [asyncio.ensure_future(work) for work in works]
        yield
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, asyncio.CancelledError), outcome

    async def stop(self) -> None:
        """End the processes as Kubernetes does; each ends by itself."""
        for process in self.processes:
            await process.stop()
        self.processes.clear()


@pytest.fixture
async def collector() -> Collector:
    return Collector()


@pytest.fixture
async def endpoint(collector: Collector) -> AsyncIterator[str]:
    application = web.Application()
    application.add_routes([web.post("/v1/traces", collector.receive)])
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    collector.released.set()
    await runner.cleanup()


@pytest.fixture
async def world(client: Client, namespace: str, api_server: Cluster, ovs: OpenVSwitch, tmp_path: Path) -> AsyncIterator[World]:
    world = World(client, namespace, api_server, ovs, tmp_path)
    async with asyncio.TaskGroup() as group:
        watches = [group.create_task(cache.run()) for cache in world.caches.values()]
        await world.add_cluster()
        yield world
        await world.stop()
        await client.delete(kinds.DPU_CLUSTER, ObjectKey(namespace, "east"))
        await client.delete(kinds.NODE, ObjectKey("", world.node))
        for resource in WRITTEN:
            for item in (await client.list(resource, namespace=namespace)).items:
                await client.patch(resource, key_of(item), {"metadata": {"finalizers": None}})
                await client.delete(resource, key_of(item))
        for watch in watches:
            watch.cancel()


async def test_one_change_is_one_trace_through_three_processes(world: World, collector: Collector, endpoint: str) -> None:
    world.start(endpoint)
    await world.add_interface("first")  # the first pass of an agent writes the flows that no object is the cause of, for whoever is there
    await world.until(lambda: world.ready("DPUServiceInterface", "first"), "begun")
    for name in ("p0", "p1"):
        await world.add_interface(name)
    await world.until(lambda: all(world.ready("DPUServiceInterface", name) for name in ("p0", "p1")), "interfaces ready")
    await world.add_chain("chain", "p0", "p1")
    await world.until(lambda: world.ready("DPUServiceChain", "chain"), "ready")
    for kind, name, work in (("Chain", "chain", ("change flows", "read flows back")), ("Interface", "p0", ("make ports",))):
        expected = _way(kind, *work)
        root = await _traced(world, collector, f"DPUService{kind}", name, expected)
        assert collector.tree(root) == expected
        _tells_where(world, collector, collector.spans[root]["trace"], f"Service{kind}")

    # What has settled is written by nobody, though each object names another span than any that is made now.
    before = await world.versions()
    collector.released.clear()  # and whatever the collector does
    await world.add_interface("p2")
    await world.until(lambda: world.ready("DPUServiceInterface", "p2"), "ready while the collector hangs")
    await world.stop()
    versions = await world.versions()
    assert {key: versions[key] for key in before} == before

    # Where nothing is traced, what is left of traces is no difference, and nothing new is left.
    async with world.untraced():
        await world.add_interface("p3")
        await world.until(lambda: world.ready("DPUServiceInterface", "p3"), "ready without traces")
    assert {key: version for key, version in (await world.versions()).items() if key in versions} == versions
    assert world.traced("p2")
    assert not world.traced("p3")


def _way(kind: str, *work: str) -> dict[str, Any]:
    """The spans below the change of an object of the host cluster."""
    status = f"write status of Service{kind}"
    carried_out: dict[str, Any] = {f"agent: {name}": {} for name in (*work, status)}
    written = {f"agent: carry out Service{kind}": carried_out}
    expanded = {f"dpu: write Service{kind}": written, f"dpu: {status}Set": {}}
    return {
        f"host: write Service{kind}Set": {f"dpu: expand Service{kind}Set": expanded},
        f"host: write status of DPUService{kind}": {},
    }


async def _traced(world: World, collector: Collector, kind: str, name: str, expected: dict[str, Any]) -> str:
    """The span that the trace of an object begins with, when all processes have told of theirs."""

    def complete() -> bool:
        return bool(root := collector.root(kind, world.namespace, name)) and collector.tree(root) == expected

    await world.until(complete, f"traced as {expected}", collector)
    return collector.root(kind, world.namespace, name)


def _tells_where(world: World, collector: Collector, trace: str, kind: str) -> None:
    """Each span names its object, and where that is; of what is written on a node the trace is the object's annotation, too."""
    spans = {span["name"]: span for span in collector.spans.values() if span["trace"] == trace}
    assert not [span for span in spans.values() if span["failed"] or span.get("k8s.namespace.name", world.namespace) != world.namespace]
    assert spans[f"write {kind}Set"]["k8s.cluster.name"] == f"{world.namespace}/east"
    assert spans[f"write {kind}"]["k8s.node.name"] == spans[f"carry out {kind}"]["k8s.node.name"] == world.node
    item = next(item for item in world.caches[kind] if item.metadata.uid == spans[f"carry out {kind}"]["k8s.object.uid"])
    _, of_trace, writing, _ = item.metadata.annotations[TRACEPARENT_ANNOTATION].split("-")
    assert (of_trace, collector.spans[writing]["name"]) == (trace, f"write {kind}")
