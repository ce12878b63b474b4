"""What can be wrong with an installation, and what to do about it: from what was read of it, as values. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from dpuchain.api.conditions import find
from dpuchain.api.fleet import DPFOperatorConfig
from dpuchain.api.interface import ServiceInterface
from dpuchain.api.kubernetes import Node
from dpuchain.api.meta import Model, ObjectKey, key_of
from dpuchain.api.names import APPLICATIONS_RECONCILED, OPERATOR_CONFIG_NAME, OPERATOR_NAMESPACE, READY
from dpuchain.api.service import DPUService
from dpuchain.chain.ports import service_of
from dpuchain.chain.report import Report, mtu_problems

Level = Literal["ok", "warning", "fault"]
RENEW_BEFORE = timedelta(days=14)
CNI_TYPE, CNI_VERSION = "dpuchain-cni", (1, 1, 0)
"""The plugin that wires interfaces of services, and the version from which results tell the MTU (see docs/architecture.md)."""


class Finding(Model, frozen=True, kw_only=True):
    """What was found in one `area`: that it is well, or what is wrong, `where`, and the `remedy`."""

    area: str
    level: Level
    text: str
    where: tuple[str, ...] = ()
    remedy: str = ""


@dataclass(frozen=True)
class ClusterSeen:
    """What was read of a cluster; `problem` says why it could not be, `absent` which kinds it does not know."""

    name: str
    problem: str | None = None
    version: str = ""
    absent: Sequence[str] = ()
    expiries: Mapping[str, datetime] = field(default_factory=dict)
    nodes: Sequence[Node] = ()
    reports: Mapping[str, Report | str] = field(default_factory=dict)
    interfaces: Sequence[ServiceInterface] = ()
    networks: Mapping[ObjectKey, str] = field(default_factory=dict)
    """The configuration of each network, as JSON."""


@dataclass(frozen=True)
class Seen:
    """What was read of everything."""

    host: ClusterSeen
    clusters: Sequence[ClusterSeen]
    config: DPFOperatorConfig | None
    objects: Sequence[Any]
    """DPUServiceChains, DPUServiceInterfaces and DPUServices."""

    @property
    def reports(self) -> dict[str, Report]:
        """What the agents tell, by cluster and node."""
        return {
            f"{cluster.name}/{node}": report
            for cluster in self.clusters
            for node, report in cluster.reports.items()
            if isinstance(report, Report)
        }


def judged(seen: Seen, now: datetime, version: str) -> list[Finding]:
    """All findings, by area. `version` is that of the command, which the agents should have too."""
    found = [
        *_clusters(seen),
        *_controllers(seen),
        *_agents(seen),
        *_switches(seen),
        *_cni(seen),
        *_charts(seen),
        *_mtu(seen),
        *_certificates(seen, now),
        *_versions(seen, version),
    ]
    return gathered(found)


def gathered(findings: Iterable[Finding]) -> list[Finding]:
    """Findings that say the same of several places as one, in their order."""
    places: dict[tuple[str, Level, str, str], list[str]] = {}
    for finding in findings:
        places.setdefault((finding.area, finding.level, finding.text, finding.remedy), []).extend(finding.where)
    return [
        Finding(area=area, level=level, text=text, where=tuple(dict.fromkeys(where)), remedy=remedy)
        for (area, level, text, remedy), where in places.items()
    ]


def _fault(area: str, text: str, remedy: str, *where: str) -> Finding:
    return Finding(area=area, level="fault", text=text, where=where, remedy=remedy)


def _warning(area: str, text: str, remedy: str, *where: str) -> Finding:
    return Finding(area=area, level="warning", text=text, where=where, remedy=remedy)


def _well(area: str, text: str, found: Sequence[Finding]) -> Iterator[Finding]:
    """The findings, or that all is well if there are none."""
    yield from found or [Finding(area=area, level="ok", text=text)]


def _clusters(seen: Seen) -> Iterator[Finding]:
    found = []
    for cluster in (seen.host, *seen.clusters):
        if cluster.problem is not None:
            remedy = "see its DPUCluster, the Secret that spec.kubeconfig names, and whether its API server runs"
            found.append(_fault("cluster", cluster.problem, remedy, cluster.name))
        undefined = (f"the kind {kind} is not defined" for kind in cluster.absent)
        found += [_fault("cluster", text, "apply deploy/crds there", cluster.name) for text in undefined]
        for node in cluster.nodes:
            if not node.ready:
                where = f"{cluster.name}/{node.metadata.name}"
                found.append(_fault("cluster", "the node is not Ready", "see `kubectl describe node` and its kubelet's log", where))
    if not seen.clusters:
        remedy = "make a DPUCluster whose spec.kubeconfig names the Secret with its kubeconfig"
        found.append(_fault("cluster", "there is no DPUCluster: chains have nowhere to go", remedy))
    if seen.config is None and seen.host.problem is None:
        text = f"there is no DPFOperatorConfig {OPERATOR_NAMESPACE}/{OPERATOR_CONFIG_NAME}: highSpeedMTU is taken as 1500"
        found.append(_warning("cluster", text, "make one, with the MTU of the uplinks' network in spec.networking.highSpeedMTU"))
    count = sum(len(cluster.nodes) for cluster in seen.clusters)
    yield from _well("cluster", f"the host cluster and {len(seen.clusters)} DPU clusters with {count} Ready nodes answer", found)


def _controllers(seen: Seen) -> Iterator[Finding]:
    found = []
    for item in seen.objects:
        ready = find(item.status.conditions, READY)
        if ready is None or ready.observed_generation < item.metadata.generation:
            remedy = "see whether `dpuchain host` runs, holds its Lease, and what its log says; if it was changed just now, ask again"
            found.append(_fault("controllers", "the host controller has not looked at this generation yet", remedy, _name(item)))
    yield from _well("controllers", f"all {len(seen.objects)} objects of the host cluster have been looked at as they are now", found)


def _name(item: Any) -> str:
    return f"{type(item).__name__} {key_of(item)}"


def _agents(seen: Seen) -> Iterator[Finding]:
    found = []
    remedy = "see whether the agent runs there and its log; docs/asking.md says who may ask"
    for cluster in seen.clusters:
        for node, report in cluster.reports.items():
            for problem in (report,) if isinstance(report, str) else report.problems:
                text = problem.replace(f"the agent of {node}", "the agent")
                found.append(_fault("agents", text, remedy, f"{cluster.name}/{node}"))
    yield from _well("agents", f"{len(seen.reports)} agents answer, and reach their API server and Open vSwitch", found)


def _switches(seen: Seen) -> Iterator[Finding]:
    found = []
    for where, report in seen.reports.items():
        if report.bridge and report.datapath and report.fail_mode != "secure":
            text = f"fail_mode of {report.bridge} is {report.fail_mode or 'not set'}: without flows it forwards everything to everywhere"
            found.append(_warning("openvswitch", text, f"ovs-vsctl set bridge {report.bridge} fail_mode=secure", where))
        if report.foreign:
            text = f"{report.bridge} has flows that are not dpuchain's: they may take frames away from chains"
            found.append(_warning("openvswitch", text, "see which with `dpuchain trace`; delete them, or who makes them", where))
        for port in report.interfaces:
            found += [_fault("openvswitch", f"{port.called}: {problem}", "", where) for problem in port.problems]
        told = {problem for port in report.interfaces for problem in port.problems}
        others = [(chain.called, problem) for chain in report.chains for problem in chain.problems if problem not in told]
        found += [_fault("openvswitch", f"{name}: {problem}", "", where) for name, problem in others]
    ports = sum(len(report.interfaces) for report in seen.reports.values())
    yield from _well("openvswitch", f"{ports} interfaces have a port that works, and every chain has its flows", found)


def _cni(seen: Seen) -> Iterator[Finding]:
    found, named = [], 0
    for cluster in seen.clusters:
        for interface in cluster.interfaces:
            service = service_of(interface)
            if service is None:
                continue
            named += 1
            namespace, _, name = service.network.rpartition("/")
            key = ObjectKey(namespace or interface.metadata.namespace, name)
            trouble = _network_problem(key, cluster.networks.get(key))
            if trouble is not None:
                found.append(_fault("cni", *trouble, f"{cluster.name}"))
    yield from _well("cni", f"{named} interfaces of services are on networks that {CNI_TYPE} wires", found)


def _network_problem(key: ObjectKey, config: str | None) -> tuple[str, str] | None:
    """What is wrong with a network that a service's interface names, and the remedy; None if nothing is."""
    remedy = f'make it with config {{"cniVersion": "1.1.0", "name": "{key.name}", "type": "{CNI_TYPE}"}}'
    if config is None:
        return f"NetworkAttachmentDefinition {key} does not exist, but an interface names it", remedy
    try:
        content = json.loads(config)
        kind, version = content["type"], tuple(int(part) for part in content.get("cniVersion", "0").split("."))
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"NetworkAttachmentDefinition {key} has a config that is no CNI configuration", remedy
    if kind != CNI_TYPE:
        return f"NetworkAttachmentDefinition {key} is of type {kind}, which makes no port of the chains' bridge", remedy
    if version < CNI_VERSION:
        return f"NetworkAttachmentDefinition {key} has cniVersion {content.get('cniVersion')}: nobody can tell the MTU of its pods", remedy
    return None


