"""Whatever is created, changed, deleted and relabelled, in whatever order, whichever controller is killed meanwhile: the world ends as the
core says of the final objects.

Two DPU clusters of two nodes each, on real API servers. Agents are played by a task: it reports Ready, and lets go of what is deleted on a
node that is there. HYPOTHESIS_PROFILE=thorough tries many more sequences, others each time.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dpuchain.api import kinds
from dpuchain.api.chain import DPUServiceChain
from dpuchain.api.conditions import Finding, find
from dpuchain.api.fleet import DPUCluster
from dpuchain.api.interface import DPUServiceInterface
from dpuchain.api.kubernetes import Metadata, Secret
from dpuchain.api.meta import ObjectKey, ObjectMeta, key_of
from dpuchain.chain.expand import service_chains, service_interfaces
from dpuchain.chain.project import chain_set_of, cluster_selector, interface_set_of, selects
from dpuchain.dpu.process import run as run_dpu
from dpuchain.host.helm import Helm
from dpuchain.host.process import run as run_host
from dpuchain.kube.cache import Cache, Change
from dpuchain.kube.client import Client
from dpuchain.kube.errors import Conflict, NotFound
from dpuchain.kube.identity import cluster_identity
from dpuchain.kube.writes import StatusReporter
from dpuchain.runtime.endpoints import NOWHERE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

    from tests.conftest import Background

    from dpuchain.lab.cluster import Cluster

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
EXAMPLES = 150 if THOROUGH else 6
MEMBERS = ("north", "south")
NODES = ("dpu-1", "dpu-2")
ZONES = ("a", "b", None)
PROCESSES = ("host", *MEMBERS)
PATIENCE = 120  # seconds; several worlds may share a busy machine
BY_HAND = "by-hand"
"""The name of an object on a node that is of no set, and of no agent here."""
HOST_KINDS = (kinds.DPU_SERVICE_CHAIN, kinds.DPU_SERVICE_INTERFACE, kinds.DPU_CLUSTER, kinds.SECRET)
MEMBER_KINDS = (kinds.SERVICE_CHAIN_SET, kinds.SERVICE_INTERFACE_SET, kinds.SERVICE_CHAIN, kinds.SERVICE_INTERFACE)
STRUCTS: dict[str, tuple[Any, Any]] = {
    "chain": (kinds.DPU_SERVICE_CHAIN, DPUServiceChain),
    "interface": (kinds.DPU_SERVICE_INTERFACE, DPUServiceInterface),
}

zones = st.sampled_from(ZONES)
members = st.sampled_from(MEMBERS)
labels = st.dictionaries(st.sampled_from("xy"), st.sampled_from("12"), max_size=2)
selectors = st.sampled_from(
    [
        None,
        {"matchLabels": {"zone": "a"}},
        {"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]},
        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]},
        {"matchExpressions": [{"key": "zone", "operator": "Exists"}]},
        {"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]},
    ]
)
named = st.tuples(st.sampled_from(("chain", "interface")), st.sampled_from(("one", "two")))
steps = st.one_of(
    st.tuples(st.just("apply"), named, selectors, selectors, labels, labels, st.sampled_from((1280, 1500))),
    st.tuples(st.just("delete"), named),
    st.tuples(st.just("label cluster"), members, zones),
    st.tuples(st.just("label node"), members, st.sampled_from(NODES), zones),
    st.tuples(st.just("remove node"), members, st.sampled_from(NODES)),
    st.tuples(st.just("spoil"), members),
    st.tuples(st.just("kill"), st.sampled_from(PROCESSES)),
    st.tuples(st.just("start"), st.sampled_from(PROCESSES)),
    st.tuples(st.just("settle")),
)


@dataclass(frozen=True)
class Machines:
    """The API servers of the host cluster and of the DPU clusters, and the kubeconfigs by which controllers reach them."""

    clusters: Mapping[str, Cluster]
    doors: Mapping[str, bytes]


@pytest.fixture(scope="module")
def machines(make_cluster: Callable[..., Cluster], background: Background) -> Machines:
    from tests.conftest import define_kinds

    clusters = {name: make_cluster(name) for name in PROCESSES}
    for cluster in clusters.values():
        background.run(define_kinds(cluster))
    return Machines(clusters, {name: cluster.kubeconfig.read_bytes() for name, cluster in clusters.items()})


@settings(
    max_examples=EXAMPLES,
    derandomize=not THOROUGH,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate] if not THOROUGH else list(Phase),
)
@given(sequence=st.lists(steps, min_size=6, max_size=18))
@pytest.mark.timeout(3600 if THOROUGH else 300)
def test_the_world_ends_as_the_core_says(machines: Machines, sequence: list[Any]) -> None:
    asyncio.run(_play(machines, sequence))


async def _play(machines: Machines, sequence: list[Any]) -> None:
    async with open_world(machines) as world:
        world.start_all()
        for step in sequence:
            await world.do(*step)
        await world.settle()


class Member:
    """A DPU cluster as a client of the test's watches it, and its agents. The nodes are those with the label that says whose they are."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.client = client
        self.chain_sets = Cache(client, kinds.SERVICE_CHAIN_SET, namespace=namespace)
        self.interface_sets = Cache(client, kinds.SERVICE_INTERFACE_SET, namespace=namespace)
        self.chains = Cache(client, kinds.SERVICE_CHAIN, namespace=namespace)
        self.interfaces = Cache(client, kinds.SERVICE_INTERFACE, namespace=namespace)
        self.nodes = Cache(client, kinds.NODE, label_selector=f"test={namespace}", metadata_only=True)
        self._reporters: dict[str, StatusReporter[Any]] = {
            cache.resource.kind: StatusReporter(client, cache.resource, "agent") for cache in (self.chains, self.interfaces)
        }

    @property
    def caches(self) -> tuple[Cache[Any], ...]:
        return (self.chain_sets, self.interface_sets, self.chains, self.interfaces, self.nodes)

    async def act(self) -> None:
        """The agents: look at each object that changes, until cancelled."""
        waiting: asyncio.Queue[tuple[Cache[Any], ObjectKey]] = asyncio.Queue()

        def changed(cache: Cache[Any], change: Change[Any]) -> None:
            waiting.put_nowait((cache, change.key))

        for cache in (self.chains, self.interfaces):
            cache.subscribe(lambda change, cache=cache: changed(cache, change))  # type: ignore[misc]  # mypy infers no defaults
        while True:
            cache, key = await waiting.get()
            item = cache.get(key)
            if item is None or key.name == BY_HAND or self.nodes.get(ObjectKey("", item.spec.node or "")) is None:
                continue
            with contextlib.suppress(Conflict, NotFound):  # another change is on its way, which comes here too
                if item.metadata.deletion_timestamp is None:
                    await self._reporters[cache.resource.kind].report(item, [Finding("Ready", "True", "Success")], datetime.now(UTC))
                else:
                    await self.client.patch(cache.resource, key, {"metadata": {"uid": item.metadata.uid, "finalizers": None}})


