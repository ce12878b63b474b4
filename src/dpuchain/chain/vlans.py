"""Interfaces that are a VLAN on another one: which other one, and who has a VLAN that two want."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dpuchain.api.interface import ServiceInterface, Vlan
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.names import INTERFACE_SET_NAME_LABEL
from dpuchain.chain.problems import Problem, Ref, ref

PARENT_TYPES = ("physical", "pf", "vf", "patch")
LARGEST_VLAN = 4094
"""IEEE 802.1Q, 9.6: 0 and 4095 are none."""


@dataclass(frozen=True)
class VlanClaim:
    """The frames with the tag `vlan` on the port of `parent`."""

    parent: ObjectKey
    vlan: int


@dataclass(frozen=True)
class Vlans:
    """What each interface of type vlan has, and for each that has nothing the reason."""

    claims: Mapping[ObjectKey, VlanClaim]
    refused: Mapping[ObjectKey, Problem]


def vlan_of(interface: ServiceInterface) -> Vlan | None:
    """The block of a VLAN; None for another type."""
    return interface.spec.vlan if interface.spec.interface_type == "vlan" else None


def vlan_problem(vlan: Vlan) -> str | None:
    """Why no interface can be this VLAN; None if one can."""
    if 1 <= vlan.vlan_id <= LARGEST_VLAN:
        return None
    return f"spec.vlan.vlanID: {vlan.vlan_id} is not the number of a VLAN; use 1 to {LARGEST_VLAN}"


def assign_vlans(interfaces: Iterable[ServiceInterface]) -> Vlans:
    """Who has which VLAN, of interfaces of one node that are not being deleted: of two that want the same the older, then the first by
    name.
    """
    known = list(interfaces)
    claims: dict[ObjectKey, VlanClaim] = {}
    refused: dict[ObjectKey, Problem] = {}
    holders: dict[VlanClaim, ObjectKey] = {}
    for interface in sorted(known, key=_age):
        vlan = vlan_of(interface)
        if vlan is None:
            continue
        claim = _claim(interface, vlan, known)
        if isinstance(claim, Problem):
            refused[key_of(interface)] = claim
        elif (holder := holders.setdefault(claim, key_of(interface))) != key_of(interface):
            text = (
                f"VLAN {claim.vlan} of ServiceInterface {claim.parent} is owned by ServiceInterface {holder}; it has one owner: delete one "
                f"of the two, or give this one another vlanID"
            )
            pair = ref("ServiceInterface", interface), Ref("ServiceInterface", holder)
            refused[key_of(interface)] = Problem(text, "vlan", *pair, about=f"VLAN {claim.vlan}")
        else:
            claims[key_of(interface)] = claim
    return Vlans(claims, refused)


def _claim(interface: ServiceInterface, vlan: Vlan, known: Iterable[ServiceInterface]) -> VlanClaim | Problem:
    itself = ref("ServiceInterface", interface)
    problem = vlan_problem(vlan)
    if problem is not None:
        return Problem(problem, "impossible", itself)
    namespace, name = interface.metadata.namespace, vlan.parent_interface_ref
    where = f"spec.vlan.parentInterfaceRef: {name}"
    found = [other for other in known if other.metadata.namespace == namespace and _is_called(other, name)]
    if not found:
        text = f"{where}: no ServiceInterface of this node in namespace {namespace} has this name, or is of a DPUServiceInterface with it"
        return Problem(text, "none", itself, about=name)
    if len(found) > 1:
        candidates = ", ".join(sorted(str(key_of(other)) for other in found))
        text = f"{where} means {len(found)} ServiceInterfaces: {candidates}; delete the stale ones, or name one of them"
        return Problem(text, "several", itself, *(ref("ServiceInterface", other) for other in found), about=name)
    (parent,) = found
    if parent.spec.interface_type not in PARENT_TYPES:
        text = f"{where}: ServiceInterface {key_of(parent)} is of type {parent.spec.interface_type}; use one of {', '.join(PARENT_TYPES)}"
        return Problem(text, "impossible", itself, ref("ServiceInterface", parent), about=name)
    return VlanClaim(key_of(parent), vlan.vlan_id)


def _is_called(interface: ServiceInterface, name: str) -> bool:
    """Users name what they wrote: the DPUServiceInterface, whose name its set has; or the object itself."""
    return name in (interface.metadata.name, interface.metadata.labels.get(INTERFACE_SET_NAME_LABEL))


def _age(interface: ServiceInterface) -> tuple[str, ObjectKey]:
    created = interface.metadata.creation_timestamp
    return created.isoformat() if created else "", key_of(interface)