def _charts(seen: Seen) -> Iterator[Finding]:
    services = [item for item in seen.objects if isinstance(item, DPUService)]
    found = []
    for service in services:
        condition = find(service.status.conditions, APPLICATIONS_RECONCILED)
        if condition is not None and condition.status != "True":
            source = service.spec.helm_chart.source
            chart = f"{source.chart or service.metadata.name} {source.version} of {source.repo_url}"
            remedy = f"the chart is {chart}; Helm runs where `dpuchain host` does, so that is where it must be had from"
            found.append(_fault("charts", condition.message or condition.reason, remedy, _name(service)))
    yield from _well("charts", f"the charts of {len(services)} services were had and installed", found)


def _mtu(seen: Seen) -> Iterator[Finding]:
    found = []
    for where, report in seen.reports.items():
        for problem in mtu_problems(report):
            text, _, remedy = problem.partition("; ")
            found.append(_warning("mtu", text, remedy, where))
    yield from found
    for report in seen.reports.values():
        for chain in report.chains:
            known = [switch.mtu for switch in chain.switches if switch.mtu is not None]
            if known:
                yield Finding(
                    area="mtu",
                    level="ok",
                    text=f"frames of up to {min(known)} bytes pass the whole of {chain.called}",
                    where=(report.node,),
                )


