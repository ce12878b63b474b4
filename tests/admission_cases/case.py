"""What a case consists of, and the parts that cases are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.worlds import (
    chain,
    interface,
    node,
    of_service,
)

DPU_1, DPU_2 = node("dpu-1", zone="a"), node("dpu-2", zone="b")
NODES = (DPU_1, DPU_2)
PATCH = {"peerBridge": "br-x"}


@dataclass(frozen=True)
class Case:
    """A change from `old` to `new` (None: creation, deletion), what is there besides, and what the answer says; if nothing, it may be.

    `standing` worlds have something wrong in them already, which admission itself would not have let in.
    """

    name: str
    new: Any
    old: Any = None
    host: tuple[Any, ...] = ()
    north: tuple[Any, ...] = NODES
    refused: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()
    silent: bool = field(default=False)
    """Whether there must be no warning at all."""
    standing: bool = False


def vlan(parent: str, number: int = 5) -> dict[str, Any]:
    return {"interfaceType": "vlan", "vlan": {"vlanID": number, "parentInterfaceRef": parent}}


def pf(number: int, **selector: Any) -> dict[str, Any]:
    return {"interfaceType": "pf", "pf": {"pfID": number, **({"nicSelector": selector} if selector else {})}}


def patch(**about: Any) -> dict[str, Any]:
    return {"interfaceType": "patch", "patch": {"peerBridge": "br-x", **about}}


PCI = {"type": "pci", "pci": {"address": "0000:03:00.0"}}
WORKING = (interface("p0"), interface("p1"), chain("wire", ("p0", "p1")))
OWNED = ("port p0 is owned by ServiceInterface", "in DPUCluster ns/north")
SEVERAL = ("expected only one serviceInterface in namespace(ns) to match labels(map[port:p0])", "found 2")
ALREADY = ("is a port of switch 0 of ServiceChain", "already; an interface belongs to one switch")
FW = (interface("fw-in", of_service("fw")), interface("fw-out", of_service("fw", "eth2")))
BOTH = "DPUServiceInterface ns/two conflicts with DPUServiceInterface ns/p0"