class World:
    """All of it: what the test does, and what the core says of it."""

    def __init__(self, machines: Machines, namespace: str, host: Client, identity: str, places: dict[str, Member]) -> None:
        self.namespace = namespace
        self._identity = identity
        self.places = places
        self._machines = machines
        self._host = host
        self._chains = Cache(host, kinds.DPU_SERVICE_CHAIN, namespace=namespace)
        self._interfaces = Cache(host, kinds.DPU_SERVICE_INTERFACE, namespace=namespace)
        self._clusters = Cache(host, kinds.DPU_CLUSTER, namespace=namespace)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        for cache in self.caches:
            cache.subscribe(lambda _: self._changed.set())

    @property
    def caches(self) -> list[Cache[Any]]:
        return [self._chains, self._interfaces, self._clusters, *(cache for place in self.places.values() for cache in place.caches)]

    async def do(self, what: str, *about: Any) -> None:
        """One step of a sequence."""
        if what == "start":
            self.start(*about)
        else:
            await getattr(self, what.replace(" ", "_"))(*about)

    async def apply(
        self, named: tuple[str, str], clusters: Any, nodes: Any, outer: dict[str, str], inner: dict[str, str], mtu: int
    ) -> None:
        kind, name = named
        resource, struct = STRUCTS[kind]
        physical = {"interfaceType": "physical", "physical": {"interfaceName": f"p{mtu}"}}
        switches = {"switches": [{"ports": [{"serviceInterface": {"matchLabels": {"port": name}}}], "serviceMTU": mtu}]}
        template = {"metadata": {"labels": inner}, "spec": switches if kind == "chain" else physical}
        set_spec = {"template": template, **({"nodeSelector": nodes} if nodes is not None else {})}
        spec = {"template": {"metadata": {"labels": outer}, "spec": set_spec}}
        if clusters is not None:
            spec["dpuClusterSelector"] = clusters
        item = msgspec.convert({"metadata": {"name": name, "namespace": self.namespace}, "spec": spec}, struct)
        await self._host.apply(resource, item, field_owner="test")

    async def delete(self, named: tuple[str, str]) -> None:
        with contextlib.suppress(NotFound):
            await self._host.delete(STRUCTS[named[0]][0], ObjectKey(self.namespace, named[1]))

    async def label_cluster(self, name: str, zone: str | None) -> None:
        await self._host.patch(kinds.DPU_CLUSTER, ObjectKey(self.namespace, name), {"metadata": {"labels": {"zone": zone}}})

    async def label_node(self, place: str, name: str, zone: str | None) -> None:
        """Give a node another label; a node that is gone joins again with it."""
        labels = {"test": self.namespace, **({"zone": zone} if zone else {})}
        node = Metadata(metadata=ObjectMeta(name=f"{name}-{self.namespace}", labels=labels))
        await self.places[place].client.apply(kinds.NODE, node, field_owner="test")

    async def remove_node(self, place: str, name: str) -> None:
        with contextlib.suppress(NotFound):
            await self.places[place].client.delete(kinds.NODE, ObjectKey("", f"{name}-{self.namespace}"))

    async def spoil(self, place: str) -> None:
        """Somebody edits all generated objects of a cluster."""
        member = self.places[place]
        switches = [{"ports": [{"serviceInterface": {"matchLabels": {"spoilt": "yes"}}}]}]
        edits: tuple[tuple[Cache[Any], Any], ...] = (
            (member.chains, {"switches": switches}),
            (member.interfaces, {"physical": {"interfaceName": "spoilt"}}),
        )
        for cache, spec in edits:
            for item in _generated(cache):
                with contextlib.suppress(NotFound):
                    await member.client.patch(cache.resource, key_of(item), {"spec": spec})

    async def kill(self, process: str) -> None:
        task = self._tasks.pop(process, None)
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def start_all(self) -> None:
        """Start the controllers that do not run."""
        for process in self._machines.clusters:
            self.start(process)

    def start(self, process: str) -> None:
        """Start a controller, if it does not run."""
        if process in self._tasks:
            return
        if process == "host":
            client = Client.from_kubeconfig(json.loads(self._machines.doors["host"]), user_agent="dpuchain-host")
            work = run_host(client, Helm("helm-is-not-used", {}), NOWHERE, None)
        else:
            work = run_dpu(Client.from_kubeconfig(json.loads(self._machines.doors[process]), user_agent="dpuchain-dpu"), NOWHERE, None)
        self._tasks[process] = asyncio.ensure_future(work)

    async def stop(self) -> None:
        for process in self._machines.clusters:
            await self.kill(process)

    async def settle(self) -> None:
        """With all controllers at work, wait until the world is what the core says."""
        self.start_all()
        try:
            async with asyncio.timeout(PATIENCE):
                while self.differences():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pytest.fail("\n".join(["not as the core says:", *self.differences(), *await self._belated()]))

    async def _belated(self) -> list[str]:
        """Where the test's own caches are behind the API servers."""
        found = []
        for cache in self.caches:
            where = {"namespace": cache._namespace, "label_selector": cache._selectors["labelSelector"]}
            listing = await cache._client.list(cache.resource, metadata_only=cache.resource is kinds.NODE, **where)
            there = {key_of(item): item.metadata.resource_version for item in listing.items}
            seen = {key_of(item): item.metadata.resource_version for item in cache}
            if there != seen:
                found.append(f"{cache.resource.plural}: the cache has {seen}, the server {there}; failing: {cache.failing}")
        return found

    def differences(self) -> list[str]:
        """What is not as the core says."""
        found = [f"{key_of(item)} is not gone" for cache in (self._chains, self._interfaces) for item in cache if _leaves(item)]
        found += [f"{key_of(item)} is not Ready: {item.status}" for item in (*self._chains, *self._interfaces) if not self._said(item)]
        for name, place in self.places.items():
            cluster = self._clusters.get(ObjectKey(self.namespace, name))
            nodes = list(place.nodes)
            maps: tuple[tuple[Any, ...], ...] = (
                (self._chains, chain_set_of, place.chain_sets, service_chains, place.chains),
                (self._interfaces, interface_set_of, place.interface_sets, service_interfaces, place.interfaces),
            )
            for sources, project, sets, expand, children in maps:
                wanted = [project(item, self._identity) for item in sources if cluster is not None and _selects(item, cluster)]
                found += _compare(f"{name}: set", wanted, sets)
                expected = [child for item in sets for child in expand(item, nodes, ()).wanted]
                found += _compare(f"{name}: object", expected, _generated(children))
        return found

    def _said(self, item: Any) -> bool:
        """Whether the status of an object of the host cluster says of its newest generation what is the case."""
        ready = find(item.status.conditions, "Ready")
        anywhere = any(_selects(item, cluster) for cluster in self._clusters)
        return ready is not None and (ready.status, ready.observed_generation) == (str(anywhere), item.metadata.generation)


