"""The configuration files of a machine's containerd, kubelet and CNI, as values."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from dpuchain.lab import containers
from dpuchain.lab.images import IMAGE

if TYPE_CHECKING:
    from ipaddress import IPv4Network
    from pathlib import Path

CNI_VERSION = "1.0.0"


def containerd(directory: Path) -> str:
    """Return containerd's configuration (TOML) with everything below `directory`."""

    def text(path: Path) -> str:
        return json.dumps(str(path))  # a TOML string, as far as paths go

    unused = ["aufs", "btrfs", "devmapper", "overlayfs", "zfs"]
    disabled = json.dumps([f"io.containerd.snapshotter.v1.{name}" for name in unused])
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""\
version = 2
root = {text(directory / "containerd" / "root")}
state = {text(containers.state(directory))}
disabled_plugins = {disabled}

[grpc]
address = {text(directory / "containerd.sock")}

[plugins."io.containerd.internal.v1.opt"]
path = {text(directory / "containerd" / "opt")}

[{cri}]
sandbox_image = "{IMAGE}"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = false
disable_tcp_service = true

[{cri}.containerd]
snapshotter = "native"
default_runtime_name = "runc"

[{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[{cri}.containerd.runtimes.runc.options]
SystemdCgroup = false

[{cri}.cni]
bin_dir = {text(directory / "cni" / "bin")}
conf_dir = {text(directory / "cni" / "net.d")}
"""


def kubelet(directory: Path, address: str, authority: Path, control_group: str) -> dict[str, Any]:
    """Return the kubelet's configuration: it needs no rights that a container lacks, and does not evict for the machine's fullness."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{control_group}",
        "cgroupsPerQOS": False,
        "containerRuntimeEndpoint": f"unix://{directory / 'containerd.sock'}",
        "enforceNodeAllocatable": [],
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
        "failCgroupV1": False,
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": False,
        "makeIPTablesUtilChains": False,
        "oomScoreAdj": 0,
        "podLogsDir": str(directory / "pod-logs"),
        "resolvConf": "",
        "volumePluginDir": str(directory / "kubelet" / "volume-plugins"),
    }


def default_network(directory: Path, number: int) -> dict[str, Any]:
    """Return the network that every pod of DPU `number` gets as eth0: a bridge inside the DPU.

    One plugin and no list: Multus 4.2.2 loses most of a list's fields on the way from ADD to DEL, `ipam.ranges` among them.
    """
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": f"10.244.{number}.0/24"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(directory / "cni" / "ipam"),
    }
    return {"cniVersion": CNI_VERSION, "name": "default", "type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": ipam}


def bridged_network(directory: Path, subnet: IPv4Network, pods: IPv4Network, gateway: str) -> dict[str, Any]:
    """Return the network that every pod of the server gets: addresses of the management network, on the server's own bridge."""
    span = {"subnet": str(subnet), "rangeStart": str(pods[0]), "rangeEnd": str(pods[-2]), "gateway": gateway}
    ipam = {"type": "host-local", "ranges": [[span]], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": str(directory / "cni" / "ipam")}
    plugin = {"type": "bridge", "bridge": "eth0", "ipam": ipam}
    return {"cniVersion": CNI_VERSION, "name": "default", "plugins": [plugin]}


def multus(directory: Path, kubeconfig: Path) -> dict[str, Any]:
    """Return the configuration of Multus, which containerd calls, and which calls the plugins of a pod's networks."""
    return {
        "cniVersion": CNI_VERSION,
        "name": "multus",
        "type": "multus",
        "kubeconfig": str(kubeconfig),
        "clusterNetwork": str(directory / "cni" / "default.conf"),
        "binDir": str(directory / "cni" / "bin"),
        "cniDir": str(directory / "cni" / "multus"),
        "logFile": str(directory / "multus.log"),
        "logLevel": "error",
    }


def launcher(program: list[str], environment: dict[str, str]) -> str:
    """Return a shell script that becomes a program; a CNI plugin is called by its file name and gets no arguments of ours."""
    settings = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    return "\n".join(["#!/bin/sh", *settings, f'exec {shlex.join(program)} "$@"', ""])
