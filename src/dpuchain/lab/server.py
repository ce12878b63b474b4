"""The server of a bare rack: the one machine of the host cluster, on which its pods run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from dpuchain.lab import node
from dpuchain.lab.machine import Machine
from dpuchain.lab.network import SERVER

if TYPE_CHECKING:
    from pathlib import Path

    from dpuchain.lab.cluster import Cluster
    from dpuchain.lab.network import Network
    from dpuchain.lab.toolchain import Toolchain


class Server(Machine):
    """A server, whose pods have addresses in the rack's management network: so API servers reach them, for webhooks, as they are."""

    def __init__(self, directory: Path, network: Network, toolchain: Toolchain) -> None:
        identity = network.identity
        super().__init__(SERVER, directory, identity.namespace(SERVER), network.server_address, toolchain, identity.cgroup)
        self._network = network

    @property
    def translated(self) -> tuple[str, str]:
        """What pods send to the service `kubernetes`: its answers must not come to them as from somebody else."""
        return str(self._network.pods), str(self._network.pods)

    async def start(self, image: Path) -> None:
        """Start containerd, and give it the image."""
        self.directory.mkdir(parents=True, exist_ok=True)
        await self.start_containerd(image)

    async def join(self, cluster: Cluster) -> None:
        """Become a Node of the cluster; returns as soon as the kubelet runs."""
        cni = self.link_plugins()
        assert self._network.subnet is not None, "the network has been made"
        configuration = node.bridged_network(self.directory, self._network.subnet, self._network.pods, self.address)
        (cni / "net.d" / "00-bridge.conflist").write_text(json.dumps(configuration))
        await self.start_kubelet(cluster)
