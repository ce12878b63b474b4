"""The pass over the switch: observe, decide, act, observe again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from dpuchain.agent import patches
from dpuchain.agent import ports as rows_of
from dpuchain.agent.evidence import Evidence, Subject, Verdict
from dpuchain.agent.guard import PACE_SECONDS, Guard
from dpuchain.agent.node import NodeObjects
from dpuchain.agent.representors import Devices
from dpuchain.api.interface import ServiceInterface
from dpuchain.api.meta import Object, ObjectKey, key_of
from dpuchain.chain.ports import WantedPort, assign, dpf_id_of, is_left_behind
from dpuchain.chain.resolve import NodeWorld, Resolution, interface_problem, resolve
from dpuchain.flows.compile import ChainSwitches, compile_switches
from dpuchain.flows.diff import diff, shortfalls
from dpuchain.flows.identity import number_owners
from dpuchain.flows.model import FlowChanges, FlowState
from dpuchain.flows.pipeline import COOKIE
from dpuchain.ovs.changes import PortChange
from dpuchain.ovs.database import Database
from dpuchain.ovs.errors import OvsError, Rejected, Unreachable
from dpuchain.ovs.openflow import OpenFlow
from dpuchain.ovs.rows import PortRow
from dpuchain.runtime.clock import Clock

MOST_OWNERS_READ = 4
"""Chains whose flows are read back one by one after a change; with more, one question for all flows is cheaper."""

CONNECTING_SECONDS = 3.0
"""How long after its start an agent that has not reached Open vSwitch yet says nothing: its restart alone must turn no condition."""
READ_AGAIN_SECONDS = 0.5
"""When to look again at a switch that did not keep what it confirmed; no message of its own would tell."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Dpu:
    """What of the DPU decides how ports are made: its bridge, its devices, and OVSDB's type for them (`agent.ports.device_type`)."""

    bridge: str
    devices: Devices
    port_type: rows_of.PortType = rows_of.AUTO


@dataclass(frozen=True)
class Findings:
    """What a pass has worked out, for who asks about the node."""

    world: NodeWorld
    resolutions: Mapping[ObjectKey, Resolution]
    desired: FlowState


