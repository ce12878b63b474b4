"""The releases of a DPUService in one cluster: installed, changed, repaired and uninstalled, by Helm and by Helm's records."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterable
from typing import Any

import structlog

from dpuchain.api.kinds import DAEMON_SET, SECRET, SECRET_METADATA
from dpuchain.api.kubernetes import DaemonSet, Metadata, Secret
from dpuchain.api.meta import key_of
from dpuchain.api.service import DPUService
from dpuchain.chain.release import Release
from dpuchain.chain.status import Unready
from dpuchain.host.helm import Helm, HelmError
from dpuchain.host.repairs import LONGEST_PAUSE, Pace, fingerprint
from dpuchain.host.targets import MANAGED_BY_HELM, Target
from dpuchain.kube.errors import KubeError
from dpuchain.runtime.clock import Clock

DIGEST_LABEL = "dpuchain-digest"
"""On Helm's record of a release: what was installed. As long as it is what is wanted, Helm need not run."""
OWNER_LABEL = "dpuchain-owner"
"""On Helm's record of a release: uid of the DPUService that it is of."""
REVISION_LABEL = "dpuchain-revision"
"""On Helm's record of a release: the revision that we made. Helm copies labels to the revisions that others make."""
OBJECTS_LABEL = "dpuchain-objects"
"""On Helm's record of a release: what its DaemonSets were when Helm had run. As long as they are that, nobody has changed them."""
RELEASE_NAME, RELEASE_NAMESPACE = "meta.helm.sh/release-name", "meta.helm.sh/release-namespace"

_log = structlog.get_logger(__name__)


