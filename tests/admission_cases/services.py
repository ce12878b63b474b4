"""DPUServices."""

from __future__ import annotations

from tests.admission_cases.case import FW, NODES, WORKING, Case
from tests.worlds import (
    ZONE_A,
    ZONE_B,
    chain,
    interface,
    of_service,
    pod,
    service,
)

PODS = tuple(pod(f"fw-{number}", "fw", f"dpu-{number}", eth1=1500, eth2=1500) for number in (1, 2))
CHAINED = (*FW, interface("p0"), interface("p1"), chain("through", ("p0", "fw-in"), ("fw-out", "p1")))
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
        service("ids", "x", "fw-in", service_id="fw"),
        service("ids", "x", service_id="fw"),
        (*FW, interface("x", of_service("fw", "eth9")), service("fw", "fw-in")),
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
        warned=("DPUService ns/fw has the same serviceID",),
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
