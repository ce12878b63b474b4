"""DPUServices."""

from __future__ import annotations

from typing import Any

from dpuchain.chain.release import service_id
from tests.admission_cases.case import FW, NODES, WORKING, Case
from tests.worlds import (
    ZONE_A,
    ZONE_B,
    chain,
    cluster,
    interface,
    of_service,
    pod,
    service,
)

PODS = tuple(pod(f"fw-{number}", "fw", f"dpu-{number}", eth1=1500, eth2=1500) for number in (1, 2))
CHAINED = (*FW, interface("p0"), interface("p1"), chain("through", ("p0", "fw-in"), ("fw-out", "p1")))
ONE_ID = ("both have serviceID fw: on one node, their pods cannot be told from one another",)
FW_DIGEST = service_id(service("fw", service_id=None))


def on_zone(operator: str, *values: str) -> dict[str, Any]:
    expression = {"key": "zone", "operator": operator, "values": list(values)}
    return {"serviceDaemonSet": {"nodeSelector": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}}


SERVICES = [
    Case("a service with its interfaces", service("fw", "fw-in", "fw-out"), host=FW, silent=True),
    Case(
        "a service before its interfaces",
        service("fw", "fw-in"),
        warned=("DPUServiceInterface fw-in not found in namespace ns: create it",),
    ),
    Case(
        "an interface of another service",
        service("ids", "fw-in", service_id="fw"),
        host=(*FW, service("fw", "fw-in", "fw-out")),
        refused=(
            "DPUService ns/ids conflicts with DPUService ns/fw, DPUServiceInterface ns/fw-in",
            "fw-in is in use by another DPUService",
        ),
    ),
    Case(
        "an interface taken in an update",
        service("ids", "x", "fw-in", service_id="fw", spec=on_zone("In", "b")),
        service("ids", "x", service_id="fw", spec=on_zone("In", "b")),
        (*FW, interface("x", of_service("fw", "eth9")), service("fw", "fw-in", spec=on_zone("In", "a"))),
        refused=("is in use by another DPUService",),
    ),
    Case(
        "an interface of another serviceID",
        service("ids", "fw-in"),
        host=FW,
        refused=("conflicting ServiceID in DPUServiceInterface fw-in",),
    ),
    Case(
        "an interface given another serviceID",
        interface("fw-in", of_service("ids")),
        FW[0],
        (FW[1], service("fw", "fw-in", "fw-out")),
        refused=("conflicting ServiceID in DPUServiceInterface fw-in",),
    ),
    Case(
        "a serviceID changed away from its interfaces",
        service("fw", "fw-in", service_id="new"),
        service("fw", "fw-in"),
        FW,
        refused=("conflicting ServiceID",),
    ),
    Case(
        "an interface that is no service's",
        service("fw", "p0"),
        host=WORKING[:1],
        refused=("wrong service definition in DPUServiceInterface p0",),
    ),
    Case(
        "two services with one serviceID",
        service("ids", service_id="fw"),
        host=(service("fw"),),
        refused=("DPUService ns/ids conflicts with DPUService ns/fw in DPUCluster ns/north on nodes dpu-1, dpu-2:", *ONE_ID),
    ),
    Case(
        "two services with one serviceID, seen from the other side",
        service("fw"),
        host=(service("ids", service_id="fw"),),
        refused=("DPUService ns/fw conflicts with DPUService ns/ids in DPUCluster ns/north on nodes dpu-1, dpu-2:", *ONE_ID),
    ),
    Case(
        "a serviceID changed to that of another",
        service("ids", service_id="fw"),
        service("ids"),
        (service("fw"),),
        refused=("DPUService ns/ids conflicts with DPUService ns/fw", *ONE_ID),
    ),
    Case(
        "the serviceID that another was given by itself",
        service("ids", service_id=FW_DIGEST),
        host=(service("fw", service_id=None),),
        refused=("DPUService ns/ids conflicts with DPUService ns/fw", f"both have serviceID {FW_DIGEST}"),
    ),
    Case(
        "a serviceID taken away, when another has the one that is made then",
        service("fw", service_id=None),
        service("fw"),
        (service("ids", service_id=FW_DIGEST),),
        refused=("DPUService ns/fw conflicts with DPUService ns/ids", f"both have serviceID {FW_DIGEST}"),
    ),
    Case(
        "one serviceID in different clusters",
        service("ids", service_id="fw", spec={"dpuClusterSelector": ZONE_B}),
        host=(cluster("north", zone="a"), service("fw", spec={"dpuClusterSelector": ZONE_A})),
        warned=("no DPUCluster is selected now",),
    ),
    Case(
        "clusters changed to those of another with the same serviceID",
        service("ids", service_id="fw"),
        service("ids", service_id="fw", spec={"dpuClusterSelector": ZONE_B}),
        (cluster("north", zone="a"), service("fw", spec={"dpuClusterSelector": ZONE_A})),
        refused=("DPUService ns/ids conflicts with DPUService ns/fw in DPUCluster ns/north", *ONE_ID),
    ),
    Case(
        "labels of a cluster that bring one serviceID together",
        cluster("north", zone="a"),
        cluster("north", zone="b"),
        (service("fw", spec={"dpuClusterSelector": ZONE_A}), service("ids", service_id="fw", spec={"dpuClusterSelector": ZONE_A})),
        refused=("DPUCluster ns/north conflicts with DPUService ns/fw, DPUService ns/ids in DPUCluster ns/north", *ONE_ID),
        standing=True,
    ),
    Case(
        "one serviceID, and equal selectors without a cluster",
        service("ids", service_id="fw", spec={"dpuClusterSelector": ZONE_B}),
        host=(cluster("north", zone="a"), service("fw", spec={"dpuClusterSelector": ZONE_B})),
        refused=("DPUService ns/ids conflicts with DPUService ns/fw in any DPUCluster that selector zone=b picks", *ONE_ID),
    ),
    Case(
        "one serviceID on different nodes",
        service("ids", service_id="fw", spec=on_zone("In", "b")),
        host=(service("fw", spec=on_zone("In", "a")),),
        silent=True,
    ),
    Case(
        "one serviceID on the nodes that both select",
        service("ids", service_id="fw", spec=on_zone("Exists")),
        host=(service("fw", spec=on_zone("In", "a")),),
        refused=("DPUService ns/ids conflicts with DPUService ns/fw in DPUCluster ns/north on node dpu-1:", *ONE_ID),
    ),
    Case(
        "nodes changed to those of another with the same serviceID",
        service("ids", service_id="fw", spec=on_zone("NotIn", "b")),
        service("ids", service_id="fw", spec=on_zone("In", "b")),
        (service("fw", spec=on_zone("In", "a")),),
        refused=("on node dpu-1:", *ONE_ID),
    ),
    Case(
        "one serviceID, and no node yet",
        service("ids", service_id="fw"),
        host=(cluster("north"), service("fw")),
        north=(),
        refused=("DPUService ns/ids conflicts with DPUService ns/fw in DPUCluster ns/north on any node:", *ONE_ID),
    ),
    Case(
        "one serviceID in the host cluster",
        service("ids", service_id="fw", spec={"deployInCluster": True}),
        host=(service("fw"),),
        silent=True,
    ),
    Case(
        "a service deleted that has the serviceID of another",
        None,
        service("ids", service_id="fw"),
        (service("fw"),),
        standing=True,
    ),
    Case(
        "something else of one of two services with one serviceID",
        service("ids", service_id="fw", annotations={"a": "b"}),
        service("ids", service_id="fw"),
        (service("fw"),),
        silent=True,
        standing=True,
    ),
    Case(
        "a chart from git",
        service("fw", source={"path": "charts/fw"}),
        refused=("spec.helmChart.source.path: charts from git are not supported",),
    ),
    Case(
        "configPorts",
        service("fw", spec={"configPorts": {"ports": [{"name": "x", "port": 80}]}}),
        refused=("spec.configPorts: not supported yet",),
    ),
    Case("a service without a cluster", service("fw", spec={"dpuClusterSelector": ZONE_B}), warned=("no DPUCluster is selected now",)),
    Case("a chain through a service", CHAINED[4], host=(*CHAINED[:4], service("fw", "fw-in", "fw-out")), silent=True),
    Case(
        "a chain through a service that may still come", CHAINED[4], host=CHAINED[:4], warned=("no pod in namespace(ns) matching labels",)
    ),
    Case(
        "a new serviceMTU",
        chain("through", ("p0", "fw-in"), ("fw-out", "p1"), mtu=2000),
        CHAINED[4],
        (*CHAINED[:4], service("fw", "fw-in", "fw-out")),
        (*NODES, *PODS),
        warned=("2 pods of service fw on 2 nodes in DPUCluster ns/north restart, as the MTU of their interfaces changes",),
    ),
    Case(
        "a new serviceMTU on some nodes",
        chain("through", ("p0", "fw-in"), ("fw-out", "p1"), nodes=ZONE_A, mtu=2000),
        chain("through", ("p0", "fw-in"), ("fw-out", "p1"), nodes=ZONE_A),
        (*CHAINED[:4], service("fw", "fw-in", "fw-out")),
        (*NODES, *PODS),
        warned=("1 pod of service fw on 1 node in DPUCluster ns/north restart",),
    ),
    Case(
        "a new version of a chart",
        service("fw", source={"version": "2.0.0"}),
        service("fw"),
        north=(*NODES, *PODS),
        warned=("the release changes: 2 pods of service fw on 2 nodes",),
    ),
    Case("a service deleted", None, service("fw", "fw-in"), FW, silent=True),
]
"""DPUServices."""
