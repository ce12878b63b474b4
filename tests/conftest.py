"""Fixtures of the whole suite: real API servers and private Open vSwitch instances, with the end of their logs in each failure."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import uuid
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

from dpuchain.api.crds import manifests
from dpuchain.api.kinds import NAMESPACE
from dpuchain.api.kubernetes import Metadata
from dpuchain.api.meta import ObjectKey, ObjectMeta
from dpuchain.kube.client import APPLY_PATCH, Client
from dpuchain.kube.errors import NotFound, Throttled, Unreachable
from dpuchain.lab.cluster import Cluster
from dpuchain.lab.openvswitch import OpenVSwitch
from dpuchain.lab.toolchain import Toolchain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence

T = TypeVar("T")
# Whoever ends the tests ends them as Ctrl-C does, so that what they have raised is taken down.
signal.signal(signal.SIGTERM, signal.default_int_handler)

# How long an example takes is a matter of the machine; figures belong to the benches.
settings.register_profile("dpuchain", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dpuchain")
NETWORK_ATTACHMENT_DEFINITION = """{
  "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
  "metadata": {"name": "network-attachment-definitions.k8s.cni.cncf.io"},
  "spec": {
    "group": "k8s.cni.cncf.io", "scope": "Namespaced",
    "names": {"kind": "NetworkAttachmentDefinition", "plural": "network-attachment-definitions"},
    "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
      {"type": "object", "properties": {"spec": {"type": "object", "properties": {"config": {"type": "string"}}}}}}}]
  }
}"""
RUNNING: list[Cluster | OpenVSwitch] = []
"""What runs for tests now; the end of its logs is added to the report of a test that fails."""


class Background:
    """An event loop in a thread that lives as long as the session: the tests' loops come and go, the processes belong to this one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="background", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="session")
def background() -> Iterator[Background]:
    background = Background()
    yield background
    background.close()


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    return Toolchain()


@pytest.fixture(scope="session")
def control_plane(background: Background, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One running etcd and API server for the whole session; a test makes a namespace of its own in it."""
    cluster = Cluster("shared", tmp_path_factory.mktemp("shared"), toolchain)
    background.run(cluster.start())
    RUNNING.append(cluster)
    yield cluster
    RUNNING.remove(cluster)
    background.run(cluster.stop())


@pytest.fixture(scope="module")
def make_cluster(
    background: Background, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Cluster]]:
    """Return `make_cluster(name, controller_manager=False, scheduler=False)`; what it makes runs until the module's tests are done."""
    made: list[Cluster] = []

    def make(name: str, *, controller_manager: bool = False, scheduler: bool = False) -> Cluster:
        cluster = Cluster(name, tmp_path_factory.mktemp(name), toolchain)
        background.run(cluster.start(controller_manager=controller_manager, scheduler=scheduler))
        made.append(cluster)
        RUNNING.append(cluster)
        return cluster

    yield make
    for cluster in reversed(made):
        RUNNING.remove(cluster)
        background.run(cluster.stop())


@pytest.fixture
def make_ovs(background: Background, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., OpenVSwitch]]:
    """Return `make_ovs(dummy=True, dpdk=False)`: a private Open vSwitch with an empty br-sfc. Real devices need root."""
    made: list[OpenVSwitch] = []

    def make(*, dummy: bool = True, dpdk: bool = False) -> OpenVSwitch:
        switch = OpenVSwitch("ovs", tmp_path_factory.mktemp("ovs"), dummy=dummy, dpdk=dpdk)
        background.run(switch.start())
        made.append(switch)
        RUNNING.append(switch)
        return switch

    yield make
    for switch in reversed(made):
        RUNNING.remove(switch)
        background.run(switch.stop())


@pytest.fixture
def ovs(make_ovs: Callable[..., OpenVSwitch]) -> OpenVSwitch:
    """A private Open vSwitch with dummy devices and an empty br-sfc."""
    return make_ovs()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Add the end of every running part's log to a failure."""
    report = yield
    if report.failed:  # type: ignore[attr-defined]  # pluggy's wrappers are typed by what they yield, not by what they are sent
        for part in RUNNING:
            report.sections += [(f"end of {name}'s log", text) for name, text in part.log_tails().items()]  # type: ignore[attr-defined]
    return report


@pytest.fixture(scope="session")
def api_server(background: Background, control_plane: Cluster) -> Cluster:
    """The shared API server with every kind of ours defined."""
    background.run(define_kinds(control_plane))
    return control_plane


async def define_kinds(cluster: Cluster) -> None:
    """Define our kinds, and Multus' NetworkAttachmentDefinition, and wait until they are served."""
    await define(cluster, [*manifests(), json.loads(NETWORK_ATTACHMENT_DEFINITION)])


async def define(cluster: Cluster, definitions: Sequence[dict[str, Any]]) -> None:
    """Apply CustomResourceDefinitions, and wait until they are served."""
    async with Client.from_kubeconfig(cluster.kubeconfig, user_agent="tests") as client:
        for definition in definitions:
            path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{definition['metadata']['name']}"
            await _applied(client, path, json.dumps(definition).encode())
        for definition in definitions:
            await _served(client, definition)


async def _applied(client: Client, path: str, body: bytes) -> None:
    """Apply, again if need be: on a machine with much to do an API server that had just begun has closed a connection unanswered."""
    async with asyncio.timeout(30):
        while True:
            try:
                await client.request("PATCH", path, body=body, content_type=APPLY_PATCH, query={"fieldManager": "tests", "force": "true"})
            except Unreachable:
                await asyncio.sleep(0.02)
            else:
                return


async def _served(client: Client, definition: dict[str, Any]) -> None:
    """Return once the kind answers: a definition that was just accepted takes some milliseconds to be served."""
    spec = definition["spec"]
    async with asyncio.timeout(30):
        while True:
            try:
                await client.request("GET", f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}")
            except (NotFound, Throttled):
                await asyncio.sleep(0.02)
            else:
                return


@pytest.fixture
async def client(api_server: Cluster) -> AsyncIterator[Client]:
    """An administrator's client of the shared API server."""
    async with Client.from_kubeconfig(api_server.kubeconfig, user_agent="tests") as client:
        yield client


@pytest.fixture
async def namespace(client: Client) -> AsyncIterator[str]:
    """A namespace of the test's own."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    await client.create(NAMESPACE, Metadata(metadata=ObjectMeta(name=name)))
    yield name
    await client.delete(NAMESPACE, ObjectKey("", name))
