"""How long an answer of admission takes in a fleet of 1,000 nodes: a process of its own, asked over HTTPS as an API server asks.

No rack: two API servers and etcds alone, Nodes and pods that nobody runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from bench.figures import Figure, percentile
from dpuchain.admission.server import PATH
from dpuchain.api import kinds
from dpuchain.api.names import NETWORK_STATUS_ANNOTATION, OPERATOR_NAMESPACE, SERVICE_LABEL
from dpuchain.api.resource import Resource
from dpuchain.kube.client import APPLY_PATCH, Client
from dpuchain.kube.errors import NotFound, Throttled
from dpuchain.lab.cluster import Cluster
from dpuchain.lab.manifests import dpu_cluster, dpu_definitions, host_definitions
from dpuchain.lab.toolchain import Toolchain

NODES = 1000
CHAINS = 30
ROUNDS = 60
ZONES = 10
"""Nodes are in one zone each; a third of the chains and interfaces is everywhere, the rest in one zone."""
AT_ONCE = 32
PATIENCE = 60.0
NAMESPACE = OPERATOR_NAMESPACE


def figures() -> list[Figure]:
    """The answers to questions of every sort that people's changes give rise to."""
    answered = asyncio.run(_measure())
    return [
        Figure(f"admission, {NODES} nodes, {CHAINS} chains: answer, p50", percentile(answered, 50), "ms", 5, len(answered)),
        Figure(f"admission, {NODES} nodes, {CHAINS} chains: answer, p99", percentile(answered, 99), "ms", 5, len(answered)),
    ]


def _interface(name: str, device: str, number: int, **labels: str) -> dict[str, Any]:
    spec = {"interfaceType": "physical", "physical": {"interfaceName": device}}
    if name.endswith("-service"):
        spec = {"interfaceType": "service", "service": {"serviceID": "firewall", "network": "mybrsfc", "interfaceName": f"eth{number}"}}
    template = {"metadata": {"labels": labels or {"port": name}}, "spec": spec}
    return _object(kinds.DPU_SERVICE_INTERFACE, name, {"template": {"spec": {"template": template, **_where(number)}}})


def _chain(name: str, number: int, *ports: str, mtu: int = 1500) -> dict[str, Any]:
    switch = {"ports": [{"serviceInterface": {"matchLabels": {"port": port}}} for port in ports], "serviceMTU": mtu}
    return _object(kinds.DPU_SERVICE_CHAIN, name, {"template": {"spec": {"template": {"spec": {"switches": [switch]}}, **_where(number)}}})


def _where(number: int) -> dict[str, Any]:
    return {} if number % 3 == 0 else {"nodeSelector": {"matchLabels": {"zone": f"z{number % ZONES}"}}}


def _object(resource: Resource[Any], name: str, spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "spec": spec}


def _written() -> list[dict[str, Any]]:
    """The fleet's chains and interfaces: half of the chains go through a service."""
    found = []
    for number in range(CHAINS):
        inner = f"i{number}-service" if number % 2 else f"i{number}"
        found += [_interface(inner, f"p{number}", number), _chain(f"c{number}", number, inner, f"x{number}")]
    return found


def _questions() -> list[tuple[dict[str, Any] | None, dict[str, Any] | None]]:
    """Old and new of what is asked: new ones, changed ones, conflicting ones, deleted ones, new selectors and new MTUs."""
    present = {item["metadata"]["name"]: item for item in _written()}
    found: list[tuple[dict[str, Any] | None, dict[str, Any] | None]] = []
    for number in range(CHAINS):
        name = next(key for key in (f"i{number}", f"i{number}-service") if key in present)
        found += [
            (None, _interface(f"new{number}", f"q{number}", number)),
            (None, _interface(f"second{number}", f"p{number}", 0)),
            (None, _interface(f"same{number}", f"q{number}", 0, port=name)),
            (None, _chain(f"other{number}", number + 1, name, f"x{number}")),
            (present[name], _interface(name, f"p{number}", number + 1, port=name)),
            (present[name], None),
            (present[f"c{number}"], _chain(f"c{number}", number, name, f"x{number}", mtu=2000)),
            (present[f"c{number}"], _chain(f"c{number}", 0, name, f"x{number}", f"y{number}")),
            (present[f"c{number}"], None),
        ]
    return found


