"""What the world should be, worked out from what people wrote by the pure core, beside what it is: objects, status, ports and flows."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from dpuchain.agent import patches
from dpuchain.agent import ports as rows_of
from dpuchain.api.conditions import find
from dpuchain.api.kinds import (
    DPU_CLUSTER,
    DPU_SERVICE,
    DPU_SERVICE_CHAIN,
    DPU_SERVICE_INTERFACE,
    NAMESPACE,
    NODE,
    POD,
    SERVICE_CHAIN,
    SERVICE_CHAIN_SET,
    SERVICE_INTERFACE,
    SERVICE_INTERFACE_SET,
)
from dpuchain.api.meta import Object, key_of
from dpuchain.api.names import HOST_LABEL, READY
from dpuchain.chain.expand import service_chains, service_interfaces, set_of_child
from dpuchain.chain.ports import DPF_ID, assign, pod_dpf_id, service_of
from dpuchain.chain.project import chain_set_of, cluster_selector, interface_set_of, selects
from dpuchain.chain.resolve import NodeWorld, interface_problem, resolve
from dpuchain.flows.compile import ChainSwitches, compile_switches
from dpuchain.flows.explain import describe
from dpuchain.kube.patches import needs_apply
from dpuchain.ovs.database import Database
from dpuchain.ovs.errors import OvsError
from dpuchain.ovs.openflow import OpenFlow
from tests.chaos.world import DPUS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dpuchain.api.resource import Resource
    from tests.chaos.world import World

AT_HOST = (DPU_SERVICE_INTERFACE, DPU_SERVICE, DPU_SERVICE_CHAIN, DPU_CLUSTER)
IN_CLUSTER = (SERVICE_INTERFACE_SET, SERVICE_CHAIN_SET, SERVICE_INTERFACE, SERVICE_CHAIN, POD, NODE)
SERVICE_PODS = "example-service"


@dataclass(frozen=True)
class Objects:
    """All objects, by kind, and the identity of the host cluster."""

    of: Mapping[str, Sequence[Any]]
    host: str

    @classmethod
    def read(cls, world: World) -> Objects:
        """Ask both API servers."""
        found: dict[str, list[Any]] = {}
        for cluster, kinds in (("host", AT_HOST), ("cluster-1", IN_CLUSTER)):
            names = ",".join(f"{kind.plural}.{kind.group}".rstrip(".") for kind in kinds)
            listed = json.loads(world.rack.ok(cluster, "get", names, "--output=json"))["items"]
            for kind in kinds:
                found[kind.kind] = [msgspec.convert(item, type=kind.type, strict=False) for item in listed if item["kind"] == kind.kind]
        namespace = json.loads(world.rack.ok("host", "get", NAMESPACE.plural, "kube-system", "--output=json"))
        return cls(found, namespace["metadata"]["uid"])

    def __getitem__(self, kind: Resource[Any]) -> Sequence[Any]:
        return self.of[kind.kind]

    def on(self, dpu: str, kind: Resource[Any]) -> list[Any]:
        """Those of a node."""
        return [item for item in self[kind] if (item.spec.node_name if kind is POD else item.spec.node) == dpu]

    @property
    def beside(self) -> set[str]:
        """The devices of dpu-1 that are ports of the chain beside."""
        interfaces = ((i.metadata.labels.get("port"), i.spec.physical) for i in self.on("dpu-1", SERVICE_INTERFACE))
        device = {label: physical.interface_name for label, physical in interfaces if label is not None and physical is not None}
        switches = [switch for chain in self.on("dpu-1", SERVICE_CHAIN) for switch in chain.spec.switches]
        members = (device.get(port.service_interface.match_labels.get("port")) for switch in switches for port in switch.ports)
        return {name for name in members if name is not None}


def differences(world: World) -> tuple[Objects, list[str]]:
    """The objects, and what is wrong, in words; nothing if all is as the operators' objects ask for."""
    objects = Objects.read(world)
    world.complete(_devices(objects))
    for dpu in DPUS:
        world.bring_up(dpu)
    found = [*_going(objects), *_sets(objects), *_children(objects), *_statuses(objects), *_pods(objects)]
    for dpu in DPUS:
        found += asyncio.run(_dpu(world, objects, dpu))
        found += [f"{dpu}: of somebody else: {line}" for line in _changes(world.theirs[dpu], world.look_at_theirs(dpu))]
    return objects, found


