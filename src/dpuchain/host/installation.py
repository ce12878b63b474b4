"""The loop of our own release in each DPU cluster: installed, upgraded and rolled back as `chain.installation` decides.

All that is known of it is Helm's record in the DPU cluster, of which there is a watch; nothing is asked for at rest.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import structlog
import yaml

from dpuchain.api.fleet import DPUCluster
from dpuchain.api.kinds import DPU_CLUSTER, SECRET, SECRET_METADATA
from dpuchain.api.kubernetes import Metadata
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.names import HOST_FIELD_OWNER, OPERATOR_NAMESPACE
from dpuchain.chain.installation import RELEASE, Decision, Package, Reason, Standing, decide
from dpuchain.host.helm import Helm, HelmError
from dpuchain.host.members import Member
from dpuchain.host.releases import DIGEST_LABEL, HOST_LABEL, REVISION_LABEL
from dpuchain.kube.cache import Cache, Change
from dpuchain.kube.client import Client
from dpuchain.kube.events import EventRecorder
from dpuchain.runtime.clock import Clock
from dpuchain.runtime.controller import Controller
from dpuchain.runtime.errors import Unfinished

VERSION_LABEL = "dpuchain-version"
"""On Helm's record of our own release: the version of the chart."""
READ_SECONDS = 30.0
"""How long kinds that have just been defined are waited for."""

_log = structlog.get_logger(__name__)


