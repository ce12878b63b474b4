"""The loop of DPUServices: one Helm release of each in each selected cluster, and the service's status."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

import structlog

from dpuchain.api import names
from dpuchain.api.conditions import Finding
from dpuchain.api.interface import DPUServiceInterface
from dpuchain.api.kinds import DPU_SERVICE, DPU_SERVICE_INTERFACE, SECRET
from dpuchain.api.kubernetes import DaemonSet, Metadata
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.service import DPUService
from dpuchain.chain.release import Release, interface_problems, release_of, service_id, unsupported
from dpuchain.chain.selectors import matches
from dpuchain.chain.status import NOT_READY, Unready, awaiting, describe_unready, error, good, pending, with_ready
from dpuchain.host.helm import Helm, HelmError
from dpuchain.host.members import Member, Members
from dpuchain.host.world import HostObjects
from dpuchain.kube.client import Client
from dpuchain.kube.errors import KubeError, NotFound
from dpuchain.kube.writes import StatusReporter, add_finalizer, remove_finalizer
from dpuchain.runtime.clock import Clock
from dpuchain.runtime.errors import Unfinished

DIGEST_LABEL = "dpuchain-digest"
"""On Helm's record of a release: what was installed. As long as it is what is wanted, Helm need not run."""
OWNER_LABEL = "dpuchain-owner"
"""On Helm's record of a release: uid of the DPUService that it is of."""
RELEASE_NAME, RELEASE_NAMESPACE = "meta.helm.sh/release-name", "meta.helm.sh/release-namespace"

_log = structlog.get_logger(__name__)


class Services:
    """Makes the releases of a DPUService what `chain.release` wants, and the service's status what became of them."""

    def __init__(self, client: Client, objects: HostObjects, members: Members, helm: Helm, clock: Clock) -> None:
        self._client = client
        self._objects = objects
        self._members = members
        self._helm = helm
        self._clock = clock
        self._reporter: StatusReporter[DPUService] = StatusReporter(client, DPU_SERVICE, names.HOST_FIELD_OWNER)

    async def reconcile(self, key: ObjectKey) -> None:
        """Look at one service. That it vanishes meanwhile is no error: the watch brings it."""
        service = self._objects.services.get(key)
        if service is None:
            self._reporter.forget(key)
            return
        try:
            if service.metadata.deletion_timestamp is not None:
                await self._end(service)
            elif not service.spec.paused:
                service = await add_finalizer(self._client, DPU_SERVICE, service, names.DPU_SERVICE_FINALIZER)
                await self._carry_out(service)
        except NotFound as error:
            _log.debug("the service vanished meanwhile", service=str(key), error=str(error))

    async def _carry_out(self, service: DPUService) -> None:
        interfaces = {key_of(item): item for item in self._objects.interfaces}
        dead = unsupported(service)
        problems = interface_problems(service, interfaces, self._objects.services)
        if dead or problems:
            await self._report(service, _blocked(dead, problems))
            return
        await self._claim(service, interfaces)
        release = release_of(service, interfaces)
        work: list[Awaitable[Unready | None]] = []
        selected = []
        for cluster, member, trouble in self._members:
            wanted = matches(service.spec.dpu_cluster_selector, cluster.metadata.labels) and cluster.metadata.deletion_timestamp is None
            if wanted:
                selected.append((key_of(cluster), member, trouble))
                work.append(self._install(service, release, key_of(cluster), member, trouble))
            elif member is not None and trouble is None:
                work.append(self._remove(service, member))
        failures = [outcome for outcome in await asyncio.gather(*work) if outcome is not None]
        unready = [entry for cluster, member, trouble in selected for entry in _unready(release, cluster, member, trouble)]
        await self._report(service, _findings(failures, unready, len(selected)))
        if failures:
            raise Unfinished("; ".join(failure.cause for failure in failures))

    async def _report(self, service: DPUService, findings: Sequence[Finding]) -> None:
        await self._reporter.report(service, with_ready(findings), self._clock.now(), service_id=service_id(service))

    async def _claim(self, service: DPUService, interfaces: Mapping[ObjectKey, DPUServiceInterface]) -> None:
        """Mark the interfaces as this service's, so that no other takes them."""
        for name in service.spec.interfaces or ():
            interface = interfaces[ObjectKey(service.metadata.namespace, name)]
            if interface.metadata.annotations.get(names.CONSUMED_BY_ANNOTATION) != service.metadata.name:
                await self._annotate(key_of(interface), service.metadata.name)

    async def _annotate(self, interface: ObjectKey, service: str | None) -> None:
        patch = {"metadata": {"annotations": {names.CONSUMED_BY_ANNOTATION: service}}}
        await self._client.patch(DPU_SERVICE_INTERFACE, interface, patch)

    async def _install(
        self, service: DPUService, release: Release, cluster: ObjectKey, member: Member | None, trouble: str | None
    ) -> Unready | None:
        """Have the release in one cluster; returns why it is not. Helm runs only if its record does not say that it is there."""
        where = (f"Cluster: {cluster}",)
        if member is None or trouble is not None:
            return Unready(where, f"DPUCluster {cluster} {trouble}")
        records = _records(member, release.namespace, release.name)
        labels = records[-1].metadata.labels if records else {}
        owner = labels.get(OWNER_LABEL)
        if records and owner != service.metadata.uid:
            whose = f"DPUService with uid {owner}" if owner else "somebody else"
            return Unready(where, f"release {release.namespace}/{release.name} exists already and was made by {whose}; uninstall it")
        if labels.get(DIGEST_LABEL) == release.digest and labels.get("status") == "deployed":
            return None
        try:
            await self._clear(member, records)
            await self._helm.install(member.kubeconfig, release, {DIGEST_LABEL: release.digest, OWNER_LABEL: service.metadata.uid})
        except (HelmError, KubeError) as failure:
            return Unready(where, str(failure))
        return None

    async def _clear(self, member: Member, records: Sequence[Metadata]) -> None:
        """Remove the record of a Helm run that was cut off: Helm takes it for one that still runs, and refuses for ever."""
        if records and records[-1].metadata.labels.get("status", "").startswith("pending-"):
            await member.client.delete(SECRET, key_of(records[-1]), uid=records[-1].metadata.uid)

    async def _remove(self, service: DPUService, member: Member) -> Unready | None:
        """Uninstall what the service has in a cluster, whatever its release was called."""
        mine = [record for record in member.releases if record.metadata.labels.get(OWNER_LABEL) == service.metadata.uid]
        for namespace, name in sorted({(record.metadata.namespace, record.metadata.labels["name"]) for record in mine}):
            try:
                await self._helm.uninstall(member.kubeconfig, namespace, name)
            except HelmError as failure:
                return Unready((f"Cluster: {member.cluster}", f"Release: {namespace}/{name}"), str(failure))
        return None

    async def _end(self, service: DPUService) -> None:
        """Uninstall everywhere, give the interfaces free, and let the service go."""
        remaining: list[Unready] = []
        for cluster, member, trouble in self._members:
            if trouble is not None or member is None:
                remaining.append(Unready((f"Cluster: {key_of(cluster)}",), f"{trouble}; delete the DPUCluster if it is gone for good"))
            elif (failure := await self._remove(service, member)) is not None:
                remaining.append(failure)
        if remaining:
            conditions = (names.APPLICATIONS_RECONCILED, names.APPLICATIONS_READY)
            await self._reporter.report(service, awaiting(conditions, remaining), self._clock.now())
            raise Unfinished("; ".join(entry.cause for entry in remaining))
        for interface in list(self._objects.interfaces):
            mine = interface.metadata.annotations.get(names.CONSUMED_BY_ANNOTATION) == service.metadata.name
            if mine and interface.metadata.namespace == service.metadata.namespace:
                await self._annotate(key_of(interface), None)
        await remove_finalizer(self._client, DPU_SERVICE, service, names.DPU_SERVICE_FINALIZER)


