"""The loop of one kind of set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any

import structlog

from dpuchain.api.conditions import Finding
from dpuchain.api.kubernetes import Metadata
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.names import DPU_FIELD_OWNER
from dpuchain.chain.expand import set_of_child
from dpuchain.chain.selectors import problem as selector_problem
from dpuchain.chain.status import ON_AGENT, Unready, awaiting, summarize_set
from dpuchain.dpu.children import Children, Work
from dpuchain.dpu.kinds import AnyKind
from dpuchain.dpu.ledger import Ledger
from dpuchain.dpu.world import BY_NODE, BY_SET, ClusterObjects
from dpuchain.kube.bucket import TokenBuckets
from dpuchain.kube.cache import Change
from dpuchain.kube.client import Client
from dpuchain.kube.errors import Invalid, KubeError, NotFound
from dpuchain.kube.writes import StatusReporter, add_finalizer, remove_finalizer
from dpuchain.runtime import tracing
from dpuchain.runtime.clock import Clock
from dpuchain.runtime.convergence import Convergence
from dpuchain.runtime.fanout import FanOut
from dpuchain.runtime.metrics import WATCH_LAG
from dpuchain.runtime.tracing import Changes

BURST, PACE_SECONDS = 3, 1.0
"""Writes of a set's status while its objects change: a few at once, so that what a person waits for shows, then one a second."""

_log = structlog.get_logger(__name__)


