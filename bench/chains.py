"""From an object to its flows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from bench.flow_monitor import FlowMonitor
from bench.rack import NAMESPACE, Rack
from dpuchain.api.chain import (
    DPUServiceChain,
    DPUServiceChainSpec,
    Port,
    ServiceChain,
    ServiceChainSetSpec,
    ServiceChainSetTemplate,
    ServiceChainSpec,
    ServiceChainTemplate,
    ServiceInterfaceReference,
    Switch,
)
from dpuchain.api.interface import Physical, ServiceInterface, ServiceInterfaceSpec
from dpuchain.api.kinds import DPU_SERVICE_CHAIN, SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.api.meta import LabelSelector, ObjectKey, ObjectMeta
from dpuchain.kube.client import Client

NODE = "dpu-1"
RUNS = 50
DEVICES = ("bench0", "bench1")
FLOWS = 2
"""A switch of two ports is a wire: one flow each way."""
SWITCHES = (Switch(ports=tuple(Port(service_interface=ServiceInterfaceReference(match_labels={"bench": device})) for device in DEVICES)),)


async def prepare(rack: Rack, cluster: Client) -> int:
    """Make two ports on dpu-1 and return the number of the first."""
    rack.at(NODE, "ip", "link", "add", DEVICES[0], "type", "veth", "peer", "name", DEVICES[1])
    for device in DEVICES:
        rack.at(NODE, "ip", "link", "set", device, "up")
    for device in DEVICES:
        spec = ServiceInterfaceSpec(node=NODE, interface_type="physical", physical=Physical(interface_name=device))
        meta = ObjectMeta(name=device, namespace=NAMESPACE, labels={"bench": device})
        await cluster.create(SERVICE_INTERFACE, ServiceInterface(metadata=meta, spec=spec))
        rack.kubectl("cluster-1", "wait", "--for=condition=Ready", f"serviceinterface/{device}", "--timeout=30s")
    return int(rack.at(NODE, "ovs-vsctl", "get", "interface", DEVICES[0], "ofport"))


async def service_chain(cluster: Client, monitor: FlowMonitor, port: int) -> list[float]:
    """Seconds from the create call to the last flow, for each of the runs."""
    chain = ServiceChain(metadata=ObjectMeta(name="bench", namespace=NAMESPACE), spec=ServiceChainSpec(node=NODE, switches=SWITCHES))

    async def create() -> None:
        await cluster.create(SERVICE_CHAIN, chain)

    async def delete() -> None:
        await cluster.delete(SERVICE_CHAIN, ObjectKey(NAMESPACE, "bench"))

    return [await _once(create, delete, monitor, port) for _ in range(RUNS)]


async def dpu_service_chain(rack: Rack, host: Client, monitor: FlowMonitor, port: int) -> list[float]:
    """Seconds from the apply in the host cluster to the last flow on the DPU, for each of the runs."""
    template = ServiceChainTemplate(spec=ServiceChainSpec(switches=SWITCHES))
    selector = LabelSelector(match_labels={"kubernetes.io/hostname": NODE})
    spec = ServiceChainSetSpec(node_selector=selector, template=template)
    key = ObjectKey(NAMESPACE, "bench")
    chain = DPUServiceChain(
        metadata=ObjectMeta(name=key.name, namespace=key.namespace),
        spec=DPUServiceChainSpec(template=ServiceChainSetTemplate(spec=spec)),
    )

    async def create() -> None:
        await host.apply(DPU_SERVICE_CHAIN, chain, field_owner="bench")

    async def delete() -> None:
        await host.delete(DPU_SERVICE_CHAIN, key)
        await asyncio.to_thread(rack.kubectl, "host", "wait", "--for=delete", "dpuservicechain/bench", "--timeout=30s")

    return [await _once(create, delete, monitor, port) for _ in range(RUNS)]


async def _once(create: Callable[[], Awaitable[None]], delete: Callable[[], Awaitable[None]], monitor: FlowMonitor, port: int) -> float:
    began = time.perf_counter()
    request = asyncio.ensure_future(create())
    ended = await monitor.until("ADDED", port, FLOWS)
    await request
    removal = asyncio.ensure_future(delete())
    await monitor.until("DELETED", port, FLOWS)
    await removal
    return ended - began
