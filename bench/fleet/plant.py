"""What a simulated fleet runs on: a host cluster, a DPU cluster with its Nodes, our controllers, and the agents."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
import msgspec
import yaml

from bench.clusters import Requests, define, put, requests
from bench.fleet import objects
from bench.fleet.tallies import Tallies
from bench.fleet.usage import Usage, usage
from dpuchain.api.kinds import DPU_SERVICE_CHAIN, DPU_SERVICE_INTERFACE, NODE, SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.api.meta import ObjectKey
from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.kube.client import Client
from dpuchain.lab.cluster import ADMINISTRATORS, Cluster
from dpuchain.lab.manifests import dpu_cluster, dpu_definitions, host_definitions, operator_configuration
from dpuchain.lab.ports import ReservedPort
from dpuchain.lab.process import Command, Process
from dpuchain.lab.toolchain import Toolchain

PRIORITY = Path(__file__).parents[2] / "deploy" / "priority.yaml"
SERVICE_ACCOUNTS = "system:serviceaccounts"
NODES_AT_ONCE = 16
AGENTS_OF_A_PROCESS = 250
STOP_SECONDS = 15.0


class Plant:
    """A running fleet. Names of nodes are dense: the first `n` of them are a smaller fleet."""

    def __init__(self, directory: Path, toolchain: Toolchain) -> None:
        self.directory = directory
        self.clusters = {name: Cluster(name, directory / name, toolchain) for name in ("host", "cluster-1")}
        self.nodes: list[str] = []
        self.processes: dict[str, Process] = {}
        self.metrics: dict[str, str] = {}
        """Where our controllers tell of themselves."""
        self.group: asyncio.TaskGroup
        self.host: Client
        self.dpu: Client
        self.tallies: Tallies

    def connect(self) -> None:
        """Make the clients of the run itself, which are administrators'."""
        self.host, self.dpu = (Client.from_kubeconfig(cluster.kubeconfig, user_agent="bench") for cluster in self.clusters.values())
        self.tallies = Tallies(self.dpu, SERVICE_CHAIN, SERVICE_INTERFACE)

    async def define(self) -> None:
        """Give both clusters their kinds, and what must be known of each other."""
        await define(self.host, host_definitions())
        await define(self.dpu, dpu_definitions())
        await _bind_service_accounts(self.dpu)
        for manifest in yaml.safe_load_all(PRIORITY.read_text()):
            await put(self.dpu, manifest, path=f"/apis/{manifest['apiVersion']}/{manifest['kind'].lower()}s")
        connection = self.clusters["cluster-1"].connection("dpuchain-host", (ADMINISTRATORS,))
        secret, cluster = dpu_cluster("cluster-1", "v1.36.2", connection.kubeconfig("cluster-1"))
        collection = f"namespaces/{OPERATOR_NAMESPACE}"
        await put(self.host, secret, path=f"/api/v1/{collection}/secrets")
        await put(self.host, operator_configuration(), path=f"/apis/operator.dpu.nvidia.com/v1alpha1/{collection}/dpfoperatorconfigs")
        await put(self.host, cluster, path=f"/apis/provisioning.dpu.nvidia.com/v1alpha1/{collection}/dpuclusters")

    def account(self, name: str) -> Path:
        """A kubeconfig for the DPU cluster as a service account's, which the API server serves with the priority of one."""
        path = self.directory / f"{name}.kubeconfig"
        if not path.exists():
            groups = (SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{OPERATOR_NAMESPACE}")
            self.clusters["cluster-1"].write_kubeconfig(path, f"system:serviceaccount:{OPERATOR_NAMESPACE}:{name}", groups)
        return path

    def start(self, component: str) -> None:
        """Start one of our controllers, `host` or `dpu`, as a replica that is elected."""
        kubeconfig = self.clusters["host"].kubeconfig if component == "host" else self.account("dpuchain-dpu")
        with ReservedPort("127.0.0.1") as port:
            self.metrics[component] = f"127.0.0.1:{port.number}"
        options = [f"--kubeconfig={kubeconfig}", "--leader-elect", f"--metrics-address={self.metrics[component]}"]
        self._launch(component, ["-m", "dpuchain", component, *options])

    async def stop(self, *names: str) -> None:
        """End processes of ours."""
        for name in names:
            await self.processes.pop(name).stop(STOP_SECONDS)

    def _launch(self, name: str, arguments: Sequence[str], *, nice: int = 0) -> None:
        command = Command(name, ["nice", f"-n{nice}", sys.executable, *arguments])
        self.processes[name] = Process.start(command, self.directory / f"{name}.log")
        self.group.create_task(self.processes[name].watch())  # one that ends by itself ends the run

    async def grow(self, count: int) -> None:
        """Have `count` nodes, each with its agent, and return when each agent has made the ports that every node has."""
        new = [f"dpu-{number:04}" for number in range(len(self.nodes), count)]
        turns = asyncio.Semaphore(NODES_AT_ONCE)

        async def create(name: str) -> None:
            async with turns:
                await self.dpu.request("POST", NODE.path(), body=msgspec.json.encode(objects.node(name)))

        await asyncio.gather(*map(create, new))
        for first in range(0, len(new), AGENTS_OF_A_PROCESS):
            self._start_agents(new[first : first + AGENTS_OF_A_PROCESS])
        self.nodes += new
        await self.tallies.until(lambda: all(self.tallies.of[name].ready == count for name in objects.BASE))

    def _start_agents(self, nodes: Sequence[str]) -> None:
        name = f"agents-{nodes[0]}"
        options = [f"--kubeconfig={self.account('dpuchain-agent')}", f"--directory={self.directory}", f"--socket={self.directory / name}"]
        self._launch(name, ["-m", "bench.fleet.agents", *options, *nodes, "--devices", *objects.DEVICES])

    @property
    def agents(self) -> list[str]:
        """Names of the processes that agents run in."""
        return [name for name in self.processes if name.startswith("agents-")]

    async def ask_agents(self, question: str, **query: Any) -> list[dict[str, Any]]:
        """What each of the agents' processes answers."""
        return [await self.ask(name, question, query) for name in self.agents]

    async def ask(self, name: str, question: str, query: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
        """What one of the agents' processes answers."""
        connector = aiohttp.UnixConnector(path=str(self.directory / name))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(f"http://agents/{question}", params=query) as response,
        ):
            answer: dict[str, Any] = await response.json()
            return answer

    async def apply(self, *manifests: objects.Manifest) -> float:
        """Apply objects in the host cluster, all at once; returns the moment before the first was sent."""
        began = time.monotonic()
        await asyncio.gather(*(put(self.host, manifest, path=_collection(manifest)) for manifest in manifests))
        return began

    async def delete(self, *manifests: objects.Manifest) -> float:
        """Delete objects from the host cluster, all at once; returns the moment before the first was sent."""
        began = time.monotonic()
        keys = [(_resource(manifest), ObjectKey(OPERATOR_NAMESPACE, manifest["metadata"]["name"])) for manifest in manifests]
        await asyncio.gather(*(self.host.delete(resource, key) for resource, key in keys))
        return began

    async def label(self, nodes: Iterable[str], labels: dict[str, str | None]) -> None:
        """Change labels of nodes, some at a time."""
        turns = asyncio.Semaphore(NODES_AT_ONCE)

        async def change(name: str) -> None:
            async with turns:
                await self.dpu.patch(NODE, ObjectKey("", name), {"metadata": {"labels": labels}})

        await asyncio.gather(*map(change, nodes))

    async def requests(self) -> Requests:
        """What both API servers have been asked so far."""
        return await requests(self.host) + await requests(self.dpu)

    async def quiet(self, seconds: float) -> None:
        """Return when nothing of ours has been written anywhere for so long."""
        before: Requests = Counter()
        since = time.monotonic()
        while time.monotonic() - since < seconds:
            now = await self.requests()
            if now != before:
                before, since = now, time.monotonic()
            await asyncio.sleep(0.5)

    async def collect(self) -> None:
        """Have the DPU cluster's API server collect its garbage: it does so every ten seconds or so while a thousand objects change, each
        time for more than a second of both cores, and whoever is measured then would pay for what others have left.
        """
        await self.dpu.request("GET", "/debug/pprof/heap", query={"gc": "1"})

    def usages(self) -> dict[str, Usage]:
        """What each process has used so far, the agents' processes together under `agents`, etcd and API server of the DPU cluster too."""
        found = {name: usage(process.pid) for name, process in self.processes.items() if not name.startswith("agents-")}
        parts = [usage(self.processes[name].pid) for name in self.agents]
        found["agents"] = Usage(sum(p.seconds for p in parts), sum(p.resident for p in parts), sum(p.peak for p in parts))
        found |= {process.name.partition("/")[2]: usage(process.pid) for process in self.clusters["cluster-1"].processes}
        return found


def _resource(manifest: objects.Manifest) -> Any:
    return DPU_SERVICE_CHAIN if manifest["kind"] == DPU_SERVICE_CHAIN.kind else DPU_SERVICE_INTERFACE


def _collection(manifest: objects.Manifest) -> str:
    return str(_resource(manifest).path(OPERATOR_NAMESPACE))


async def _bind_service_accounts(client: Client) -> None:
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "bench"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": SERVICE_ACCOUNTS}],
    }
    await put(client, binding, path="/apis/rbac.authorization.k8s.io/v1/clusterrolebindings")


@contextlib.asynccontextmanager
async def raised(nodes: int, say: Callable[[str], None]) -> AsyncIterator[Plant]:
    """A fleet of so many nodes with everything running; all of it ends with the context."""
    with tempfile.TemporaryDirectory(prefix="dpuchain-fleet-") as directory:
        plant = Plant(Path(directory), Toolchain())
        try:
            began = time.monotonic()
            for cluster in plant.clusters.values():
                await cluster.start()
            plant.connect()
            async with plant.host, plant.dpu, asyncio.TaskGroup() as plant.group:
                await plant.define()
                watch = plant.group.create_task(plant.tallies.run())
                for component in ("host", "dpu"):
                    plant.start(component)
                await plant.apply(*(objects.interface(name, device) for name, device in objects.BASE.items()))
                await plant.grow(nodes)
                say(f"{nodes} nodes with their agents after {time.monotonic() - began:.1f} s")
                yield plant
                watch.cancel()
                await plant.stop(*plant.processes)
        finally:
            await plant.stop(*plant.processes)
            for cluster in plant.clusters.values():
                await cluster.stop()
