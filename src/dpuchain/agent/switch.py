"""The pass over the switch: observe, decide, act, observe again."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from dpuchain.agent import patches, pods
from dpuchain.agent import ports as rows_of
from dpuchain.agent.contact import Contact
from dpuchain.agent.evidence import Evidence, Subject
from dpuchain.agent.guard import PACE_SECONDS, Guard
from dpuchain.agent.netlink import Aliases, has_link
from dpuchain.agent.node import NodeObjects
from dpuchain.agent.representors import Devices
from dpuchain.agent.verdicts import Findings, evidence, missing_flows, unseen
from dpuchain.api.interface import ServiceInterface
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.chain.ports import WantedPort, assign, dpf_id_of, is_left_behind
from dpuchain.chain.resolve import NodeWorld, Resolution, resolve
from dpuchain.flows.compile import ChainSwitches, compile_switches
from dpuchain.flows.diff import diff
from dpuchain.flows.identity import number_owners
from dpuchain.flows.lease import leased, renewed
from dpuchain.flows.model import FlowChanges, FlowState
from dpuchain.flows.pipeline import COOKIE, LEARNED_KIND, ROUND, round_of
from dpuchain.flows.predecessor import superseded
from dpuchain.ovs.changes import PortChange
from dpuchain.ovs.database import Database
from dpuchain.ovs.errors import OvsError, Rejected, Unreachable
from dpuchain.ovs.openflow import OpenFlow
from dpuchain.ovs.rows import PortRow
from dpuchain.runtime import tracing
from dpuchain.runtime.clock import Clock
from dpuchain.runtime.tracing import Span

MOST_OWNERS_READ = 4
"""Chains whose flows are read back one by one after a change; with more, one question for all flows is cheaper."""

CONNECTING_SECONDS = 3.0
"""How long after its start an agent that has not reached Open vSwitch yet says nothing: its restart alone must turn no condition."""
READ_AGAIN_SECONDS = 0.5
"""When to look again at a switch that did not keep what it confirmed; no message of its own would tell."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Dpu:
    """The DPU's Open vSwitch by both its doors, and what decides how ports are made: the bridge, the devices, what those of pods say of
    themselves, and OVSDB's type for devices (`agent.ports.device_type`).
    """

    bridge: str
    database: Database
    openflow: OpenFlow
    devices: Devices
    aliases: Aliases
    port_type: rows_of.PortType = rows_of.AUTO


@dataclass(frozen=True)
class Resolved:
    """What a pass has worked out, for who asks about the node."""

    world: NodeWorld
    resolutions: Mapping[ObjectKey, Resolution]
    desired: FlowState


