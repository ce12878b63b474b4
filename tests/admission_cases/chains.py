"""Chains and their interfaces."""

from __future__ import annotations

from tests.admission_cases.case import ALREADY, SEVERAL, WORKING, Case
from tests.worlds import (
    ZONE_A,
    ZONE_B,
    chain,
    config,
    interface,
)

CHAINS = [
    Case("a chain that resolves", chain("wire", ("p0", "p1")), host=WORKING[:2], silent=True),
    Case(
        "a chain before its interfaces",
        chain("wire", ("p0", "p1")),
        warned=("no serviceInterface in namespace(ns) matching labels(map[port:p0])", "labels(map[port:p1])"),
    ),
    Case(
        "a chain whose selector picks two",
        chain("wire", ("p0", "p1")),
        host=(interface("p0"), interface("two", labels={"port": "p0"}), interface("p1")),
        refused=("DPUServiceChain ns/wire conflicts with DPUServiceInterface ns/p0, DPUServiceInterface ns/two", *SEVERAL),
    ),
    Case(
        "an interface that a selector would pick too",
        interface("two", labels={"port": "p0"}),
        host=WORKING,
        refused=("DPUServiceInterface ns/two conflicts with DPUServiceChain ns/wire, DPUServiceInterface ns/p0", *SEVERAL),
    ),
    Case("labels changed into those of another", interface("two", labels={"port": "p0"}), interface("two"), WORKING, refused=SEVERAL),
    Case(
        "two with one label on different nodes",
        interface("two", labels={"port": "p0"}, nodes=ZONE_A),
        host=(interface("p0", nodes=ZONE_B), interface("p1"), chain("wire", ("p0", "p1"), nodes=ZONE_B)),
        silent=True,
    ),
    Case(
        "a chain's selector changed to one that picks two",
        chain("wire", ("p0", "p1")),
        chain("wire", ("p9", "p1")),
        (interface("p0"), interface("two", labels={"port": "p0"}), interface("p1"), interface("p9")),
        refused=SEVERAL,
    ),
    Case(
        "an interface in two chains",
        chain("other", ("p0", "p2")),
        host=(*WORKING, interface("p2")),
        refused=("DPUServiceChain ns/other conflicts with DPUServiceChain ns/wire, DPUServiceInterface ns/p0", *ALREADY),
    ),
    Case(
        "an interface added that another chain has",
        chain("other", ("p2", "p0")),
        chain("other", ("p2", "p3")),
        (*WORKING, interface("p2"), interface("p3")),
        refused=ALREADY,
    ),
    Case(
        "an interface in two switches of a chain",
        chain("wire", ("p0", "p1"), ("p1", "p2")),
        host=(*WORKING[:2], interface("p2")),
        refused=ALREADY,
    ),
    Case(
        "an interface that two chains name already",
        interface("p0"),
        host=(interface("p1"), interface("p2"), chain("wire", ("p0", "p1")), chain("other", ("p0", "p2"))),
        refused=("DPUServiceInterface ns/p0 conflicts with DPUServiceChain ns/other, DPUServiceChain ns/wire", *ALREADY),
    ),
    Case(
        "an interface that two switches of a chain name already",
        interface("p0"),
        host=(interface("p1"), interface("p2"), chain("wire", ("p0", "p1"), ("p0", "p2"))),
        refused=("DPUServiceInterface ns/p0 conflicts with DPUServiceChain ns/wire", *ALREADY),
    ),
    Case(
        "labels changed into those that two chains name",
        interface("x", labels={"port": "p0"}),
        interface("x"),
        (interface("p1"), interface("p2"), chain("wire", ("p0", "p1")), chain("other", ("p0", "p2"))),
        refused=("DPUServiceInterface ns/x conflicts with DPUServiceChain ns/other, DPUServiceChain ns/wire", *ALREADY),
    ),
    Case(
        "an interface extended to nodes where two chains name it",
        interface("p0"),
        interface("p0", nodes=ZONE_B),
        (interface("p1"), interface("p2"), *(chain(name, ("p0", port), nodes=ZONE_A) for name, port in (("wire", "p1"), ("other", "p2")))),
        refused=("on node dpu-1:", *ALREADY),
    ),
    Case(
        "an interface extended to nodes where a selector picks another already",
        interface("p0"),
        interface("p0", nodes=ZONE_B),
        (interface("two", labels={"port": "p0"}, nodes=ZONE_A), interface("p1"), WORKING[2]),
        refused=(
            "DPUServiceInterface ns/p0 conflicts with DPUServiceChain ns/wire, DPUServiceInterface ns/two",
            "on node dpu-1:",
            *SEVERAL,
        ),
    ),
    Case("an interface twice in a switch", chain("wire", ("p0", "p1", "p0")), host=WORKING[:2], refused=("is named twice in switch 0",)),
    Case(
        "chains on different nodes",
        chain("other", ("p0", "p1"), nodes=ZONE_A),
        host=(*WORKING[:2], chain("wire", ("p0", "p1"), nodes=ZONE_B)),
        silent=True,
    ),
    Case(
        "a chain extended to nodes where another has its interface",
        chain("other", ("p0", "p1")),
        chain("other", ("p0", "p1"), nodes=ZONE_A),
        (*WORKING[:2], chain("wire", ("p0", "p1"), nodes=ZONE_B)),
        refused=("on node dpu-2:", *ALREADY),
    ),
    Case("a third port", chain("wire", ("p0", "p1", "p2")), WORKING[2], (*WORKING[:2], interface("p2")), silent=True),
    Case(
        "a chain of a virtual network's interface",
        chain("wire", ("p0", "p1")),
        host=(interface("p0", {"interfaceType": "pf", "pf": {"pfID": 0, "virtualNetwork": "vpc"}}), interface("p1")),
        refused=("has a virtual network, cannot be chained",),
    ),
    Case("a switch of one port", chain("wire", ("p0",)), host=WORKING[:1], warned=("has fewer than two ports",)),
    Case("serviceMTU within bounds", chain("wire", ("p0", "p1"), mtu=9000), host=(*WORKING[:2], config(9000)), silent=True),
    Case(
        "serviceMTU above",
        chain("wire", ("p0", "p1"), mtu=9001),
        host=(*WORKING[:2], config(9000)),
        refused=("MTU 9001 can't be bigger than the high speed MTU 9000",),
    ),
    Case(
        "serviceMTU raised above",
        chain("wire", ("p0", "p1"), mtu=9001),
        WORKING[2],
        (*WORKING[:2], config(9000)),
        refused=("MTU 9001 can't be bigger",),
    ),
    Case(
        "highSpeedMTU lowered under a chain",
        config(1499),
        config(9000),
        WORKING,
        refused=("conflicts with DPUServiceChain ns/wire: MTU 1500 can't be bigger than the high speed MTU 1499",),
    ),
    Case("highSpeedMTU lowered as far as a chain", config(1500), config(9000), WORKING, silent=True),
    Case(
        "an interface deleted that a chain has",
        None,
        WORKING[0],
        WORKING[1:],
        warned=("DPUServiceInterface ns/p0 is taken from DPUServiceChain ns/wire",),
    ),
    Case(
        "an interface renamed away from a chain",
        interface("p0", labels={"port": "x"}),
        WORKING[0],
        WORKING[1:],
        warned=("DPUServiceInterface ns/p0 is taken from DPUServiceChain ns/wire", "on nodes dpu-1, dpu-2"),
    ),
    Case(
        "an interface drawn back from a node",
        interface("p0", nodes=ZONE_A),
        WORKING[0],
        WORKING[1:],
        warned=("is taken from DPUServiceChain ns/wire", "on node dpu-2"),
    ),
    Case("a chain deleted", None, WORKING[2], WORKING[:2], silent=True),
]
"""Chains and their interfaces."""
