"""The releases of a DPUService in one cluster: installed, changed, repaired and uninstalled, by Helm and by Helm's records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog

from dpuchain.api.kinds import SECRET, SECRET_METADATA
from dpuchain.api.kubernetes import DaemonSet, Managed, Metadata
from dpuchain.api.meta import key_of
from dpuchain.api.service import DPUService
from dpuchain.chain.release import Release
from dpuchain.chain.status import Unready
from dpuchain.host.helm import Helm, HelmError
from dpuchain.host.inspection import Drift, inspect
from dpuchain.host.made import MADE_ANNOTATION, changed, described, read, traces_in, traces_of
from dpuchain.host.repairs import LONGEST_PAUSE, Pace
from dpuchain.host.targets import Target
from dpuchain.kube.errors import KubeError
from dpuchain.runtime.clock import Clock
from dpuchain.runtime.metrics import RELEASE_REPAIRS

DIGEST_LABEL = "dpuchain-digest"
"""On Helm's record of a release: what was installed. As long as it is what is wanted, Helm need not run."""
OWNER_LABEL = "dpuchain-owner"
"""On Helm's record of a release: uid of the DPUService that it is of."""
REVISION_LABEL = "dpuchain-revision"
"""On Helm's record of a release: the revision that we made. Helm copies labels to the revisions that others make."""
HOST_LABEL = "dpuchain-host"
"""On Helm's record of a release: identity of the host cluster that the DPUService is in, since several may share a DPU cluster."""
NAMED = 3
"""Objects of a release that a message names before it only counts."""

_log = structlog.get_logger(__name__)


class Releases:
    """Makes the releases of services what they are to be. A failure is returned, as what is to be told of one cluster."""

    def __init__(self, helm: Helm, host: str, clock: Clock) -> None:
        """`host` is the identity of the host cluster."""
        self._helm = helm
        self._host = host
        self._clock = clock
        self._pace = Pace()

    async def install(self, service: DPUService, release: Release, target: Target) -> Unready | None:
        """Have the release in one cluster as Helm made it, and no other of the service; returns why it is not so.

        Helm runs only if its record does not say that the release is there, or if what it made has changed since; and since a cache may
        not show yet what Helm did a moment ago, the API server is asked for both before.
        """
        renamed = [record for record in records_of(service, target.releases) if not _is_of(record, release)]
        known = _newest(target.releases, release)
        if not renamed and known is not None and self._is_installed(service, release, known):
            noted = traces_in(known)
            if noted is not None and not changed(noted, target.made.traces(release)):
                return None
        try:
            return await self.uninstall(target, renamed) or await self._make(service, release, target)
        except (HelmError, KubeError) as failure:
            return Unready((target.where,), str(failure))

    async def uninstall(self, target: Target, records: Iterable[Metadata]) -> Unready | None:
        """Uninstall the releases that the records are of; returns why that was not possible."""
        for namespace, name in sorted({(record.metadata.namespace, record.metadata.labels["name"]) for record in records}):
            _log.info("uninstalling", cluster=target.name, release=f"{namespace}/{name}")
            try:
                await self._helm.uninstall(target.access, namespace, name)
            except HelmError as failure:
                return Unready((target.where, f"Release: {namespace}/{name}"), str(failure))
            self._pace.forget((target.name, namespace, name))
        return None

    async def end(self, owner: str, target: Target) -> Unready | None:
        """Uninstall what the DPUService of this uid has in a cluster, whatever its release is called; returns why that was not possible."""
        try:
            return await self.uninstall(target, await self._records(target, f"{OWNER_LABEL}={owner}"))
        except KubeError as failure:
            return Unready((target.where,), str(failure))

    async def _make(self, service: DPUService, release: Release, target: Target) -> Unready | None:
        """Run Helm if the API server says that this is needed, and nothing is in the way."""
        record = _newest(await self._records(target, f"name={release.name}"), release)
        if record is not None and record.metadata.labels.get(OWNER_LABEL) != service.metadata.uid:
            return Unready((target.where,), _whose(record, release))
        if record is not None and _is_in_other_hands(record):
            return Unready((target.where,), _hands_off(record, release))
        noted = traces_in(record) if record is not None else None
        made = await read(target.client, release, noted or ())
        drift = Drift(noted or {}, traces_of(made))
        installed = record is not None and self._is_installed(service, release, record)
        if installed:
            names = changed(drift.noted, drift.found)
            if noted is not None and not names:
                return None
            if noted is None and self._pause(release, target) > 0:  # Helm has run a moment ago, and looking at what it made failed
                return await self._note(release, target, drift)
            obstacle = self._obstacle(release, target, made, names)
            if obstacle is not None:
                return Unready(_where(release, target), obstacle)
            if names:
                RELEASE_REPAIRS.inc()
                _log.warning("somebody changed what a release made", where=_where(release, target), objects=names)
        revision = await self._clear(target, record) + 1
        labels = {DIGEST_LABEL: release.digest, REVISION_LABEL: str(revision), **self._labels(service)}
        await self._helm.install(target.access, release, labels)
        if installed:
            self._pace.repaired(_id(release, target), self._clock.monotonic())
        unready = await self._note(release, target, drift)
        if unready is not None and not installed:
            self._pace.repaired(_id(release, target), self._clock.monotonic())
        return unready

    def _pause(self, release: Release, target: Target) -> float:
        """Seconds until Helm may run again for what others do to the release."""
        return self._pace.pause(_id(release, target), self._clock.monotonic())

    def _obstacle(self, release: Release, target: Target, made: Mapping[str, Mapping[str, Managed]], names: Sequence[str]) -> str | None:
        """Why Helm is not to run now for what is not as it made it, or not known to be; None if it is to run."""
        items = ((described(kind, name), item) for kind, found in made.items() for name, item in found.items())
        deleted = sorted(name for name, item in items if item.metadata.deletion_timestamp is not None)
        if deleted:
            return f"{_listed(deleted)} is being deleted by somebody else; it is made again when it is gone"
        if self._pause(release, target) > 0:
            return (
                f"somebody else changes or deletes {_listed(names)} again and again: it is put right ever more slowly, in the end every "
                f"{LONGEST_PAUSE:.0f} s; find out who does it (another controller, a script) and stop it"
            )
        return None

    async def _note(self, release: Release, target: Target, drift: Drift) -> Unready | None:
        """Note on Helm's record what the release has made; returns what others did to it while Helm ran."""
        record = _newest(await self._records(target, f"name={release.name}"), release)
        if record is None:
            return Unready((target.where,), "somebody else uninstalled the release while it was installed")
        inspection = await inspect(target.client, release, record, drift)
        annotations = {MADE_ANNOTATION: json.dumps(inspection.traces, sort_keys=True)}
        await target.client.patch(SECRET_METADATA, key_of(record), {"metadata": {"uid": record.metadata.uid, "annotations": annotations}})
        if not inspection.disturbed:
            return None
        cause = f"somebody else changed or deleted {_listed(inspection.disturbed)} while Helm ran; Helm runs once more"
        return Unready(_where(release, target), cause)

    async def _records(self, target: Target, selector: str) -> tuple[Metadata, ...]:
        """Helm's records as the API server has them now."""
        listing = await target.client.list(SECRET_METADATA, label_selector=f"owner=helm,{selector}", metadata_only=True)
        return listing.items

    def owner_of(self, record: Metadata) -> str | None:
        """Uid of the DPUService of this host cluster that a release is of; None if it is of none, or of another host cluster's."""
        labels = record.metadata.labels
        return labels.get(OWNER_LABEL) if labels.get(HOST_LABEL) == self._host else None

    def _labels(self, service: DPUService) -> dict[str, str]:
        """What tells on Helm's record whose release it is."""
        return {OWNER_LABEL: service.metadata.uid, HOST_LABEL: self._host}

    def _is_installed(self, service: DPUService, release: Release, record: Metadata) -> bool:
        """Whether the record says that exactly this is installed, and that it was us who did it."""
        ours = {DIGEST_LABEL: release.digest, REVISION_LABEL: str(_revision(record)), "status": "deployed", **self._labels(service)}
        return ours.items() <= record.metadata.labels.items()

    async def _clear(self, target: Target, record: Metadata | None) -> int:
        """Clear away what a Helm run that was cut off left, as Helm would refuse for ever; returns the revision that is there then."""
        if record is None:
            return 0
        status, revision = record.metadata.labels.get("status", ""), _revision(record)
        if status == "uninstalling":
            await self._helm.uninstall(target.access, record.metadata.namespace, record.metadata.labels["name"])
            return 0
        if status.startswith("pending-"):  # Helm takes it for one that still runs
            await target.client.delete(SECRET, key_of(record), uid=record.metadata.uid)
            return revision - 1
        return revision


