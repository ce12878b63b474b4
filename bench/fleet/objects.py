"""The objects of the simulated fleet, as values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from dpuchain.api.chain import ServiceChain, ServiceChainSet
from dpuchain.api.interface import ServiceInterface, ServiceInterfaceSet
from dpuchain.api.kinds import DPU_SERVICE_CHAIN, DPU_SERVICE_INTERFACE, NODE
from dpuchain.api.kubernetes import Metadata
from dpuchain.api.meta import ObjectMeta
from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.chain.expand import service_chains, service_interfaces

BASE = {"uplink-0": "p0", "uplink-1": "p1", "host-0": "pf0hpf"}
"""Interfaces that every node of the fleet has from the beginning: name and device."""
WIRE = ("p0", "pf0hpf")
HUB = (*WIRE, "p1")
VFS = tuple(f"pf0vf{number}" for number in range(40))
DEVICES = (*BASE.values(), *VFS)
PORT = "bench/port"
"""Label of an interface by which chains select it: the name of its device."""
RAW = "bench/set-name"
"""Label of a child that a bare client has made, in the place of the label that names its set."""
IMAGES = 12

Manifest = dict[str, Any]


def node(name: str) -> Manifest:
    """A Node as the kubelet of a DPU keeps it."""
    labels = {
        "beta.kubernetes.io/arch": "arm64",
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": "arm64",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "feature.node.kubernetes.io/dpu-enabled": "true",
        "feature.node.kubernetes.io/dpu-deviceID": "0xa2dc",
        "provisioning.dpu.nvidia.com/dpucluster-name": "cluster-1",
        "provisioning.dpu.nvidia.com/dpucluster-namespace": OPERATOR_NAMESPACE,
    }
    annotations = {
        "node.alpha.kubernetes.io/ttl": "0",
        "volumes.kubernetes.io/controller-managed-attach-detach": "true",
        "kubeadm.alpha.kubernetes.io/cri-socket": "unix:///run/containerd/containerd.sock",
    }
    resources = {"cpu": "16", "memory": "32492860Ki", "pods": "110", "ephemeral-storage": "56453061334", "nvidia.com/bf_sf": "46"}
    conditions = [
        {"type": kind, "status": status, "reason": f"Kubelet{kind}", "message": f"kubelet says {kind}"}
        for kind, status in (("MemoryPressure", "False"), ("DiskPressure", "False"), ("PIDPressure", "False"), ("Ready", "True"))
    ]
    images = [{"names": [f"registry.example/dpf/service-{number}@sha256:{number:064x}"], "sizeBytes": 1 << 27} for number in range(IMAGES)]
    info = {
        "architecture": "arm64",
        "containerRuntimeVersion": "containerd://1.7.24",
        "kernelVersion": "5.15.0-1060-bluefield",
        "kubeletVersion": "v1.36.2",
        "operatingSystem": "linux",
        "osImage": "Ubuntu 22.04.5 LTS",
    }
    return {
        "apiVersion": NODE.api_version,
        "kind": NODE.kind,
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]},
        "status": {"allocatable": resources, "capacity": resources, "conditions": conditions, "images": images, "nodeInfo": info},
    }


def interface(name: str, device: str, **selector: Any) -> Manifest:
    """A DPUServiceInterface of a device on each node that is selected (all if no `nodeSelector` is given)."""
    return _of_fleet(DPU_SERVICE_INTERFACE, name, {"template": _interface_template(device), **selector})


def chain(name: str, *switches: Sequence[str], **selector: Any) -> Manifest:
    """A DPUServiceChain with switches of these devices on each node that is selected (all if no `nodeSelector` is given)."""
    return _of_fleet(DPU_SERVICE_CHAIN, name, {"template": _chain_template(switches), **selector})


def _of_fleet(resource: Any, name: str, spec: Manifest) -> Manifest:
    metadata = {"name": name, "namespace": OPERATOR_NAMESPACE}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "spec": {"template": {"spec": spec}}}


def _interface_template(device: str) -> Manifest:
    spec: Manifest = {"interfaceType": "physical", "physical": {"interfaceName": device}}
    if device in VFS:
        spec = {"interfaceType": "vf", "vf": {"pfID": 0, "vfID": VFS.index(device)}}
    elif device == "pf0hpf":
        spec = {"interfaceType": "pf", "pf": {"pfID": 0}}
    return {"metadata": {"labels": {PORT: device}}, "spec": spec}


def wires(chains: int, devices: Sequence[str]) -> list[tuple[str, str]]:
    """The two ports of each of so many chains, the devices dealt out two by two. A chain that gets none names what no node has, and waits
    for it.
    """
    dealt = list(zip(devices[::2], devices[1::2], strict=False))
    return [*dealt, *((f"awaited-{number}-0", f"awaited-{number}-1") for number in range(len(dealt), chains))][:chains]


def _chain_template(switches: Iterable[Sequence[str]]) -> Manifest:
    return {
        "spec": {
            "switches": [{"ports": [{"serviceInterface": {"matchLabels": {PORT: device}}} for device in devices]} for devices in switches],
        },
    }


def raw_chains(name: str, nodes: Iterable[str], *switches: Sequence[str]) -> list[ServiceChain]:
    """The ServiceChains that a set of these switches has on the nodes, but for what would make them those of a set."""
    found = msgspec.convert({"metadata": _raw_metadata(name), "spec": {"template": _chain_template(switches)}}, ServiceChainSet)
    return [_raw(child, name) for child in service_chains(found, _as_nodes(nodes), ()).wanted]


def raw_interfaces(name: str, nodes: Iterable[str], device: str) -> list[ServiceInterface]:
    """The ServiceInterfaces of a device on the nodes, likewise."""
    found = msgspec.convert({"metadata": _raw_metadata(name), "spec": {"template": _interface_template(device)}}, ServiceInterfaceSet)
    return [_raw(child, name) for child in service_interfaces(found, _as_nodes(nodes), ()).wanted]


def _raw_metadata(name: str) -> Mapping[str, str]:
    return {"name": name, "namespace": OPERATOR_NAMESPACE, "uid": "5d0e2f6e-6f3c-4b0a-9d55-6d9a6a2c6d0e"}


def _as_nodes(names: Iterable[str]) -> list[Metadata]:
    return [Metadata(metadata=ObjectMeta(name=name)) for name in names]


def _raw(child: Any, name: str) -> Any:
    """The child as nobody's: with as many labels and owners as it had, none of which leads to a set."""
    labels = {key: value for key, value in child.metadata.labels.items() if not key.endswith(("set-name", "set-namespace"))}
    labels |= {RAW: name, "bench/namespace": OPERATOR_NAMESPACE}
    owners = tuple(replace(owner, kind="BareClient") for owner in child.metadata.owner_references)
    return replace(child, metadata=replace(child.metadata, labels=labels, owner_references=owners))