def _devices(objects: Objects) -> dict[str, str]:
    """The devices of the operators' interfaces of type physical."""
    specs = {item.metadata.name: item.spec.template.spec.template.spec for item in objects[DPU_SERVICE_INTERFACE]}
    return {name: spec.physical.interface_name for name, spec in specs.items() if spec.physical is not None}


def _changes(before: Iterable[str], after: Iterable[str]) -> list[str]:
    was, now = Counter(before), Counter(after)
    return [*(f"lost {line}" for line in was - now), *(f"new {line}" for line in now - was)]


def _going(objects: Objects) -> Iterator[str]:
    for kind, items in objects.of.items():
        yield from (f"{kind} {key_of(item)} waits for its end" for item in items if item.metadata.deletion_timestamp is not None)


def _sets(objects: Objects) -> Iterator[str]:
    """The sets are those of what is in the host cluster."""
    (cluster,) = objects[DPU_CLUSTER]
    for kind, below, make in (
        (DPU_SERVICE_CHAIN, SERVICE_CHAIN_SET, chain_set_of),
        (DPU_SERVICE_INTERFACE, SERVICE_INTERFACE_SET, interface_set_of),
    ):
        chosen = [item for item in objects[kind] if selects(cluster_selector(item.spec), cluster)]
        wanted = {key_of(item): make(item, objects.host) for item in chosen}
        live = {key_of(item): item for item in objects[below]}
        yield from (f"{below.kind} {key} is not as projected" for key, item in wanted.items() if needs_apply(item, live.get(key)))
        yield from (f"{below.kind} {key} is too many" for key in live.keys() - wanted.keys() if HOST_LABEL in live[key].metadata.labels)


def _children(objects: Objects) -> Iterator[str]:
    """The objects of nodes are those of the sets."""
    for parent, below, expand in (
        (SERVICE_CHAIN_SET, SERVICE_CHAIN, service_chains),
        (SERVICE_INTERFACE_SET, SERVICE_INTERFACE, service_interfaces),
    ):
        left = {key_of(item): item for item in objects[below]}
        for item in objects[parent]:
            children = [child for child in objects[below] if set_of_child(child) == key_of(item)]
            expansion = expand(item, objects[NODE], children)
            for child in expansion.wanted:
                if needs_apply(child, left.pop(key_of(child), None)):
                    yield f"{below.kind} {key_of(child)} is not as expanded"
            applied = item.status.number_applied, item.status.number_ready
            if applied != (len(expansion.wanted),) * 2:
                yield f"{parent.kind} {key_of(item)} counts {applied} of {len(expansion.wanted)}"
        yield from (f"{below.kind} {key} is too many" for key in left)


def _statuses(objects: Objects) -> Iterator[str]:
    """Everything is Ready, and was found so in its present generation; but for what is for no cluster at all."""
    (cluster,) = objects[DPU_CLUSTER]
    for kind in (*AT_HOST, *IN_CLUSTER):
        if kind in (DPU_CLUSTER, POD, NODE):
            continue
        for item in objects[kind]:
            idle = kind is DPU_SERVICE_CHAIN and not selects(cluster_selector(item.spec), cluster)
            ready = find(item.status.conditions, READY)
            if ready is None or ready.observed_generation != item.metadata.generation or (ready.status == "True") == idle:
                yield f"{kind.kind} {key_of(item)}: {ready or 'nothing said'}"


