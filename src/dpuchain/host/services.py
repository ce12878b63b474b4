"""The loop of DPUServices: one Helm release of each in each selected cluster, and the service's status."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any

import structlog

from dpuchain.api import names
from dpuchain.api.conditions import Finding
from dpuchain.api.interface import DPUServiceInterface
from dpuchain.api.kinds import DPU_SERVICE, DPU_SERVICE_INTERFACE, SECRET, SECRET_METADATA
from dpuchain.api.kubernetes import DaemonSet, Metadata
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.service import DPUService
from dpuchain.chain.release import Release, interface_problems, release_of, service_id, unsupported
from dpuchain.chain.selectors import matches
from dpuchain.chain.selectors import problem as selector_problem
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
REVISION_LABEL = "dpuchain-revision"
"""On Helm's record of a release: the revision that we made. Helm copies labels to the revisions that others make."""
RELEASE_NAME, RELEASE_NAMESPACE = "meta.helm.sh/release-name", "meta.helm.sh/release-namespace"

WAITING = "nothing is installed or changed before the service's fields and interfaces are right"

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
        selector = service.spec.dpu_cluster_selector
        impossible = selector_problem(selector, "spec.dpuClusterSelector")
        dead = [*unsupported(service), *([impossible] if impossible is not None else [])]
        problems = interface_problems(service, interfaces, self._objects.services)
        if dead or problems:
            await self._report(service, _blocked(dead, problems))
            return
        await self._claim(service, interfaces)
        release = release_of(service, interfaces)
        settled = self._members.settled
        away: list[Unready] = []
        work: list[Awaitable[Unready | None]] = []
        usable: list[Member] = []
        selected = 0
        for cluster, member, trouble in self._members:
            wanted = matches(selector, cluster.metadata.labels) and cluster.metadata.deletion_timestamp is None
            selected += wanted
            if member is None or trouble is not None:
                if wanted or (member is not None and _of(service, member.releases)):
                    away.append(Unready((f"Cluster: {key_of(cluster)}",), f"DPUCluster {key_of(cluster)} {trouble}"))
            elif wanted:
                usable.append(member)
                work.append(self._install(service, release, member))
            else:
                work.append(self._uninstall(member, _of(service, member.releases)))
        failures = [outcome for outcome in await asyncio.gather(*work) if outcome is not None]
        unready = [*away, *(entry for member in usable for entry in _unready(release, member))]
        if settled:
            await self._report(service, _findings([*away, *failures], unready, selected))
        if failures:
            raise Unfinished("; ".join(failure.cause for failure in failures))

    async def _report(self, service: DPUService, findings: Sequence[Finding]) -> None:
        await self._reporter.report(service, with_ready(findings), self._clock.now(), service_id=service_id(service))

    async def _claim(self, service: DPUService, interfaces: Mapping[ObjectKey, DPUServiceInterface]) -> None:
        """Mark the interfaces that the service names as its own, so that no other takes them, and give those free that it names no more."""
        for key, interface in interfaces.items():
            if key.namespace == service.metadata.namespace:
                named = key.name in (service.spec.interfaces or ())
                mine = interface.metadata.annotations.get(names.CONSUMED_BY_ANNOTATION) == service.metadata.name
                if named != mine:
                    await self._annotate(interface, service.metadata.name if named else None)

    async def _annotate(self, interface: DPUServiceInterface, service: str | None) -> None:
        """Conflict if the interface has changed since it was read: another service may have been faster."""
        guard = {"resourceVersion": interface.metadata.resource_version}
        patch = {"metadata": {**guard, "annotations": {names.CONSUMED_BY_ANNOTATION: service}}}
        await self._client.patch(DPU_SERVICE_INTERFACE, key_of(interface), patch)

    async def _install(self, service: DPUService, release: Release, member: Member) -> Unready | None:
        """Have the release in one cluster, and no other of the service; returns why it is not so.

        Helm runs only if its record does not say that the release is there; and since a cache may not show yet what Helm did a moment
        ago, the API server is asked for the record before.
        """
        renamed = [record for record in _of(service, member.releases) if not _is_of(record, release)]
        if not renamed and _is_installed(service, release, _newest(member.releases, release)):
            return None
        where = (f"Cluster: {member.cluster}",)
        try:
            if (failure := await self._uninstall(member, renamed)) is not None:
                return failure
            record = _newest(await self._records(member, f"name={release.name}"), release)
            if record is not None and record.metadata.labels.get(OWNER_LABEL) != service.metadata.uid:
                return Unready(where, _whose(record, release))
            if record is not None and _is_in_other_hands(record):
                return Unready(where, _hands_off(record, release))
            if not _is_installed(service, release, record):
                revision = await self._clear(member, record) + 1
                labels = {DIGEST_LABEL: release.digest, OWNER_LABEL: service.metadata.uid, REVISION_LABEL: str(revision)}
                await self._helm.install(member.kubeconfig, release, labels)
        except (HelmError, KubeError) as failure:
            return Unready(where, str(failure))
        return None

    async def _records(self, member: Member, selector: str) -> tuple[Metadata, ...]:
        """Helm's records as the API server has them now."""
        listing = await member.client.list(SECRET_METADATA, label_selector=f"owner=helm,{selector}", metadata_only=True)
        return listing.items

    async def _clear(self, member: Member, record: Metadata | None) -> int:
        """Clear away what a Helm run that was cut off left, as Helm would refuse for ever; returns the revision that is there then."""
        if record is None:
            return 0
        status, revision = record.metadata.labels.get("status", ""), _revision(record)
        if status == "uninstalling":
            await self._helm.uninstall(member.kubeconfig, record.metadata.namespace, record.metadata.labels["name"])
            return 0
        if status.startswith("pending-"):  # Helm takes it for one that still runs
            await member.client.delete(SECRET, key_of(record), uid=record.metadata.uid)
            return revision - 1
        return revision

    async def _uninstall(self, member: Member, records: Iterable[Metadata]) -> Unready | None:
        """Uninstall the releases that the records are of; returns why that was not possible."""
        for namespace, name in sorted({(record.metadata.namespace, record.metadata.labels["name"]) for record in records}):
            try:
                await self._helm.uninstall(member.kubeconfig, namespace, name)
            except HelmError as failure:
                return Unready((f"Cluster: {member.cluster}", f"Release: {namespace}/{name}"), str(failure))
        return None

    async def _end_in(self, service: DPUService, member: Member) -> Unready | None:
        """Uninstall what the service has in a cluster, whatever its release was called."""
        try:
            return await self._uninstall(member, await self._records(member, f"{OWNER_LABEL}={service.metadata.uid}"))
        except KubeError as failure:
            return Unready((f"Cluster: {member.cluster}",), str(failure))

    async def _end(self, service: DPUService) -> None:
        """Uninstall everywhere, give the interfaces free, and let the service go."""
        settled = self._members.settled
        away: list[Unready] = []
        work: list[Awaitable[Unready | None]] = []
        for cluster, member, trouble in self._members:
            if trouble is not None or member is None:
                away.append(Unready((f"Cluster: {key_of(cluster)}",), f"{trouble}; delete the DPUCluster if it is gone for good"))
            else:
                work.append(self._end_in(service, member))
        failures = [outcome for outcome in await asyncio.gather(*work) if outcome is not None]
        if away or failures:
            conditions = (names.APPLICATIONS_RECONCILED, names.APPLICATIONS_READY)
            if settled:
                await self._reporter.report(service, awaiting(conditions, [*away, *failures]), self._clock.now())
            if failures:
                raise Unfinished("; ".join(entry.cause for entry in failures))
            return
        for interface in list(self._objects.interfaces):
            mine = interface.metadata.annotations.get(names.CONSUMED_BY_ANNOTATION) == service.metadata.name
            if mine and interface.metadata.namespace == service.metadata.namespace:
                await self._annotate(interface, None)
        await remove_finalizer(self._client, DPU_SERVICE, service, names.DPU_SERVICE_FINALIZER)


