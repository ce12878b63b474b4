"""One machine of a rack: a network namespace with its own container runtime and kubelet, a Node of a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from dpuchain.lab import containers, node
from dpuchain.lab.cgroups import ControlGroup
from dpuchain.lab.cluster import SERVICE_ADDRESS
from dpuchain.lab.process import Command, Process, run, tail

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dpuchain.lab.cluster import Cluster
    from dpuchain.lab.toolchain import Toolchain

DEBIAN_PLUGINS = Path("/usr/lib/cni")
PLUGINS = ("bridge", "host-local", "loopback")
START_TIMEOUT = 60.0
UNPACK_TIMEOUT = 180.0
HOLDER = "sleep"
PRIVATE_MOUNTS = f"""
set -e
mkdir -p /var/lib/cni
while umount --recursive --lazy /run/netns 2>/dev/null; do :; done
for place in /run /var/log; do mount -t tmpfs dpuchain "$place"; done
mount --make-shared /run
mount --bind "$1" /var/lib/cni
shift
while [ $# -gt 0 ]; do mkdir "$2"; mount --bind "$1" "$2"; shift 2; done
exec {HOLDER} infinity
"""
"""containerd and kubelet keep sockets, results and links in fixed places; each machine has these to itself: one process holds them, the
others share its mount namespace. What containers are given of it is where a machine has it: network namespaces in /run/netns, which
containers see come and go.

All but the CNI's results vanish with that process and with those that share its mounts, as at a reboot. So do the mounts of its pods.
"""


class Machine(ABC):
    """A machine, a Node of the same name in its cluster. Its namespace must exist and be wired.

    containerd and what it starts, containers aside, are in a control group of its own within `control_group`.
    """

    def __init__(self, name: str, directory: Path, namespace: str, address: str, toolchain: Toolchain, control_group: str) -> None:
        self.name = name
        self.directory = directory
        self.namespace = namespace
        self.address = address
        self.mounts: Process | None = None
        self.containerd: Process | None = None
        self.kubelet: Process | None = None
        self._toolchain = toolchain
        self._server = ""
        self._group = ControlGroup(f"{control_group}/{self.name}")

    @property
    def processes(self) -> list[Process]:
        """What runs of it."""
        return [process for process in (self.mounts, self.containerd, self.kubelet) if process is not None]

    @property
    @abstractmethod
    def translated(self) -> tuple[str, str]:
        """Which packets get the machine's own address: those from the first network to anywhere but the second."""

    async def load(self, image: Path) -> None:
        """Give containerd an image, from an OCI archive."""
        await self._images("import", "--snapshotter=native", str(image))

    async def tag(self, name: str, other: str) -> None:
        """Give an image that containerd has another name."""
        await self._images("tag", name, other)

    async def _images(self, *arguments: str) -> None:
        await run("ctr", f"--address={self._socket}", "--namespace=k8s.io", "images", *arguments, timeout=UNPACK_TIMEOUT)

    def log_tails(self) -> dict[str, str]:
        """Return the end of each log, by file name."""
        return {log.name: tail(log) for log in sorted(self.directory.glob("*.log"))}

    async def start_containerd(self, image: Path, places: Iterable[tuple[Path, str]] = ()) -> None:
        """Start containerd and give it an image. `places` are folders, each with the one in which the machine has it."""
        results, temporary = self.directory / "cni" / "results", self.directory / "tmp"
        results.mkdir(parents=True)
        (self.directory / "cni" / "bin").mkdir()
        temporary.mkdir()
        pairs = [str(part) for place in places for part in place]
        holder = ["unshare", "--mount", "--propagation", "private", "sh", "-c", PRIVATE_MOUNTS, "mounts", str(results), *pairs]
        self.mounts = Process.start(Command(f"{self.name}/mounts", holder, namespace=self.namespace), self.directory / "mounts.log")
        await _holds_mounts(self.mounts)
        configuration = self.directory / "containerd.toml"
        configuration.write_text(node.containerd(self.directory))
        arguments, environment = ["containerd", f"--config={configuration}"], {"TMPDIR": str(temporary)}
        command = Command(f"{self.name}/containerd", arguments, environment, self.namespace, self.mounts, self._group)
        self.containerd = Process.start(command, self.directory / "containerd.log")
        await self._listens(self.containerd)
        await self.load(image)

    async def start_kubelet(self, cluster: Cluster) -> None:
        """Start the kubelet, which makes the Node in the cluster; returns as soon as it runs, not when the Node is Ready."""
        await self._toolchain.provide("kubelet")
        self._server = cluster.server.removeprefix("https://")
        await self.serve_kubernetes()
        kubeconfig = cluster.write_kubeconfig(self.directory / "kubelet.kubeconfig", f"system:node:{self.name}", ("system:nodes",))
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

    async def serve_kubernetes(self) -> None:
        """In the place of kube-proxy: the service `kubernetes`, for pods on the machine's own network and on networks of theirs."""
        source, near = self.translated
        translate = f"-d {SERVICE_ADDRESS}/32 -p tcp --dport 443 -j DNAT --to-destination {self._server}"
        rules = ["*nat", *(f"-A {chain} {translate}" for chain in ("PREROUTING", "OUTPUT"))]
        rules += [f"-A POSTROUTING -s {source} ! -d {near} -j MASQUERADE", "COMMIT\n"]
        inside = ("nsenter", f"--net=/run/netns/{self.namespace}")
        await run(*inside, "iptables-restore", stdin="\n".join(rules).encode())
        await run(*inside, "ip", "route", "replace", f"{SERVICE_ADDRESS}/32", "dev", "eth0")
        await run(*inside, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")

    async def end_at_once(self) -> None:
        """End all that runs of it at once, its pods included, as a loss of power does; what is on disk stays."""
        await asyncio.gather(*(process.stop(first=signal.SIGKILL) for process in self.processes))
        await asyncio.to_thread(self._group.kill)
        await asyncio.to_thread(containers.end, self.directory)

    async def start_pods_again(self) -> None:
        """Start again what `end_at_once` has ended."""
        assert self.mounts is not None, "has been started"
        assert self.containerd is not None, "has been started"
        assert self.kubelet is not None, "has joined a cluster"
        shutil.rmtree(containers.state(self.directory))  # in memory, on a machine of its own
        self.mounts.start_again()
        await _holds_mounts(self.mounts)
        self.containerd.start_again()
        await self._listens(self.containerd)
        self.kubelet.start_again()

    def link_plugins(self) -> Path:
        """Give the machine Debian's CNI plugins and a folder for configurations; returns the folder of both."""
        cni = self.directory / "cni"
        (cni / "net.d").mkdir(exist_ok=True)
        for plugin in PLUGINS:
            (cni / "bin" / plugin).symlink_to(DEBIAN_PLUGINS / plugin)
        return cni

    @property
    def _socket(self) -> Path:
        return self.directory / "containerd.sock"

    async def _listens(self, containerd: Process) -> None:
        await containerd.until(lambda: _listens(self._socket), "listening", START_TIMEOUT)


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
