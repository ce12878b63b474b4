"""From evidence to the API server: status, and the finalizers of what is gone from the switch."""

from __future__ import annotations

from dpuchain.agent.evidence import Evidence, Subject, Verdict
from dpuchain.agent.node import NodeObjects
from dpuchain.api.chain import ServiceChain
from dpuchain.api.interface import ServiceInterface
from dpuchain.api.kinds import SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.api.meta import Object
from dpuchain.api.names import AGENT_FIELD_OWNER, SERVICE_CHAIN_FINALIZER, SERVICE_INTERFACE_FINALIZER
from dpuchain.chain.status import chain_findings, interface_findings
from dpuchain.kube.client import Client
from dpuchain.kube.errors import NotFound
from dpuchain.kube.writes import StatusReporter, remove_finalizer
from dpuchain.runtime.clock import Clock


class Status:
    """Writes what the latest evidence says of one object, if it is evidence about the object as it is now."""

    def __init__(self, client: Client, objects: NodeObjects, clock: Clock) -> None:
        self.evidence = Evidence()
        self._client = client
        self._objects = objects
        self._clock = clock
        self._interfaces: StatusReporter[ServiceInterface] = StatusReporter(client, SERVICE_INTERFACE, AGENT_FIELD_OWNER)
        self._chains: StatusReporter[ServiceChain] = StatusReporter(client, SERVICE_CHAIN, AGENT_FIELD_OWNER)

    async def reconcile(self, subject: Subject) -> None:
        """Bring one object up to date. One that has vanished meanwhile needs nothing."""
        try:
            if subject.kind == "ServiceChain":
                await self._chain(subject)
            else:
                await self._interface(subject)
        except NotFound:
            return

    async def _interface(self, subject: Subject) -> None:
        interface = self._objects.interfaces.get(subject.key)
        if interface is None:
            self._interfaces.forget(subject.key)
        elif interface.metadata.deletion_timestamp is not None:
            if self.evidence.released.get(subject) == interface.metadata.uid:
                await remove_finalizer(self._client, SERVICE_INTERFACE, interface, SERVICE_INTERFACE_FINALIZER)
        elif (verdict := self._verdict(subject, interface)) is not None:
            findings = interface_findings("\n".join(verdict.problems) or None)
            await self._interfaces.report(interface, findings, self._clock.now())

    async def _chain(self, subject: Subject) -> None:
        chain = self._objects.chains.get(subject.key)
        if chain is None:
            self._chains.forget(subject.key)
        elif chain.metadata.deletion_timestamp is not None:
            if self.evidence.released.get(subject) == chain.metadata.uid:
                await remove_finalizer(self._client, SERVICE_CHAIN, chain, SERVICE_CHAIN_FINALIZER)
        elif (verdict := self._verdict(subject, chain)) is not None:
            findings = chain_findings(verdict.problems, verdict.flows_missing)
            await self._chains.report(chain, findings, self._clock.now())

    def _verdict(self, subject: Subject, item: Object) -> Verdict | None:
        """The verdict on the object in its present generation; None if there is none yet: the pass that makes it is on its way."""
        verdict = self.evidence.verdicts.get(subject)
        if verdict is None or (verdict.uid, verdict.generation) != (item.metadata.uid, item.metadata.generation):
            return None
        return verdict