def _blocked(dead: Sequence[str], problems: Sequence[str]) -> list[Finding]:
    """What to say of a service that is not installed because of its own fields or its interfaces."""
    prerequisites = names.APPLICATION_PREREQUISITES_RECONCILED
    interfaces = names.DPU_SERVICE_INTERFACE_RECONCILED
    described = "Unable to reconcile interfaces for the DPUService:\n" + "\n".join(f"* {problem}" for problem in problems)
    return [
        error(prerequisites, "\n".join(dead)) if dead else good(prerequisites),
        error(interfaces, described) if problems else good(interfaces),
        pending(names.APPLICATIONS_RECONCILED, WAITING),
        pending(names.APPLICATIONS_READY, WAITING),
    ]


def _findings(failures: Sequence[Unready], unready: Sequence[Unready], clusters: int) -> list[Finding]:
    reconciled, ready = names.APPLICATIONS_RECONCILED, names.APPLICATIONS_READY
    found = [good(names.APPLICATION_PREREQUISITES_RECONCILED), good(names.DPU_SERVICE_INTERFACE_RECONCILED)]
    if not clusters and not failures:
        nowhere = "no DPUCluster is selected: create one, or change spec.dpuClusterSelector"
        return [*found, pending(reconciled, nowhere), pending(ready, nowhere)]
    if failures:
        found.append(error(reconciled, describe_unready("not as it should be in all DPU clusters:", failures)))
    else:
        found.append(good(reconciled))
    if unready:
        found.append(pending(ready, describe_unready(NOT_READY, unready)))
    else:
        found.append(good(ready) if clusters else pending(ready, f"{reconciled} is not True"))
    return found


