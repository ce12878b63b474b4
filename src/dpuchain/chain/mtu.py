"""The rules of serviceMTU: how large it may be, and which one a pod's interface has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from dpuchain.api.chain import DEFAULT_SERVICE_MTU, ServiceChain, ServiceChainSpec
from dpuchain.api.interface import ServiceInterface
from dpuchain.api.meta import Object, ObjectKey, key_of
from dpuchain.api.names import SERVICE_LABEL
from dpuchain.chain.ports import service_of
from dpuchain.chain.problems import Problem


def exceeds(spec: ServiceChainSpec, high_speed_mtu: int) -> Problem | None:
    """The error for the first switch whose serviceMTU is above the highSpeedMTU of the DPFOperatorConfig; None if there is none."""
    for switch in spec.switches:
        if switch.service_mtu > high_speed_mtu:
            return Problem(f"MTU {switch.service_mtu} can't be bigger than the high speed MTU {high_speed_mtu}", "mtu")
    return None


class PodInterface(NamedTuple):
    """An interface that each pod of a service has."""

    namespace: str
    service_id: str
    name: str


class Claim(NamedTuple):
    """The chain whose switch an interface is on, and the switch's MTU."""

    chain: ObjectKey
    mtu: int


def claims(chains: Iterable[ServiceChain], interfaces: Iterable[ServiceInterface]) -> dict[PodInterface, Claim]:
    """The pods' interfaces that are on a switch, given the chains and interfaces of one node. The first claim holds."""
    ours = [(i, service) for i in interfaces if i.metadata.deletion_timestamp is None and (service := service_of(i)) is not None]
    found: dict[PodInterface, Claim] = {}
    for chain in in_claim_order(chains):
        namespace = chain.metadata.namespace
        for switch in chain.spec.switches:
            for port in switch.ports:
                for interface, service in ours:
                    if interface.metadata.namespace == namespace and carries(interface, port.service_interface.match_labels):
                        wired = PodInterface(namespace, service.service_id, service.interface_name)
                        found.setdefault(wired, Claim(key_of(chain), switch.service_mtu))
    return found


def of_pod_interface(
    pod_namespace: str,
    pod_labels: Mapping[str, str],
    interface_name: str,
    chains: Iterable[ServiceChain],
    interfaces: Iterable[ServiceInterface],
) -> int:
    """MTU of an interface of a pod, given the chains and interfaces of its node: that of the switch it is on, else the default of 1500."""
    wired = PodInterface(pod_namespace, pod_labels.get(SERVICE_LABEL, ""), interface_name)
    claim = claims(chains, interfaces).get(wired)
    return claim.mtu if claim is not None else DEFAULT_SERVICE_MTU


def carries(item: Object, labels: Mapping[str, str]) -> bool:
    """Whether `item` has all of `labels`."""
    return labels.items() <= item.metadata.labels.items()


def in_claim_order(chains: Iterable[ServiceChain]) -> list[ServiceChain]:
    """Chains that are not being deleted, the one with the first claim first: the oldest, then by key."""
    return sorted(
        (chain for chain in chains if chain.metadata.deletion_timestamp is None),
        key=lambda c: (
            c.metadata.creation_timestamp.isoformat() if c.metadata.creation_timestamp else "",
            c.metadata.namespace,
            c.metadata.name,
        ),
    )
