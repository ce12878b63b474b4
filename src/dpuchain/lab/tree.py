"""What a rack carries, as a tree from the DPUServiceChains down to the ports of each DPU. Reading and building it are two steps."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from dpuchain.api.conditions import find
from dpuchain.api.kinds import DPU_SERVICE, DPU_SERVICE_CHAIN, POD, SERVICE_CHAIN, SERVICE_CHAIN_SET, SERVICE_INTERFACE
from dpuchain.api.meta import key_of
from dpuchain.api.names import CHAIN_SET_NAME_LABEL, CHAIN_SET_NAMESPACE_LABEL, READY, SERVICE_LABEL
from dpuchain.chain.ports import DPF_ID, ObservedPort, assign
from dpuchain.chain.release import service_id
from dpuchain.chain.resolve import NodeWorld, ResolvedSwitch, resolve
from dpuchain.lab.example import kubectl
from dpuchain.lab.layout import HOST, Layout, Shape
from dpuchain.lab.openvswitch import OpenVSwitch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dpuchain.api.chain import DPUServiceChain, ServiceChain, ServiceChainSet
    from dpuchain.api.interface import ServiceInterface
    from dpuchain.api.kubernetes import Pod
    from dpuchain.api.meta import Condition, Object
    from dpuchain.api.resource import Resource
    from dpuchain.api.service import DPUService

T = TypeVar("T", bound="Object")


@dataclass(frozen=True)
class Item:
    """A line of the tree. `good` is None where there is nothing to be said about it; `remarks` say what is wrong."""

    name: str
    good: bool | None = None
    state: str = ""
    remarks: tuple[str, ...] = ()
    children: tuple[Item, ...] = ()


@dataclass
class ClusterView:
    """What was read of one DPU cluster; `ports` holds the ports of each DPU's br-sfc."""

    name: str
    sets: list[ServiceChainSet] = field(default_factory=list)
    chains: list[ServiceChain] = field(default_factory=list)
    interfaces: list[ServiceInterface] = field(default_factory=list)
    pods: list[Pod] = field(default_factory=list)
    ports: dict[str, list[ObservedPort]] = field(default_factory=dict)


@dataclass
class View:
    """What was read of a rack."""

    chains: list[DPUServiceChain]
    services: list[DPUService]
    clusters: list[ClusterView]


async def read(layout: Layout, shape: Shape) -> View:
    """Read a running rack. Raises `LabError`."""
    clusters = await asyncio.gather(*(_read_cluster(layout, shape, name) for name in shape.cluster_names))
    host = await _items(layout, HOST, DPU_SERVICE_CHAIN, DPU_SERVICE)
    return View(_of(DPU_SERVICE_CHAIN, host), _of(DPU_SERVICE, host), clusters)


def build(view: View) -> list[Item]:
    """Return the trees of what was read: one for each DPUServiceChain, one for each DPUService."""
    return [*(_chain(chain, view) for chain in view.chains), *(_service(service, view) for service in view.services)]


async def _read_cluster(layout: Layout, shape: Shape, name: str) -> ClusterView:
    dpus = [f"dpu-{number}" for number in shape.members(name)]
    ports = await asyncio.gather(*(_read_ports(OpenVSwitch(dpu, layout.part(dpu))) for dpu in dpus))
    items = await _items(layout, name, SERVICE_CHAIN_SET, SERVICE_CHAIN, SERVICE_INTERFACE, POD)
    chains, interfaces = _of(SERVICE_CHAIN, items), _of(SERVICE_INTERFACE, items)
    return ClusterView(name, _of(SERVICE_CHAIN_SET, items), chains, interfaces, _of(POD, items), dict(zip(dpus, ports, strict=True)))


async def _read_ports(switch: OpenVSwitch) -> list[ObservedPort]:
    columns = ["name", "ofport", "external_ids", "error", "link_state", "mtu"]
    table = json.loads(await switch.vsctl("--format=json", f"--columns={','.join(columns)}", "list", "Interface"))
    return [_port(dict(zip(table["headings"], map(_plain, row), strict=True))) for row in table["data"]]


def _port(row: Mapping[str, Any]) -> ObservedPort:
    return ObservedPort(
        name=row["name"],
        ofport=row["ofport"],
        dpf_id=row["external_ids"].get(DPF_ID),
        error=row["error"],
        link_up=None if row["link_state"] is None else row["link_state"] == "up",
        mtu=row["mtu"],
    )


