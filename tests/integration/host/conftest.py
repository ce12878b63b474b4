"""A host cluster, two DPU clusters, a chart repository and the host controller, as its tests use them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import os
import signal
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from dpuchain.api import kinds
from dpuchain.api.chain import DPUServiceChain
from dpuchain.api.conditions import Finding, find
from dpuchain.api.fleet import DPFOperatorConfig, DPUCluster
from dpuchain.api.interface import DPUServiceInterface
from dpuchain.api.kubernetes import Metadata, Secret
from dpuchain.api.meta import ObjectKey, ObjectMeta, key_of
from dpuchain.api.names import OPERATOR_CONFIG_NAME, OPERATOR_NAMESPACE, READY
from dpuchain.api.service import DPUService
from dpuchain.chain.installation import Package
from dpuchain.host.helm import Helm
from dpuchain.host.process import run
from dpuchain.kube.cache import Cache
from dpuchain.kube.client import Client
from dpuchain.kube.errors import AlreadyExists, NotFound
from dpuchain.kube.secrets import KUBECONFIG_KEY
from dpuchain.kube.writes import StatusReporter, remove_finalizer
from dpuchain.lab.charts import REPOSITORY, helm_environment, package, serve
from dpuchain.lab.cluster import Cluster
from dpuchain.runtime.endpoints import NOWHERE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from pathlib import Path

    from tests.conftest import Background

    from dpuchain.api.meta import Condition
    from dpuchain.lab.toolchain import Toolchain

MEMBERS = ("north", "south")
HOST_KINDS = (kinds.DPU_SERVICE_CHAIN, kinds.DPU_SERVICE_INTERFACE, kinds.DPU_SERVICE, kinds.DPU_CLUSTER, kinds.DPF_OPERATOR_CONFIG)
MEMBER_KINDS = (kinds.SERVICE_CHAIN_SET, kinds.SERVICE_INTERFACE_SET, kinds.DAEMON_SET)


@dataclass(frozen=True)
class Fleet:
    """What runs for all tests of the host controller."""

    host: Cluster
    members: Mapping[str, Cluster]
    helm: str
    charts: Path
    """Folder that `url` serves; the example's charts are in its folder `doca`."""
    url: str
    background: Background

    def stop_api_server(self, name: str) -> None:
        """Kill the API server of a DPU cluster; its etcd goes on."""
        self.background.run(self.members[name].processes[-1].stop(first=signal.SIGKILL))

    def start_api_server(self, name: str) -> None:
        """Start it again; returns at once."""

        async def start() -> None:
            self.members[name].processes[-1].start_again()

        self.background.run(start())

    @contextlib.contextmanager
    def paused_api_server(self, name: str) -> Iterator[None]:
        """Have the API server of a DPU cluster take connections and answer nothing."""
        pid = self.members[name].processes[-1].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="package")