def _pods(objects: Objects) -> Iterator[str]:
    for dpu in DPUS:
        (*pods_of_service,) = _service_pods(objects, dpu)
        if len(pods_of_service) != 1 or not pods_of_service[0].ready:
            yield f"{dpu}: pods of the service: {', '.join(str(key_of(pod)) for pod in pods_of_service) or 'none'}, or not ready"


def _service_pods(objects: Objects, dpu: str) -> list[Any]:
    return [pod for pod in objects.on(dpu, POD) if pod.metadata.name.startswith(SERVICE_PODS)]


async def _dpu(world: World, objects: Objects, dpu: str) -> list[str]:
    """What is wrong with the ports and flows of a DPU."""
    directory = world.rack.directory / dpu
    database, openflow = Database(f"unix:{directory / 'db.sock'}"), OpenFlow(directory / "br-sfc.mgmt")
    try:
        async with _running(database, openflow):
            bridges = database.bridges()
            state = await openflow.read_state()
    except (OvsError, TimeoutError) as error:
        return [f"{dpu}: {error}"]
    rows = bridges.get("br-sfc", {})
    interfaces = objects.on(dpu, SERVICE_INTERFACE)
    ports = assign(interfaces, rows_of.claimable(rows))
    node = NodeWorld(dpu, interfaces, objects.on(dpu, POD), rows_of.by_mark(rows.values()), ports.refused, ports.vlans)
    resolutions = resolve(objects.on(dpu, SERVICE_CHAIN), node)
    wanted = compile_switches([ChainSwitches(chain, found.switch_ports) for chain, found in resolutions.items()], node.reserved)
    found = [f"missing {describe(flow)}" for flow in wanted.flows - state.flows]
    found += [f"surplus {describe(flow)}" for flow in state.flows - wanted.flows]
    found += [f"chain {chain}: {problem}" for chain, resolution in resolutions.items() for problem in resolution.problems]
    found += [f"interface {key_of(item)}: {problem}" for item in interfaces if (problem := interface_problem(item, node)) is not None]
    found += [f"port {port.name} is not as it should be" for port, _ in rows_of.additions("br-sfc", rows, ports.wanted, {})]
    found += [f"port {change} should go" for change in rows_of.surplus("br-sfc", rows, ports.wanted)]
    found += [f"patch {change} should go" for change in patches.surplus("br-sfc", bridges, ports.wanted)]
    found += [f"ports of pods: {line}" for line in _pod_ports(objects, dpu, rows)]
    return [f"{dpu}: {line}" for line in found]


def _pod_ports(objects: Objects, dpu: str, rows: Mapping[str, Any]) -> list[str]:
    """One port for each interface of a service that each of its pods has, and no other."""
    services = [service for interface in objects.on(dpu, SERVICE_INTERFACE) if (service := service_of(interface)) is not None]
    wanted = [pod_dpf_id(key_of(pod), service.interface_name) for pod in _service_pods(objects, dpu) for service in services]
    made = [row for row in rows.values() if rows_of.made_by_cni(row)]
    bad = [f"{row.name} {row.error or row.link_state}" for row in made if row.error or row.link_state != "up" or (row.ofport or 0) < 1]
    return [*_changes(wanted, (row.interface_external_ids.get(DPF_ID, row.name) for row in made)), *bad]


@contextlib.asynccontextmanager
async def _running(database: Database, openflow: OpenFlow) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(part.run()) for part in (database, openflow)]
    try:
        async with asyncio.timeout(10):
            await asyncio.gather(database.synced(), openflow.synced())
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def versions(objects: Objects) -> dict[str, str]:
    """By which it is told that nobody has written."""

    def name(kind: str, item: Object) -> str:
        return f"{kind} {key_of(item)}"

    quiet = (kind for kind in objects.of if kind not in ("Pod", "Node"))
    return {name(kind, item): item.metadata.resource_version for kind in quiet for item in objects.of[kind]}
