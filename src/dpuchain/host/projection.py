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
from dpuchain.chain.project import cluster_selector, is_ours, owner_conflict, selects
from dpuchain.chain.selectors import problem as selector_problem
from dpuchain.chain.status import InCluster, Unready, awaiting, cause_of, summarize_clusters
from dpuchain.host.kinds import ProjectedKind
from dpuchain.host.members import Member, Members
from dpuchain.host.world import HostObjects
from dpuchain.kube.client import Client
from dpuchain.kube.errors import AlreadyExists, Conflict, KubeError, NotFound
from dpuchain.kube.patches import needs_apply
from dpuchain.kube.writes import StatusReporter, add_finalizer, remove_finalizer
from dpuchain.runtime.clock import Clock
from dpuchain.runtime.errors import Unfinished

_log = structlog.get_logger(__name__)


class Projection:
    """Makes the sets of an object what `chain.project` wants, and the object's status what they say."""

    def __init__(self, kind: ProjectedKind, client: Client, objects: HostObjects, members: Members, clock: Clock) -> None:
        self._kind = kind
        self._client = client
        self._objects = objects
        self._members = members
        self._clock = clock
        self._cache: Any = objects.chains if kind.resource is objects.chains.resource else objects.interfaces
        self._reporter: StatusReporter[Any] = StatusReporter(client, kind.resource, HOST_FIELD_OWNER)

    async def reconcile(self, key: ObjectKey) -> None:
        """Look at one object. That it vanishes meanwhile is no error: the watch brings it."""
        item = self._cache.get(key)
        if item is None:
            self._reporter.forget(key)
            return
        try:
            if item.metadata.deletion_timestamp is not None:
                await self._end(item)
            else:
                item = await add_finalizer(self._client, self._kind.resource, item, self._kind.finalizer)
                await self._carry_out(item)
        except NotFound as error:
            _log.debug("the object vanished meanwhile", object=str(key), error=str(error))

    async def _carry_out(self, item: Any) -> None:
        wanted = self._kind.project(item)
        problem = self._problem(item)
        stale: list[ObjectKey] = []
        work: list[Awaitable[InCluster | None]] = []
        for cluster, member, trouble in self._members:
            if selects(item.spec, cluster):
                work.append(self._write(wanted, key_of(cluster), member, trouble, write=problem is None))
            elif member is not None and self._ours(item, member) is not None:
                stale.append(key_of(cluster))
                work.append(self._remove(item, member))
        outcomes = await asyncio.gather(*work)
        selected = [outcome for outcome in outcomes if isinstance(outcome, InCluster)]
        findings = summarize_clusters(self._kind.reconciled, self._kind.ready, selected, stale, problem)
        await self._reporter.report(item, findings, self._clock.now())
        failed = [f"{entry.cluster}: {entry.error}" for entry in selected if entry.error is not None]
        if failed and problem is None:
            raise Unfinished("; ".join(failed))

    def _problem(self, item: Any) -> str | None:
        """What is wrong with the object itself."""
        wrong = selector_problem(cluster_selector(item.spec), "spec.dpuClusterSelector")
        return wrong or self._kind.problem(item, self._objects.high_speed_mtu)

    async def _write(self, wanted: Any, cluster: ObjectKey, member: Member | None, trouble: str | None, *, write: bool) -> InCluster:
        """Make the set in one cluster; a failure is this cluster's and nobody else's."""
        key = key_of(wanted)
        if member is None or trouble is not None:
            return InCluster(cluster, key, f"DPUCluster {cluster} {trouble}", None, up_to_date=False)
        live = self._kind.sets(member).get(key)
        conflict = owner_conflict(live, wanted)
        if conflict is not None:
            return InCluster(cluster, key, f"{self._kind.set.kind} {conflict}", None, up_to_date=False)
        if live is not None and live.metadata.deletion_timestamp is not None:
            return InCluster(cluster, key, None, "is being deleted; it is made again when it is gone", up_to_date=False)
        if write and needs_apply(wanted, live):
            try:
                live = await self._apply(wanted, member)
            except KubeError as error:
                return InCluster(cluster, key, str(error), None, up_to_date=False)
        up_to_date = not needs_apply(wanted, live)
        cause = "not created yet" if live is None else cause_of(live, live.status.conditions)
        return InCluster(cluster, key, None, cause, up_to_date)

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

    def _ours(self, item: Any, member: Member) -> Any:
        """The set in a cluster if it was made from `item`; None if there is none, or somebody else's."""
        live = self._kind.sets(member).get(key_of(item))
        return live if live is not None and is_ours(live, item.metadata.uid) else None

    async def _remove(self, item: Any, member: Member) -> None:
        live = self._ours(item, member)
        if live is None or live.metadata.deletion_timestamp is not None:
            return
        try:
            await member.client.delete(self._kind.set, key_of(live), uid=live.metadata.uid)
        except (NotFound, Conflict) as error:
            _log.debug("not there to be deleted", set=str(key_of(live)), error=str(error))
        except KubeError as error:
            raise Unfinished(f"{member.cluster}: {error}") from error

    async def _end(self, item: Any) -> None:
        """Delete the sets of an object that is being deleted, and let it go when they are gone from every cluster that exists."""
        remaining: list[Unready] = []
        work = []
        for cluster, member, trouble in self._members:
            live = self._ours(item, member) if member is not None else None
            if trouble is not None:
                remaining.append(Unready((f"Cluster: {key_of(cluster)}",), f"{trouble}; delete the DPUCluster if it is gone for good"))
            elif live is not None and member is not None:
                remaining.append(Unready((f"Cluster: {key_of(cluster)}", f"Object: {key_of(live)}"), ""))
                work.append(self._remove(item, member))
        if not remaining:
            await remove_finalizer(self._client, self._kind.resource, item, self._kind.finalizer)
            return
        await self._reporter.report(item, awaiting((self._kind.reconciled, self._kind.ready), remaining), self._clock.now())
        await asyncio.gather(*work)
