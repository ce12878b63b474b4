"""The node of the CNI's tests, there for all of them, and what makes pods on it, for each test its own."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.integration.cni.node import NETWORK, Node, Sandbox, add_namespace, remove_namespace

from dpuchain.api.chain import Port, ServiceChain, ServiceChainSpec, ServiceInterfaceReference, Switch
from dpuchain.api.interface import ServiceInterface, ServiceInterfaceSpec, ServicePort
from dpuchain.api.kinds import POD, SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.api.meta import ObjectKey, ObjectMeta
from dpuchain.api.names import SERVICE_LABEL
from dpuchain.lab.process import run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.conftest import Background

    from dpuchain.kube.client import Client
    from dpuchain.lab.cluster import Cluster


@dataclass(frozen=True)
class Pods:
    """Makes pods and what chains them, in one namespace of the API server."""

    node: Node
    client: Client
    namespace: str
    namespaces: list[str]

    async def make(self, service: str = "") -> Sandbox:
        """A pod of a service on the node, with a network namespace."""
        name = f"{service or 'pod'}-{secrets.token_hex(3)}"
        await self._service_account()
        body = {
            "metadata": {"name": name, "labels": {SERVICE_LABEL: service} if service else {}},
            "spec": {"nodeName": self.node.name, "containers": [{"name": "c", "image": "none"}]},
        }
        made = await self.client.request("POST", POD.path(self.namespace), body=json.dumps(body).encode(), content_type="application/json")
        uid = json.loads(made)["metadata"]["uid"]
        return Sandbox(self.node, ObjectKey(self.namespace, name), uid, await self._namespace())

    async def pair(self, *, mtu: int = 1500) -> tuple[Sandbox, Sandbox]:
        """Two pods whose eth1 one switch joins, not wired yet."""
        pair = await self.make("left"), await self.make("right")
        await self.chain("left", "right", mtu=mtu)
        return pair

    async def again(self, sandbox: Sandbox) -> Sandbox:
        """Another sandbox of the same pod, as after a crash of the first one."""
        return Sandbox(self.node, sandbox.pod, sandbox.uid, await self._namespace())

    async def chain(self, *services: str, mtu: int = 1500, interface: str = "eth1") -> None:
        """Have one switch join that interface of the services' pods."""
        for service in services:
            port = ServicePort(service_id=service, network=NETWORK, interface_name=interface)
            spec = ServiceInterfaceSpec(node=self.node.name, interface_type="service", service=port)
            meta = ObjectMeta(name=service, namespace=self.namespace, labels={"port": service})
            await self.client.create(SERVICE_INTERFACE, ServiceInterface(metadata=meta, spec=spec))
        ports = tuple(Port(service_interface=ServiceInterfaceReference(match_labels={"port": service})) for service in services)
        chain = ServiceChainSpec(node=self.node.name, switches=(Switch(ports=ports, service_mtu=mtu),))
        await self.client.create(SERVICE_CHAIN, ServiceChain(metadata=ObjectMeta(name=services[0], namespace=self.namespace), spec=chain))

    async def _namespace(self) -> str:
        name = f"{self.node.name}-{secrets.token_hex(3)}"
        self.namespaces.append(name)
        await add_namespace(name)
        return name

    async def _service_account(self) -> None:
        """Make the account that every pod needs; without a controller manager nobody else does."""
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/default"
        body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        query = {"fieldManager": "tests"}
        await self.client.request("PATCH", path, body=json.dumps(body).encode(), content_type="application/apply-patch+yaml", query=query)


@pytest.fixture(scope="package")
def running_node(background: Background, api_server: Cluster) -> Iterator[Node]:
    directory = Path(tempfile.mkdtemp(prefix="cni-"))  # sockets have short paths
    node = Node(directory, api_server, background)
    try:
        background.run(node.start())
        node.api.open()
        yield node
    finally:
        node.api.cut()
        background.run(node.stop())
        shutil.rmtree(directory)
        assert not list(Path("/run/netns").glob(f"{node.name}*"))


@pytest.fixture
async def node(running_node: Node) -> Node:
    """The node, whatever the test before did to it: with a switch, an agent and an API server."""
    if running_node.agent is None or not running_node.agent.running:
        await running_node.start_agent()
    await running_node.until(running_node.works, "able to wire pods")
    return running_node


@pytest.fixture
async def pods(node: Node, client: Client, namespace: str) -> AsyncIterator[Pods]:
    """Makes pods; their namespaces, objects and ports go with the test."""
    pods = Pods(node, client, namespace, [])
    yield pods
    for kind in (SERVICE_CHAIN, SERVICE_INTERFACE):
        for item in (await client.list(kind, namespace=namespace)).items:
            key = ObjectKey(namespace, item.metadata.name)
            await client.patch(kind, key, {"metadata": {"finalizers": None}})
            await client.delete(kind, key)
    for device in await node.links():  # without its device the agent does not put a port back
        await run("ip", "-netns", node.name, "link", "delete", device)
    for name in pods.namespaces:
        await remove_namespace(name)
    for port in await node.ports():
        await node.switch.vsctl("--no-wait", "--if-exists", "del-port", port)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Add the node's state to a failure."""
    report = yield
    node = getattr(item, "funcargs", {}).get("running_node")
    if report.failed and node is not None:  # type: ignore[attr-defined]  # pluggy's wrappers are typed by what they yield
        text = item.funcargs["background"].run(node.log())  # type: ignore[attr-defined]
        report.sections.append(("the node", text))  # type: ignore[attr-defined]
    return report
