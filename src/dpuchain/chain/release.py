"""From a DPUService to the Helm release that it has in each DPU cluster."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from dpuchain.api.interface import DPUServiceInterface
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.names import CONSUMED_BY_ANNOTATION, NETWORKS_ANNOTATION, SERVICE_LABEL
from dpuchain.api.service import DPUService
from dpuchain.chain.problems import Problem, Ref, ref


@dataclass(frozen=True)
class Release:
    """A Helm release: what is installed, from where, with which values. Without `repo_url`, `chart` is a folder of this machine."""

    name: str
    namespace: str
    repo_url: str
    chart: str
    version: str
    values: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """What tells this release from any other of the same name; fits a label value."""
        content = json.dumps([self.repo_url, self.chart, self.version, self.values], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:40]


def service_id(service: DPUService) -> str:
    """The service's identity: `spec.serviceID`, or ten digits made from the object's key."""
    return service.spec.service_id or hashlib.sha256(str(key_of(service)).encode()).hexdigest()[:10]


def release_name(service: DPUService) -> str:
    """Name of the release: `releaseName` of the chart's source, or the object's name."""
    return service.spec.helm_chart.source.release_name or service.metadata.name


def unsupported(service: DPUService) -> tuple[str, ...]:
    """The fields of `service` that are set and keep it from being installed, as they would have no effect, each with what to do instead.

    `security.privileged: true` forbids nothing, and nothing is forbidden.
    """
    spec, found = service.spec, []
    if spec.helm_chart.source.path is not None:
        found.append("spec.helmChart.source.path: charts from git are not supported; publish the chart to a Helm or OCI repository")
    if spec.helm_chart.source.chart is None and not spec.helm_chart.source.repo_url.startswith("oci://"):
        found.append("spec.helmChart.source.chart: must be set, as the repository may have several charts")
    if spec.deploy_in_cluster and spec.interfaces:
        found.append("spec.interfaces: a service in the host cluster has no interfaces of DPUs; leave them out, or spec.deployInCluster")
    if spec.security is not None and spec.security.privileged is False:
        found.append("spec.security.privileged: false is not enforced; use pod-security.kubernetes.io/enforce on the namespace instead")
    if _parse_networks(_given_networks(service)) is None:
        found.append(
            f"spec.serviceDaemonSet.annotations[{NETWORKS_ANNOTATION}]: neither a JSON list of objects with a name, nor names with commas; "
            "correct it or leave it out"
        )
    return tuple(found)


def config_ports_problem(service: DPUService) -> str | None:
    """What to say of `configPorts`, without which the service works all the same; None if it is not set."""
    return "spec.configPorts: not supported yet; add a Service to the chart" if service.spec.config_ports is not None else None


def _given_networks(service: DPUService) -> str | None:
    daemon_set = service.spec.service_daemon_set
    return daemon_set.annotations.get(NETWORKS_ANNOTATION) if daemon_set is not None else None


def interface_problems(
    service: DPUService, interfaces: Mapping[ObjectKey, DPUServiceInterface], services: Iterable[DPUService]
) -> tuple[Problem, ...]:
    """What is wrong with the DPUServiceInterfaces that `service` names, in its order; in DPF's words where it has some."""
    namespace = service.metadata.namespace
    holders = {other.metadata.name: other for other in services if other.metadata.namespace == namespace}
    found = []
    for name in service.spec.interfaces or ():
        pair = ref("DPUService", service), Ref("DPUServiceInterface", ObjectKey(namespace, name))
        interface = interfaces.get(pair[1].key)
        if interface is None:
            found.append(Problem(f"DPUServiceInterface {name} not found in namespace {namespace}: create it", "none", *pair))
            continue
        port = interface.spec.template.spec.template.spec.service
        holder = holders.get(interface.metadata.annotations.get(CONSUMED_BY_ANNOTATION, ""))
        if port is None or interface.spec.template.spec.template.spec.interface_type != "service":
            found.append(Problem(f"wrong service definition in DPUServiceInterface {name}", "service", *pair))
        elif port.service_id != service_id(service):
            found.append(Problem(f"conflicting ServiceID in DPUServiceInterface {name}", "service", *pair))
        elif holder is not None and holder.metadata.name != service.metadata.name and name in (holder.spec.interfaces or ()):
            other = ref("DPUService", holder)
            found.append(Problem(f"dpuServiceInterface {name} is in use by another DPUService", "service", *pair, other))
    return tuple(found)


