"""What differs between the two kinds of sets, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from dpuchain.api import names
from dpuchain.api.chain import ServiceChain, ServiceChainSet
from dpuchain.api.interface import ServiceInterface, ServiceInterfaceSet
from dpuchain.api.kinds import SERVICE_CHAIN, SERVICE_CHAIN_SET, SERVICE_INTERFACE, SERVICE_INTERFACE_SET
from dpuchain.api.resource import Resource
from dpuchain.chain.expand import Maker, chain_maker, interface_maker
from dpuchain.dpu.world import ClusterObjects
from dpuchain.kube.cache import Cache

S = TypeVar("S", ServiceChainSet, ServiceInterfaceSet)
C = TypeVar("C", ServiceChain, ServiceInterface)


@dataclass(frozen=True)
class SetKind(Generic[S, C]):
    """One kind of set: its words, its children, and where both are kept."""

    resource: Resource[S]
    child: Resource[C]
    finalizer: str
    child_finalizer: str
    reconciled: str
    ready: str
    maker: Callable[[S], Maker[C]]
    sets: Callable[[ClusterObjects], Cache[S]]
    children: Callable[[ClusterObjects], Cache[C]]


CHAINS = SetKind(
    SERVICE_CHAIN_SET,
    SERVICE_CHAIN,
    names.SERVICE_CHAIN_SET_FINALIZER,
    names.SERVICE_CHAIN_FINALIZER,
    names.CHAINS_RECONCILED,
    names.CHAINS_READY,
    chain_maker,
    lambda objects: objects.chain_sets,
    lambda objects: objects.chains,
)
INTERFACES = SetKind(
    SERVICE_INTERFACE_SET,
    SERVICE_INTERFACE,
    names.SERVICE_INTERFACE_SET_FINALIZER,
    names.SERVICE_INTERFACE_FINALIZER,
    names.INTERFACES_RECONCILED,
    names.INTERFACES_READY,
    interface_maker,
    lambda objects: objects.interface_sets,
    lambda objects: objects.interfaces,
)
AnyKind = SetKind[Any, Any]
