"""A host cluster and a DPU cluster with admission really registered in both, and what tests do to them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest

from dpuchain.admission.process import Settings, answering
from dpuchain.admission.registration import Endpoint
from dpuchain.admission.server import PATH
from dpuchain.admission.world import HostWorld, MemberWorld, World
from dpuchain.api import kinds
from dpuchain.api.fleet import DPUCluster
from dpuchain.api.kubernetes import Pod
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.api.resource import Resource
from dpuchain.kube.client import APPLY_PATCH, Client
from dpuchain.lab.cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from tests.conftest import Background

    from dpuchain.kube.cache import Cache
    from dpuchain.lab.toolchain import Toolchain

NAMESPACE = "ns"
BY_KIND = {
    resource.kind: resource for resource in vars(kinds).values() if isinstance(resource, Resource) and resource is not kinds.SECRET_METADATA
}
PATIENCE = 30.0


@dataclass
class Answer:
    """What an API server says of a request."""

    status: int
    message: str
    warnings: list[str] = field(default_factory=list)
    body: Any = None

    @property
    def refused(self) -> bool:
        """Whether admission refused it."""
        return self.status == 422 and "admission webhook" in self.message


async def until(holds: Callable[[], bool]) -> None:
    """Wait until it is so, for what nothing tells of."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if holds():
                return
            await asyncio.sleep(0.005)


class Place:
    """An API server, spoken to as by kubectl: with the warnings of its answers."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._connection = cluster.admin
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._connection.ssl_context()))

    async def close(self) -> None:
        await self._session.close()

    async def send(self, method: str, path: str, body: Any = None, content_type: str = "application/json", **query: str) -> Answer:
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": content_type}
        async with self._session.request(method, self._connection.server + path, data=data, headers=headers, params=query) as response:
            text = await response.text()
            content = json.loads(text) if text.startswith("{") else {}
            warnings = [_unquoted(value) for value in response.headers.getall("Warning", [])]
            return Answer(response.status, content.get("message", text), warnings, content)

    async def apply(self, item: Any, **query: str) -> Answer:
        """Server-side apply, so that what an earlier one had and this has not is taken away."""
        resource = BY_KIND[_kind(item)]
        content = {"apiVersion": resource.api_version, "kind": resource.kind, **msgspec.to_builtins(item)}
        content["metadata"].pop("uid", None)
        status = content.pop("status", None)
        if isinstance(item, Pod):
            content["spec"]["containers"] = [{"name": "c", "image": "i"}]
        path = resource.path(item.metadata.namespace, item.metadata.name)
        answer = await self.send("PATCH", path, content, APPLY_PATCH, fieldManager="tests", force="true", **query)
        if isinstance(item, Pod) and answer.status < 300:
            return await self.send("PATCH", f"{path}/status", {"status": status}, "application/merge-patch+json")
        return answer

    async def delete(self, item: Any) -> Answer:
        resource = BY_KIND[_kind(item)]
        options = {"gracePeriodSeconds": 0}
        return await self.send("DELETE", resource.path(item.metadata.namespace, item.metadata.name), options)


def _kind(item: Any) -> str:
    return {"Metadata": "Node"}.get(type(item).__name__, type(item).__name__)


def _unquoted(header: str) -> str:
    """The text of a Warning header (RFC 7234, 5.5)."""
    found = re.fullmatch(r'299 - "(.*)"', header)
    assert found is not None, header
    return found[1].replace('\\"', '"').replace("\\\\", "\\")


@dataclass
class Admission:
    """Admission at work for one API server."""

    world: World
    port: int

    def caches(self) -> Iterator[Cache[Any]]:
        if isinstance(self.world, MemberWorld):
            yield from self.world.inside.caches
        elif isinstance(self.world, HostWorld):
            yield from self.world.objects
            for _, member, _ in self.world.members:
                yield from member.caches if member is not None else ()

    async def knows(self, holds: Callable[[], bool]) -> None:
        """Wait until what it has seen is so."""
        await until(holds)

    def _whole(self) -> bool:
        """Whether all DPU clusters that can be used have been taken in."""
        if not isinstance(self.world, HostWorld):
            return True
        return all(problem is not None or key_of(cluster) in self.world._taken for cluster, _, problem in self.world.members)

    async def saw(self, answers: Iterable[Answer]) -> None:
        """Wait until it has seen what was written."""
        written = [
            (
                a.body["kind"],
                ObjectKey(a.body["metadata"].get("namespace", ""), a.body["metadata"]["name"]),
                a.body["metadata"]["resourceVersion"],
            )
            for a in answers
        ]

        def seen() -> bool:
            there = {(cache.resource.kind, key_of(item), item.metadata.resource_version) for cache in self.caches() for item in cache}
            return all(entry in there for entry in written) and self._whole()

        await self.knows(seen)


class Running:
    """Admission in the loop of the background, entered and left in one task there."""

    def __init__(self, background: Background, cluster: Cluster, settings: Settings) -> None:
        self._background = background
        self._cluster = cluster
        self._settings = settings
        self._end = asyncio.Event()
        self.world: World = background.run(self._begin())

    async def _begin(self) -> World:
        ready: asyncio.Future[World] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._hold(ready))
        self._task.add_done_callback(lambda task: _told(task, ready))
        return await ready

    async def _hold(self, ready: asyncio.Future[World]) -> None:
        client = Client.from_kubeconfig(self._cluster.kubeconfig, user_agent="dpuchain-admission")
        async with answering(client, self._settings) as world:
            await until(lambda: world.problem is None)
            ready.set_result(world)
            await self._end.wait()

    def stop(self) -> None:
        async def end() -> None:
            self._end.set()
            await self._task

        self._background.run(end())


def _told(task: asyncio.Task[None], ready: asyncio.Future[World]) -> None:
    """Have whoever waits for the beginning learn of an early end."""
    if not ready.done():
        ready.set_exception(task.exception() or RuntimeError("it has ended"))


@contextlib.contextmanager
def started(background: Background, cluster: Cluster, **about: Any) -> Iterator[Admission]:
    """Admission for an API server, answering on a free port of the loopback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    endpoint = Endpoint(f"https://127.0.0.1:{port}{PATH}", ObjectKey("", ""))
    running = Running(background, cluster, Settings(**{"mode": "host", "address": f"127.0.0.1:{port}", "endpoint": endpoint, **about}))
    try:
        yield Admission(running.world, port)
    finally:
        running.stop()


