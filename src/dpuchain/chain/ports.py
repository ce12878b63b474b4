"""What an interface is on a DPU: which port of br-sfc, marked how, and who owns it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dpuchain.api.interface import ServiceInterface, ServicePort
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.names import NOOP_PHYSICAL_REMOVAL_ANNOTATION
from dpuchain.chain.patches import Peer, patch_of
from dpuchain.chain.problems import Problem, ref
from dpuchain.chain.representors import Function, NetDevice, NoRepresentorError, representor
from dpuchain.chain.vlans import VlanClaim, assign_vlans, vlan_of, vlan_problem

BRIDGE = "br-sfc"
DPF_ID = "dpf-id"
"""Key in an OVS interface's external_ids: whose it is."""
DPF_TYPE = "dpf-type"
"""Key in an OVS port's external_ids: which type of interface it was made for."""
ROUND = {"dpuchain-round": "1"}
"""external_ids of every port that we made, beside its owner: the version of our marks, raised when a later one marks ports in another way.

Marks of another round on a ServiceInterface's port are written anew in place: the port, its number and its frames stay as they are. A pod's
port keeps those that it was made with as long as the pod lives, so they must be understood that long.
"""
CNI_OWNER = {"owner": "ovs-cni.network.kubevirt.io"}
"""external_ids of a port that the CNI made; DPF's tools know it by them."""
UPLINK_MTU = 9216
"""MTU asked for on an uplink, so that no serviceMTU is too large for it."""


class SwitchPort(NamedTuple):
    """What a port of a switch is on br-sfc: a port of the bridge, or a VLAN on one."""

    number: int
    vlan: int | None = None

    def __str__(self) -> str:
        return f"port {self.number}" if self.vlan is None else f"VLAN {self.vlan} of port {self.number}"


@dataclass(frozen=True)
class ObservedPort:
    """A port of br-sfc as OVSDB shows it. `ofport` is None until there is one; `link_up` is None while it is not known.

    Where the link is down, `set_up` tells whether the device itself was brought up, or None.
    """

    name: str
    ofport: int | None
    dpf_id: str | None
    error: str | None = None
    link_up: bool | None = None
    mtu: int | None = None
    set_up: bool | None = None


@dataclass(frozen=True)
class WantedPort:
    """A port that br-sfc should have."""

    name: str
    dpf_id: str
    owner: ObjectKey
    mtu_request: int | None = None
    external_ids: Mapping[str, str] = field(default_factory=dict)
    peer: Peer | None = None
    """The other end, if the port is one end of a patch."""


@dataclass(frozen=True)
class Ports:
    """What the interfaces of a node ask for: ports by name, for each VLAN where it is, and for each interface that gets none the reason."""

    wanted: Mapping[str, WantedPort]
    refused: Mapping[ObjectKey, Problem]
    vlans: Mapping[ObjectKey, VlanClaim] = field(default_factory=dict)


def dpf_id_of(interface: ServiceInterface) -> str:
    """The mark on the port of an interface that is not a pod's."""
    return str(key_of(interface))


def pod_dpf_id(pod: ObjectKey, interface_name: str) -> str:
    """The mark on the port of a pod's interface."""
    return f"{pod.namespace}/{pod.name}/{interface_name}"


def service_of(interface: ServiceInterface) -> ServicePort | None:
    """The block of a service's interface; None for another type, though the block be set: only the block of the type counts."""
    return interface.spec.service if interface.spec.interface_type == "service" else None


def virtual_network(interface: ServiceInterface) -> str | None:
    """The virtual network that the interface belongs to; None if to none."""
    spec = interface.spec
    block = {"pf": spec.pf, "vf": spec.vf, "service": spec.service}.get(spec.interface_type)
    return block.virtual_network if block is not None else None


def refusal(interface: ServiceInterface) -> Problem | None:
    """Why the interface can have no port whatever the world is like; None if it can."""
    network, vlan, patch = virtual_network(interface), vlan_of(interface), interface.spec.patch
    if network is not None:  # it is somebody else's to wire, which is nothing wrong as long as no chain wants it
        return Problem(f"belongs to virtual network {network}: it gets no port of the bridge and cannot be chained", "follows")
    text = vlan_problem(vlan) if vlan is not None else None
    if interface.spec.interface_type == "patch" and patch is not None:
        if not patch.peer_bridge:
            text = "peer bridge is not set or is empty"
        elif DPF_ID in patch.peer_external_ids:
            text = f"external ID {DPF_ID} is a reserved and managed internally, it cannot be set by users"
    return Problem(text, "impossible", ref("ServiceInterface", interface)) if text is not None else None


