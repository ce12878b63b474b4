"""The loop of one kind that becomes sets: the set of each object in each selected cluster, and the object's status."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import structlog

from dpuchain.api.kinds import NAMESPACE
from dpuchain.api.kubernetes import Metadata
from dpuchain.api.meta import ObjectKey, ObjectMeta, key_of
from dpuchain.api.names import HOST_FIELD_OWNER
from dpuchain.chain.project import cluster_selector, is_from, is_ours, owner_conflict, selects
from dpuchain.chain.selectors import problem as selector_problem
from dpuchain.chain.status import InCluster, Unready, awaiting, cause_of, summarize_clusters
from dpuchain.host.kinds import ProjectedKind
from dpuchain.host.members import Member, Members
from dpuchain.host.world import HostObjects
from dpuchain.kube.client import Client
from dpuchain.kube.errors import AlreadyExists, Conflict, KubeError, NotFound
from dpuchain.kube.events import EventRecorder
from dpuchain.kube.patches import needs_apply
from dpuchain.kube.writes import StatusReporter, add_finalizer, remove_finalizer
from dpuchain.runtime.clock import Clock
from dpuchain.runtime.errors import Unfinished

DEPRECATED = "spec.clusterSelector is deprecated: use spec.dpuClusterSelector, which wins where both are set"

_log = structlog.get_logger(__name__)


class Projection:
    """Makes the sets of an object what `chain.project` wants, and the object's status what they say."""

    def __init__(self, kind: ProjectedKind, client: Client, objects: HostObjects, members: Members, host: str, clock: Clock) -> None:
        """`host` is the identity of the host cluster."""
        self._kind = kind
        self._client = client
        self._objects = objects
        self._members = members
        self._clock = clock
        self._cache: Any = objects.chains if kind.resource is objects.chains.resource else objects.interfaces
        self._host = host
        self._reporter: StatusReporter[Any] = StatusReporter(client, kind.resource, HOST_FIELD_OWNER)
        self._events = EventRecorder(client, HOST_FIELD_OWNER)
        self._warned: dict[ObjectKey, str] = {}
        """The uids of the objects that were warned of the deprecated field."""

    async def reconcile(self, key: ObjectKey) -> None:
        """Look at one object. That it vanishes meanwhile is no error: the watch brings it."""
        item = self._cache.get(key)
        if item is None:
            self._reporter.forget(key)
            self._warned.pop(key, None)
            await self._remove_orphans(key)
            return
        try:
            if item.metadata.deletion_timestamp is not None:
                await self._end(item)
            else:
                item = await add_finalizer(self._client, self._kind.resource, item, self._kind.finalizer)
                await self._carry_out(item)
        except NotFound as error:
            _log.debug("the object vanished meanwhile", object=str(key), error=str(error))

    async def _warn(self, item: Any) -> None:
        """Tell once of each object that has the deprecated field; a later process tells it in the same Event."""
        if item.spec.cluster_selector is not None and self._warned.get(key_of(item)) != item.metadata.uid:
            self._warned[key_of(item)] = item.metadata.uid
            await self._events.record(self._kind.resource, item, "Warning", "DeprecatedField", DEPRECATED, self._clock.now())

    async def _carry_out(self, item: Any) -> None:
        await self._warn(item)
        wanted = self._kind.project(item, self._host)
        selector = cluster_selector(item.spec)
        impossible = selector_problem(selector, "spec.dpuClusterSelector")
        if impossible is not None:  # it selects nothing, which nobody can have meant: what is there stays
            findings = summarize_clusters(self._kind.reconciled, self._kind.ready, [], [], impossible)
            await self._reporter.report(item, findings, self._clock.now())
            return
        problem = self._kind.problem(item, self._objects.high_speed_mtu)
        settled = self._members.settled
        selected: list[InCluster] = []
        stale: list[ObjectKey] = []
        writes: list[Awaitable[InCluster]] = []
        removals: list[Awaitable[str | None]] = []
        for cluster, member, trouble in self._members:
            key = key_of(cluster)
            if selects(selector, cluster):
                if member is None or trouble is not None:
                    selected.append(InCluster(key, key_of(item), f"DPUCluster {key} {trouble}", None, up_to_date=False))
                else:
                    writes.append(self._write(wanted, member, write=problem is None))
            elif member is not None and (live := self._ours(wanted, member)) is not None:
                stale.append(key)
                removals.append(self._remove(live, member))
        written, removed = await asyncio.gather(asyncio.gather(*writes), asyncio.gather(*removals))
        findings = summarize_clusters(self._kind.reconciled, self._kind.ready, [*selected, *written], stale, problem)
        if settled:
            await self._reporter.report(item, findings, self._clock.now())
        failed = [f"{entry.cluster}: {entry.error}" for entry in written if entry.error is not None]
        failed += [failure for failure in removed if failure is not None]
        if failed:
            raise Unfinished("; ".join(failed))

    async def _write(self, wanted: Any, member: Member, *, write: bool) -> InCluster:
        """Make the set in one cluster; a failure is this cluster's and nobody else's."""
        key = key_of(wanted)
        live = self._kind.sets(member).get(key)
        conflict = owner_conflict(live, wanted)
        if conflict is not None:
            return InCluster(member.cluster, key, f"{self._kind.set.kind} {conflict}", None, up_to_date=False)
        if live is not None and live.metadata.deletion_timestamp is not None:
            return InCluster(member.cluster, key, None, "is being deleted; it is made again when it is gone", up_to_date=False)
        if write and needs_apply(wanted, live):
            try:
                live = await self._apply(wanted, member)
            except KubeError as error:
                return InCluster(member.cluster, key, str(error), None, up_to_date=False)
        up_to_date = not needs_apply(wanted, live)
        cause = "not created yet" if live is None else cause_of(live, live.status.conditions)
        return InCluster(member.cluster, key, None, cause, up_to_date)

    async def _apply(self, wanted: Any, member: Member) -> Any:
        """Apply the set, and make its namespace first if it is missing."""
        try:
            return await member.client.apply(self._kind.set, wanted, field_owner=HOST_FIELD_OWNER)
        except NotFound:
            namespace = Metadata(metadata=ObjectMeta(name=wanted.metadata.namespace))
            try:
                await member.client.create(NAMESPACE, namespace, field_owner=HOST_FIELD_OWNER)
            except AlreadyExists:
                _log.debug("somebody else made the namespace", namespace=namespace.metadata.name)
            return await member.client.apply(self._kind.set, wanted, field_owner=HOST_FIELD_OWNER)

    def _ours(self, wanted: Any, member: Member) -> Any:
        """The set in a cluster if it is what `wanted` is the newest form of; None if there is none, or somebody else's."""
        live = self._kind.sets(member).get(key_of(wanted))
        return live if live is not None and is_ours(live, wanted) else None

    async def _remove(self, live: Any, member: Member) -> str | None:
        """Have a set deleted; returns why that is not possible now."""
        if live.metadata.deletion_timestamp is not None:
            return None
        try:
            await member.client.delete(self._kind.set, key_of(live), uid=live.metadata.uid)
        except (NotFound, Conflict) as error:
            _log.debug("not there to be deleted", set=str(key_of(live)), error=str(error))
        except KubeError as error:
            return f"{member.cluster}: {error}"
        return None

    async def _remove_orphans(self, key: ObjectKey) -> None:
        """Delete the sets of an object that is gone.

        There are some where a write of a controller that was killed arrived after its successor had looked, or where somebody took the
        finalizer off. The API server has the last word on whether the object is gone, since the caches of clusters are not of one moment.
        """
        found = [(live, member) for member in self._members.connected if (live := self._kind.sets(member).get(key)) is not None]
        orphans = [(live, member) for live, member in found if is_from(live, self._host)]
        if not orphans:
            return
        try:
            await self._client.get(self._kind.resource, key)
        except NotFound:
            _log.info("removing what is left of an object that is gone", object=str(key), clusters=[str(m.cluster) for _, m in orphans])
        else:
            return  # the watch brings it
        failures = [failure for live, member in orphans if (failure := await self._remove(live, member)) is not None]
        if failures:
            raise Unfinished("; ".join(failures))

    async def _end(self, item: Any) -> None:
        """Delete the sets of an object that is being deleted, and let it go when they are gone from every cluster that exists."""
        settled = self._members.settled
        remaining: list[Unready] = []
        searches: list[Awaitable[tuple[Unready, str | None] | None]] = []
        for cluster, member, trouble in self._members:
            where = f"Cluster: {key_of(cluster)}"
            if member is None or trouble is not None:
                remaining.append(Unready((where,), f"{trouble}; delete the DPUCluster if it is gone for good"))
            else:
                searches.append(self._end_in(item, member))
        found = [outcome for outcome in await asyncio.gather(*searches) if outcome is not None]
        remaining += [unready for unready, _ in found]
        if not remaining:
            await remove_finalizer(self._client, self._kind.resource, item, self._kind.finalizer)
            return
        if settled:
            findings = awaiting((self._kind.reconciled, self._kind.ready), remaining)
            await self._reporter.report(item, findings, self._clock.now())
        failed = [failure for _, failure in found if failure is not None]
        if failed:
            raise Unfinished("; ".join(failed))

    async def _end_in(self, item: Any, member: Member) -> tuple[Unready, str | None] | None:
        """Have the set in one cluster deleted: the set, and why that is not possible now; None if there is no set any more.

        The API server has the last word on that, since a cache may not show yet what we wrote a moment ago.
        """
        where = (f"Cluster: {member.cluster}", f"Object: {key_of(item)}")
        wanted = self._kind.project(item, self._host)
        live = self._ours(wanted, member)
        if live is None:
            try:
                live = await member.client.get(self._kind.set, key_of(item))
            except NotFound:
                return None
            except KubeError as error:
                return Unready(where, str(error)), f"{member.cluster}: {error}"
            if not is_ours(live, wanted):
                return None
        return Unready(where, ""), await self._remove(live, member)