class Releases:
    """Makes the releases of services what they are to be. A failure is returned, as what is to be told of one cluster."""

    def __init__(self, helm: Helm, clock: Clock) -> None:
        self._helm = helm
        self._clock = clock
        self._pace = Pace()

    async def install(self, service: DPUService, release: Release, target: Target) -> Unready | None:
        """Have the release in one cluster as Helm made it, and no other of the service; returns why it is not so.

        Helm runs only if its record does not say that the release is there, or if what it made has changed since; and since a cache may
        not show yet what Helm did a moment ago, the API server is asked for both before.
        """
        renamed = [record for record in records_of(service, target.releases) if not _is_of(record, release)]
        known = _newest(target.releases, release)
        if not renamed and _is_installed(service, release, known) and _is_untouched(known, made_by(release, target.daemon_sets)):
            return None
        try:
            return await self.uninstall(target, renamed) or await self._make(service, release, target)
        except (HelmError, KubeError) as failure:
            return Unready((target.where,), str(failure))

    async def uninstall(self, target: Target, records: Iterable[Metadata]) -> Unready | None:
        """Uninstall the releases that the records are of; returns why that was not possible."""
        for namespace, name in sorted({(record.metadata.namespace, record.metadata.labels["name"]) for record in records}):
            try:
                await self._helm.uninstall(target.access, namespace, name)
            except HelmError as failure:
                return Unready((target.where, f"Release: {namespace}/{name}"), str(failure))
            self._pace.forget((target.name, namespace, name))
        return None

    async def end(self, service: DPUService, target: Target) -> Unready | None:
        """Uninstall what the service has in a cluster, whatever its release was called; returns why that was not possible."""
        try:
            return await self.uninstall(target, await self._records(target, f"{OWNER_LABEL}={service.metadata.uid}"))
        except KubeError as failure:
            return Unready((target.where,), str(failure))

    async def _make(self, service: DPUService, release: Release, target: Target) -> Unready | None:
        """Run Helm if the API server says that this is needed, and nothing is in the way."""
        record = _newest(await self._records(target, f"name={release.name}"), release)
        if record is not None and record.metadata.labels.get(OWNER_LABEL) != service.metadata.uid:
            return Unready((target.where,), _whose(record, release))
        if record is not None and _is_in_other_hands(record):
            return Unready((target.where,), _hands_off(record, release))
        if _is_installed(service, release, record):
            made = await self._made(release, target)
            if _is_untouched(record, made):
                return None
            obstacle = self._repair(release, target, made)
            if obstacle is not None:
                return Unready((target.where, f"Release: {release.namespace}/{release.name}"), obstacle)
        revision = await self._clear(target, record) + 1
        labels = {DIGEST_LABEL: release.digest, OWNER_LABEL: service.metadata.uid, REVISION_LABEL: str(revision)}
        await self._helm.install(target.access, release, labels)
        return await self._mark(release, target)

    def _repair(self, release: Release, target: Target, made: Iterable[DaemonSet]) -> str | None:
        """Whether to run Helm again for what somebody else changed; returns why not now."""
        if any(item.metadata.deletion_timestamp is not None for item in made):
            return "its DaemonSet is being deleted by somebody else; it is made again when it is gone"
        key, now = (target.name, release.namespace, release.name), self._clock.monotonic()
        if self._pace.pause(key, now) > 0:
            return (
                "somebody else changes or deletes its DaemonSet again and again: it is put right ever more slowly, in the end every "
                f"{LONGEST_PAUSE:.0f} s; find out who does it (another controller, a script) and stop it"
            )
        self._pace.repaired(key, now)
        _log.warning("somebody changed what a release made", cluster=target.name, release=f"{release.namespace}/{release.name}")
        return None

    async def _mark(self, release: Release, target: Target) -> Unready | None:
        """Note on Helm's record what the release's DaemonSets are now; returns what is missing of them."""
        record = _newest(await self._records(target, f"name={release.name}"), release)
        if record is None:
            return Unready((target.where,), "somebody else uninstalled the release while it was installed")
        made = await self._made(release, target)
        if len(made) < _declared(await target.client.get(SECRET, key_of(record))):
            return Unready((target.where,), "somebody else deleted the release's DaemonSet while it was installed")
        labels = {OBJECTS_LABEL: fingerprint(made)}
        await target.client.patch(SECRET_METADATA, key_of(record), {"metadata": {"uid": record.metadata.uid, "labels": labels}})
        return None

    async def _records(self, target: Target, selector: str) -> tuple[Metadata, ...]:
        """Helm's records as the API server has them now."""
        listing = await target.client.list(SECRET_METADATA, label_selector=f"owner=helm,{selector}", metadata_only=True)
        return listing.items

    async def _made(self, release: Release, target: Target) -> list[DaemonSet]:
        """The DaemonSets of a release as the API server has them now."""
        return made_by(release, (await target.client.list(DAEMON_SET, label_selector=MANAGED_BY_HELM)).items)

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


def made_by(release: Release, daemon_sets: Iterable[DaemonSet]) -> list[DaemonSet]:
    """Those of the DaemonSets that the release made."""
    mark = {RELEASE_NAME: release.name, RELEASE_NAMESPACE: release.namespace}
    return [item for item in daemon_sets if mark.items() <= item.metadata.annotations.items()]


def _declared(record: Secret) -> int:
    """How many DaemonSets the release has by the manifest in Helm's record."""
    content: dict[str, str] = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(record.data["release"]))))
    return len(re.findall(r"^kind: *DaemonSet *$", content["manifest"], re.MULTILINE))


def _is_untouched(record: Metadata | None, made: Iterable[DaemonSet]) -> bool:
    """Whether the DaemonSets are what they were when Helm had run."""
    return record is not None and record.metadata.labels.get(OBJECTS_LABEL) == fingerprint(made)


def records_of(service: DPUService, records: Iterable[Metadata]) -> list[Metadata]:
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


def unready_in(release: Release, target: Target) -> list[Unready]:
    """What of a release does not work in a cluster: each DaemonSet that has not all its pods, or that there is none."""
    mine = made_by(release, target.daemon_sets)
    if not mine:
        return [Unready((target.where, f"Release: {release.namespace}/{release.name}"), "it has no DaemonSet yet")]
    entries = []
    for item in sorted(mine, key=key_of):
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
