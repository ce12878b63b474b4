"""One virtual DPU: a network namespace with its own container runtime, kubelet, Multus and Open vSwitch."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dpuchain.lab import containers, node
from dpuchain.lab.cgroups import ControlGroup
from dpuchain.lab.cluster import SERVICE_ADDRESS
from dpuchain.lab.openvswitch import OpenVSwitch
from dpuchain.lab.process import Command, Process, run, tail

if TYPE_CHECKING:
    from dpuchain.lab.cluster import Cluster
    from dpuchain.lab.toolchain import Toolchain

DEBIAN_PLUGINS = Path("/usr/lib/cni")
PLUGINS = ("bridge", "host-local", "loopback")
START_TIMEOUT = 60.0
HOLDER = "sleep"
PRIVATE_MOUNTS = f"""
set -e
mkdir -p /var/lib/cni
while umount --recursive --lazy /run/netns 2>/dev/null; do :; done
for place in /run /var/log; do mount -t tmpfs dpuchain "$place"; done
mount --make-shared /run
mount --bind "$1" /var/lib/cni
mkdir /run/openvswitch /run/cni
mount --bind "$2" /run/openvswitch
mount --bind "$3" /run/cni
exec {HOLDER} infinity
"""
"""containerd and kubelet keep sockets, results and links in fixed places; each DPU has these to itself: one process holds them, the others
share its mount namespace. What containers are given of it is where a DPU has it: Open vSwitch's sockets in /run/openvswitch, and network
namespaces in /run/netns, which containers see come and go.