class Switch:
    """Makes the bridge what the node's objects ask for, and keeps the evidence of it.

    A pass, in this order, each step safe to be the last one of the process:
    1. Look at the ports. Make those that are missing or wrongly marked, pods' among them; nothing that carries frames is touched.
    2. Look again. Resolve the chains on what is there and compile them; what cannot be resolved yet is left out and named.
    3. Change the flows in one bundle of the difference, and read back what the switch holds now.
    4. Ask for the numbers that the ports have, so that they keep them whatever happens.
    5. Only then remove ports that nobody wants, or whose pod's device is gone: no flow names them any more.
    """

    def __init__(self, dpu: Dpu, objects: NodeObjects, contact: Contact, publish: Callable[[set[Subject]], None], clock: Clock) -> None:
        self.evidence = Evidence()
        self.guard = Guard()
        self.resolved: Resolved | None = None
        self._clock = clock
        self._connecting_until = clock.monotonic() + CONNECTING_SECONDS
        self._dpu = dpu
        self._bridge = dpu.bridge
        self._database = dpu.database
        self._openflow = dpu.openflow
        self._objects = objects
        self._contact = contact
        self._publish = publish
        self._renewals = -1
        self._flows_end = math.inf
        self._actual: FlowState | None = None
        self._desired: FlowState | None = None
        self._others: frozenset[int] | None = None
        """Cookies of all flows that the bridge had when we came to it; None if they have not been read yet."""
        self._doubts = 0
        self._wanted: Mapping[str, WantedPort] = {}
        self._numbers: dict[str, int] = {}
        self._again: float | None = None
        self._traced: Sequence[Span] = ()
        self._openflow.subscribe(self._forget)
        self._openflow.watch(lambda _: self._doubt())

    def _forget(self) -> None:
        """The connection was made or lost: what the tables hold is not known, and that it is not what it was is nobody's doing."""
        self._doubt()
        self._desired = self._others = None

    def _doubt(self) -> None:
        """Somebody else has changed a table: what was read of it before, or is being read just now, is not sure any more."""
        self._doubts += 1
        self._actual = None

    async def reconcile(self, _: str) -> float | None:
        """One pass. Without a first list of the node's objects it does nothing: what is wanted is not known."""
        if not self._objects.known:
            return None
        self._again = None
        try:
            with self._objects.changes.work(itertools.chain(self._objects.interfaces, self._objects.chains)) as self._traced:
                await self._honour_terms()
                evidence = await self._pass()
        except Unreachable as error:
            wait = self._connecting_until - self._clock.monotonic()
            if wait > 0:
                return wait
            _log.warning("Open vSwitch cannot be reached", error=str(error))
            self._show(unseen(self._objects.interfaces, self._objects.chains, f"Open vSwitch: {error}"))
            return None  # both doors tell when it is back
        except OvsError as error:
            self._show(unseen(self._objects.interfaces, self._objects.chains, f"Open vSwitch: {error}"))
            raise
        self._connecting_until = 0.0
        self._show(evidence)
        wrong = self._contact.problem is None and any(verdict.flows_missing for verdict in evidence.verdicts.values())
        if self._again is None and wrong:
            self._actual = None
            return READ_AGAIN_SECONDS
        return self._again

    def _show(self, evidence: Evidence) -> None:
        changed = evidence.changed_since(self.evidence)
        self.evidence = evidence
        if changed:
            self._publish(changed)

    async def _honour_terms(self) -> None:
        """Before anything that may fail: remove all flows if none may be there, and renew those that were wanted last if that is due."""
        if self._contact.problem is not None:
            state = await self._openflow.read_state()
            await self._openflow.apply(diff(state, FlowState()))
        elif self._contact.lifetime is not None and self._desired is not None and self._renewals != self._contact.renewals:
            renewals = self._contact.renewals
            await self._openflow.apply(renewed(FlowChanges(), self._desired))
            self._note_renewal(renewals, self._contact.lifetime)

    def _note_renewal(self, renewals: int, lifetime: int | None) -> None:
        """All flows have been written or renewed by now, for the contact of this number."""
        self._renewals = renewals
        self._flows_end = math.inf if lifetime is None else self._clock.monotonic() + lifetime

    async def _pass(self) -> Evidence:
        bridges = self._bridges()
        rows, interfaces, chains = bridges[self._bridge], tuple(self._objects.interfaces), tuple(self._objects.chains)
        ports = assign(interfaces, rows_of.claimable(rows), self._dpu.devices.present, self._bridge)
        additions = [
            *rows_of.additions(self._bridge, rows, ports.wanted, self._numbers, self._new_type()),
            *patches.additions(self._bridge, bridges, ports.wanted, self._numbers),
        ]
        undone: list[tuple[str, Subject]] = []
        attached = pods.attachments(await self._dpu.aliases.read())
        try:
            with tracing.steps(self._traced if additions else (), "make ports", {"dpuchain.ports": len(additions)}):
                refused = {**ports.refused, **await self._make(additions, bridges, undone)}
            await self._restore(attached, rows, undone)
        finally:  # what was put right was, though then something cannot be reached
            self._note_repairs(Counter(kind for kind, _ in undone), {subject for _, subject in undone})
        self._wanted = {name: port for name, port in ports.wanted.items() if port.owner not in refused}
        bridges = self._bridges()
        rows = bridges[self._bridge]
        seen = {**self._numbers, **rows_of.numbers(rows)}
        self._numbers = {name: number for name, number in seen.items() if name in {*rows, *ports.wanted, *attached}}
        world = NodeWorld(self._objects.node, interfaces, tuple(self._objects.pods), rows_of.by_mark(rows.values()), refused, ports.vlans)
        resolutions = resolve(chains, world)
        switches = [ChainSwitches(chain, resolution.switch_ports) for chain, resolution in resolutions.items()]
        self.resolved = Resolved(world, resolutions, compile_switches(switches, world.reserved))
        missing = await self._program(resolutions, self.resolved.desired)
        await self._pin()
        if self._objects.readable:
            await self._remove(ports.wanted, interfaces, bridges)
        bridges = self._bridges()
        marks = {port.dpf_id for port in rows_of.claimable(bridges[self._bridge]).values()} | patches.marks(bridges)
        complaint = self.guard.complaint(self._clock.monotonic())
        if complaint is not None and self._again is None:  # nothing may tell of its end
            self._again = PACE_SECONDS
        return evidence(Findings(world, resolutions, missing, {mark for mark in marks if mark}, complaint), chains)

    def _bridges(self) -> Mapping[str, Mapping[str, PortRow]]:
        bridges = self._database.bridges()
        if self._bridge not in bridges:
            raise Rejected("NoBridge", f"bridge {self._bridge} does not exist on this DPU; create it with datapath_type=netdev")
        return {**bridges, self._bridge: rows_of.completed(bridges[self._bridge], self._numbers)}

    def _new_type(self) -> str:
        return rows_of.device_type(self._dpu.port_type, self._database.bridge(self._bridge), self._database.settings())

    async def _remove(
        self, wanted: Mapping[str, WantedPort], interfaces: Sequence[ServiceInterface], bridges: Mapping[str, Mapping[str, PortRow]]
    ) -> None:
        left = [dpf_id_of(item) for item in interfaces if item.metadata.deletion_timestamp is not None and is_left_behind(item)]
        ours = rows_of.surplus(self._bridge, bridges[self._bridge], wanted, left)
        dead = pods.surplus(self._bridge, bridges[self._bridge], has_link)
        await self._database.apply([*ours, *dead, *patches.surplus(self._bridge, bridges, wanted)])

    async def _make(
        self,
        additions: Sequence[tuple[WantedPort, Sequence[PortChange]]],
        bridges: Mapping[str, Mapping[str, PortRow]],
        undone: list[tuple[str, Subject]],
    ) -> dict[ObjectKey, str]:
        """Make ports; returns why the owner of one gets none. Each in a transaction of its own, so that one refusal is one port's.

        What was there already is put right, unless somebody fights about it and it is not time yet.
        """
        refused: dict[ObjectKey, str] = {}
        pause = self.guard.pause(self._clock.monotonic())
        for port, changes in additions:
            harmed = self._wanted.get(port.name) == port
            if harmed and pause:
                self._again = pause
                continue
            try:
                await self._database.apply(changes)
            except Rejected as error:
                refused[port.owner] = str(error)
                continue
            if harmed:
                whole = port.name in bridges[self._bridge] and (port.peer is None or port.peer.name in bridges.get(port.peer.bridge, ()))
                undone.append(("port-altered" if whole else "port-deleted", Subject("ServiceInterface", port.owner)))
        return refused

    async def _restore(
        self, attached: Mapping[str, pods.Attachment], rows: Mapping[str, PortRow], undone: list[tuple[str, Subject]]
    ) -> None:
        """Put the ports of pods right."""
        pause = self.guard.pause(self._clock.monotonic())
        for name, changes in pods.additions(self._bridge, rows, attached, self._numbers).items():
            if pause:
                self._again = pause
                return
            pod = attached[name].pod
            try:
                await self._database.apply(changes)
            except Rejected as error:
                _log.warning("the port of a pod cannot be put right", pod=str(pod), port=name, error=str(error))
                continue
            undone.append(("port-altered" if name in rows else "port-deleted", Subject("Pod", pod)))

    async def _pin(self) -> None:
        """Ask for the numbers that ports have. One that goes at this moment needs none; the next pass asks for the rest."""
        try:
            await self._database.apply(rows_of.pins(self._bridges()[self._bridge]))
        except Rejected as error:
            if error.code != "NoInterface":
                raise

    async def _program(self, resolutions: Mapping[ObjectKey, Resolution], desired: FlowState) -> Mapping[ObjectKey, str]:
        """Make the flows those of the resolved chains; returns what the read-back showed to be missing of a chain."""
        if self._contact.problem is not None:
            self._actual = self._desired = None
            return dict.fromkeys(resolutions, self._contact.problem)
        doubts, renewals, lifetime = self._doubts, self._contact.renewals, self._contact.lifetime
        actual = self._actual if self._actual is not None else await self._openflow.read_state()
        if not self._objects.readable:  # flows of a chain that cannot be read stay
            wanted = {flow.key for flow in desired.flows}
            kept = {flow for flow in actual.flows if flow.key not in wanted and round_of(flow.cookie) == ROUND}
            desired = FlowState(desired.flows | kept)
        desired = leased(desired, lifetime)
        changes = diff(actual, desired)
        # Flows that have ended by themselves, because this process hung, are nobody's doing either.
        harm = _harm(changes) if desired == self._desired and self._clock.monotonic() < self._flows_end else {}
        if harm and (pause := self.guard.pause(self._clock.monotonic())):
            self._actual, self._again = None, pause
            return missing_flows(resolutions, actual, desired)
        renewing = lifetime is not None and (bool(changes) or self._renewals != renewals)
        changes = renewed(changes, desired) if renewing else changes
        taken = superseded(self._programmed(resolutions, desired), await self._cookies())
        changes = replace(changes, flush=(*changes.flush, *taken))
        self._actual, self._desired = None, desired  # until it is known how the change ended
        refusal = ""
        try:
            with tracing.steps(self._traced if changes else (), "change flows", _counts(changes)):
                await self._openflow.apply(changes)
            with tracing.steps(self._traced if changes else (), "read flows back", {}):
                after = await self._read_back(actual, changes)
        except Rejected as error:  # of all of them, though one was at fault; what forwards, forwards on
            _log.warning("Open vSwitch refuses flows", error=str(error))
            refusal, after = str(error), await self._openflow.read_state()
        else:
            if renewing or lifetime is None:
                self._note_renewal(renewals, lifetime)
            self._note_repairs(harm, _chains_of(changes, resolutions))
            if taken:
                _log.info("took over from DPF", chains=len(taken))
                self._others = await self._cookies() - {flush.cookie for flush in taken}
        if self._doubts == doubts:
            self._actual = after
        return missing_flows(resolutions, after, desired, refusal)

    async def _cookies(self) -> frozenset[int]:
        """What flows there are, whoever made them: read once, since DPF's controller is not to run beside us."""
        if self._others is None:
            self._others = frozenset(counted.flow.cookie for counted in await self._openflow.read_counted())
        return self._others

    def _programmed(self, resolutions: Mapping[ObjectKey, Resolution], desired: FlowState) -> list[ObjectKey]:
        """The chains that have flows of ours, and those that are to have none any more."""
        owners = {COOKIE["owner"].read(flow.cookie) for flow in desired.flows}
        deleted = [key_of(chain) for chain in self._objects.chains if chain.metadata.deletion_timestamp is not None]
        return [*deleted, *(key for key, number in number_owners(resolutions).items() if number in owners)]

    def _note_repairs(self, counts: Mapping[str, int], subjects: Collection[Subject]) -> None:
        """Remember that others' changes have been undone: all of a kind that a pass finds are one occasion, however many."""
        if counts:
            _log.warning("undid what somebody else had changed", objects=sorted(f"{kind} {key}" for kind, key in subjects), **counts)
            self.guard.repaired(counts, subjects, self._clock.monotonic())

    async def _read_back(self, before: FlowState, changes: FlowChanges) -> FlowState:
        owners = {COOKIE["owner"].read(flow.cookie) for flow in (*changes.add, *changes.modify, *changes.delete)}
        owners |= {COOKIE["owner"].read(flush.cookie) for flush in changes.flush}
        if not owners:
            return before
        if len(owners) > MOST_OWNERS_READ or any(flush.table is None for flush in changes.flush):
            return await self._openflow.read_state()
        flows = {flow for flow in before.flows if COOKIE["owner"].read(flow.cookie) not in owners}
        learned = {flow for flow in before.learned if COOKIE["owner"].read(flow.cookie) not in owners}
        for owner in owners:
            state = await self._openflow.read_state(owner)
            flows |= state.flows
            learned |= state.learned
        return FlowState(frozenset(flows), frozenset(learned))


def _harm(changes: FlowChanges) -> dict[str, int]:
    """What others have done if these changes undo it, by kind. What a switch learned is nobody's harm."""
    deleted = [flow for flow in changes.delete if COOKIE["kind"].read(flow.cookie) != LEARNED_KIND]
    counts = {"flow-deleted": changes.add, "flow-altered": changes.modify, "flow-added": deleted}
    return {kind: len(flows) for kind, flows in counts.items() if flows}


def _counts(changes: FlowChanges) -> dict[str, int]:
    """How many flows are changed, as a trace says it."""
    counts = {"added": changes.add, "modified": changes.modify, "deleted": changes.delete}
    return {f"dpuchain.flows.{what}": len(flows) for what, flows in counts.items()}


def _chains_of(changes: FlowChanges, chains: Collection[ObjectKey]) -> list[Subject]:
    """The chains whose flows are changed."""
    owners = {COOKIE["owner"].read(flow.cookie) for flow in (*changes.add, *changes.modify, *changes.delete)}
    return [Subject("ServiceChain", chain) for chain, number in number_owners(chains).items() if number in owners]
