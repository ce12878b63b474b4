"""What releases made in a cluster, kind by kind, known by who set its fields: so it is seen whenever somebody changes or deletes it.

Kubernetes notes for each field of an object who set it last. What Helm has set is Helm's; what somebody changes or takes out is no longer.
Status, and what others add beside, is theirs from the beginning and changes nothing of that.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeAlias

import msgspec
import structlog

from dpuchain.api.kinds import DAEMON_SET
from dpuchain.api.kubernetes import DaemonSet, Managed, Metadata
from dpuchain.api.meta import Object, key_of
from dpuchain.api.resource import Resource
from dpuchain.chain.release import Release
from dpuchain.host.helm import FIELD_MANAGER
from dpuchain.kube.cache import Cache, Change
from dpuchain.kube.client import Client
from dpuchain.kube.errors import Denied, Invalid, NotFound

MADE_ANNOTATION = "dpuchain.dpu.nvidia.com/made"
"""On Helm's record of a release: the traces of what the release made, as they were when Helm had run."""
RELEASE_NAME, RELEASE_NAMESPACE = "meta.helm.sh/release-name", "meta.helm.sh/release-namespace"
MANAGED_BY_HELM = "app.kubernetes.io/managed-by=Helm"
MOST_KINDS = 24
"""Kinds of a cluster that are followed: each is a connection that stays open."""
NEVER_AGAIN = frozenset({"batch/v1/jobs"})
"""Kinds of what is done once: a job that somebody deletes, such as Kubernetes itself when its time is over, is not to run again."""
KIND = re.compile(r"(?:[a-z0-9.-]+/)?v[a-z0-9]+/[a-z0-9-]+")

Traces: TypeAlias = Mapping[str, Mapping[str, str]]
"""Of each kind (as `apps/v1/daemonsets`) the objects (as `namespace/name`) with what tells them from what others make of them.

The trace of an object that Helm is not known to have made so is empty.
"""

_log = structlog.get_logger(__name__)
_DECODER = msgspec.json.Decoder(dict[str, dict[str, str]])


def path_of(resource: Resource[Any]) -> str:
    """A kind as traces name it."""
    return f"{resource.api_version}/{resource.plural}"


def trace(item: Managed | DaemonSet) -> str:
    """What an object has only as long as nobody changes a field that Helm set, deletes it or makes it anew."""
    ours = sorted(bytes(entry.fields).decode() for entry in item.metadata.managed_fields if _is_helm(entry.manager, entry.subresource))
    facts = [item.metadata.uid, str(item.metadata.deletion_timestamp is not None), *ours]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]


def is_contested(item: Managed | DaemonSet, since: datetime | None) -> bool:
    """Whether both Helm and somebody else have set fields of the object since a moment: nobody can tell then whose word was the last.

    Moments are whole seconds, so what happened just before counts too.
    """
    lately = [entry for entry in item.metadata.managed_fields if entry.time is not None and (since is None or entry.time >= since)]
    by_helm = [_is_helm(entry.manager, entry.subresource) for entry in lately if not entry.subresource]
    return any(by_helm) and not all(by_helm)


def _is_helm(manager: str, subresource: str) -> bool:
    return manager == FIELD_MANAGER and not subresource


def traces_in(record: Metadata) -> Traces | None:
    """The traces on Helm's record; None if there are none, as after a Helm run whose end we did not see."""
    try:
        return _DECODER.decode(record.metadata.annotations.get(MADE_ANNOTATION, ""))
    except msgspec.MsgspecError:
        return None


def changed(traces: Traces, now: Traces) -> list[str]:
    """The objects of a release that are not what they were, with their kinds. Of a kind that is not in `now` nothing is known, nor told."""
    found = []
    for kind in traces.keys() & now.keys():
        before, seen = traces[kind], now[kind]
        found += [described(kind, name) for name in before.keys() | seen.keys() if not before.get(name) or before[name] != seen.get(name)]
    return sorted(found)


def described(kind: str, name: str) -> str:
    """An object of a kind, for a message."""
    return f"{kind.rpartition('/')[2]} {name}"


