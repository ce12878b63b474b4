"""From evidence to the API server: status, and the finalizers of what is gone from the switch."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from dpuchain.agent.evidence import Evidence, Subject, Verdict
from dpuchain.agent.node import NodeObjects
from dpuchain.api.chain import ServiceChain
from dpuchain.api.conditions import find
from dpuchain.api.interface import ServiceInterface
from dpuchain.api.kinds import SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.api.meta import Condition, Object
from dpuchain.api.names import AGENT_FIELD_OWNER, READY, SERVICE_CHAIN_FINALIZER, SERVICE_INTERFACE_FINALIZER
from dpuchain.chain.status import chain_findings, interface_findings
from dpuchain.kube.client import Client
from dpuchain.kube.errors import NotFound
from dpuchain.kube.writes import StatusReporter, remove_finalizer
from dpuchain.runtime import tracing
from dpuchain.runtime.clock import Clock

SETTLE_SECONDS = 0.15
"""How long something may be wrong with an object before that is told, if nothing has been told of the object as it is now. What is made
anew is whole a moment later, and one write says so.
"""


class Status:
    """Writes what the latest evidence says of one object, if it is evidence about the object as it is now.

    That an object works is told at once. So is that it no longer does.
    """

    def __init__(self, client: Client, objects: NodeObjects, clock: Clock) -> None:
        self.evidence = Evidence()
        self._client = client
        self._objects = objects
        self._clock = clock
        self._interfaces: StatusReporter[ServiceInterface] = StatusReporter(client, SERVICE_INTERFACE, AGENT_FIELD_OWNER)
        self._chains: StatusReporter[ServiceChain] = StatusReporter(client, SERVICE_CHAIN, AGENT_FIELD_OWNER)
        self._wrong: dict[Subject, tuple[Verdict, float]] = {}
        """Objects that have never worked as they are now: the first verdict on each, and when it was seen."""

    async def reconcile(self, subject: Subject) -> float | None:
        """Bring one object up to date; returns the seconds until there is more to tell. One that has vanished needs nothing."""
        try:
            return await (self._chain(subject) if subject.kind == "ServiceChain" else self._interface(subject))
        except NotFound:
            return None

    async def _interface(self, subject: Subject) -> float | None:
        interface = self._objects.interfaces.get(subject.key)
        if interface is None:
            self._forget(subject)
        elif interface.metadata.deletion_timestamp is not None:
            if self.evidence.released.get(subject) == interface.metadata.uid:
                await remove_finalizer(self._client, SERVICE_INTERFACE, interface, SERVICE_INTERFACE_FINALIZER)
        elif (verdict := self.evidence.verdict("ServiceInterface", interface)) is not None:
            if (wait := self._settling(subject, verdict, interface.status.conditions)) > 0:
                return wait
            findings = interface_findings("\n".join(verdict.problems) or None)
            await self._tell(interface, verdict, self._interfaces.report(interface, findings, self._clock.now()))
        return None

    async def _chain(self, subject: Subject) -> float | None:
        chain = self._objects.chains.get(subject.key)
        if chain is None:
            self._forget(subject)
        elif chain.metadata.deletion_timestamp is not None:
            if self.evidence.released.get(subject) == chain.metadata.uid:
                await remove_finalizer(self._client, SERVICE_CHAIN, chain, SERVICE_CHAIN_FINALIZER)
        elif (verdict := self.evidence.verdict("ServiceChain", chain)) is not None:
            if (wait := self._settling(subject, verdict, chain.status.conditions)) > 0:
                return wait
            findings = chain_findings(verdict.problems, verdict.flows_missing)
            await self._tell(chain, verdict, self._chains.report(chain, findings, self._clock.now()))
        return None

    async def _tell(self, item: Object, verdict: Verdict, report: Awaitable[bool]) -> None:
        changes, ready = self._objects.changes, verdict.works
        await tracing.reported(changes.of(item), item, report, ready=ready)
        if ready:
            changes.settled(item)

    def _forget(self, subject: Subject) -> None:
        self._wrong.pop(subject, None)
        self._objects.changes.forget(subject.kind, *subject.key)
        (self._chains if subject.kind == "ServiceChain" else self._interfaces).forget(subject.key)

    def _settling(self, subject: Subject, verdict: Verdict, conditions: Sequence[Condition]) -> float:
        """Seconds until a verdict is to be told."""
        ready = find(conditions, READY)
        told = ready is not None and ready.observed_generation == verdict.generation
        if told or verdict.works:
            self._wrong.pop(subject, None)
            return 0.0
        now = self._clock.monotonic()
        first, since = self._wrong.get(subject, (verdict, now))
        if (first.uid, first.generation) != (verdict.uid, verdict.generation):
            first, since = verdict, now
        self._wrong[subject] = (first, since)
        return max(0.0, since + SETTLE_SECONDS - now)
