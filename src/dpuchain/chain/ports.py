"""What an interface is on a DPU: which port of br-sfc, marked how, and who owns it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dpuchain.api.interface import ServiceInterface, ServicePort
from dpuchain.api.meta import ObjectKey, key_of

DPF_ID = "dpf-id"
"""Key in an OVS interface's external_ids: whose it is."""
DPF_TYPE = "dpf-type"
"""Key in an OVS port's external_ids: which type of interface it was made for."""
CNI_OWNER = {"owner": "ovs-cni.network.kubevirt.io"}
"""external_ids of a port that the CNI made; DPF's tools know it by them."""
UPLINK_MTU = 9216
"""MTU asked for on an uplink, so that no serviceMTU is too large for it."""


@dataclass(frozen=True)
class ObservedPort:
    """A port of br-sfc as OVSDB shows it. `ofport` is None until there is one; `link_up` is None while it is not known."""

    name: str
    ofport: int | None
    dpf_id: str | None
    error: str | None = None
    link_up: bool | None = None
    mtu: int | None = None


@dataclass(frozen=True)
class WantedPort:
    """A port that br-sfc should have."""

    name: str
    dpf_id: str
    owner: ObjectKey
    mtu_request: int | None = None
    external_ids: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ports:
    """What the interfaces of a node ask for: ports by name, and for each interface that gets none the reason."""

    wanted: Mapping[str, WantedPort]
    refused: Mapping[ObjectKey, str]


def dpf_id_of(interface: ServiceInterface) -> str:
    """The mark on the port of an interface that is not a pod's."""
    return str(key_of(interface))


def pod_dpf_id(pod: ObjectKey, interface_name: str) -> str:
    """The mark on the port of a pod's interface."""
    return f"{pod.namespace}/{pod.name}/{interface_name}"


def service_of(interface: ServiceInterface) -> ServicePort | None:
    """The block of a service's interface; None for another type, though the block be set: only the block of the type counts."""
    return interface.spec.service if interface.spec.interface_type == "service" else None


def port_name(interface: ServiceInterface) -> str | None:
    """Name of the device that the interface is; None for types whose port is made otherwise (by the CNI) or not yet supported.

    Representors have the names that BlueField's udev rules give them.
    """
    spec = interface.spec
    if spec.interface_type == "physical" and spec.physical is not None:
        return spec.physical.interface_name
    if spec.interface_type == "pf" and spec.pf is not None:
        return f"pf{spec.pf.pf_id}hpf"
    if spec.interface_type == "vf" and spec.vf is not None:
        return f"pf{spec.vf.pf_id}vf{spec.vf.vf_id}"
    return None


def unsupported(interface: ServiceInterface) -> str | None:
    """Why the interface can have no port whatever the world is like; None if it can."""
    if interface.spec.interface_type in ("vlan", "ovn", "patch"):
        return f"spec.interfaceType: {interface.spec.interface_type} is not supported yet; use physical, pf, vf or service"
    return None


def assign(interfaces: Iterable[ServiceInterface], present: Mapping[str, ObservedPort]) -> Ports:
    """Which ports br-sfc should have for `interfaces`, all of one node, given the ports that it has.

    A port has one owner: the interface whose mark it carries, as long as that wants it, else the oldest, then the first by name. So a
    later claimant never takes a port over. An interface that is being deleted claims nothing.
    """
    claims: dict[str, list[ServiceInterface]] = {}
    refused: dict[ObjectKey, str] = {}
    for interface in interfaces:
        if interface.metadata.deletion_timestamp is not None:
            continue
        reason = unsupported(interface)
        name = port_name(interface)
        if reason is not None:
            refused[key_of(interface)] = reason
        elif name is not None:
            claims.setdefault(name, []).append(interface)
    wanted: dict[str, WantedPort] = {}
    for name, claimants in sorted(claims.items()):
        holder = present[name].dpf_id if name in present else None
        owner, *others = sorted(claimants, key=lambda claimant: _claim_order(claimant, holder))
        wanted[name] = _wanted(name, owner)
        for other in others:
            refused[key_of(other)] = (
                f"port {name} is owned by ServiceInterface {key_of(owner)}; a port has one owner: delete one of the two, or give this one "
                f"another port"
            )
    return Ports(wanted, refused)


def _claim_order(claimant: ServiceInterface, holder: str | None) -> tuple[bool, str, ObjectKey]:
    created = claimant.metadata.creation_timestamp
    return dpf_id_of(claimant) != holder, created.isoformat() if created else "", key_of(claimant)


def _wanted(name: str, owner: ServiceInterface) -> WantedPort:
    physical = owner.spec.interface_type == "physical"
    return WantedPort(
        name=name,
        dpf_id=dpf_id_of(owner),
        owner=key_of(owner),
        mtu_request=UPLINK_MTU if physical else None,
        external_ids={DPF_TYPE: "physical"} if physical else {DPF_TYPE: owner.spec.interface_type},
    )
