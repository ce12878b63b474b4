"""One virtual DPU: a machine with Multus and an Open vSwitch of its own."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dpuchain.lab import node
from dpuchain.lab.machine import Machine
from dpuchain.lab.openvswitch import OpenVSwitch

if TYPE_CHECKING:
    from dpuchain.lab.cluster import Cluster
    from dpuchain.lab.process import Process
    from dpuchain.lab.toolchain import Toolchain


class Dpu(Machine):
    """DPU `number` (from 1) of a rack."""

    def __init__(self, number: int, directory: Path, namespace: str, address: str, toolchain: Toolchain, control_group: str) -> None:
        super().__init__(f"dpu-{number}", directory, namespace, address, toolchain, control_group)
        self.number = number
        self.switch = OpenVSwitch(self.name, directory, namespace=namespace)

    @property
    def cni_socket(self) -> Path:
        """Where the agent listens for `dpuchain-cni`."""
        return self.directory / "cni.sock"

    @property
    def processes(self) -> list[Process]:
        """What runs of it."""
        return [*self.switch.processes, *super().processes]

    @property
    def translated(self) -> tuple[str, str]:
        """Pods have a network of their own."""
        pods = f"10.244.{self.number}.0/24"
        return pods, pods

    async def start(self, image: Path) -> None:
        """Start Open vSwitch and containerd, and give containerd the image: all that needs no cluster yet.

        Open vSwitch's sockets are in /run/openvswitch for pods, and the CNI plugins in /run/cni.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        places = [(self.directory, "/run/openvswitch"), (self.directory / "cni" / "bin", "/run/cni")]
        await asyncio.gather(self.switch.start(), self.start_containerd(image, places))

    async def join(self, cluster: Cluster, *, bare: bool = False) -> None:
        """Become a Node of the cluster; returns as soon as the kubelet runs. A `bare` one has Multus, but not our CNI plugin."""
        await self._toolchain.provide("multus")
        self._write_cni(cluster)
        if not bare:
            self._write_plugin()
        await self.start_kubelet(cluster)

    async def crash(self) -> None:
        """End all that runs of it at once, its pods included, as a loss of power does; what is on disk stays."""
        await self.end_at_once()

    async def boot(self) -> None:
        """Start again what `crash` has ended."""
        await asyncio.gather(self.switch.start(), self.serve_kubernetes(), self.start_pods_again())

    def _write_cni(self, cluster: Cluster) -> None:
        """Fill the directories of CNI plugins and configurations; containerd takes up the latter as soon as it appears."""
        cni = self.link_plugins()
        (cni / "bin" / "multus").symlink_to(self._toolchain.path("multus"))
        (cni / "default.conf").write_text(json.dumps(node.default_network(self.directory, self.number)))
        kubeconfig = cluster.write_kubeconfig(cni / "multus.kubeconfig", f"multus-{self.name}", ("system:masters",))
        (cni / "net.d" / "00-multus.conf").write_text(json.dumps(node.multus(self.directory, kubeconfig)))

    def _write_plugin(self) -> None:
        ours = self.directory / "cni" / "bin" / "dpuchain-cni"
        # The interpreter itself, isolated and without site: a search for it, or its packages, would cost more than the call.
        source = Path(__file__).parents[1] / "cni" / "plugin.py"
        ours.write_text(node.launcher([sys.executable, "-IS", str(source)], {"DPUCHAIN_CNI_SOCKET": str(self.cni_socket)}))
        ours.chmod(0o755)