class SetLoop:
    """Makes the children of a set what `chain.expand` wants, and the set's status what they say.

    What happens marks nodes of sets as not looked at (`subscribe`); a pass looks at these alone, and at all nodes of a set only when the
    set itself has changed or is new. So an event costs the same whatever the size of the fleet.
    """

    def __init__(
        self,
        kind: AnyKind,
        client: Client,
        objects: ClusterObjects,
        fan_out: FanOut,
        clock: Clock,
        further: Callable[[Any], Sequence[Finding]] = lambda _: (),
    ) -> None:
        """`further` tells what else is to be said about a set."""
        self._kind = kind
        self._client = client
        self._objects = objects
        self._fan_out = fan_out
        self._clock = clock
        self._further = further
        self._sets = kind.sets(objects)
        self._cache = kind.children(objects)
        self._children = Children(kind, objects)
        self._reporter: StatusReporter[Any] = StatusReporter(client, kind.resource, DPU_FIELD_OWNER)
        self._reports = TokenBuckets(BURST, PACE_SECONDS)
        self._lag = WATCH_LAG.labels(kind.child.kind)
        self._convergence = Convergence(kind.resource.kind, clock)
        self._changes = Changes("expand")
        self._ledgers: dict[ObjectKey, Ledger] = {}
        self._unseen: defaultdict[ObjectKey, set[str]] = defaultdict(set)
        """Nodes on which something has happened since a set was looked at."""
        self._leaving: set[str] = set()
        """UIDs of objects whose deletion the API server has taken and the cache does not show yet: that is not asked for twice."""
        self._look: Callable[[ObjectKey], None] = lambda _: None

    def subscribe(self, look: Callable[[ObjectKey], None]) -> None:
        """Call `look` with a set when it changes, or a child of it, or a node that it selects or selected, or its network."""
        self._look = look
        self._sets.subscribe(self._set_changed)
        self._cache.subscribe(self._child_changed)
        self._objects.nodes.subscribe(self._node_changed)
        self._objects.networks.subscribe(self._network_changed)

    def _set_changed(self, change: Change[Any]) -> None:
        old, new = change.old, change.new
        if old is None or new is None or (old.metadata.uid, old.spec) != (new.metadata.uid, new.spec):
            self._ledgers.pop(change.key, None)
        self._look(change.key)

    def _child_changed(self, change: Change[Any]) -> None:
        old, new = change.old, change.new
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid or new.metadata.deletion_timestamp is not None):
            self._leaving.discard(old.metadata.uid)
        for child in (old, new):
            key = set_of_child(child) if child is not None else None
            if child is None or key is None:
                continue
            ledger = self._ledgers.get(key)
            if ledger is not None and new is None:
                ledger.gone(child)
            elif ledger is not None and child is not old and (lag := ledger.seen(child, self._clock.monotonic())) is not None:
                self._lag.observe(lag)
            home = ledger.homes.get(child.metadata.name) if ledger is not None else None
            self._unseen[key] |= {child.spec.node or "", *([home] if home is not None else [])}
            self._look(key)

    def _node_changed(self, change: Change[Metadata]) -> None:
        """A heartbeat concerns no set; a label those that select the node now and did not, or the other way round."""
        old, new = (item if item is not None and item.metadata.deletion_timestamp is None else None for item in (change.old, change.new))
        name = change.key.name
        found: set[ObjectKey] = set()
        if old is None or new is None or old.metadata.labels != new.metadata.labels:
            for item in self._sets:
                maker = self._kind.maker(item) if key_of(item) not in self._ledgers else self._ledgers[key_of(item)].maker
                if (old is not None and maker.selects(old)) != (new is not None and maker.selects(new)):
                    found.add(key_of(item))
        if change.new is None:  # children that wait for its agent must be freed
            found |= {key for child in self._cache.by_index(BY_NODE, name) if (key := set_of_child(child)) is not None}
        for key in found:
            self._unseen[key].add(name)
            self._look(key)

    def _network_changed(self, change: Change[Metadata]) -> None:
        if change.old is None or change.new is None:
            for item in self._sets:
                if getattr(item.spec.template.spec, "service", None) is not None:
                    self._look(key_of(item))

    async def reconcile(self, key: ObjectKey) -> float | None:
        """Look at one set; returns the seconds until its status is due. That it vanishes meanwhile is no error: the watch brings it."""
        parent = self._sets.get(key)
        try:
            if parent is None:
                self._forget(key)
                await self._remove_orphans(key)
            elif parent.metadata.deletion_timestamp is not None:
                return await self._end(parent)
            else:
                parent = await add_finalizer(self._client, self._kind.resource, parent, self._kind.finalizer)
                with self._changes.work([parent]):
                    return await self._carry_out(parent)
        except NotFound:
            _log.debug("the set vanished meanwhile", set=str(key))
        return None

    def _forget(self, key: ObjectKey) -> None:
        self._ledgers.pop(key, None)
        self._unseen.pop(key, None)
        self._reporter.forget(key)
        self._reports.forget(key)
        self._convergence.forget(key)
        self._changes.forget(self._kind.resource.kind, *key)

    async def _carry_out(self, parent: Any) -> float | None:
        key = key_of(parent)
        unseen = self._unseen.pop(key, set())
        ledger = self._ledgers.get(key)
        if ledger is None:
            ledger = self._ledgers[key] = Ledger(self._kind.maker(parent))
            unseen = self._children.places(key)
        try:
            errors = await self._write(parent, ledger, self._children.look(ledger, unseen))
        except BaseException:
            self._ledgers.pop(key, None)  # what of it was carried out is not known
            raise
        delay = await self._report(parent, ledger)
        _raise_first(errors)
        return delay

    async def _write(self, parent: Any, ledger: Ledger, work: Work) -> list[KubeError]:
        """Do the writes of a pass and look again at their nodes; returns the errors after which the nodes are to be looked at again."""
        key, change = ledger.maker.parent, self._changes.of(parent)

        def still_wanted() -> bool:
            return self._ledgers.get(key) is ledger

        async def apply(child: Any) -> None:
            """Nothing if the set has changed meanwhile."""
            if still_wanted():
                write = partial(self._client.apply, self._kind.child, field_owner=DPU_FIELD_OWNER)
                item = await tracing.written(change, child, {tracing.NODE: child.spec.node}, write)
                if not ledger.wrote(item, self._cache.get(key_of(item)), self._clock.monotonic()):
                    self._lag.observe(0.0)

        writes: list[tuple[str, Callable[[], Awaitable[Any]]]] = []
        writes += [(node, partial(apply, child)) for node, child in work.apply]
        writes += [(node, partial(self._delete, child)) for node, child in work.delete if not self._is_leaving(child)]
        writes += [(node, partial(self._free, child)) for node, child in work.free]
        if not writes:
            return []
        outcomes = await self._fan_out.run_all(key, [write for _, write in writes], urgent=_is_news(parent))
        failed: list[KubeError] = []
        for (node, _), outcome in zip(writes, outcomes, strict=True):
            if isinstance(outcome, Invalid):
                ledger.refused[node] = str(outcome)
            elif isinstance(outcome, KubeError):
                failed.append(outcome)
                self._unseen[key].add(node)
        self._children.note(ledger, {node for node, _ in work.apply})
        return failed

    async def _report(self, parent: Any, ledger: Ledger) -> float | None:
        """Write the set's status, or say after how many seconds it is due. What is settled is told at once."""
        key, tally, now = key_of(parent), ledger.tally, self._clock.monotonic()
        self._convergence.saw(parent, parent.status.observed_generation, ready=tally.complete)
        if not tally.complete and (wait := self._reports.wait(key, now)) > 0:
            return wait
        problem = self._problem(parent) or next(iter(ledger.refused.values()), None)
        summary = summarize_set(self._kind.reconciled, self._kind.ready, tally, problem=problem, further=self._further(parent))
        counters = {"number_applied": summary.number_applied, "number_ready": summary.number_ready}
        report = self._reporter.report(parent, summary.findings, self._clock.now(), **counters)
        if await tracing.reported(self._changes.of(parent), parent, report, ready=tally.complete):
            self._reports.take(key, now)
        if tally.complete:
            self._changes.settled(parent)
        return None

    def _problem(self, parent: Any) -> str | None:
        """What is wrong with the set itself."""
        wrong = selector_problem(parent.spec.node_selector, "spec.nodeSelector")
        service = getattr(parent.spec.template.spec, "service", None)
        return wrong if wrong is not None or service is None else self._network_problem(parent, service.network)

    def _network_problem(self, parent: Any, reference: str) -> str | None:
        """Why no pod can be given an interface on this network; None if that cannot be told, or if nothing is wrong."""
        networks = self._objects.networks
        namespace, _, name = reference.rpartition("/")
        key = ObjectKey(namespace or parent.metadata.namespace, name)
        if networks.failing is not None and isinstance(networks.failing.error, NotFound):
            return f"NetworkAttachmentDefinition {key}: this cluster has no such kind; install Multus and its definition"
        if networks.is_synced and networks.get(key) is None:
            return f"NetworkAttachmentDefinition {key} does not exist: create it, or name another in spec.template.spec.service.network"
        return None

    async def _end(self, parent: Any) -> float | None:
        """Delete the children of a set that is being deleted, and let it go when they are gone."""
        key = key_of(parent)
        self._ledgers.pop(key, None)
        children = self._cache.by_index(BY_SET, key)
        if not children:
            await self._let_go(self._kind.resource, parent, self._kind.finalizer)
            return None
        errors = await self._delete_all(key, children)
        now = self._clock.monotonic()
        wait = self._reports.wait(key, now)
        if not wait:
            remaining = [Unready((f"Object: {key_of(child)}", f"Node: {child.spec.node}"), ON_AGENT) for child in children]
            if await self._reporter.report(parent, awaiting((self._kind.reconciled, self._kind.ready), remaining), self._clock.now()):
                self._reports.take(key, now)
        _raise_first(errors)
        return wait or None

    async def _remove_orphans(self, key: ObjectKey) -> None:
        """Delete the children of a set that is gone.

        The API server has the last word on that, since the cache of sets may be behind that of children. A set that is there and cannot
        be read is not gone: asking for it raises Invalid.
        """
        children = self._cache.by_index(BY_SET, key)
        if not children:
            return
        try:
            await self._client.get(self._kind.resource, key)
        except NotFound:
            pass
        else:
            return  # the watch brings it
        _log.info("removing what belongs to no set any more", set=str(key), objects=[str(key_of(child)) for child in children])
        _raise_first(await self._delete_all(key, children))

    async def _delete_all(self, key: ObjectKey, children: Iterable[Any]) -> list[KubeError]:
        """Delete those that are not on their way out, and free those whose node is gone; gives the errors."""
        writes: list[Callable[[], Awaitable[Any]]] = []
        for child in children:
            if not self._is_leaving(child):
                writes.append(partial(self._delete, child))
            elif child.metadata.deletion_timestamp is not None and self._children.is_abandoned(child):
                writes.append(partial(self._free, child))
        outcomes = await self._fan_out.run_all(key, writes, urgent=True)
        return [outcome for outcome in outcomes if isinstance(outcome, KubeError)]

    async def _free(self, child: Any) -> None:
        """Take the agent's finalizer off a child that waits for an agent whose node is gone."""
        await self._let_go(self._kind.child, child, self._kind.child_finalizer)

    async def _let_go(self, resource: Any, item: Any, finalizer: str) -> None:
        try:
            await remove_finalizer(self._client, resource, item, finalizer)
        except NotFound as error:
            _log.debug("finalizer not removed", object=str(key_of(item)), error=str(error))

    async def _delete(self, child: Any) -> None:
        try:
            await self._client.delete(self._kind.child, key_of(child), uid=child.metadata.uid)
        except NotFound as error:
            _log.debug("not there to be deleted", object=str(key_of(child)), error=str(error))
            return
        cached = self._cache.get(key_of(child))
        if cached is not None and cached.metadata.uid == child.metadata.uid and cached.metadata.deletion_timestamp is None:
            self._leaving.add(child.metadata.uid)

    def _is_leaving(self, child: Any) -> bool:
        """Whether a child is being deleted, as the cache shows it or as the API server has answered us since."""
        return child.metadata.deletion_timestamp is not None or child.metadata.uid in self._leaving


def _is_news(parent: Any) -> bool:
    """Whether somebody has changed the set since its status was told: then a person waits for what is written."""
    return bool(parent.status.observed_generation != parent.metadata.generation)


def _raise_first(errors: Sequence[KubeError]) -> None:
    if errors:
        raise errors[0]
