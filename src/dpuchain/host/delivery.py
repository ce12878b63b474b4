"""The sets of one kind in one DPU cluster: written, taken back and removed there, whatever the other clusters do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.names import HOST_FIELD_OWNER
from dpuchain.chain.project import cluster_selector, is_from, is_ours, owner_conflict, selects
from dpuchain.chain.selectors import problem as selector_problem
from dpuchain.host.kinds import ProjectedKind
from dpuchain.host.members import Member
from dpuchain.kube.client import Client
from dpuchain.kube.errors import KubeError, NotFound
from dpuchain.kube.patches import needs_apply
from dpuchain.kube.writes import apply_with_namespace
from dpuchain.runtime import tracing
from dpuchain.runtime.errors import Unfinished
from dpuchain.runtime.host_objects import HostObjects
from dpuchain.runtime.tracing import Changes, Span

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What came of the last look at the set of the object with this uid: why it is not as it should be (None: it is, or will be), and
    whether the API server has said that there is none.
    """

    uid: str
    error: str | None = None
    gone: bool = False


@dataclass(frozen=True)
class Source:
    """Where the objects of the kind come from: the host cluster, by a client, by caches, and by its identity."""

    kind: ProjectedKind
    client: Client
    objects: HostObjects
    host: str
    changes: Changes = field(default_factory=lambda: Changes("change of", first=True))

    @property
    def cache(self) -> Any:
        """The objects of the kind."""
        return self.objects.chains if self.kind.resource is self.objects.chains.resource else self.objects.interfaces

    def wanted(self, item: Any) -> Any:
        """The set of an object, as it should be in each selected cluster."""
        return self.kind.project(item, self.host)


class Delivery:
    """Makes the sets of one cluster what `chain.project` wants. A cluster that answers slowly, or not at all, holds up nobody else."""

    def __init__(self, source: Source, member: Member, report: Callable[[ObjectKey], None]) -> None:
        """`report` is called with each object of which there is another outcome."""
        self.outcomes: dict[ObjectKey, Outcome] = {}
        self._source = source
        self._kind = source.kind
        self._member = member
        self._sets = source.kind.sets(member)
        self._report = report
        self._where = {tracing.CLUSTER: str(member.cluster)}

    @property
    def sets(self) -> tuple[ObjectKey, ...]:
        """Keys of all sets of the cluster, whoever made them."""
        return tuple(key_of(item) for item in self._sets)

    async def reconcile(self, key: ObjectKey) -> None:
        """Look at the set of one object. Nothing is done while the cluster cannot be read: who watches over it tells when that is over."""
        if self._member.problem is not None:
            return
        item = self._source.cache.get(key)
        if item is None:
            self.outcomes.pop(key, None)
            await self._remove_orphan(key)
            return
        outcome, again = await self._deliver(item)
        if self.outcomes.get(key) != outcome:
            self.outcomes[key] = outcome
            self._report(key)
        if again and outcome.error is not None:
            raise Unfinished(f"{self._member.cluster}: {outcome.error}")

    async def _deliver(self, item: Any) -> tuple[Outcome, bool]:
        """What came of it, and whether an error is worth another attempt though nothing changes."""
        wanted, uid = self._source.wanted(item), item.metadata.uid
        cluster = self._source.objects.clusters.get(self._member.cluster)
        selector = cluster_selector(item.spec)
        try:
            if item.metadata.deletion_timestamp is not None:
                return await self._end(item, wanted), True
            if selector_problem(selector, "spec.dpuClusterSelector") is not None or cluster is None:
                return Outcome(uid), False  # nobody can have meant a selector that selects nothing: what is there stays
            if not selects(selector, cluster):
                live = self._ours(wanted)
                if live is not None:
                    await self._remove(live, self._source.changes.of(item))
                return Outcome(uid), True
            return await self._write(item, wanted)
        except KubeError as error:
            return Outcome(uid, str(error)), True

    async def _write(self, item: Any, wanted: Any) -> tuple[Outcome, bool]:
        """Make the set. An object without our finalizer gets none yet, as nobody would remove it."""
        uid, live = item.metadata.uid, self._sets.get(key_of(wanted))
        conflict = owner_conflict(live, wanted)
        if conflict is not None:
            return Outcome(uid, f"{self._kind.set.kind} {conflict}"), False
        leaving = live is not None and live.metadata.deletion_timestamp is not None
        refused = self._kind.problem(item, self._source.objects.high_speed_mtu) is not None
        if not leaving and not refused and self._kind.finalizer in item.metadata.finalizers and needs_apply(wanted, live):
            apply = partial(apply_with_namespace, self._member.client, self._kind.set, field_owner=HOST_FIELD_OWNER)
            await tracing.written(self._source.changes.of(item), wanted, self._where, apply)
        return Outcome(uid), True

    def _ours(self, wanted: Any) -> Any:
        """The set if it is what `wanted` is the newest form of; None if there is none, or somebody else's."""
        live = self._sets.get(key_of(wanted))
        return live if live is not None and is_ours(live, wanted) else None

    async def _remove(self, live: Any, change: Span | None = None) -> None:
        """Have a set deleted."""
        if live.metadata.deletion_timestamp is not None:
            return
        try:
            with tracing.step(change, "delete", live, self._where):
                await self._member.client.delete(self._kind.set, key_of(live), uid=live.metadata.uid)
        except NotFound as error:
            _log.debug("not there to be deleted", set=str(key_of(live)), error=str(error))

    async def _end(self, item: Any, wanted: Any) -> Outcome:
        """Have the set of an object that is being deleted deleted.

        The API server has the last word on whether it is gone, since a cache may not show yet what we wrote a moment ago.
        """
        live, uid = self._ours(wanted), item.metadata.uid
        if live is None:
            try:
                live = await self._member.client.get(self._kind.set, key_of(wanted))
            except NotFound:
                return Outcome(uid, gone=True)
            if not is_ours(live, wanted):
                return Outcome(uid, gone=True)
        await self._remove(live, self._source.changes.of(item))
        return Outcome(uid)

    async def _remove_orphan(self, key: ObjectKey) -> None:
        """Delete the set of an object that is gone.

        There is one where a write of a controller that was killed arrived after its successor had looked, or where somebody took the
        finalizer off. The host's API server has the last word on whether the object is gone, since caches of two clusters are not of one
        moment.
        """
        live = self._sets.get(key)
        if live is None or not is_from(live, self._source.host):
            return
        try:
            await self._source.client.get(self._kind.resource, key)
        except NotFound:
            _log.info("removing what is left of an object that is gone", set=str(key), cluster=str(self._member.cluster))
        else:
            return  # the watch brings it
        await self._remove(live)