def _certificates(seen: Seen, now: datetime) -> Iterator[Finding]:
    found, checked = [], 0
    for cluster in (seen.host, *seen.clusters):
        for name, end in cluster.expiries.items():
            checked += 1
            remedy = "have it renewed: a kubeconfig's is in its Secret, an API server's where that runs"
            if end <= now:
                found.append(_fault("certificates", f"{name} has expired on {end:%Y-%m-%d}", remedy, cluster.name))
            elif end - now < RENEW_BEFORE:
                found.append(_warning("certificates", f"{name} expires on {end:%Y-%m-%d}", remedy, cluster.name))
    yield from _well("certificates", f"{checked} certificates are good for {RENEW_BEFORE.days} days and more", found)


def _versions(seen: Seen, version: str) -> Iterator[Finding]:
    found = []
    for where, report in seen.reports.items():
        if report.version != version:
            text = f"the agent is of version {report.version}, this command of {version}"
            found.append(_warning("versions", text, "use one version of dpuchain for all", where))
    known = sorted({f"Open vSwitch {report.ovs}" for report in seen.reports.values() if report.ovs})
    servers = sorted({f"Kubernetes {c.version}" for c in (seen.host, *seen.clusters) if c.version})
    yield from _well("versions", ", ".join([f"dpuchain {version}", *servers, *known]), found)
