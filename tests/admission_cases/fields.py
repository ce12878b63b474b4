"""Fields, selectors, what is there besides, and worlds in which something is wrong already."""

from __future__ import annotations

from tests.admission_cases.case import ALREADY, BOTH, NODES, OWNED, WORKING, Case
from tests.worlds import (
    ZONE_A,
    ZONE_B,
    chain,
    chain_set,
    cluster,
    config,
    interface,
    interface_set,
    node_interface,
    physical,
)

FIELDS = [
    Case(
        "a cluster selector that is deprecated",
        interface("p0", deprecated=ZONE_A),
        host=(cluster("north", zone="a"),),
        warned=("spec.clusterSelector is deprecated",),
    ),
    Case("an ovn interface", interface("p0", {"interfaceType": "ovn", "ovn": {}}), warned=("interfaceType ovn is deprecated",)),
    Case(
        "a block of another type",
        interface("p0", {**physical("p0"), "pf": {"pfID": 0}}),
        refused=("spec.template.spec.template.spec.pf: has no effect with interfaceType physical",),
    ),
    Case(
        "a node in a template",
        interface("p0", {**physical("p0"), "node": "dpu-1"}),
        refused=("spec.template.spec.template.spec.node: has no effect in a template",),
    ),
    Case(
        "a field that is dead already",
        interface("p0", {**physical("p0"), "node": "x"}, annotations={"a": "b"}),
        interface("p0", {**physical("p0"), "node": "x"}),
        silent=True,
        standing=True,
    ),
    Case(
        "a selector without values",
        interface("p0", nodes={"matchExpressions": [{"key": "zone", "operator": "In"}]}),
        refused=("operator In of key 'zone' needs at least one value",),
    ),
    Case("no node yet", interface("p0", nodes={"matchLabels": {"zone": "z"}}), warned=("no node is selected now",)),
    Case("no cluster yet", interface("p0", clusters=ZONE_B), warned=("no DPUCluster is selected now",)),
    Case(
        "equal selectors without a node",
        interface("two", physical("p0"), nodes={"matchLabels": {"zone": "z"}}),
        host=(interface("p0", nodes={"matchLabels": {"zone": "z"}}),),
        refused=(BOTH, "in DPUCluster ns/north on any node that selector zone=z picks"),
    ),
    Case(
        "equal selectors without a cluster",
        interface("two", physical("p0"), clusters=ZONE_B),
        host=(interface("p0", clusters=ZONE_B),),
        refused=(BOTH, "in any DPUCluster that selector zone=b picks on any node"),
    ),
    Case(
        "different selectors without a node",
        interface("two", physical("p0"), nodes={"matchLabels": {"zone": "y"}}),
        host=(interface("p0", nodes={"matchLabels": {"zone": "z"}}),),
        warned=("no node is selected now",),
    ),
    Case(
        "one that selects all, without a node",
        interface("two", physical("p0")),
        host=(interface("p0", nodes={"matchLabels": {"zone": "z"}}),),
        refused=(BOTH, "on any node that selector zone=z picks"),
    ),
    Case(
        "labels of a cluster that bring two together",
        cluster("north", zone="a"),
        cluster("north"),
        (interface("p0", clusters=ZONE_A), interface("two", physical("p0"), clusters=ZONE_A, labels={"x": "y"})),
        refused=("DPUCluster ns/north conflicts with", *OWNED),
        standing=True,
    ),
    Case(
        "labels of a cluster that bring one", cluster("north", zone="a"), cluster("north"), (interface("p0", clusters=ZONE_A),), silent=True
    ),
    Case(
        "a name that is taken in a cluster",
        interface("p0"),
        north=(*NODES, interface_set("p0", physical("p7"))),
        warned=("ServiceInterfaceSet ns/p0 exists already and was made by somebody else",),
    ),
    Case(
        "a port of a set that was made by hand",
        interface("two", physical("p0")),
        north=(*NODES, interface_set("p0")),
        refused=("DPUServiceInterface ns/two conflicts with ServiceInterfaceSet ns/p0", *OWNED),
    ),
    Case(
        "a port of an interface that was made by hand",
        interface("two", physical("p0")),
        north=(*NODES, node_interface("p0", "dpu-2")),
        refused=("conflicts with ServiceInterface ns/p0", "on node dpu-2:"),
    ),
    Case(
        "an interface that a set made by hand has",
        chain("other", ("p0", "p2")),
        host=(interface("p0"), interface("p1"), interface("p2")),
        north=(*NODES, chain_set("wire", ("p0", "p1"))),
        refused=("DPUServiceChain ns/other conflicts with DPUServiceInterface ns/p0, ServiceChainSet ns/wire", *ALREADY),
    ),
]
"""Fields, selectors, and what is there besides."""

STANDING = [
    Case(
        "a conflict that stands, and something else is changed",
        interface("two", physical("p0"), annotations={"a": "b"}),
        interface("two", physical("p0")),
        (interface("p0"),),
        silent=True,
        standing=True,
    ),
    Case(
        "a conflict that stands, and a third comes",
        interface("three", physical("p0")),
        host=(interface("p0"), interface("two", physical("p0"))),
        refused=("DPUServiceInterface ns/three conflicts with",),
        standing=True,
    ),
    Case(
        "a conflict mended by the first",
        interface("p0", physical("p9")),
        interface("p0"),
        (interface("two", physical("p0")),),
        standing=True,
    ),
    Case(
        "one of three that a selector picks is taken away",
        interface("two", labels={"port": "x"}),
        interface("two", labels={"port": "p0"}),
        (interface("three", labels={"port": "p0"}), *WORKING),
        standing=True,
    ),
    Case(
        "the first of three chains gives an interface up",
        chain("wire", ("p1", "p2")),
        WORKING[2],
        (*WORKING[:2], interface("p2"), chain("b", ("p0", "p3")), chain("c", ("p0", "p4"))),
        standing=True,
    ),
    Case(
        "a serviceMTU that is too large already",
        chain("wire", ("p0", "p1"), mtu=9100, annotations={"a": "b"}),
        chain("wire", ("p0", "p1"), mtu=9100),
        (config(9000), *WORKING[:2]),
        silent=True,
        standing=True,
    ),
]
"""Worlds in which something is wrong already: who mends one thing is not held up by another."""