async def read(client: Client, release: Release, kinds: Iterable[str]) -> dict[str, dict[str, Managed]]:
    """What the release has of these kinds, by name, as the API server has it now; without the kinds that it does not let us read."""
    found: dict[str, dict[str, Managed]] = {}
    for kind in kinds:
        try:
            listing = await client.list(_resource(kind), label_selector=MANAGED_BY_HELM, metadata_only=True)
        except (Denied, Invalid, NotFound) as error:  # the cache of the kind says so aloud, and once
            _log.debug("cannot be read", kind=kind, server=client.server, error=str(error))
        else:
            found[kind] = {str(key_of(item)): item for item in listing.items if _release_of(item) == [_id(release)]}
    return found


def traces_of(made: Mapping[str, Mapping[str, Managed]]) -> dict[str, dict[str, str]]:
    """The traces of what was read."""
    return {kind: {name: trace(item) for name, item in items.items()} for kind, items in made.items()}


class Made:
    """What releases made in a cluster, as caches have it: DaemonSets, and every kind that the record of a release names.

    A kind once followed stays so.
    """

    def __init__(self, client: Client, releases: Cache[Metadata]) -> None:
        self.daemon_sets: Cache[DaemonSet] = Cache(client, DAEMON_SET, label_selector=MANAGED_BY_HELM)
        self.daemon_sets.index("release", _release_of)
        self._client = client
        self._releases = releases
        self._caches: dict[str, Cache[Any]] = {path_of(DAEMON_SET): self.daemon_sets}
        self._ignored: set[str] = set()
        self._changed: list[Callable[[Change[Any]], None]] = []
        self._read: list[Callable[[], None]] = []

    def subscribe(self, changed: Callable[[Change[Any]], None], read: Callable[[], None]) -> None:
        """Call `changed` with each object that is not what it was, a DaemonSet's status included; and `read` when all kinds that can be
        read have been, or others can be.
        """
        self.daemon_sets.subscribe(changed)
        self._changed.append(changed)
        self._read.append(read)

    async def run(self) -> None:
        """Follow the kinds that records name until cancelled. The DaemonSets' cache and the records' are run by others."""
        async with asyncio.TaskGroup() as group:
            self._releases.subscribe(lambda change: self._follow(change.new, group))
            await asyncio.Event().wait()

    def daemon_sets_of(self, release: Release) -> list[DaemonSet]:
        """The DaemonSets that the release made, ordered by key."""
        return self.daemon_sets.by_index("release", _id(release))

    def traces(self, release: Release) -> Traces:
        """The traces of what the release made, of all kinds that are known at present."""
        known = {kind: cache for kind, cache in self._caches.items() if cache.is_synced and cache.failing is None}
        return {kind: {str(key_of(item)): trace(item) for item in cache.by_index("release", _id(release))} for kind, cache in known.items()}

    def _follow(self, record: Metadata | None, group: asyncio.TaskGroup) -> None:
        """Follow the kinds of which a record, as it is now, has traces."""
        named = (traces_in(record) if record is not None else None) or {}
        for kind in sorted(named.keys() - self._caches.keys() - self._ignored):
            if len(self._caches) >= MOST_KINDS or not KIND.fullmatch(kind):
                self._ignored.add(kind)
                _log.warning(
                    "not followed: changes and deletions of it are not noticed", kind=kind, server=self._client.server, most=MOST_KINDS
                )
                continue
            cache = Cache(self._client, _resource(kind), label_selector=MANAGED_BY_HELM, metadata_only=True)
            cache.index("release", _release_of)
            cache.subscribe(self._tell)
            cache.subscribe_failing(self._tell_read)
            self._caches[kind] = cache
            group.create_task(cache.run())
            group.create_task(self._tell_when_read(cache))

    def _tell(self, change: Change[Managed]) -> None:
        if change.old is None or change.new is None or trace(change.old) != trace(change.new):
            for callback in self._changed:
                callback(change)

    async def _tell_when_read(self, cache: Cache[Any]) -> None:
        await cache.synced()
        self._tell_read()

    def _tell_read(self) -> None:
        if all(cache.is_synced or cache.failing is not None for cache in self._caches.values()):
            for callback in self._read:
                callback()


def _resource(kind: str) -> Resource[Managed]:
    api_version, _, plural = kind.rpartition("/")
    group, _, version = api_version.rpartition("/")
    return Resource(group, version, plural, plural, Managed)


def _id(release: Release) -> tuple[str, str]:
    return release.namespace, release.name


def _release_of(item: Object) -> list[tuple[str, str]]:
    """The release that made the object, as the only entry."""
    annotations = item.metadata.annotations
    return [(annotations.get(RELEASE_NAMESPACE, ""), annotations.get(RELEASE_NAME, ""))]
