"""One virtual DPU: a network namespace with its own container runtime, kubelet, Multus and Open vSwitch."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dpuchain.lab import node
from dpuchain.lab.openvswitch import OpenVSwitch
from dpuchain.lab.process import Command, Process, run, tail

if TYPE_CHECKING:
    from dpuchain.lab.cluster import Cluster
    from dpuchain.lab.toolchain import Toolchain

DEBIAN_PLUGINS = Path("/usr/lib/cni")
PLUGINS = ("bridge", "host-local", "loopback")
START_TIMEOUT = 60.0
PRIVATE_MOUNTS = """
set -e
mkdir -p /var/lib/cni
for place in /run /var/log /var/lib/cni; do mount -t tmpfs dpuchain "$place"; done
exec "$@"
"""
"""containerd and kubelet keep sockets, results and links in fixed places; each DPU has these to itself, and they vanish with its processes.

So do all mounts of its pods, since they are made in the same mount namespace.
"""


class Dpu:
    """DPU `number` (from 1) of a rack, a Node of the same name in its cluster. Its namespace must exist and be wired."""

    def __init__(self, number: int, directory: Path, namespace: str, address: str, toolchain: Toolchain) -> None:
        self.name = f"dpu-{number}"
        self.number = number
        self.directory = directory
        self.namespace = namespace
        self.address = address
        self.switch = OpenVSwitch(self.name, directory, namespace=namespace)
        self.containerd: Process | None = None
        self.kubelet: Process | None = None
        self._toolchain = toolchain

    @property
    def cni_socket(self) -> Path:
        """Where the agent listens for `dpuchain-cni`."""
        return self.directory / "cni.sock"

    @property
    def processes(self) -> list[Process]:
        """What runs of it."""
        return [process for process in (*self.switch.processes, self.containerd, self.kubelet) if process is not None]

    async def start(self, image: Path) -> None:
        """Start Open vSwitch and containerd, and give containerd the image: all that needs no cluster yet."""
        self.directory.mkdir(parents=True, exist_ok=True)
        await asyncio.gather(self.switch.start(), self._start_containerd(image))

    async def join(self, cluster: Cluster, control_group: str) -> None:
        """Start the kubelet, which makes the Node in the cluster; returns as soon as it runs, not when the Node is Ready."""
        await self._toolchain.provide("kubelet", "multus")
        self._write_cni(cluster)
        user = f"system:node:{self.name}"
        kubeconfig = cluster.write_kubeconfig(self.directory / "kubelet.kubeconfig", user, ("system:nodes",))
        configuration = self.directory / "kubelet.json"
        configuration.write_text(json.dumps(node.kubelet(self.directory, self.address, cluster.authority.certificate, control_group)))
        root = self.directory / "kubelet"
        arguments = [
            self._toolchain.path("kubelet"),
            f"--config={configuration}",
            f"--kubeconfig={kubeconfig}",
            f"--root-dir={root}",
            f"--cert-dir={root / 'pki'}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.address}",
        ]
        mounts_of = self.containerd.pid if self.containerd else 0
        command = Command(f"{self.name}/kubelet", arguments, namespace=self.namespace, mounts_of=mounts_of)
        self.kubelet = Process.start(command, self.directory / "kubelet.log")

    async def stop(self) -> None:
        """End its own processes. Pods and their shims outlive them: whoever owns the control group ends those."""
        if self.kubelet:
            await self.kubelet.stop(grace=2)
        if self.containerd:
            await self.containerd.stop(grace=2)
        await self.switch.stop()

    def log_tails(self) -> dict[str, str]:
        """Return the end of each log, by file name."""
        return {log.name: tail(log) for log in sorted(self.directory.glob("*.log"))}

    async def _start_containerd(self, image: Path) -> None:
        configuration = self.directory / "containerd.toml"
        configuration.write_text(node.containerd(self.directory))
        temporary = self.directory / "tmp"
        temporary.mkdir(exist_ok=True)
        program = ["containerd", f"--config={configuration}"]
        arguments = ["unshare", "--mount", "--propagation", "private", "sh", "-c", PRIVATE_MOUNTS, "containerd", *program]
        command = Command(f"{self.name}/containerd", arguments, {"TMPDIR": str(temporary)}, self.namespace)
        self.containerd = Process.start(command, self.directory / "containerd.log")
        socket = self.directory / "containerd.sock"
        await self.containerd.until(lambda: _listens(socket), "listening", START_TIMEOUT)
        await run("ctr", f"--address={socket}", "--namespace=k8s.io", "images", "import", "--snapshotter=native", str(image))

    def _write_cni(self, cluster: Cluster) -> None:
        """Fill the directories of CNI plugins and configurations; containerd takes up the latter as soon as it appears."""
        cni = self.directory / "cni"
        for folder in ("bin", "net.d"):
            (cni / folder).mkdir(parents=True, exist_ok=True)
        for plugin in PLUGINS:
            (cni / "bin" / plugin).symlink_to(DEBIAN_PLUGINS / plugin)
        (cni / "bin" / "multus").symlink_to(self._toolchain.path("multus"))
        ours = cni / "bin" / "dpuchain-cni"
        # The interpreter itself, isolated and without site: a search for it, or its packages, would cost more than the call.
        source = Path(__file__).parents[1] / "cni" / "plugin.py"
        ours.write_text(node.launcher([sys.executable, "-IS", str(source)], {"DPUCHAIN_CNI_SOCKET": str(self.cni_socket)}))
        ours.chmod(0o755)
        (cni / "default.conf").write_text(json.dumps(node.default_network(self.directory, self.number)))
        kubeconfig = cluster.write_kubeconfig(cni / "multus.kubeconfig", f"multus-{self.name}", ("system:masters",))
        (cni / "net.d" / "00-multus.conf").write_text(json.dumps(node.multus(self.directory, kubeconfig)))


async def _listens(socket: Path) -> bool:
    with contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
        _, writer = await asyncio.open_unix_connection(str(socket))
        writer.close()
        return True
    return False