def fleet(background: Background, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    from tests.conftest import RUNNING, define_kinds

    clusters = {name: Cluster(name, tmp_path_factory.mktemp(name), toolchain) for name in ("host", *MEMBERS)}
    folder = tmp_path_factory.mktemp("charts")

    async def start(stack: contextlib.AsyncExitStack) -> str:
        (folder / "doca").mkdir()
        for cluster in clusters.values():
            stack.push_async_callback(cluster.stop)
            stack.callback(RUNNING.remove, cluster)
            RUNNING.append(cluster)
        await asyncio.gather(*(cluster.start() for cluster in clusters.values()))
        await asyncio.gather(*(define_kinds(cluster) for cluster in clusters.values()))
        await package(folder / "doca", toolchain, helm_environment(tmp_path_factory.mktemp("helm")))
        return await stack.enter_async_context(serve(folder))

    stack = contextlib.AsyncExitStack()
    try:
        url = background.run(start(stack))
        members = {name: clusters[name] for name in MEMBERS}
        yield Fleet(clusters["host"], members, toolchain.path("helm"), folder, url, background)
    finally:
        background.run(stack.aclose())


class Place:
    """A DPU cluster as another client watches it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.chain_sets = Cache(client, kinds.SERVICE_CHAIN_SET)
        self.interface_sets = Cache(client, kinds.SERVICE_INTERFACE_SET)
        self.daemon_sets = Cache(client, kinds.DAEMON_SET)
        self.records = Cache(client, kinds.SECRET_METADATA, label_selector="owner=helm", metadata_only=True)

    @property
    def caches(self) -> tuple[Cache[Any], ...]:
        return (self.chain_sets, self.interface_sets, self.daemon_sets, self.records)

    @property
    def revisions(self) -> list[tuple[str, str, str]]:
        """Name, version and status of each of Helm's records."""
        labels = [record.metadata.labels for record in self.records]
        return sorted((of["name"], of["version"], of["status"]) for of in labels)

    async def let_go(self) -> None:
        """Take the finalizers off the sets that are being deleted, as the DPU cluster's controller would."""
        for cache in (self.chain_sets, self.interface_sets):
            for item in cache:
                if item.metadata.deletion_timestamp is not None:
                    for finalizer in item.metadata.finalizers:
                        with contextlib.suppress(NotFound):
                            await remove_finalizer(self.client, cache.resource, item, finalizer)


class World:
    """The objects of all three clusters, and the writes of a test."""

    def __init__(self, fleet: Fleet, namespace: str, host: Client, places: Mapping[str, Place]) -> None:
        self.fleet = fleet
        self.namespace = namespace
        self.client = host
        self.repository = f"https://{namespace}.example/charts"
        """Mirrored to a folder of the test's own, named after the namespace, which is not there until the test makes it."""
        self.chains = Cache(host, kinds.DPU_SERVICE_CHAIN)
        self.interfaces = Cache(host, kinds.DPU_SERVICE_INTERFACE)
        self.services = Cache(host, kinds.DPU_SERVICE)
        self.clusters = Cache(host, kinds.DPU_CLUSTER)
        self.leases = Cache(host, kinds.LEASE, namespace=OPERATOR_NAMESPACE)
        self.events = Cache(host, kinds.EVENT, namespace=namespace)
        self.north, self.south = places["north"], places["south"]
        self.places = places
        self._changed = asyncio.Event()
        for cache in self.caches:
            cache.subscribe(lambda _: self._changed.set())
            cache.subscribe_failing(self._changed.set)

    @property
    def caches(self) -> list[Cache[Any]]:
        own: list[Cache[Any]] = [self.chains, self.interfaces, self.services, self.clusters, self.leases, self.events]
        return [*own, *(cache for place in self.places.values() for cache in place.caches)]

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(30):
                while not holds():
                    await self.next_change()
        except TimeoutError:
            pytest.fail(f"not {what}:\n" + "\n".join(str(item) for cache in self.caches for item in cache))

    async def next_change(self) -> None:
        """Wait for a change since the last one that was waited for."""
        async with asyncio.timeout(30):
            await self._changed.wait()
            self._changed.clear()

    def key(self, name: str) -> ObjectKey:
        return ObjectKey(self.namespace, name)

    def condition(self, cache: Cache[Any], name: str, kind: str = READY) -> Condition | None:
        """What an object says of its newest generation."""
        item = cache.get(self.key(name))
        if item is None:
            return None
        found = find(item.status.conditions, kind)
        return found if found is not None and found.observed_generation == item.metadata.generation else None

    def says(self, cache: Cache[Any], name: str, kind: str, status: str, words: str = "") -> bool:
        condition = self.condition(cache, name, kind)
        return condition is not None and condition.status == status and words in condition.message

    def message(self, cache: Cache[Any], name: str, kind: str = READY) -> str:
        condition = self.condition(cache, name, kind)
        return condition.message if condition is not None else ""

    async def told(self, cache: Cache[Any], name: str, kind: str, status: str, words: str = "") -> None:
        """Wait until a condition says so."""
        await self.until(lambda: self.says(cache, name, kind, status, words), f"{kind}={status} {words!r}")

    async def taken_up(self, name: str) -> None:
        """Wait until a chain has its finalizer."""
        await self.until(lambda: (item := self.chains.get(self.key(name))) is not None and bool(item.metadata.finalizers), "taken up")

    def everywhere(self, name: str = "chain") -> set[str]:
        """The DPU clusters that have the chain's set."""
        return {place for place, at in self.places.items() if at.chain_sets.get(self.key(name)) is not None}

    async def add_cluster(self, name: str, kubeconfig: bytes | None = None, **labels: str) -> None:
        """Make a DPUCluster with its Secret, which has the kubeconfig of the DPU cluster of that name if no other is given."""
        await self.put_secret(name, kubeconfig if kubeconfig is not None else self.kubeconfig(name))
        await self.add_bare_cluster(name, **labels)

    def kubeconfig(self, name: str) -> bytes:
        return self.fleet.members[name].kubeconfig.read_bytes()

    async def add_bare_cluster(self, name: str, **labels: str) -> None:
        meta = {"name": name, "namespace": self.namespace, "labels": labels}
        spec = {"type": "static", "version": "v1.36.2", "kubeconfig": f"{name}-kubeconfig"}
        await self.client.create(kinds.DPU_CLUSTER, msgspec.convert({"metadata": meta, "spec": spec}, DPUCluster))

    async def put_secret(self, cluster: str, kubeconfig: bytes, key: str = KUBECONFIG_KEY) -> None:
        meta = ObjectMeta(name=f"{cluster}-kubeconfig", namespace=self.namespace)
        secret = Secret(metadata=meta, data={key: base64.b64encode(kubeconfig).decode()})
        await self.client.apply(kinds.SECRET, secret, field_owner="test")

    async def add_chain(self, name: str = "chain", *, mtu: int = 1500, labels: Mapping[str, str] | None = None, **spec: Any) -> None:
        switch = {"ports": [{"serviceInterface": {"matchLabels": {"port": "p0"}}}], "serviceMTU": mtu}
        template = {"metadata": {"labels": dict(labels or {})}, "spec": {"template": {"spec": {"switches": [switch]}}}}
        meta = {"name": name, "namespace": self.namespace}
        item = msgspec.convert({"metadata": meta, "spec": {"template": template, **spec}}, DPUServiceChain)
        await self.client.create(kinds.DPU_SERVICE_CHAIN, item)

    async def set_mtu(self, mtu: int, name: str = "chain") -> None:
        switches = [{"ports": [{"serviceInterface": {"matchLabels": {"port": "p0"}}}], "serviceMTU": mtu}]
        patch = {"spec": {"template": {"spec": {"template": {"spec": {"switches": switches}}}}}}
        await self.client.patch(kinds.DPU_SERVICE_CHAIN, self.key(name), patch)

    async def add_interface(self, name: str, spec: Mapping[str, Any] | None = None, **outer: Any) -> None:
        inner = {"interfaceType": "service", "service": {"serviceID": "example", "network": "mybrsfc", "interfaceName": name}}
        template = {"spec": {"template": {"spec": dict(spec or inner)}}}
        meta = {"name": name, "namespace": self.namespace}
        item = msgspec.convert({"metadata": meta, "spec": {"template": template, **outer}}, DPUServiceInterface)
        await self.client.create(kinds.DPU_SERVICE_INTERFACE, item)

    async def add_service(self, name: str = "service", *, source: Mapping[str, str] | None = None, **spec: Any) -> None:
        where = {"repoURL": REPOSITORY, "version": "1.0.1", "chart": "example-service", **(source or {})}
        meta = {"name": name, "namespace": self.namespace}
        values = spec.pop("values", {})
        content = {"metadata": meta, "spec": {"helmChart": {"source": where, "values": values}, "serviceID": "example", **spec}}
        await self.client.create(kinds.DPU_SERVICE, msgspec.convert(content, DPUService))

    async def south_is_back(self) -> None:
        """Wait until the API server of the second cluster answers again, after it was started."""
        await self.until(lambda: self.south.chain_sets.failing is None, "back")

    async def make_namespace(self, place: Place) -> None:
        with contextlib.suppress(AlreadyExists):
            await place.client.create(kinds.NAMESPACE, Metadata(metadata=ObjectMeta(name=self.namespace)))

    async def set_high_speed_mtu(self, mtu: int) -> None:
        content = {
            "metadata": {"name": OPERATOR_CONFIG_NAME, "namespace": OPERATOR_NAMESPACE},
            "spec": {"networking": {"highSpeedMTU": mtu}},
        }
        await self.client.apply(kinds.DPF_OPERATOR_CONFIG, msgspec.convert(content, DPFOperatorConfig), field_owner="test")

    async def report(self, place: Place, name: str = "chain", *, problem: str | None = None) -> None:
        """Say of a chain's set what the DPU cluster's controller would."""
        item = place.chain_sets.get(self.key(name))
        assert item is not None
        assert item.metadata.creation_timestamp is not None
        reporter: StatusReporter[Any] = StatusReporter(place.client, kinds.SERVICE_CHAIN_SET, "test")
        finding = Finding(READY, "False", "Pending", problem) if problem else Finding(READY, "True", "Success")
        await reporter.report(item, [finding], item.metadata.creation_timestamp)

    async def run_pods(self, place: Place, name: str = "service", *, ready: int = 2) -> None:
        """Say of a DaemonSet what Kubernetes' own controller would, with two nodes."""
        item = place.daemon_sets.get(self.key(name))
        assert item is not None
        counters = {"desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "currentNumberScheduled": 2, "numberMisscheduled": 0}
        status = {"observedGeneration": item.metadata.generation, "numberReady": ready, **counters}
        await place.client.patch(kinds.DAEMON_SET, key_of(item), {"status": status}, subresource="status")

    async def records(self, place: Place) -> tuple[Metadata, ...]:
        """Helm's records of the test's namespace as the API server has them now."""
        listing = await place.client.list(kinds.SECRET_METADATA, namespace=self.namespace, label_selector="owner=helm", metadata_only=True)
        return listing.items

    async def cut_off(self, place: Place, status: str) -> None:
        """Make Helm's newest record what it is while Helm works."""
        record = (await self.records(place))[-1]
        path = kinds.SECRET.path(self.namespace, record.metadata.name)
        secret = json.loads(await place.client.request("GET", path))
        content = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))))
        content["info"]["status"] = status
        secret["data"]["release"] = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(content).encode()))).decode()
        secret["metadata"]["labels"]["status"] = status
        await place.client.request("PUT", path, body=json.dumps(secret).encode())

    async def versions(self) -> dict[tuple[str, ObjectKey], str]:
        """The resource version of everything, as the API servers have it now: equal before and after if nobody wrote."""
        asked = [(name, place.client, cache.resource) for name, place in self.places.items() for cache in place.caches]
        asked += [("host", self.client, resource) for resource in HOST_KINDS]
        found = {}
        for name, client, resource in asked:
            selector = "owner=helm" if resource is kinds.SECRET_METADATA else ""
            listing = await client.list(resource, namespace=self.namespace, label_selector=selector)
            found.update({(f"{name}/{resource.plural}", key_of(item)): item.metadata.resource_version for item in listing.items})
        return found