def package(folder: Path, values: Path | None) -> Package:
    """The chart in a folder, with the values in a file of YAML. ValueError if either cannot be used."""
    try:
        chart = yaml.safe_load((folder / "Chart.yaml").read_text())
        version = str(chart["version"])
        content = sorted((str(path.relative_to(folder)), path.read_text()) for path in _files(folder))
        chosen: Any = (yaml.safe_load(values.read_text()) if values is not None else None) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ValueError(f"the chart of DPU clusters in {folder}, or its values, cannot be used: {error}") from error
    if not isinstance(chosen, dict):
        raise ValueError(f"{values} is not a mapping of values")  # noqa: TRY004 - what a file holds is no type of ours
    digest = hashlib.sha256(json.dumps([content, chosen], sort_keys=True).encode()).hexdigest()[:40]
    return Package(str(folder.resolve()), version, digest, chosen)


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder, those in linked folders too, which rglob leaves out."""
    for path in folder.iterdir():
        yield from _files(path) if path.is_dir() else [path]


class InstallationLoop:
    """Makes the release in every DPU cluster what `wanted` is. What happens to it is told in Events of the DPUCluster."""

    def __init__(self, client: Client, clusters: Cache[DPUCluster], helm: Helm, wanted: Package, host: str, clock: Clock) -> None:
        """`host` is the identity of the host cluster."""
        self._clusters = clusters
        self._helm = helm
        self._wanted = wanted
        self._host = host
        self._clock = clock
        self._events = EventRecorder(client, HOST_FIELD_OWNER)
        self._in: dict[ObjectKey, Controller[ObjectKey]] = {}
        self._told: dict[ObjectKey, str] = {}
        """What was last told of each cluster."""

    def joined(self, member: Member) -> None:
        """A DPU cluster can be spoken to."""
        name = f"installation in {member.cluster}"
        controller: Controller[ObjectKey] = Controller(name, lambda _: self._reconcile(member), clock=self._clock)
        self._in[member.cluster] = controller
        member.runners.append(controller)

        def changed(change: Change[Metadata]) -> None:
            if any(item is not None and item.metadata.labels.get("name") == RELEASE for item in (change.old, change.new)):
                controller.enqueue(member.cluster)

        member.releases.subscribe(changed)
        controller.enqueue(member.cluster)

    def cluster_changed(self, before: DPUCluster | None, after: DPUCluster | None) -> None:
        """A DPUCluster came, went or changed."""
        if after is None and before is not None:
            self._told.pop(key_of(before), None)
        elif after is not None and key_of(after) in self._in:
            self._in[key_of(after)].enqueue(key_of(after))

    async def _reconcile(self, member: Member) -> None:
        """Look at one cluster. Our own kinds need not be there yet, so nothing but Helm's records must be known."""
        await member.releases.synced()
        cluster = self._clusters.get(member.cluster)
        if cluster is None:
            return
        decision = decide(cluster, self._wanted, standing(member.releases), self._host)
        if decision is not None and decision.run:  # the cache may not show yet what Helm did a moment ago
            records = await records_in(member.client)
            decision = decide(cluster, self._wanted, standing(records), self._host)
            if decision is not None and decision.run:
                await self._carry_out(cluster, member, decision, records)
                return
        if decision is not None:
            await self._tell(cluster, decision.reason, decision.message)

    async def _carry_out(self, cluster: DPUCluster, member: Member, decision: Decision, records: Iterable[Metadata]) -> None:
        record = newest(records)
        revision = int(record.metadata.labels["version"]) if record is not None else 0
        try:
            if record is not None and record.metadata.labels.get("status") == "uninstalling":
                await self._helm.uninstall(member.access, OPERATOR_NAMESPACE, RELEASE)
                revision = 0
            elif record is not None and decision.interrupted:  # Helm takes it for a run that is not over
                await member.client.delete(SECRET, key_of(record), uid=record.metadata.uid)
                revision -= 1
            labels = {DIGEST_LABEL: self._wanted.digest, VERSION_LABEL: label(self._wanted.version), HOST_LABEL: self._host}
            await self._helm.install(member.access, self._wanted.release, {**labels, REVISION_LABEL: str(revision + 1)})
        except HelmError as error:
            await self._tell(cluster, "NotInstalled", f"chart {RELEASE} {self._wanted.version}: {error}")
            raise Unfinished(f"{member.cluster}: {error}") from error
        await self._tell(cluster, decision.reason, decision.message)
        fresh = [cache for cache in member.caches if cache.failing is not None]
        async with asyncio.timeout(READ_SECONDS):  # rather than when they would try again by themselves
            await asyncio.gather(*(cache.relist() for cache in fresh))

    async def _tell(self, cluster: DPUCluster, reason: Reason, message: str) -> None:
        """Write an Event, unless the last one said the same."""
        key, text = key_of(cluster), f"{reason}: {message}"
        if self._told.get(key) == text:
            return
        self._told[key] = text
        trouble = reason == "NotInstalled"
        (_log.warning if trouble else _log.info)("release of a DPU cluster", cluster=str(key), outcome=reason, message=message)
        await self._events.record(DPU_CLUSTER, cluster, "Warning" if trouble else "Normal", reason, message, self._clock.now())


async def records_in(client: Client) -> tuple[Metadata, ...]:
    """Helm's records of our release in a DPU cluster, as the API server has them now."""
    selector = f"owner=helm,name={RELEASE}"
    return (await client.list(SECRET_METADATA, namespace=OPERATOR_NAMESPACE, label_selector=selector, metadata_only=True)).items


def newest(records: Iterable[Metadata]) -> Metadata | None:
    """Helm's record of the newest revision of our release; None if there is no such release."""
    ours = (r for r in records if r.metadata.namespace == OPERATOR_NAMESPACE and r.metadata.labels.get("name") == RELEASE)
    return max(ours, key=lambda record: int(record.metadata.labels.get("version", "0")), default=None)


def standing(records: Iterable[Metadata]) -> Standing | None:
    """How our release stands; None if there is none."""
    record = newest(records)
    if record is None:
        return None
    labels = record.metadata.labels
    revision = labels.get("version", "0")
    return Standing(
        revision=int(revision),
        status=labels.get("status", ""),
        host=labels.get(HOST_LABEL, ""),
        version=labels.get(VERSION_LABEL, ""),
        digest=labels.get(DIGEST_LABEL, ""),
        made_by_us=labels.get(REVISION_LABEL) == revision,
    )


def label(version: str) -> str:
    """A version as a label value, which knows no plus sign."""
    return version.replace("+", "_")