async def _measure() -> list[float]:
    async with _asked() as (url, session):
        bodies = [_review(number, *entry) for number, entry in enumerate(_questions())]
        seconds: list[float] = []
        for round_ in range(ROUNDS // 10 + 1):
            for body in bodies:
                began = time.perf_counter()
                async with session.post(url, data=body) as response:
                    content = await response.read()
                if round_:  # the first round is for the caches of the machine
                    seconds.append(time.perf_counter() - began)
                if response.status != 200:
                    raise RuntimeError(f"{response.status}: {content.decode()}")
    return seconds


def _review(number: int, old: dict[str, Any] | None, new: dict[str, Any] | None) -> bytes:
    item = new or old
    assert item is not None
    group, _, version = item["apiVersion"].partition("/")
    request = {
        "uid": str(number),
        "kind": {"group": group, "version": version, "kind": item["kind"]},
        "operation": "CREATE" if old is None else "DELETE" if new is None else "UPDATE",
        "object": new,
        "oldObject": old,
    }
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


@contextlib.asynccontextmanager
async def _asked() -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """A fleet, the process that knows it, and how it is asked."""
    with tempfile.TemporaryDirectory(prefix="dpuchain-bench-") as directory:
        host, member = (Cluster(name, Path(directory, name), Toolchain()) for name in ("host", "member"))
        async with contextlib.AsyncExitStack() as stack:
            for cluster in (host, member):
                cluster.directory.mkdir()
                await cluster.start()
                stack.push_async_callback(cluster.stop)
            await _populate(host, member)
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            url = f"https://127.0.0.1:{port}{PATH}"
            arguments = [f"--kubeconfig={host.kubeconfig}", f"--address=127.0.0.1:{port}", f"--url={url}", "--log-level=warning"]
            process = await asyncio.create_subprocess_exec(sys.executable, "-m", "dpuchain", "admission", *arguments)
            stack.push_async_callback(process.wait)
            stack.callback(process.terminate)
            tls = ssl.create_default_context()
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)))
            await _ready(session, url)
            yield url, session


async def _ready(session: aiohttp.ClientSession, url: str) -> None:
    body = _review(0, None, _interface("ready", "p0", 0))
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with session.post(url, data=body) as response:
                    if response.status == 200 and f"{NODES - LISTED} more" in await response.text():
                        return
            await asyncio.sleep(0.1)


LISTED = 3
"""Nodes that a refusal names before it counts: when it counts all others, all are known."""


async def _populate(host: Cluster, member: Cluster) -> None:
    async with _client(host) as to_host, _client(member) as to_member:
        await _define(to_host, host_definitions())
        await _define(to_member, dpu_definitions())
        await _send(
            to_member,
            [_path("serviceaccounts", "default")],
            [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}],
        )
        names = [f"dpu-{number:04}" for number in range(NODES)]
        nodes = [_node(name, number) for number, name in enumerate(names)]
        await _send(to_member, [kinds.NODE.path("", name) for name in names], nodes)
        await _send(to_member, [_path("pods", name) for name in names], [_pod(name) for name in names])
        kubeconfig = json.loads(member.kubeconfig.read_text())
        content = [*dpu_cluster("member", "v1", kubeconfig), *_written()]
        plurals = {
            "Secret": kinds.SECRET,
            **{kind.kind: kind for kind in (kinds.DPU_CLUSTER, kinds.DPU_SERVICE_CHAIN, kinds.DPU_SERVICE_INTERFACE)},
        }
        await _send(to_host, [plurals[item["kind"]].path(NAMESPACE, item["metadata"]["name"]) for item in content], content)


def _client(cluster: Cluster) -> Client:
    return Client.from_kubeconfig(cluster.kubeconfig, user_agent="bench")


def _path(plural: str, name: str) -> str:
    return f"/api/v1/namespaces/{NAMESPACE}/{plural}/{name}"


def _node(name: str, number: int) -> dict[str, Any]:
    labels = {"zone": f"z{number % ZONES}", "kubernetes.io/hostname": name, "rack": str(number // 40)}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def _pod(node: str) -> dict[str, Any]:
    networks = json.dumps([{"interface": f"eth{number}", "mtu": 1500} for number in range(CHAINS)])
    metadata = {"name": node, "labels": {SERVICE_LABEL: "firewall"}, "annotations": {NETWORK_STATUS_ANNOTATION: networks}}
    owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "firewall", "uid": "1", "controller": True}
    spec = {"nodeName": node, "containers": [{"name": "firewall", "image": "none"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, "ownerReferences": [owner]}, "spec": spec}


async def _define(client: Client, definitions: Iterable[dict[str, Any]]) -> None:
    for item in definitions:
        collection = "/api/v1/namespaces" if item["kind"] == "Namespace" else "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        await _send(client, [f"{collection}/{item['metadata']['name']}"], [item])


async def _send(client: Client, paths: Iterable[str], items: Iterable[dict[str, Any]]) -> None:
    """Apply objects, many at once; a kind that was defined a moment ago takes some milliseconds to be served."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(path: str, item: dict[str, Any]) -> None:
        async with turns, asyncio.timeout(PATIENCE):
            while True:
                try:
                    query = {"fieldManager": "bench", "force": "true"}
                    await client.request("PATCH", path, body=msgspec.json.encode(item), content_type=APPLY_PATCH, query=query)
                except (NotFound, Throttled):
                    await asyncio.sleep(0.05)
                else:
                    return

    await asyncio.gather(*(one(path, item) for path, item in zip(paths, items, strict=True)))


if __name__ == "__main__":
    for figure in figures():
        print(f"{figure.name}: {figure.value:.2f} {figure.unit} of {figure.limit:g}, {figure.runs} runs")