def _selects(item: Any, cluster: DPUCluster) -> bool:
    return selects(cluster_selector(item.spec), cluster)


def _leaves(item: Any) -> bool:
    return item.metadata.deletion_timestamp is not None


def _generated(children: Cache[Any]) -> list[Any]:
    return [child for child in children if child.metadata.name != BY_HAND]


def _compare(what: str, wanted: list[Any], present: Iterable[Any]) -> list[str]:
    """The differences between objects that should be there and those that are, by what the core decides of them."""

    def essence(items: Any) -> dict[ObjectKey, Any]:
        return {
            key_of(item): (item.metadata.labels, item.metadata.annotations, item.metadata.finalizers, item.spec, _leaves(item))
            for item in items
        }

    should, is_so = essence(wanted), essence(present)
    return [
        f"{what} {key}: should be {should.get(key)}\n  is {is_so.get(key)}"
        for key in {*should, *is_so}
        if should.get(key) != is_so.get(key)
    ]


@contextlib.asynccontextmanager
async def open_world(machines: Machines) -> AsyncIterator[World]:
    """A namespace of the example's own, DPUClusters with two nodes each, nothing at work yet; all of it is gone afterwards."""
    namespace = f"test-{uuid.uuid4().hex[:8]}"
    async with contextlib.AsyncExitStack() as stack:
        host = await stack.enter_async_context(Client.from_kubeconfig(machines.clusters["host"].kubeconfig, user_agent="tests"))
        places = {}
        for name in machines.clusters.keys() - {"host"}:
            kubeconfig = machines.clusters[name].kubeconfig
            places[name] = Member(await stack.enter_async_context(Client.from_kubeconfig(kubeconfig, user_agent="tests")), namespace)
        world = World(machines, namespace, host, await cluster_identity(host), places)
        tasks = [asyncio.create_task(cache.run()) for cache in world.caches]
        stack.push_async_callback(asyncio.wait, tasks)
        stack.callback(lambda: [task.cancel() for task in tasks])
        for cache in world.caches:
            await cache.synced()
        tasks += [asyncio.create_task(place.act()) for place in places.values()]
        await host.create(kinds.NAMESPACE, Metadata(metadata=ObjectMeta(name=namespace)))
        for name in places:
            await _add_cluster(host, namespace, name, machines.doors[name])
            for node in NODES:
                await world.label_node(name, node, None)
        try:
            yield world
        finally:
            await world.stop()
            await _clear(host, HOST_KINDS, namespace)
            for place in places.values():
                await _clear(place.client, MEMBER_KINDS, namespace)
                for node in NODES:
                    with contextlib.suppress(NotFound):
                        await place.client.delete(kinds.NODE, ObjectKey("", f"{node}-{namespace}"))


async def _add_cluster(host: Client, namespace: str, name: str, kubeconfig: bytes) -> None:
    meta = ObjectMeta(name=f"{name}-kubeconfig", namespace=namespace)
    await host.create(kinds.SECRET, Secret(metadata=meta, data={"admin.conf": base64.b64encode(kubeconfig).decode()}))
    spec = {"type": "static", "version": "v1", "kubeconfig": meta.name}
    cluster = msgspec.convert({"metadata": {"name": name, "namespace": namespace}, "spec": spec}, DPUCluster)
    await host.create(kinds.DPU_CLUSTER, cluster)


async def _clear(client: Client, resources: tuple[Any, ...], namespace: str) -> None:
    for resource in resources:
        for item in (await client.list(resource, namespace=namespace)).items:
            with contextlib.suppress(NotFound):
                await client.patch(resource, key_of(item), {"metadata": {"finalizers": None}})
                await client.delete(resource, key_of(item))