def release_of(service: DPUService, interfaces: Mapping[ObjectKey, DPUServiceInterface]) -> Release:
    """The release of `service`, whose interfaces must be without problems.

    The values are the chart's own, under `serviceDaemonSet` overridden by what the DPUService asks of the DaemonSet: the label that makes
    its pods the service's, and the annotation that makes Multus give them their interfaces.
    """
    source = service.spec.helm_chart.source
    asked: dict[str, Any] = msgspec.to_builtins(service.spec.service_daemon_set) if service.spec.service_daemon_set else {}
    asked["labels"] = {**asked.get("labels", {}), SERVICE_LABEL: service_id(service)}
    attachments = _attachments(service, interfaces)
    if attachments:
        annotations = asked.get("annotations", {})
        asked["annotations"] = {**annotations, NETWORKS_ANNOTATION: _networks(attachments, _given_networks(service))}
    return Release(
        name=release_name(service),
        namespace=service.metadata.namespace,
        repo_url=source.repo_url,
        chart=source.chart or "",
        version=source.version,
        values=_merge(service.spec.helm_chart.values, {"serviceDaemonSet": asked}),
    )


def _attachments(service: DPUService, interfaces: Mapping[ObjectKey, DPUServiceInterface]) -> list[dict[str, str]]:
    found = []
    for name in service.spec.interfaces or ():
        port = interfaces[ObjectKey(service.metadata.namespace, name)].spec.template.spec.template.spec.service
        assert port is not None, "interfaces with problems are not released"
        namespace, _, network = port.network.rpartition("/")
        found.append({"name": network, "namespace": namespace or service.metadata.namespace, "interface": port.interface_name})
    return found


def _networks(attachments: Sequence[Mapping[str, str]], given: str | None) -> str:
    """The networks annotation: ours, and those that the user gave, who wins where both speak of one interface."""
    users = _parse_networks(given) or []
    taken = {entry.get("interface") for entry in users}
    merged = [*users, *(entry for entry in attachments if entry["interface"] not in taken)]
    return json.dumps(sorted(merged, key=lambda entry: (entry.get("interface", ""), entry.get("name", ""))), sort_keys=True)


def _parse_networks(text: str | None) -> list[dict[str, Any]] | None:
    """The entries of a networks annotation in either of its forms: a JSON list, or names with commas (`ns/name@interface`).

    None if it is neither.
    """
    if not text or not text.strip():
        return []
    if not text.lstrip().startswith("["):
        entries = [_short_form(item) for item in text.split(",")]
    else:
        try:
            entries = msgspec.json.decode(text, type=list[dict[str, Any]])
        except (msgspec.MsgspecError, RecursionError):
            return None
    return entries if all(_is_network(entry) for entry in entries) else None


def _short_form(item: str) -> dict[str, Any]:
    name, _, interface = item.strip().partition("@")
    namespace, _, network = name.rpartition("/")
    parts = {"name": network, "namespace": namespace, "interface": interface}
    return {key: value for key, value in parts.items() if value}


def _is_network(entry: Mapping[str, Any]) -> bool:
    return bool(entry.get("name")) and all(isinstance(entry.get(part, ""), str) for part in ("name", "namespace", "interface"))


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings merged at every depth; `above` wins where both have a value."""
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        merged[key] = _merge(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return merged
