"""The loop of one kind of set."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import structlog

from dpuchain.api.conditions import Finding
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.names import DPU_FIELD_OWNER
from dpuchain.chain.expand import Expansion
from dpuchain.chain.selectors import problem as selector_problem
from dpuchain.chain.status import Child, Unready, awaiting, summarize_set
from dpuchain.dpu.kinds import AnyKind
from dpuchain.dpu.world import BY_SET, ClusterObjects
from dpuchain.kube.client import Client
from dpuchain.kube.errors import Conflict, Invalid, KubeError, NotFound
from dpuchain.kube.patches import needs_apply
from dpuchain.kube.writes import StatusReporter, add_finalizer, remove_finalizer
from dpuchain.runtime.clock import Clock

WRITES_IN_FLIGHT = 32
"""Writes that one controller has under way at once; measured to be what an API server on two cores serves without queueing."""

ON_AGENT = "its agent has not removed it from the switch yet; if the node is gone for good, delete the Node"
"""What a child that is being deleted waits for."""

_log = structlog.get_logger(__name__)


class SetLoop:
    """Makes the children of a set what `chain.expand` wants, and the set's status what they say."""

    def __init__(
        self,
        kind: AnyKind,
        client: Client,
        objects: ClusterObjects,
        clock: Clock,
        further: Callable[[Any], Sequence[Finding]] = lambda _: (),
    ) -> None:
        """`further` tells what else is to be said about a set."""
        self._kind = kind
        self._client = client
        self._objects = objects
        self._clock = clock
        self._further = further
        self._sets = kind.sets(objects)
        self._children = kind.children(objects)
        self._reporter: StatusReporter[Any] = StatusReporter(client, kind.resource, DPU_FIELD_OWNER)
        self._in_flight = asyncio.Semaphore(WRITES_IN_FLIGHT)

    async def reconcile(self, key: ObjectKey) -> None:
        """Look at one set. That it vanishes meanwhile is no error: the watch brings it."""
        parent = self._sets.get(key)
        children = self._children.by_index(BY_SET, key)
        await self._free(children)
        if parent is None:
            self._reporter.forget(key)
            await self._remove_orphans(key, children)
        elif parent.metadata.deletion_timestamp is not None:
            await self._end(parent, children)
        else:
            try:
                parent = await add_finalizer(self._client, self._kind.resource, parent, self._kind.finalizer)
                await self._carry_out(parent, children)
            except NotFound:
                _log.debug("the set vanished meanwhile", set=str(key))

    async def _carry_out(self, parent: Any, children: Sequence[Any]) -> None:
        expansion = self._kind.expand(parent, self._objects.nodes, children)
        live = {child.metadata.name: child for child in children}
        stale = [child for child in expansion.wanted if self._to_be_applied(child, live.get(child.metadata.name))]
        removed = [child for child in expansion.surplus if child.metadata.deletion_timestamp is None]
        outcomes = await self._all([*map(self._apply, stale), *map(self._delete, removed)])
        applied = dict(zip((child.metadata.name for child in stale), outcomes, strict=False))
        errors = [outcome for outcome in outcomes if isinstance(outcome, KubeError)]
        live |= {name: written for name, written in applied.items() if not isinstance(written, KubeError)}
        refusals = [str(error) for error in errors if isinstance(error, Invalid)]
        problem = self._problem(parent) or next(iter(refusals), None)
        await self._report(parent, expansion, live, problem)
        again = [error for error in errors if not isinstance(error, Invalid)]
        if again:
            raise again[0]

    def _to_be_applied(self, wanted: Any, live: Any) -> bool:
        """Whether to write; one that is on its way out is waited for, since what is written to it goes with it."""
        return (live is None or live.metadata.deletion_timestamp is None) and needs_apply(wanted, live)

    async def _report(self, parent: Any, expansion: Expansion[Any], live: dict[str, Any], problem: str | None) -> None:
        children = []
        for wanted in expansion.wanted:
            there = live.get(wanted.metadata.name)
            if there is not None and there.metadata.deletion_timestamp is not None:
                there = None
            conditions = there.status.conditions if there is not None else ()
            children.append(Child(wanted, wanted.spec.node or "", not needs_apply(wanted, there), there, conditions))
        summary = summarize_set(
            self._kind.reconciled,
            self._kind.ready,
            children,
            surplus=len(expansion.surplus),
            problem=problem,
            further=self._further(parent),
        )
        await self._reporter.report(
            parent,
            summary.findings,
            self._clock.now(),
            number_applied=summary.number_applied,
            number_ready=summary.number_ready,
        )

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

    async def _end(self, parent: Any, children: Sequence[Any]) -> None:
        """Delete the children of a set that is being deleted, and let it go when they are gone."""
        if not children:
            await self._let_go(self._kind.resource, parent, self._kind.finalizer)
            return
        outcomes = await self._delete_all(children)
        remaining = [Unready((f"Object: {key_of(child)}", f"Node: {child.spec.node}"), ON_AGENT) for child in children]
        findings = awaiting((self._kind.reconciled, self._kind.ready), remaining)
        await self._reporter.report(parent, findings, self._clock.now())
        _raise_first(outcomes)

    async def _remove_orphans(self, key: ObjectKey, children: Sequence[Any]) -> None:
        """Delete the children of a set that is gone.

        The API server has the last word on that, since the cache of sets may be behind that of children. A set that is there and cannot
        be read is not gone: asking for it raises Invalid.
        """
        if not children:
            return
        try:
            await self._client.get(self._kind.resource, key)
        except NotFound:
            pass
        else:
            return  # the watch brings it
        _log.info("removing what belongs to no set any more", set=str(key), objects=[str(key_of(child)) for child in children])
        _raise_first(await self._delete_all(children))

    async def _delete_all(self, children: Sequence[Any]) -> list[Any]:
        """Delete those that are not on their way out; gives the outcomes."""
        return await self._all([self._delete(child) for child in children if child.metadata.deletion_timestamp is None])

    async def _free(self, children: Iterable[Any]) -> None:
        """Take the agent's finalizer off children that wait for an agent whose node is gone."""
        for child in children:
            if child.metadata.deletion_timestamp is not None and self._objects.nodes.get(ObjectKey("", child.spec.node or "")) is None:
                await self._let_go(self._kind.child, child, self._kind.child_finalizer)

    async def _let_go(self, resource: Any, item: Any, finalizer: str) -> None:
        try:
            await remove_finalizer(self._client, resource, item, finalizer)
        except (NotFound, Conflict) as error:  # it is gone, or the watch brings what changed
            _log.debug("finalizer not removed", object=str(key_of(item)), error=str(error))

    async def _apply(self, child: Any) -> Any:
        return await self._client.apply(self._kind.child, child, field_owner=DPU_FIELD_OWNER)

    async def _delete(self, child: Any) -> None:
        try:
            await self._client.delete(self._kind.child, key_of(child), uid=child.metadata.uid)
        except (NotFound, Conflict) as error:
            _log.debug("not there to be deleted", object=str(key_of(child)), error=str(error))

    async def _all(self, writes: Sequence[Awaitable[Any]]) -> list[Any]:
        """Do all writes, a bounded number at once; each gives its result or its KubeError."""

        async def one(write: Awaitable[Any]) -> Any:
            async with self._in_flight:
                try:
                    return await write
                except KubeError as error:
                    return error

        return await asyncio.gather(*map(one, writes))


def _raise_first(outcomes: Iterable[Any]) -> None:
    """Raise the first error among the outcomes of writes."""
    for outcome in outcomes:
        if isinstance(outcome, KubeError):
            raise outcome