@dataclass(frozen=True)
class Clusters:
    """The API servers."""

    host: Cluster
    north: Cluster


@pytest.fixture(scope="package")
def clusters(background: Background, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clusters]:
    """Both, with all kinds defined, the namespaces, and a DPUCluster in the one that names the other."""
    from tests.conftest import RUNNING, define_kinds

    made = Clusters(*(Cluster(name, tmp_path_factory.mktemp(name), toolchain) for name in ("host", "north")))

    async def start() -> None:
        for cluster in (made.host, made.north):
            RUNNING.append(cluster)
            await cluster.start()
            await define_kinds(cluster)
            await _prepare(cluster)

    async def stop() -> None:
        for cluster in (made.host, made.north):
            RUNNING.remove(cluster)
            await cluster.stop()

    background.run(start())
    try:
        background.run(_register(made))
        yield made
    finally:
        background.run(stop())


async def _prepare(cluster: Cluster) -> None:
    """What a controller manager would make, and what pods need."""
    place = Place(cluster)
    for namespace in (NAMESPACE, OPERATOR_NAMESPACE):
        await place.send("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        await place.send("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "default"}})
    await place.close()


async def _register(made: Clusters) -> None:
    place = Place(made.host)
    data = {"admin.conf": base64.b64encode(made.north.kubeconfig.read_bytes()).decode()}
    secret = {"metadata": {"name": "north-kubeconfig", "namespace": NAMESPACE}, "data": data}
    await place.send("POST", f"/api/v1/namespaces/{NAMESPACE}/secrets", secret)
    answer = await place.apply(registered())
    assert answer.status < 300, answer
    await place.close()


def registered(**labels: str) -> DPUCluster:
    """The DPUCluster of the other API server."""
    spec = {"type": "static", "version": "v1", "kubeconfig": "north-kubeconfig"}
    return msgspec.convert({"metadata": {"name": "north", "namespace": NAMESPACE, "labels": labels}, "spec": spec}, DPUCluster)


@pytest.fixture
async def host(clusters: Clusters) -> AsyncIterator[Place]:
    place = Place(clusters.host)
    yield place
    await place.close()


@pytest.fixture
async def north(clusters: Clusters) -> AsyncIterator[Place]:
    place = Place(clusters.north)
    yield place
    await place.close()