class Switch:
    """Makes the bridge what the node's objects ask for, and keeps the evidence of it.

    A pass, in this order, each step safe to be the last one of the process:
    1. Look at the ports. Make those that are missing or wrongly marked; nothing that carries frames is touched.
    2. Look again. Resolve the chains on what is there and compile them; what cannot be resolved yet is left out and named.
    3. Change the flows in one bundle of the difference, and read back what the switch holds now.
    4. Ask for the numbers that the ports have, so that they keep them whatever happens.
    5. Only then remove ports that nobody wants: no flow names them any more.
    """

    def __init__(
        self,
        dpu: Dpu,
        objects: NodeObjects,
        database: Database,
        openflow: OpenFlow,
        publish: Callable[[set[Subject]], None],
        clock: Clock,
    ) -> None:
        self.evidence = Evidence()
        self.findings: Findings | None = None
        self._clock = clock
        self._connecting_until = clock.monotonic() + CONNECTING_SECONDS
        self._dpu = dpu
        self._bridge = dpu.bridge
        self._objects = objects
        self._database = database
        self._openflow = openflow
        self._publish = publish
        self._guard = Guard()
        self._actual: FlowState | None = None
        self._desired: FlowState | None = None
        self._wanted: Mapping[str, WantedPort] = {}
        self._numbers: dict[str, int] = {}
        self._again: float | None = None
        openflow.subscribe(self._forget)
        openflow.watch(lambda _: self._doubt())

    def _forget(self) -> None:
        """The connection was made or lost: what the tables hold is not known, and that it is not what it was is nobody's doing."""
        self._actual = self._desired = None

    def _doubt(self) -> None:
        """Somebody else has changed a table."""
        self._actual = None

    async def reconcile(self, _: str) -> float | None:
        """One pass. Without a first list of the node's objects it does nothing: what is wanted is not known."""
        if not self._objects.known:
            return None
        self._again = None
        try:
            evidence = await self._pass()
        except Unreachable as error:
            wait = self._connecting_until - self._clock.monotonic()
            if wait > 0:
                return wait
            _log.warning("Open vSwitch cannot be reached", error=str(error))
            self._show(self._unseen(f"Open vSwitch: {error}"))
            return None  # both doors tell when it is back
        except OvsError as error:
            self._show(self._unseen(f"Open vSwitch: {error}"))
            raise
        self._connecting_until = 0.0
        self._show(evidence)
        if self._again is None and any(verdict.flows_missing for verdict in evidence.verdicts.values()):
            self._actual = None
            return READ_AGAIN_SECONDS
        return self._again

    @property
    def complaint(self) -> str | None:
        """What to tell of somebody who works against us; None if nobody does."""
        return self._guard.complaint(self._clock.monotonic())

    def _show(self, evidence: Evidence) -> None:
        changed = evidence.changed_since(self.evidence)
        self.evidence = evidence
        if changed:
            self._publish(changed)

    async def _pass(self) -> Evidence:
        bridges = self._bridges()
        rows, interfaces = bridges[self._bridge], tuple(self._objects.interfaces)
        ports = assign(interfaces, rows_of.claimable(rows), self._dpu.devices.present, self._bridge)
        additions = [
            *rows_of.additions(self._bridge, rows, ports.wanted, self._numbers, self._new_type()),
            *patches.additions(self._bridge, bridges, ports.wanted, self._numbers),
        ]
        self._note_repairs("port", sum(self._wanted.get(port.name) == port for port, _ in additions))
        refused = {**ports.refused, **await self._make(additions)}
        self._wanted = {name: port for name, port in ports.wanted.items() if port.owner not in refused}
        bridges = self._bridges()
        rows = bridges[self._bridge]
        seen = {**self._numbers, **rows_of.numbers(rows)}
        self._numbers = {name: number for name, number in seen.items() if name in rows or name in ports.wanted}
        pods = tuple(self._objects.pods)
        world = NodeWorld(self._objects.node, interfaces, pods, rows_of.by_mark(rows.values()), refused, ports.vlans)
        resolutions = resolve(self._objects.chains, world)
        switches = [ChainSwitches(chain, resolution.switch_ports) for chain, resolution in resolutions.items()]
        self.findings = Findings(world, resolutions, compile_switches(switches, world.reserved))
        missing = await self._program(resolutions, self.findings.desired)
        await self._pin()
        if self._objects.readable:
            await self._remove(ports.wanted, interfaces, bridges)
        return self._evidence(world, resolutions, missing)

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
        await self._database.apply([*ours, *patches.surplus(self._bridge, bridges, wanted)])

    async def _make(self, additions: Sequence[tuple[WantedPort, Sequence[PortChange]]]) -> dict[ObjectKey, str]:
        """Make ports; returns why the owner of one gets none. Each in a transaction of its own, so that one refusal is one port's."""
        refused: dict[ObjectKey, str] = {}
        for port, changes in additions:
            try:
                await self._database.apply(changes)
            except Rejected as error:
                refused[port.owner] = str(error)
        return refused

    async def _pin(self) -> None:
        """Ask for the numbers that ports have. One that goes at this moment needs none; the next pass asks for the rest."""
        try:
            await self._database.apply(rows_of.pins(self._bridges()[self._bridge]))
        except Rejected as error:
            if error.code != "NoInterface":
                raise

    async def _program(self, resolutions: Mapping[ObjectKey, Resolution], desired: FlowState) -> Mapping[ObjectKey, str]:
        """Make the flows those of the resolved chains; returns what the read-back showed to be missing of a chain."""
        actual = self._actual if self._actual is not None else await self._openflow.read_state()
        if not self._objects.readable:  # flows of a chain that cannot be read stay
            desired = FlowState(desired.flows | {flow for flow in actual.flows if flow.key not in {want.key for want in desired.flows}})
        changes = diff(actual, desired)
        if desired == self._desired and changes and (pause := self._guard.pause(self._clock.monotonic())):
            self._actual, self._again = None, pause
            return _missing(resolutions, actual, desired)
        self._note_repairs("flow", len(changes) if desired == self._desired else 0)
        self._actual, self._desired = None, desired  # until it is known how the change ended
        await self._openflow.apply(changes)
        self._actual = await self._read_back(actual, changes)
        return _missing(resolutions, self._actual, desired)

    def _note_repairs(self, kind: str, count: int) -> None:
        """Remember that others' changes are being undone; in a fight, look again even if nothing tells to, to see its end."""
        now = self._clock.monotonic()
        if count:
            _log.warning("undoing what somebody else has changed", kind=kind, count=count)
            self._guard.repaired(kind, count, now)
        if self._guard.fighting(now):
            self._again = PACE_SECONDS

    async def _read_back(self, before: FlowState, changes: FlowChanges) -> FlowState:
        owners = {COOKIE["owner"].read(flow.cookie) for flow in (*changes.add, *changes.modify, *changes.delete)}
        owners |= {COOKIE["owner"].read(flush.cookie) for flush in changes.flush}
        if not owners:
            return before
        if len(owners) > MOST_OWNERS_READ:
            return await self._openflow.read_state()
        flows = {flow for flow in before.flows if COOKIE["owner"].read(flow.cookie) not in owners}
        learned = {flow for flow in before.learned if COOKIE["owner"].read(flow.cookie) not in owners}
        for owner in owners:
            state = await self._openflow.read_state(owner)
            flows |= state.flows
            learned |= state.learned
        return FlowState(frozenset(flows), frozenset(learned))

    def _evidence(self, world: NodeWorld, resolutions: Mapping[ObjectKey, Resolution], missing: Mapping[ObjectKey, str]) -> Evidence:
        verdicts: dict[Subject, Verdict] = {}
        released: set[Subject] = set()
        bridges = self._bridges()
        marks = {port.dpf_id for port in rows_of.claimable(bridges[self._bridge]).values()} | patches.marks(bridges)
        flowless = _flowless_vlans(resolutions, missing)
        complaint = tuple(filter(None, [self.complaint]))
        for interface in world.interfaces:
            subject = Subject("ServiceInterface", key_of(interface))
            if interface.metadata.deletion_timestamp is None:
                problem = interface_problem(interface, world) or flowless.get(key_of(interface))
                verdicts[subject] = _verdict(interface, () if problem is None else (problem,))
            elif dpf_id_of(interface) not in marks:
                released.add(subject)
        for chain in self._objects.chains:
            subject = Subject("ServiceChain", key_of(chain))
            resolution = resolutions.get(key_of(chain))
            if chain.metadata.deletion_timestamp is not None:
                if resolution is None:  # it had no part in the flows that were read back just now
                    released.add(subject)
            elif resolution is not None:  # else it came while we waited for the switch; the next pass sees it
                verdicts[subject] = _verdict(chain, (*resolution.problems, *complaint), missing.get(key_of(chain)))
        return Evidence(verdicts, frozenset(released))

    def _unseen(self, problem: str) -> Evidence:
        """What is to be said while the switch cannot be read: nothing works as far as anybody knows."""
        verdicts: dict[Subject, Verdict] = {}
        for interface in self._objects.interfaces:
            verdicts[Subject("ServiceInterface", key_of(interface))] = _verdict(interface, (problem,))
        for chain in self._objects.chains:
            verdicts[Subject("ServiceChain", key_of(chain))] = _verdict(chain, (problem,))
        return Evidence(verdicts)


def _flowless_vlans(resolutions: Mapping[ObjectKey, Resolution], missing: Mapping[ObjectKey, str]) -> dict[ObjectKey, str]:
    """The VLANs in chains of which flows are missing: a VLAN is nothing on a switch but flows."""
    return {
        port.interface: f"ServiceChain {chain}: {missing[chain]}"
        for chain, resolution in resolutions.items()
        for switch in resolution.switches
        for port in switch.ports
        if port.vlan is not None and chain in missing
    }


def _verdict(item: Object, problems: tuple[str, ...], flows_missing: str | None = None) -> Verdict:
    return Verdict(item.metadata.uid, item.metadata.generation, problems, flows_missing)


def _missing(resolutions: Mapping[ObjectKey, Resolution], actual: FlowState, desired: FlowState) -> dict[ObjectKey, str]:
    """For each chain whose flows are not all on the switch, how many are not; and how many are there that should not be."""
    found = shortfalls(actual, desired)
    return {
        chain: "{} of its flows are not on the switch and {} are there that should not be; trying again".format(*found[number])
        for chain, number in number_owners(resolutions).items()
        if number in found
    }