def _of(service: DPUService, records: Iterable[Metadata]) -> list[Metadata]:
    """Those of Helm's records that are of the service."""
    return [record for record in records if record.metadata.labels.get(OWNER_LABEL) == service.metadata.uid]


def _is_of(record: Metadata, release: Release) -> bool:
    return record.metadata.namespace == release.namespace and record.metadata.labels.get("name") == release.name


def _revision(record: Metadata) -> int:
    return int(record.metadata.labels.get("version", "0"))


def _newest(records: Iterable[Metadata], release: Release) -> Metadata | None:
    """Helm's record of the newest revision of a release; None if there is no such release."""
    return max((record for record in records if _is_of(record, release)), key=_revision, default=None)


def _is_installed(service: DPUService, release: Release, record: Metadata | None) -> bool:
    """Whether the record says that exactly this is installed, and that it was us who did it."""
    if record is None:
        return False
    expected = {
        OWNER_LABEL: service.metadata.uid,
        DIGEST_LABEL: release.digest,
        REVISION_LABEL: str(_revision(record)),
        "status": "deployed",
    }
    return expected.items() <= record.metadata.labels.items()


def _is_in_other_hands(record: Metadata) -> bool:
    """Whether a Helm run that is not ours works on the release, or was cut off: nobody can tell which."""
    labels = record.metadata.labels
    return labels.get("status", "").startswith("pending-") and labels.get(REVISION_LABEL) != str(_revision(record))


def _hands_off(record: Metadata, release: Release) -> str:
    name, status = f"{release.namespace}/{release.name}", record.metadata.labels["status"]
    remedy = f"wait for it, or, if no Helm runs any more, `helm rollback --namespace {release.namespace} {release.name}`"
    return f"somebody else's Helm works on release {name} (revision {_revision(record)} is {status}); {remedy}"


def _whose(record: Metadata, release: Release) -> str:
    owner = record.metadata.labels.get(OWNER_LABEL)
    whose = f"DPUService with uid {owner}" if owner else "somebody else"
    return f"release {release.namespace}/{release.name} exists already and was made by {whose}; uninstall it"


def _unready(release: Release, member: Member) -> list[Unready]:
    """What of a release does not work in a cluster: each DaemonSet that has not all its pods, or that there is none."""
    cluster = member.cluster
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