def _blocked(dead: Sequence[str], problems: Sequence[str]) -> list[Finding]:
    """What to say of a service that is not installed because of its own fields or its interfaces."""
    prerequisites = names.APPLICATION_PREREQUISITES_RECONCILED
    interfaces = names.DPU_SERVICE_INTERFACE_RECONCILED
    described = "Unable to reconcile interfaces for the DPUService:\n" + "\n".join(f"* {problem}" for problem in problems)
    return [
        error(prerequisites, "\n".join(dead)) if dead else good(prerequisites),
        error(interfaces, described) if problems else good(interfaces),
        pending(names.APPLICATIONS_RECONCILED, "not installed before its interfaces and fields are right"),
        pending(names.APPLICATIONS_READY, "not installed before its interfaces and fields are right"),
    ]


def _findings(failures: Sequence[Unready], unready: Sequence[Unready], clusters: int) -> list[Finding]:
    reconciled, ready = names.APPLICATIONS_RECONCILED, names.APPLICATIONS_READY
    found = [good(names.APPLICATION_PREREQUISITES_RECONCILED), good(names.DPU_SERVICE_INTERFACE_RECONCILED)]
    if not clusters:
        nowhere = "no DPUCluster is selected: create one, or change spec.dpuClusterSelector"
        return [*found, pending(reconciled, nowhere), pending(ready, nowhere)]
    if failures:
        found.append(error(reconciled, describe_unready("not installed in all DPU clusters:", failures)))
    else:
        found.append(good(reconciled))
    found.append(pending(ready, describe_unready(NOT_READY, unready)) if unready else good(ready))
    return found


def _records(member: Member, namespace: str, name: str) -> list[Metadata]:
    """Helm's records of a release, the newest last."""
    mine = [record for record in member.releases if record.metadata.namespace == namespace and record.metadata.labels.get("name") == name]
    return sorted(mine, key=lambda record: int(record.metadata.labels.get("version", "0")))


def _unready(release: Release, cluster: ObjectKey, member: Member | None, trouble: str | None) -> list[Unready]:
    """What of a release does not work in a cluster: each DaemonSet that has not all its pods, or that there is none."""
    if member is None or trouble is not None:
        return [Unready((f"Cluster: {cluster}",), trouble or "")]
    mine = [
        item
        for item in member.daemon_sets
        if item.metadata.annotations.get(RELEASE_NAME) == release.name
        and item.metadata.annotations.get(RELEASE_NAMESPACE) == release.namespace
    ]
    if not mine:
        return [Unready((f"Cluster: {cluster}", f"Release: {release.namespace}/{release.name}"), "it has no DaemonSet yet")]
    entries = []
    for item in sorted(mine, key=key_of):
        cause = _daemon_set_cause(item)
        if cause is not None:
            entries.append(Unready((f"Cluster: {cluster}", f"DaemonSet: {key_of(item)}"), cause))
    return entries


def _daemon_set_cause(item: DaemonSet) -> str | None:
    status: Any = item.status
    wanted = status.desired_number_scheduled
    if status.observed_generation != item.metadata.generation:
        return "its controller has not seen its latest change yet"
    if status.updated_number_scheduled < wanted or status.number_ready < wanted:
        return f"{status.number_ready} of {wanted} pods are ready, {status.updated_number_scheduled} are up to date"
    return None