@dataclass(frozen=True)
class Claim:
    """The port that an interface asks for, with its peer if it is one end of a patch; or why it cannot say which."""

    port: str | None = None
    peer: Peer | None = None
    problem: Problem | None = None


def claim_of(interface: ServiceInterface, devices: Sequence[NetDevice] = (), bridge: str = BRIDGE) -> Claim:
    """What an interface asks for on a DPU with such devices. A pod's port is made by the CNI, and a VLAN has none of its own."""
    reason = refusal(interface)
    if reason is not None:
        return Claim(problem=reason)
    patch, function, physical = patch_of(interface, bridge), function_of(interface), interface.spec.physical
    if patch is not None:
        name, peer = patch
        if peer.bridge == bridge:
            text = f"peer bridge {peer.bridge} is the bridge of the chains itself; name another one"
            return Claim(problem=Problem(text, "impossible", ref("ServiceInterface", interface)))
        return Claim(name, peer)
    if function is not None:
        try:
            return Claim(representor(function, devices))
        except NoRepresentorError as error:
            return Claim(problem=Problem(str(error), "device", ref("ServiceInterface", interface)))
    return Claim(physical.interface_name if interface.spec.interface_type == "physical" and physical is not None else None)


def function_of(interface: ServiceInterface) -> Function | None:
    """The function of the host that the interface is; None for another type."""
    spec = interface.spec
    if spec.interface_type == "pf" and spec.pf is not None:
        return Function(spec.pf.pf_id, None, spec.pf.nic_selector)
    if spec.interface_type == "vf" and spec.vf is not None:
        return Function(spec.vf.pf_id, spec.vf.vf_id, spec.vf.nic_selector)
    return None


def is_left_behind(interface: ServiceInterface) -> bool:
    """Whether the port of a deleted interface shall stay on the bridge."""
    return interface.spec.interface_type == "physical" and NOOP_PHYSICAL_REMOVAL_ANNOTATION in interface.metadata.annotations


def assign(
    interfaces: Iterable[ServiceInterface],
    present: Mapping[str, ObservedPort],
    devices: Sequence[NetDevice] = (),
    bridge: str = BRIDGE,
) -> Ports:
    """Which ports `bridge` should have for `interfaces`, all of one node, given the ports that it has and the devices of the DPU.

    A port has one owner: the interface whose mark it carries, as long as that wants it, else the oldest, then the first by name. So a
    later claimant never takes a port over. An interface that is being deleted claims nothing.
    """
    staying = [interface for interface in interfaces if interface.metadata.deletion_timestamp is None]
    claims: dict[str, list[tuple[ServiceInterface, Claim]]] = {}
    vlans = assign_vlans(staying)
    refused: dict[ObjectKey, Problem] = dict(vlans.refused)
    for interface in staying:
        claim = claim_of(interface, devices, bridge)
        if claim.problem is not None:
            refused[key_of(interface)] = claim.problem
        elif claim.port is not None:
            claims.setdefault(claim.port, []).append((interface, claim))
    wanted: dict[str, WantedPort] = {}
    for name, claimants in sorted(claims.items()):
        holder = present[name].dpf_id if name in present else None
        (owner, claim), *others = sorted(claimants, key=lambda claimant: _claim_order(claimant[0], holder))
        wanted[name] = _wanted(name, owner, claim.peer)
        refused |= {key_of(other): _taken(name, other, owner) for other, _ in others}
    return Ports(wanted, refused, vlans.claims)


def _taken(name: str, claimant: ServiceInterface, owner: ServiceInterface) -> Problem:
    remedy = "a port has one owner: delete one of the two, or give this one another port"
    text = f"port {name} is owned by ServiceInterface {key_of(owner)}; {remedy}"
    return Problem(text, "port", ref("ServiceInterface", claimant), ref("ServiceInterface", owner), about=name)


def _claim_order(claimant: ServiceInterface, holder: str | None) -> tuple[bool, str, ObjectKey]:
    created = claimant.metadata.creation_timestamp
    return dpf_id_of(claimant) != holder, created.isoformat() if created else "", key_of(claimant)


def _wanted(name: str, owner: ServiceInterface, peer: Peer | None) -> WantedPort:
    return WantedPort(
        name=name,
        dpf_id=dpf_id_of(owner),
        owner=key_of(owner),
        mtu_request=UPLINK_MTU if owner.spec.interface_type == "physical" else None,
        external_ids={DPF_TYPE: owner.spec.interface_type, **ROUND},
        peer=peer,
    )
