"""Objects of one DPU as the bench makes them, and the devices that they are about."""

from __future__ import annotations

from bench.rack import NAMESPACE, Rack
from dpuchain.api.chain import Port, ServiceChain, ServiceChainSpec, ServiceInterfaceReference, Switch
from dpuchain.api.interface import Physical, ServiceInterface, ServiceInterfaceSpec
from dpuchain.api.kinds import SERVICE_INTERFACE
from dpuchain.api.meta import ObjectMeta
from dpuchain.kube.client import Client
from dpuchain.lab.layout import Layout
from dpuchain.lab.traffic import End

NODE = "dpu-1"


def chain(*switches: tuple[str, ...], finalizers: tuple[str, ...] = ()) -> ServiceChain:
    """A chain called like its first port, of switches of interfaces by name."""
    described = tuple(Switch(ports=tuple(Port(service_interface=_named(name)) for name in ports)) for ports in switches)
    meta = ObjectMeta(name=switches[0][0], namespace=NAMESPACE, finalizers=finalizers)
    return ServiceChain(metadata=meta, spec=ServiceChainSpec(node=NODE, switches=described))


def _named(name: str) -> ServiceInterfaceReference:
    return ServiceInterfaceReference(match_labels={"bench": name})


async def add_interfaces(rack: Rack, cluster: Client, names: tuple[str, ...]) -> None:
    """Make a ServiceInterface of each of these devices, which are there, and wait until all are Ready."""
    for name in names:
        spec = ServiceInterfaceSpec(node=NODE, interface_type="physical", physical=Physical(interface_name=name))
        meta = ObjectMeta(name=name, namespace=NAMESPACE, labels={"bench": name})
        await cluster.create(SERVICE_INTERFACE, ServiceInterface(metadata=meta, spec=spec))
    rack.kubectl("cluster-1", "wait", "--for=condition=Ready", *(f"serviceinterface/{name}" for name in names), "--timeout=60s")


def add_pair(rack: Rack, first: str, second: str) -> None:
    """Make two devices of the DPU that are each other's far end."""
    rack.at(NODE, "ip", "link", "add", first, "type", "veth", "peer", "name", second)
    for device in (first, second):
        rack.at(NODE, "ip", "link", "set", device, "up")


def attach(rack: Rack, devices: tuple[str, ...]) -> dict[str, End]:
    """Make devices of the DPU whose other ends are in a host's namespace; returns these."""
    namespace = Layout.at(rack.directory).identity.namespace("host-1")
    ends = {device: End(namespace, f"{device}h") for device in devices}
    for device, end in ends.items():
        rack.at(NODE, "ip", "link", "add", device, "type", "veth", "peer", "name", end.interface, "netns", namespace)
        rack.at(NODE, "ip", "link", "set", device, "up")
        rack.at("host-1", "ip", "link", "set", end.interface, "up")
    return ends
