"""The rules of serviceMTU: how large it may be, and which one a pod's interface has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dpuchain.api.chain import DEFAULT_SERVICE_MTU, ServiceChain, ServiceChainSpec
from dpuchain.api.interface import ServiceInterface
from dpuchain.api.meta import Object
from dpuchain.api.names import SERVICE_LABEL
from dpuchain.chain.ports import service_of


def exceeds(spec: ServiceChainSpec, high_speed_mtu: int) -> str | None:
    """The error for the first switch whose serviceMTU is above the highSpeedMTU of the DPFOperatorConfig; None if there is none."""
    for switch in spec.switches:
        if switch.service_mtu > high_speed_mtu:
            return f"MTU {switch.service_mtu} can't be bigger than the high speed MTU {high_speed_mtu}"
    return None


def of_pod_interface(
    pod_namespace: str,
    pod_labels: Mapping[str, str],
    interface_name: str,
    chains: Iterable[ServiceChain],
    interfaces: Iterable[ServiceInterface],
) -> int:
    """MTU of an interface of a pod, given the chains and interfaces of its node: that of the switch it is on, else the default of 1500."""
    mine = [i for i in interfaces if is_of_pod(i, pod_namespace, pod_labels, interface_name)]
    for chain in in_claim_order(chains):
        if chain.metadata.namespace != pod_namespace:
            continue
        for switch in chain.spec.switches:
            if any(carries(i, port.service_interface.match_labels) for port in switch.ports for i in mine):
                return switch.service_mtu
    return DEFAULT_SERVICE_MTU


def is_of_pod(interface: ServiceInterface, namespace: str, labels: Mapping[str, str], interface_name: str) -> bool:
    """Whether a ServiceInterface speaks of that interface of a pod in `namespace` with `labels`."""
    service = service_of(interface)
    return (
        interface.metadata.deletion_timestamp is None
        and interface.metadata.namespace == namespace
        and service is not None
        and service.interface_name == interface_name
        and labels.get(SERVICE_LABEL) == service.service_id
    )


def carries(item: Object, labels: Mapping[str, str]) -> bool:
    """Whether `item` has all of `labels`."""
    return all(item.metadata.labels.get(key) == value for key, value in labels.items())


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