def _plain(value: Any) -> Any:
    """Return a value of OVSDB's JSON as Python has it; an optional one that is absent as None."""
    if isinstance(value, list) and value[0] == "map":
        return dict(value[1])
    if isinstance(value, list) and value[0] == "set":
        return value[1] or None
    return value


def _chain(chain: DPUServiceChain, view: View) -> Item:
    children = []
    for cluster in view.clusters:
        sets = [_set(item, cluster) for item in cluster.sets if key_of(item) == key_of(chain)]
        children.append(Item(cluster.name, children=tuple(sets) or (Item("no ServiceChainSet", good=False),)))
    return _item(DPU_SERVICE_CHAIN, chain, chain.status.conditions, children)


def _set(chain_set: ServiceChainSet, cluster: ClusterView) -> Item:
    owner = {CHAIN_SET_NAME_LABEL: chain_set.metadata.name, CHAIN_SET_NAMESPACE_LABEL: chain_set.metadata.namespace}
    children = [
        Item(chain.spec.node or "", children=(_node_chain(chain, cluster),))
        for chain in sorted(cluster.chains, key=lambda chain: chain.spec.node or "")
        if owner.items() <= chain.metadata.labels.items()
    ]
    return _item(SERVICE_CHAIN_SET, chain_set, chain_set.status.conditions, children)


def _node_chain(chain: ServiceChain, cluster: ClusterView) -> Item:
    node = chain.spec.node or ""
    world = _world(node, cluster)
    chains = [other for other in cluster.chains if other.spec.node == node]
    resolved = resolve(chains, world).get(key_of(chain))  # none for one that is being deleted
    found = zip(chain.spec.switches, resolved.switches, strict=True) if resolved else ()
    children = [_switch(number, switch.service_mtu, ports) for number, (switch, ports) in enumerate(found, start=1)]
    return _item(SERVICE_CHAIN, chain, chain.status.conditions, children)


def _world(node: str, cluster: ClusterView) -> NodeWorld:
    interfaces = [interface for interface in cluster.interfaces if interface.spec.node == node]
    ports = cluster.ports.get(node, [])
    assigned = assign(interfaces, {port.name: port for port in ports})
    pods = [pod for pod in cluster.pods if pod.spec.node_name == node]
    return NodeWorld(node, interfaces, pods, {port.dpf_id: port for port in ports if port.dpf_id}, assigned.refused, assigned.vlans)


def _switch(number: int, mtu: int, switch: ResolvedSwitch) -> Item:
    ports = tuple(
        Item(
            f"ServiceInterface {found.interface.name}, port {found.port.name}, ofport {found.port.ofport}",
            good=found.port.link_up,
            state="link up" if found.port.link_up else "link down",
        )
        for found in switch.ports
    )
    return Item(f"switch {number}, MTU {mtu}", good=False if switch.problems else None, remarks=switch.problems, children=ports)


def _service(service: DPUService, view: View) -> Item:
    wanted = service_id(service)
    children = []
    for cluster in view.clusters:
        pods = [pod for pod in cluster.pods if pod.metadata.labels.get(SERVICE_LABEL) == wanted]
        items = [Item(f"Pod {pod.metadata.name} on {pod.spec.node_name}", pod.ready, pod.status.phase) for pod in pods]
        children.append(Item(cluster.name, children=tuple(items) or (Item("no pods", good=False),)))
    return _item(DPU_SERVICE, service, service.status.conditions, children)


def _item(resource: Resource[T], item: T, conditions: Sequence[Condition], children: Iterable[Item]) -> Item:
    """Return the line of an object: its Ready condition and whatever other is not true; what Ready itself says only where no other does."""
    ready = find(conditions, READY)
    good = ready is not None and ready.status == "True" and ready.observed_generation >= item.metadata.generation
    others = [condition for condition in conditions if condition.status != "True" and condition.type != READY]
    causes = others or ([ready] if ready and not good else [])
    remarks = tuple(f"{cause.type}: {cause.message or cause.reason}" for cause in causes)
    name = f"{resource.kind} {item.metadata.name}"
    return Item(name, good, "Ready" if good else f"not Ready ({ready.reason if ready else 'no status'})", remarks, tuple(children))


async def _items(layout: Layout, cluster: str, *resources: Resource[Any]) -> list[dict[str, Any]]:
    kinds = [f"{resource.plural}.{resource.group}" if resource.group else resource.plural for resource in resources]
    return await kubectl(layout, cluster).items(*kinds)


def _of(resource: Resource[T], items: Iterable[Mapping[str, Any]]) -> list[T]:
    return [msgspec.convert(item, resource.type, strict=False) for item in items if item["kind"] == resource.kind]
