"""What an agent answers: how its node is, and where a frame would go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from dpuchain.agent.node import NodeObjects
from dpuchain.agent.probing import Prober
from dpuchain.agent.report import Counts, Reporter
from dpuchain.agent.switch import Resolved, Switch
from dpuchain.chain.report import Report
from dpuchain.flows.follow import trace
from dpuchain.flows.model import FlowState
from dpuchain.flows.packets import Description
from dpuchain.flows.path import Entry, Picture, find
from dpuchain.flows.probes import with_probes
from dpuchain.flows.trace import Answer, Trace
from dpuchain.ovs import tracing
from dpuchain.ovs.database import Database
from dpuchain.ovs.errors import OvsError
from dpuchain.ovs.openflow import OpenFlow
from dpuchain.ovs.rows import BridgeRow
from dpuchain.runtime.version import VERSION

Checks = Mapping[str, Callable[[], str | None]]


class NotYet(Exception):
    """The agent has not looked at its node yet, or could not."""


@dataclass(frozen=True)
class Question:
    """A frame, the interface that it comes in by, as people call it, and the chain that this is meant to be a port of."""

    interface: str
    namespace: str
    chain: str
    frame: Description


class Answers:
    """Answers from what the latest pass has found, and from the switch as it is now."""

    def __init__(self, bridge: str, objects: NodeObjects, switch: Switch, doors: tuple[Database, OpenFlow], prober: Prober) -> None:
        self._bridge = bridge
        self._objects = objects
        self._switch = switch
        self._database, self._openflow = doors
        self._prober = prober
        self._clock = prober.clock
        self._folder = prober.socket.parent

    async def report(self, checks: Checks) -> Report:
        """The node, as far as it can be told: what is in the way of more is among the problems. `checks` are those of its readiness."""
        problems = [f"{name}: {problem}" for name, check in checks.items() if (problem := check()) is not None]
        complaint = self._switch.guard.complaint(self._clock.monotonic())
        problems += [complaint.text] if complaint is not None else []
        about = Report(node=self._objects.node, version=VERSION, bridge=self._bridge)
        resolved = self._switch.resolved
        if resolved is None:
            return _with(about, problems=tuple(problems or ["the agent has not looked at its node yet"]))
        try:
            counts = Counts(await self._openflow.read_counted(), await self._openflow.read_ports())
            bridge, version = self._database.bridge(self._bridge), await tracing.version(self._folder)
        except OvsError as error:
            return _with(about, problems=(*problems, f"Open vSwitch: {error}"))
        reporter = Reporter(resolved, self._switch.evidence, counts)
        return _with(
            about,
            ovs=version,
            datapath=bridge.datapath_type or "system" if isinstance(bridge, BridgeRow) else "",
            fail_mode=bridge.fail_mode if isinstance(bridge, BridgeRow) else "",
            problems=tuple(problems),
            chains=reporter.chains(tuple(self._objects.chains)),
            interfaces=reporter.interfaces(resolved.world.interfaces),
            learned=counts.learned,
            foreign=counts.foreign,
        )

    async def trace(self, asked: Question) -> Trace:
        """Where the described frame would go if it came in by the interface of that name.

        NoSuchInterface if there is none, NotYet, or an OvsError if the switch cannot be asked.
        """
        picture = await self.picture()
        return await trace(picture, find(picture.world, asked.interface, asked.namespace), asked.frame, asked.chain, self._ask)

    async def probe(self, asked: Question) -> Trace:
        """The same, and what becomes of probe frames that are sent the same way."""
        found, picture = await self.trace(asked), await self.picture()
        return with_probes(found, await self._prober.probe(picture, found, self._ask))

    async def _ask(self, entry: Entry) -> Answer:
        return await tracing.trace(self._folder, self._bridge, entry.number, entry.packet)

    async def picture(self) -> Picture:
        """What is known of the node now. NotYet, or an OvsError."""
        resolved = self._resolved()
        bridges = self._database.bridges()
        if self._bridge not in bridges:
            raise NotYet(f"bridge {self._bridge} does not exist on {self._objects.node}; create it with datapath_type=netdev")
        behind = {name: place for place, rows in bridges.items() for name in rows}
        patches = {name: behind.get(row.options.get("peer", ""), "") for name, row in bridges[self._bridge].items() if row.type == "patch"}
        learned = (await self._openflow.read_state()).learned
        return Picture(
            world=resolved.world,
            chains=tuple(self._objects.chains),
            resolutions=resolved.resolutions,
            compiled=FlowState(resolved.desired.flows, learned),
            bridge=self._bridge,
            bridges=bridges,
            patches=patches,
        )

    def _resolved(self) -> Resolved:
        if self._switch.resolved is None:
            raise NotYet(f"the agent of {self._objects.node} has not looked at its node yet: {self._objects.problem or 'ask again'}")
        return self._switch.resolved


def _with(report: Report, **fields: object) -> Report:
    return msgspec.structs.replace(report, **fields)
