"""Fleets as values, for the tests of what is foreseen."""

from __future__ import annotations

from typing import Any

import msgspec

from dpuchain.api.chain import DPUServiceChain, ServiceChain, ServiceChainSet
from dpuchain.api.fleet import DPFOperatorConfig, DPUCluster
from dpuchain.api.interface import DPUServiceInterface, ServiceInterface, ServiceInterfaceSet
from dpuchain.api.kubernetes import Metadata, Pod
from dpuchain.api.meta import ObjectKey, ObjectMeta
from dpuchain.api.service import DPUService
from dpuchain.chain.fleet import Fleet

NS = "ns"
NORTH, SOUTH = ObjectKey(NS, "north"), ObjectKey(NS, "south")
ZONE_A = {"matchLabels": {"zone": "a"}}
ZONE_B = {"matchLabels": {"zone": "b"}}


def physical(name: str) -> dict[str, Any]:
    return {"interfaceType": "physical", "physical": {"interfaceName": name}}


def of_service(service_id: str, name: str = "eth1") -> dict[str, Any]:
    return {"interfaceType": "service", "service": {"serviceID": service_id, "network": "mybrsfc", "interfaceName": name}}


def interface(name: str, spec: dict[str, Any] | None = None, **about: Any) -> DPUServiceInterface:
    """A DPUServiceInterface for the port of its name, labelled `port: NAME`; `about`: labels, nodes, clusters, and more metadata."""
    template = {"metadata": {"labels": about.pop("labels", {"port": name})}, "spec": spec or physical(name)}
    return msgspec.convert(_host(name, template, about), DPUServiceInterface)


def chain(name: str, *switches: tuple[str, ...], mtu: int = 1500, **about: Any) -> DPUServiceChain:
    """A DPUServiceChain whose ports select by the label `port`."""
    described = [{"ports": [_port(port) for port in switch], "serviceMTU": mtu} for switch in switches]
    return msgspec.convert(_host(name, {"spec": {"switches": described}}, about), DPUServiceChain)


def _port(port: str) -> dict[str, Any]:
    return {"serviceInterface": {"matchLabels": {"port": port}}}


def _host(name: str, template: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    nodes, clusters, deprecated = about.pop("nodes", None), about.pop("clusters", None), about.pop("deprecated", None)
    inner = {"template": template, **({"nodeSelector": nodes} if nodes else {})}
    spec = {"template": {"spec": inner}, **({"dpuClusterSelector": clusters} if clusters else {})}
    spec |= {"clusterSelector": deprecated} if deprecated else {}
    return {"metadata": _metadata(name, about), "spec": spec}


def _metadata(name: str, about: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "namespace": NS, "uid": f"uid-{name}", **about}


def service(name: str, *interfaces: str, **about: Any) -> DPUService:
    chart = {"source": {"repoURL": "https://charts.example", "version": "1.0.0", "chart": "c", **about.pop("source", {})}}
    chart |= {"values": about.pop("values", {})}
    spec = {"helmChart": chart, "serviceID": about.pop("service_id", name), "interfaces": list(interfaces) or None, **about.pop("spec", {})}
    return msgspec.convert({"metadata": _metadata(name, about), "spec": spec}, DPUService)


def cluster(name: str, **labels: str) -> DPUCluster:
    spec = {"type": "static", "version": "v1"}
    return msgspec.convert({"metadata": {"name": name, "namespace": NS, "labels": labels}, "spec": spec}, DPUCluster)


def node(name: str, **labels: str) -> Metadata:
    return Metadata(metadata=ObjectMeta(name=name, labels=labels))


def config(mtu: int) -> DPFOperatorConfig:
    metadata = {"name": "dpfoperatorconfig", "namespace": "dpf-operator-system"}
    return msgspec.convert({"metadata": metadata, "spec": {"networking": {"highSpeedMTU": mtu}}}, DPFOperatorConfig)


def pod(name: str, service_id: str, on: str, mtu: int = 1500, **interfaces: int) -> Pod:
    networks = [{"interface": key, "mtu": value} for key, value in (interfaces or {"eth1": mtu}).items()]
    owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "d", "controller": True}
    metadata = {
        "name": name,
        "namespace": NS,
        "uid": f"uid-{name}",
        "labels": {"svc.dpu.nvidia.com/service": service_id},
        "annotations": {"k8s.v1.cni.cncf.io/network-status": msgspec.json.encode(networks).decode()},
        "ownerReferences": [owner],
    }
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    return msgspec.convert({"metadata": metadata, "spec": {"nodeName": on}, "status": status}, Pod)


def interface_set(name: str, spec: dict[str, Any] | None = None, **about: Any) -> ServiceInterfaceSet:
    template = {"metadata": {"labels": about.pop("labels", {"port": name})}, "spec": spec or physical(name)}
    nodes = about.pop("nodes", None)
    inner = {"template": template, **({"nodeSelector": nodes} if nodes else {})}
    return msgspec.convert({"metadata": _metadata(name, about), "spec": inner}, ServiceInterfaceSet)


def chain_set(name: str, *switches: tuple[str, ...], **about: Any) -> ServiceChainSet:
    nodes = about.pop("nodes", None)
    described = [{"ports": [_port(port) for port in switch]} for switch in switches]
    inner = {"template": {"spec": {"switches": described}}, **({"nodeSelector": nodes} if nodes else {})}
    return msgspec.convert({"metadata": _metadata(name, about), "spec": inner}, ServiceChainSet)


def node_interface(name: str, on: str, spec: dict[str, Any] | None = None, **about: Any) -> ServiceInterface:
    metadata = _metadata(name, {"labels": about.pop("labels", {"port": name}), **about})
    return msgspec.convert({"metadata": metadata, "spec": {"node": on, **(spec or physical(name))}}, ServiceInterface)


def node_chain(name: str, on: str, *switches: tuple[str, ...], **about: Any) -> ServiceChain:
    described = [{"ports": [_port(port) for port in switch]} for switch in switches]
    return msgspec.convert({"metadata": _metadata(name, about), "spec": {"node": on, "switches": described}}, ServiceChain)


def fleet(*items: Any, north: Any = (), south: Any = ()) -> Fleet:
    """A fleet of these objects; `north` and `south` are those of two DPU clusters, which are there if anything is in them."""
    found = Fleet(config=config(9000))
    for item in items:
        found = found.put(item)
    for key, inside in ((NORTH, north), (SOUTH, south)):
        if inside:
            found = found.put(cluster(key.name)) if key not in found.clusters else found
        for item in inside:
            found = found.put(item, key)
    return found