async def clear(client: Client, resources: tuple[Any, ...], namespace: str) -> None:
    """Delete all objects of a namespace, whatever finalizers they have."""
    for resource in resources:
        for item in (await client.list(resource, namespace=namespace)).items:
            with contextlib.suppress(NotFound):
                await client.patch(resource, key_of(item), {"metadata": {"finalizers": None}})
                await client.delete(resource, key_of(item))


@pytest.fixture
async def world(fleet: Fleet) -> AsyncIterator[World]:
    """Three clusters with nothing of ours in them, and a namespace of the test's own in the host cluster alone."""
    namespace = f"test-{uuid.uuid4().hex[:8]}"
    async with contextlib.AsyncExitStack() as stack:
        host = await stack.enter_async_context(Client.from_kubeconfig(fleet.host.kubeconfig, user_agent="tests"))
        places = {}
        for name, cluster in fleet.members.items():
            client = await stack.enter_async_context(Client.from_kubeconfig(cluster.kubeconfig, user_agent="tests"))
            places[name] = Place(client)
        for name in (namespace, OPERATOR_NAMESPACE):
            with contextlib.suppress(AlreadyExists):
                await host.create(kinds.NAMESPACE, Metadata(metadata=ObjectMeta(name=name)))
        world = World(fleet, namespace, host, places)
        watches = [asyncio.create_task(cache.run()) for cache in world.caches]
        stack.push_async_callback(asyncio.wait, watches)
        stack.callback(lambda: [watch.cancel() for watch in watches])
        for cache in world.caches:
            await cache.synced()
        yield world
        for where in (namespace, OPERATOR_NAMESPACE):
            await clear(host, (*HOST_KINDS, kinds.DAEMON_SET, kinds.SECRET_METADATA), where)
        for place in places.values():
            await clear(place.client, (*MEMBER_KINDS, kinds.SECRET_METADATA), namespace)


@pytest.fixture
async def start(world: World) -> AsyncIterator[Callable[..., asyncio.Task[None]]]:
    """Return `start(identity=None, package=None)`: a host controller as a task; it ends with the test."""
    tasks: list[asyncio.Task[None]] = []

    def begin(identity: str | None = None, package: Package | None = None) -> asyncio.Task[None]:
        fleet = world.fleet
        helm = Helm(
            fleet.helm, {REPOSITORY: f"{fleet.url}/doca", world.repository: f"{fleet.url}/{world.namespace}"}, fleet.host.kubeconfig
        )
        client = Client.from_kubeconfig(fleet.host.kubeconfig, user_agent="host")
        tasks.append(asyncio.ensure_future(run(client, helm, NOWHERE, identity, package)))
        return tasks[-1]

    yield begin
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, asyncio.CancelledError), outcome


@pytest.fixture
def controller(start: Callable[..., asyncio.Task[None]]) -> asyncio.Task[None]:
    return start()
