"""What `check` finds, and what it says to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from tests.unit.chain.test_resolve import service

from dpuchain.api.fleet import DPFOperatorConfig
from dpuchain.api.kubernetes import Node
from dpuchain.api.meta import ObjectKey, ObjectMeta
from dpuchain.api.service import DPUService
from dpuchain.chain.report import Chain, Port, Report, Switch
from dpuchain.cli.checks import ClusterSeen, Finding, Seen, gathered, judged

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NETWORK = '{"cniVersion": "1.1.0", "name": "mybrsfc", "type": "dpuchain-cni"}'
P0 = Port(interface="ns/p0", called="p0", type="physical", port="p0", number=1, link="up", mtu=9216)
ETH1 = Port(interface="ns/eth1", called="eth1", type="service", service="fw", port="veth1", number=2, link="up", mtu=1500)
CHAIN = Chain(chain="ns/chain-a1", called="chain", flows=2, switches=(Switch(service_mtu=1500, mtu=1500, ports=(P0, ETH1)),))
REPORT = Report(
    node="dpu-1", version="1", ovs="3.1.0", bridge="br-sfc", datapath="netdev", fail_mode="secure", chains=(CHAIN,), interfaces=(P0, ETH1)
)


def node(name: str = "dpu-1", *, ready: bool = True) -> Node:
    content = {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": str(ready)}]}}
    return msgspec.convert(content, Node)


def a_service(status: str = "True", message: str = "", seen: int = 1) -> DPUService:
    source = {"repoURL": "https://charts", "version": "1.2", "chart": "fw"}
    times = {"lastTransitionTime": "2026-01-01T00:00:00Z", "reason": "Reason", "observedGeneration": seen, "message": message}
    conditions = [{"type": kind, "status": status, **times} for kind in ("Ready", "ApplicationsReconciled")]
    metadata = {"name": "fw", "namespace": "ns", "generation": 1}
    content = {"metadata": metadata, "spec": {"helmChart": {"source": source}}, "status": {"conditions": conditions}}
    return msgspec.convert(content, DPUService, strict=False)


@dataclass
class Installation:
    """One that is well, to be broken."""

    report: Report | str = REPORT
    cluster: dict[str, Any] = field(default_factory=dict)
    seen: dict[str, Any] = field(default_factory=dict)

    def faults(self) -> list[Finding]:
        about = {
            "version": "v1.36.2",
            "expiries": {"our client certificate": NOW + timedelta(days=300)},
            "nodes": [node()],
            "reports": {"dpu-1": self.report},
            "interfaces": [service("eth1")],
            "networks": {ObjectKey("ns", "mybrsfc"): NETWORK},
        }
        cluster = replace(ClusterSeen("north"), **about | self.cluster)
        config = DPFOperatorConfig(metadata=ObjectMeta(name="dpfoperatorconfig"))
        seen = replace(Seen(ClusterSeen("host", version="v1.36.2"), [cluster], config, [a_service()]), **self.seen)
        return [finding for finding in judged(seen, NOW, "1") if finding.level != "ok"]


def test_nothing_is_found_where_all_is_well() -> None:
    assert Installation().faults() == []


def with_report(**fields: Any) -> Installation:
    return Installation(msgspec.structs.replace(REPORT, **fields))


CASES: dict[str, tuple[Installation, str, str, str]] = {
    "cluster away": (Installation(cluster={"problem": "cannot be used", "reports": {}, "nodes": []}), "fault", "cluster", "cannot be used"),
    "no cluster": (Installation(seen={"clusters": []}), "fault", "cluster", "there is no DPUCluster"),
    "kind not defined": (Installation(cluster={"absent": ["ServiceChain"]}), "fault", "cluster", "the kind ServiceChain is not defined"),
    "node not ready": (Installation(cluster={"nodes": [node(ready=False)]}), "fault", "cluster", "the node is not Ready"),
    "no configuration": (Installation(seen={"config": None}), "warning", "cluster", "there is no DPFOperatorConfig"),
    "host controller away": (
        Installation(seen={"objects": [a_service(seen=0)]}),
        "fault",
        "controllers",
        "has not looked at this generation",
    ),
    "agent away": (Installation("the agent of dpu-1 does not answer: refused"), "fault", "agents", "the agent does not answer: refused"),
    "agent in trouble": (with_report(problems=("ovsdb: away",)), "fault", "agents", "ovsdb: away"),
    "bridge not secure": (with_report(fail_mode=""), "warning", "openvswitch", "fail_mode of br-sfc is not set"),
    "flows of others": (with_report(foreign=3), "warning", "openvswitch", "br-sfc has flows that are not dpuchain's"),
    "port in trouble": (
        with_report(interfaces=(msgspec.structs.replace(P0, problems=("link is down",)), ETH1)),
        "fault",
        "openvswitch",
        "p0: link is down",
    ),
    "chain in trouble": (
        with_report(chains=(msgspec.structs.replace(CHAIN, problems=("pod is not ready",)),)),
        "fault",
        "openvswitch",
        "chain: pod is not ready",
    ),
    "network absent": (Installation(cluster={"networks": {}}), "fault", "cni", "NetworkAttachmentDefinition ns/mybrsfc does not exist"),
    "network of another plugin": (
        Installation(cluster={"networks": {ObjectKey("ns", "mybrsfc"): '{"cniVersion": "1.1.0", "type": "bridge"}'}}),
        "fault",
        "cni",
        "is of type bridge",
    ),
    "old network": (
        Installation(cluster={"networks": {ObjectKey("ns", "mybrsfc"): NETWORK.replace("1.1.0", "0.3.1")}}),
        "fault",
        "cni",
        "has cniVersion 0.3.1: nobody can tell the MTU",
    ),
    "network that is none": (
        Installation(cluster={"networks": {ObjectKey("ns", "mybrsfc"): "[1]"}}),
        "fault",
        "cni",
        "no CNI configuration",
    ),
    "chart cannot be had": (Installation(seen={"objects": [a_service("False", "no such chart")]}), "fault", "charts", "no such chart"),
    "uplink too small": (
        with_report(
            chains=(
                msgspec.structs.replace(
                    CHAIN, switches=(Switch(service_mtu=9000, mtu=1500, ports=(msgspec.structs.replace(P0, mtu=1500), ETH1)),)
                ),
            )
        ),
        "warning",
        "mtu",
        "port p0 has MTU 1500, but switch 0 of chain has serviceMTU 9000: larger frames are lost there",
    ),
    "certificate expired": (
        Installation(cluster={"expiries": {"our client certificate": NOW}}),
        "fault",
        "certificates",
        "our client certificate has expired on 2026-01-01",
    ),
    "certificate expires": (
        Installation(cluster={"expiries": {"the API server's certificate": NOW + timedelta(days=5)}}),
        "warning",
        "certificates",
        "the API server's certificate expires on 2026-01-06",
    ),
    "agent of another version": (with_report(version="0"), "warning", "versions", "the agent is of version 0, this command of 1"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_found_with_its_remedy(case: str) -> None:
    installation, level, area, words = CASES[case]
    (finding,) = installation.faults()
    assert (finding.level, finding.area) == (level, area)
    assert words in finding.text
    if area != "openvswitch" or level == "warning":  # what a chain or a port says has its remedy in it
        assert finding.remedy


def test_same_fault_of_many_places_is_told_once() -> None:
    faults = [Finding(area="agents", level="fault", text="away", where=(f"dpu-{number}",), remedy="look") for number in range(3)]
    assert gathered(faults) == [Finding(area="agents", level="fault", text="away", where=("dpu-0", "dpu-1", "dpu-2"), remedy="look")]
