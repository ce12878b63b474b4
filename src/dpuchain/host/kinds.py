"""What differs between the two kinds of the host cluster that become sets, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dpuchain.api import names
from dpuchain.api.kinds import DPU_SERVICE_CHAIN, DPU_SERVICE_INTERFACE, SERVICE_CHAIN_SET, SERVICE_INTERFACE_SET
from dpuchain.api.resource import Resource
from dpuchain.chain import mtu
from dpuchain.chain.project import chain_set_of, interface_set_of
from dpuchain.host.members import Member
from dpuchain.kube.cache import Cache


@dataclass(frozen=True)
class ProjectedKind:
    """A kind of the host cluster, the set that it becomes in each DPU cluster, and the words of its status.

    `problem` tells of an object and the highSpeedMTU in force why it is written nowhere.
    """

    resource: Resource[Any]
    set: Resource[Any]
    finalizer: str
    reconciled: str
    ready: str
    project: Callable[[Any, str], Any]
    sets: Callable[[Member], Cache[Any]]
    problem: Callable[[Any, int], str | None]


CHAINS = ProjectedKind(
    DPU_SERVICE_CHAIN,
    SERVICE_CHAIN_SET,
    names.DPU_SERVICE_CHAIN_FINALIZER,
    names.CHAIN_SET_RECONCILED,
    names.CHAIN_SET_READY,
    chain_set_of,
    lambda member: member.chain_sets,
    lambda chain, high_speed_mtu: mtu.exceeds(chain.spec.template.spec.template.spec, high_speed_mtu),
)
INTERFACES = ProjectedKind(
    DPU_SERVICE_INTERFACE,
    SERVICE_INTERFACE_SET,
    names.DPU_SERVICE_INTERFACE_FINALIZER,
    names.INTERFACE_SET_RECONCILED,
    names.INTERFACE_SET_READY,
    interface_set_of,
    lambda member: member.interface_sets,
    lambda interface, high_speed_mtu: None,
)