All but the CNI's results vanish with that process and with those that share its mounts, as at a reboot. So do the mounts of its pods.
"""


class Dpu:
    """DPU `number` (from 1) of a rack, a Node of the same name in its cluster. Its namespace must exist and be wired.

    containerd and what it starts, containers aside, are in a control group of its own within `control_group`.
    """

    def __init__(self, number: int, directory: Path, namespace: str, address: str, toolchain: Toolchain, control_group: str) -> None:
        self.name = f"dpu-{number}"
        self.number = number
        self.directory = directory
        self.namespace = namespace
        self.address = address
        self.switch = OpenVSwitch(self.name, directory, namespace=namespace)
        self.mounts: Process | None = None
        self.containerd: Process | None = None
        self.kubelet: Process | None = None
        self._toolchain = toolchain
        self._server = ""
        self._group = ControlGroup(f"{control_group}/{self.name}")

    @property
    def cni_socket(self) -> Path:
        """Where the agent listens for `dpuchain-cni`."""
        return self.directory / "cni.sock"

    @property
    def processes(self) -> list[Process]:
        """What runs of it."""
        return [process for process in (*self.switch.processes, self.mounts, self.containerd, self.kubelet) if process is not None]

    async def start(self, image: Path) -> None:
        """Start Open vSwitch and containerd, and give containerd the image: all that needs no cluster yet."""
        self.directory.mkdir(parents=True, exist_ok=True)
        await asyncio.gather(self.switch.start(), self._start_containerd(image))

    async def join(self, cluster: Cluster, *, bare: bool = False) -> None:
        """Start the kubelet, which makes the Node in the cluster; returns as soon as it runs, not when the Node is Ready.

        A `bare` one has Multus, but not our CNI plugin.
        """
        await self._toolchain.provide("kubelet", "multus")
        self._write_cni(cluster)
        if not bare:
            self._write_plugin()
        self._server = cluster.server.removeprefix("https://")
        await self._serve_kubernetes()
        user = f"system:node:{self.name}"
        kubeconfig = cluster.write_kubeconfig(self.directory / "kubelet.kubeconfig", user, ("system:nodes",))
        configuration = self.directory / "kubelet.json"
        configuration.write_text(json.dumps(node.kubelet(self.directory, self.address, cluster.authority.certificate, self._group.name)))
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
        command = Command(f"{self.name}/kubelet", arguments, namespace=self.namespace, mounts_of=self.mounts)
        self.kubelet = Process.start(command, self.directory / "kubelet.log")

    async def crash(self) -> None:
        """End all that runs of it at once, its pods included, as a loss of power does; what is on disk stays."""
        await asyncio.gather(*(process.stop(first=signal.SIGKILL) for process in self.processes))
        await asyncio.to_thread(self._group.kill)
        await asyncio.to_thread(containers.end, self.directory)

    async def boot(self) -> None:
        """Start again what `crash` has ended."""
        shutil.rmtree(containers.state(self.directory))  # in memory, on a machine of its own
        await asyncio.gather(self.switch.start(), self._serve_kubernetes(), self._start_pods_again())

    async def _start_pods_again(self) -> None:
        assert self.mounts is not None, "has been started"
        assert self.containerd is not None, "has been started"
        assert self.kubelet is not None, "has joined a cluster"
        self.mounts.start_again()
        await _holds_mounts(self.mounts)
        self.containerd.start_again()
        await self._listens(self.containerd)
        self.kubelet.start_again()

    async def _serve_kubernetes(self) -> None:
        """In the place of kube-proxy: the service `kubernetes`, for pods on the DPU's own network and on networks of theirs."""
        translate = f"-d {SERVICE_ADDRESS}/32 -p tcp --dport 443 -j DNAT --to-destination {self._server}"
        pods = f"10.244.{self.number}.0/24"
        rules = ["*nat", *(f"-A {chain} {translate}" for chain in ("PREROUTING", "OUTPUT"))]
        rules += [f"-A POSTROUTING -s {pods} ! -d {pods} -j MASQUERADE", "COMMIT\n"]
        inside = ("nsenter", f"--net=/run/netns/{self.namespace}")
        await run(*inside, "iptables-restore", stdin="\n".join(rules).encode())
        await run(*inside, "ip", "route", "replace", f"{SERVICE_ADDRESS}/32", "dev", "eth0")
        await run(*inside, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")

    def log_tails(self) -> dict[str, str]:
        """Return the end of each log, by file name."""
        return {log.name: tail(log) for log in sorted(self.directory.glob("*.log"))}

    async def _start_containerd(self, image: Path) -> None:
        results, plugins, temporary = self.directory / "cni" / "results", self.directory / "cni" / "bin", self.directory / "tmp"
        results.mkdir(parents=True)
        plugins.mkdir()
        temporary.mkdir()
        holder = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            PRIVATE_MOUNTS,
            "mounts",
            str(results),
            str(self.directory),
            str(plugins),
        ]
        self.mounts = Process.start(Command(f"{self.name}/mounts", holder, namespace=self.namespace), self.directory / "mounts.log")
        await _holds_mounts(self.mounts)
        configuration = self.directory / "containerd.toml"
        configuration.write_text(node.containerd(self.directory))
        arguments, environment = ["containerd", f"--config={configuration}"], {"TMPDIR": str(temporary)}
        command = Command(f"{self.name}/containerd", arguments, environment, self.namespace, self.mounts, self._group)
        self.containerd = Process.start(command, self.directory / "containerd.log")
        await self._listens(self.containerd)
        await self.load(image)

    async def load(self, image: Path) -> None:
        """Give containerd an image, from an OCI archive."""
        await run("ctr", f"--address={self._socket}", "--namespace=k8s.io", "images", "import", "--snapshotter=native", str(image))

    @property
    def _socket(self) -> Path:
        return self.directory / "containerd.sock"

    async def _listens(self, containerd: Process) -> None:
        await containerd.until(lambda: _listens(self._socket), "listening", START_TIMEOUT)

    def _write_cni(self, cluster: Cluster) -> None:
        """Fill the directories of CNI plugins and configurations; containerd takes up the latter as soon as it appears."""
        cni = self.directory / "cni"
        for folder in ("bin", "net.d"):
            (cni / folder).mkdir(exist_ok=True)
        for plugin in PLUGINS:
            (cni / "bin" / plugin).symlink_to(DEBIAN_PLUGINS / plugin)
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


async def _holds_mounts(process: Process) -> None:
    """Wait until the mounts are made: who came before would have those of the machine."""

    async def holds() -> bool:
        return Path(f"/proc/{process.pid}/comm").read_text().strip() == HOLDER

    await process.until(holds, "holding the mounts", START_TIMEOUT)


async def _listens(socket: Path) -> bool:
    with contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
        _, writer = await asyncio.open_unix_connection(str(socket))
        writer.close()
        return True
    return False
