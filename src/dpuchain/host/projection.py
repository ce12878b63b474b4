"""The loop of one kind that becomes sets: what is said of each object, and when it may go. The sets are made by `delivery`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import structlog

from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.names import HOST_FIELD_OWNER
from dpuchain.chain.fields import CLUSTER_SELECTOR
from dpuchain.chain.project import cluster_selector, is_ours, selects
from dpuchain.chain.selectors import problem as selector_problem
from dpuchain.chain.status import InCluster, Unready, awaiting, cause_of, summarize_clusters
from dpuchain.host.delivery import Delivery, Outcome, Source
from dpuchain.host.members import Member, Members
from dpuchain.kube.errors import NotFound
from dpuchain.kube.events import EventRecorder
from dpuchain.kube.patches import needs_apply
from dpuchain.kube.writes import StatusReporter, add_finalizer, remove_finalizer
from dpuchain.runtime import tracing
from dpuchain.runtime.clock import Clock
from dpuchain.runtime.convergence import Convergence

Remark: TypeAlias = Callable[[ObjectKey, Any], str | None]
"""What a set in a DPU cluster waits for, its own conditions aside; None if it waits for nothing."""

_log = structlog.get_logger(__name__)


def no_remark(_cluster: ObjectKey, _live: Any) -> None:
    """Of a kind whose sets wait for nothing."""


class Projection:
    """Brings back what became of an object in each DPU cluster, and lets it go when nothing of it is left in any."""

    def __init__(
        self, source: Source, members: Members, deliveries: Mapping[ObjectKey, Delivery], clock: Clock, remark: Remark = no_remark
    ) -> None:
        """`deliveries` are those to the connected clusters, by cluster."""
        self._source = source
        self._kind = source.kind
        self._members = members
        self._deliveries = deliveries
        self._clock = clock
        self._remark = remark
        self._reporter: StatusReporter[Any] = StatusReporter(source.client, source.kind.resource, HOST_FIELD_OWNER)
        self._events = EventRecorder(source.client, HOST_FIELD_OWNER)
        self._convergence = Convergence(source.kind.resource.kind, clock)
        self._changes = source.changes
        self._warned: dict[ObjectKey, str] = {}
        """The uids of the objects that were warned of the deprecated field."""

    async def reconcile(self, key: ObjectKey) -> None:
        """Look at one object. That it vanishes meanwhile is no error: the watch brings it."""
        item = self._source.cache.get(key)
        if item is None:
            self._reporter.forget(key)
            self._warned.pop(key, None)
            self._convergence.forget(key)
            self._changes.forget(self._kind.resource.kind, *key)
            return
        try:
            with self._changes.work([item]):
                await self._look(item)
        except NotFound as error:
            _log.debug("the object vanished meanwhile", object=str(key), error=str(error))

    async def _look(self, item: Any) -> None:
        if item.metadata.deletion_timestamp is not None:
            await self._end(item)
        else:
            item = await add_finalizer(self._source.client, self._kind.resource, item, self._kind.finalizer)
            await self._warn(item)
            await self._tell(item)

    async def _warn(self, item: Any) -> None:
        """Tell once of each object that has the deprecated field; a later process tells it in the same Event."""
        if item.spec.cluster_selector is not None and self._warned.get(key_of(item)) != item.metadata.uid:
            self._warned[key_of(item)] = item.metadata.uid
            await self._events.record(self._kind.resource, item, "Warning", "DeprecatedField", CLUSTER_SELECTOR, self._clock.now())

    async def _tell(self, item: Any) -> None:
        """Write what is the case in the clusters, once it is known of each whether it can be used."""
        if not self._members.settled:
            return
        selector = cluster_selector(item.spec)
        problem = selector_problem(selector, "spec.dpuClusterSelector")
        selected: list[InCluster] = []
        stale: list[ObjectKey] = []
        if problem is None:
            problem = self._kind.problem(item, self._source.objects.high_speed_mtu)
            for cluster, member, trouble in self._members:
                if selects(selector, cluster):
                    selected.append(self._in(key_of(cluster), member, trouble, item))
                elif member is not None and self._is_there(item, member):
                    stale.append(key_of(cluster))
        findings = summarize_clusters(self._kind.reconciled, self._kind.ready, selected, stale, problem)
        ready = all(finding.status == "True" for finding in findings)
        self._convergence.saw(item, item.status.observed_generation, ready=ready)
        report = self._reporter.report(item, findings, self._clock.now())
        await tracing.reported(self._changes.of(item), item, report, ready=ready)
        if ready:
            self._changes.settled(item)

    def _in(self, cluster: ObjectKey, member: Member | None, trouble: str | None, item: Any) -> InCluster:
        """How the object's set stands in a cluster."""
        key = key_of(item)
        if member is None or trouble is not None:
            return InCluster(cluster, key, f"DPUCluster {cluster} {trouble}", None, up_to_date=False)
        outcome = self._outcome(cluster, item)
        if outcome is not None and outcome.error is not None:
            return InCluster(cluster, key, outcome.error, None, up_to_date=False)
        live = self._kind.sets(member).get(key)
        if live is None:
            return InCluster(cluster, key, None, "not created yet", up_to_date=False)
        if live.metadata.deletion_timestamp is not None:
            return InCluster(cluster, key, None, "is being deleted; it is made again when it is gone", up_to_date=False)
        up_to_date = not needs_apply(self._source.wanted(item), live)
        causes = (cause_of(live, live.status.conditions), self._remark(cluster, live))
        return InCluster(cluster, key, None, "\n".join(filter(None, causes)) or None, up_to_date)

    def _outcome(self, cluster: ObjectKey, item: Any) -> Outcome | None:
        """What came of the last look at the object's set in a cluster; None if there was none yet."""
        delivery = self._deliveries.get(cluster)
        outcome = delivery.outcomes.get(key_of(item)) if delivery is not None else None
        return outcome if outcome is not None and outcome.uid == item.metadata.uid else None

    def _is_there(self, item: Any, member: Member) -> bool:
        live = self._kind.sets(member).get(key_of(item))
        return live is not None and is_ours(live, self._source.wanted(item))

    async def _end(self, item: Any) -> None:
        """Let an object that is being deleted go when its sets are gone from every cluster that exists."""
        remaining: list[Unready] = []
        for cluster, member, trouble in self._members:
            where = f"Cluster: {key_of(cluster)}"
            if member is None or trouble is not None:
                remaining.append(Unready((where,), f"{trouble}; delete the DPUCluster if it is gone for good"))
                continue
            outcome = self._outcome(key_of(cluster), item)
            if outcome is None or not outcome.gone:
                remaining.append(Unready((where, f"Object: {key_of(item)}"), (outcome.error if outcome is not None else None) or ""))
        if not remaining:
            await remove_finalizer(self._source.client, self._kind.resource, item, self._kind.finalizer)
        elif self._members.settled:
            findings = awaiting((self._kind.reconciled, self._kind.ready), remaining)
            report = self._reporter.report(item, findings, self._clock.now())
            await tracing.reported(self._changes.of(item), item, report, ready=False)