def records_of(service: DPUService, records: Iterable[Metadata]) -> list[Metadata]:
    """Those of Helm's records that are of the service."""
    return [record for record in records if record.metadata.labels.get(OWNER_LABEL) == service.metadata.uid]


def _id(release: Release, target: Target) -> tuple[str, str, str]:
    return target.name, release.namespace, release.name


def _where(release: Release, target: Target) -> tuple[str, ...]:
    return target.where, f"Release: {release.namespace}/{release.name}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _is_of(record: Metadata, release: Release) -> bool:
    return record.metadata.namespace == release.namespace and record.metadata.labels.get("name") == release.name


def _revision(record: Metadata) -> int:
    return int(record.metadata.labels.get("version", "0"))


def _newest(records: Iterable[Metadata], release: Release) -> Metadata | None:
    """Helm's record of the newest revision of a release; None if there is no such release."""
    return max((record for record in records if _is_of(record, release)), key=_revision, default=None)


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


def unready_in(release: Release, target: Target) -> list[Unready]:
    """What of a release does not work in a cluster: each DaemonSet that has not all its pods, or that there is none."""
    mine = target.made.daemon_sets_of(release)
    if not mine:
        return [Unready(_where(release, target), "it has no DaemonSet yet")]
    entries = []
    for item in mine:
        cause = _daemon_set_cause(item)
        if cause is not None:
            entries.append(Unready((target.where, f"DaemonSet: {key_of(item)}"), cause))
    return entries


def _daemon_set_cause(item: DaemonSet) -> str | None:
    status: Any = item.status
    wanted = status.desired_number_scheduled
    if status.observed_generation != item.metadata.generation:
        return "its controller has not seen its latest change yet"
    if status.updated_number_scheduled < wanted or status.number_ready < wanted:
        return f"{status.number_ready} of {wanted} pods are ready, {status.updated_number_scheduled} are up to date"
    return None
