"""dpuchain's own processes on a rack: one host controller, a DPU controller for each DPU cluster, an agent on each DPU."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import TYPE_CHECKING

from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.chain.report import AGENT_PORT
from dpuchain.lab import charts
from dpuchain.lab.cluster import AGENTS
from dpuchain.lab.openvswitch import BRIDGE
from dpuchain.lab.ports import ReservedPort
from dpuchain.lab.probes import answers
from dpuchain.lab.process import Command, Process

if TYPE_CHECKING:
    from pathlib import Path

    from dpuchain.lab.cluster import Cluster
    from dpuchain.lab.dpu import Dpu
    from dpuchain.lab.rack import Rack

READY_TIMEOUT = 60.0
HEALTH_PORT = 9800
"""Of the agents' health addresses: each is alone on its DPU's management address."""
METRICS_PORT = 9802
"""Of the agents' metrics."""


class Operators:
    """The processes of dpuchain on a rack that has been built."""

    def __init__(self, rack: Rack) -> None:
        self.processes: list[Process] = []
        self._rack = rack
        self._metrics: dict[str, dict[str, object]] = {}
        """Where each process answers `/metrics`, by its name, as Prometheus reads it from a file."""
        self._health: dict[str, str] = {}
        self._exit = contextlib.AsyncExitStack()

    async def start(self, repository: Path) -> None:
        """Serve the chart repository and start all processes; returns at once."""
        rack = self._rack
        await self.start_host(repository)
        for name in rack.shape.cluster_names:
            self._start_controller("dpu", rack.clusters[name], [])
        for dpu in rack.dpus:
            self._start_agent(dpu, rack.cluster_of(dpu))

    async def start_host(self, repository: Path) -> None:
        """Serve the chart repository and start the host controller alone; returns at once."""
        rack, mirror = self._rack, await self._exit.enter_async_context(charts.serve(repository))
        helm = [f"--helm={rack.layout.tools / 'helm'}", f"--chart-mirror={charts.REPOSITORY}={mirror}"]
        self._start_controller("host", rack.host, helm, charts.helm_environment(rack.layout.root / "helm"))

    async def until_ready(self) -> None:
        """Wait until each says on its health address that it is ready. Raises `ProcessDied`, `NotReady`."""
        await asyncio.gather(*(self._until_ready(process) for process in self.processes))

    def agent(self, dpu: Dpu) -> Process:
        """The agent of a DPU."""
        return next(process for process in self.processes if process.name == _agent(dpu))

    async def close(self) -> None:
        """End the chart repository; the processes are not ended."""
        await self._exit.aclose()

    async def _until_ready(self, process: Process) -> None:
        url = f"http://{self._health[process.name]}/readyz"
        await process.until(lambda: answers(url), f"ready ({url})", READY_TIMEOUT)

    def _start_controller(self, kind: str, cluster: Cluster, options: list[str], environment: dict[str, str] | None = None) -> None:
        name = f"dpuchain-{kind}"
        kubeconfig = cluster.write_kubeconfig(cluster.directory / f"{name}.kubeconfig", *_account(name))
        # The address is the rack's own: nobody else takes the ports once they are free.
        with ReservedPort(cluster.address) as first, ReservedPort(cluster.address) as second:
            health, metrics = f"{cluster.address}:{first.number}", f"{cluster.address}:{second.number}"
        arguments = [f"--kubeconfig={kubeconfig}", f"--health-address={health}", f"--metrics-address={metrics}", *options]
        self._tell_of(f"{cluster.name}/{name}", metrics, job=name, cluster=cluster.name)
        command = Command(f"{cluster.name}/{name}", _dpuchain(kind, *arguments), environment or {})
        self._start(command, cluster.directory / f"{name}.log", health)

    def _start_agent(self, dpu: Dpu, cluster: Cluster) -> None:
        user, groups = _account("dpuchain-agent")
        kubeconfig = cluster.write_kubeconfig(dpu.directory / "agent.kubeconfig", user, (*groups, AGENTS))
        health = f"{dpu.address}:{HEALTH_PORT}"
        arguments = [
            f"--kubeconfig={kubeconfig}",
            f"--node={dpu.name}",
            f"--bridge={BRIDGE}",
            f"--ovsdb={dpu.switch.database}",
            f"--openflow={dpu.switch.management}",
            f"--cni-socket={dpu.cni_socket}",
            f"--health-address={health}",
            f"--metrics-address={dpu.address}:{METRICS_PORT}",
            f"--address={dpu.address}:{AGENT_PORT}",
        ]
        self._tell_of(_agent(dpu), f"{dpu.address}:{METRICS_PORT}", job="dpuchain-agent", cluster=cluster.name, node=dpu.name)
        # In the mounts of the container runtime: the network namespaces of the pods are mounted there and nowhere else.
        command = Command(_agent(dpu), _dpuchain("agent", *arguments), namespace=dpu.namespace, mounts_of=dpu.mounts)
        self._start(command, dpu.directory / "dpuchain-agent.log", health)

    def _tell_of(self, name: str, address: str, **labels: str) -> None:
        """Leave a list of targets for a Prometheus that watches the rack."""
        self._metrics[name] = {"targets": [address], "labels": labels}
        self._rack.layout.targets.write_text(json.dumps(list(self._metrics.values()), indent=1))

    def _start(self, command: Command, log: Path, health: str) -> None:
        self._health[command.name] = health
        self.processes.append(Process.start(command, log))


def _account(name: str) -> tuple[str, tuple[str, ...]]:
    """The user and the groups that a pod with this service account is to the API server, so that it has the rights that our charts give."""
    return f"system:serviceaccount:{OPERATOR_NAMESPACE}:{name}", ("system:serviceaccounts", f"system:serviceaccounts:{OPERATOR_NAMESPACE}")


def _agent(dpu: Dpu) -> str:
    return f"{dpu.name}/dpuchain-agent"


def _dpuchain(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dpuchain", *arguments]
