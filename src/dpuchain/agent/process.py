"""The agent as a process: its doors, caches, loops and endpoints, wired up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from re import Pattern

from dpuchain.agent.access import Access
from dpuchain.agent.answers import Answers
from dpuchain.agent.attachment import DEVICE, REQUIRED
from dpuchain.agent.cni_socket import listen
from dpuchain.agent.contact import Contact
from dpuchain.agent.endpoint import answering
from dpuchain.agent.evidence import Subject
from dpuchain.agent.measures import Measures
from dpuchain.agent.netlink import Aliases
from dpuchain.agent.node import NodeObjects
from dpuchain.agent.ports import PortType
from dpuchain.agent.probing import Prober
from dpuchain.agent.repair_events import RepairEvents
from dpuchain.agent.representors import Devices
from dpuchain.agent.status import Status
from dpuchain.agent.switch import Dpu, Switch
from dpuchain.agent.wiring import Wiring
from dpuchain.kube.client import Client
from dpuchain.ovs.database import Database
from dpuchain.ovs.openflow import OpenFlow
from dpuchain.runtime import logs
from dpuchain.runtime.clock import SystemClock
from dpuchain.runtime.controller import Controller
from dpuchain.runtime.endpoints import NOWHERE, Endpoints, published
from dpuchain.runtime.metrics import CNI_SECONDS, REPAIRED, REPAIRS, Reading, reading
from dpuchain.runtime.readings import readiness

STATUS_WRITERS = 4
"""Status writes in flight: one node's share of its API server."""
MADE_AGAIN_SECONDS = 0.02
"""Within which a chain that vanished without a finalizer may be made again, so that its frames pass all the while."""
THE_SWITCH = "switch"
"""The only key of the switch's loop: a node has one bridge, and one pass looks at all of it."""


@dataclass(frozen=True)
class Settings:
    """Where everything of this node is."""

    node: str
    bridge: str
    ovsdb: str
    openflow: Path
    cni_socket: Path
    port_type: PortType = "auto"
    sysfs: Path = Path("/sys")
    address: str = ""
    """Where questions about the node are answered ("HOST:PORT"); nowhere if empty."""
    endpoints: Endpoints = NOWHERE


@dataclass(frozen=True)
class Doors:
    """How the agent comes to what it sees and changes of its DPU, given where that is."""

    database: Callable[[str], Database] = Database
    openflow: Callable[[Path], OpenFlow] = OpenFlow
    devices: Callable[[Path], Devices] = Devices
    aliases: Callable[[Pattern[str]], Aliases] = Aliases


OF_THE_DPU = Doors()


async def run(client: Client, settings: Settings, doors: Doors = OF_THE_DPU) -> None:
    """Work until cancelled. Whatever cannot be reached is tried again; readiness says what is missing."""
    logs.bind(node=settings.node)
    clock = SystemClock()
    objects = NodeObjects.of(client, settings.node)
    database = doors.database(settings.ovsdb)
    openflow = doors.openflow(settings.openflow)
    status = Status(client, objects, clock)
    reports: Controller[Subject] = Controller("status", status.reconcile, clock=clock, workers=STATUS_WRITERS)

    def publish(changed: set[Subject]) -> None:
        status.evidence = switch.evidence
        for subject in changed:
            reports.enqueue(subject)

    devices = doors.devices(settings.sysfs)
    contact = Contact(client, objects, clock)
    dpu = Dpu(settings.bridge, database, openflow, devices, doors.aliases(DEVICE), settings.port_type)
    switch = Switch(dpu, objects, contact, publish, clock)
    events = RepairEvents(client, objects, clock)
    told: Controller[Subject] = Controller("repairs", events.reconcile, clock=clock)
    switch.guard.subscribe(told.enqueue)
    passes: Controller[str] = Controller("switch", switch.reconcile, clock=clock)
    wiring = Wiring(settings.bridge, client, objects, database)
    checks = {
        "api": lambda: objects.problem,
        "ovsdb": lambda: None if database.connected else f"{settings.ovsdb} is not connected",
        "contact": lambda: contact.problem,
        "openflow": lambda: None if openflow.failure is None else str(openflow.failure),
    }
    answers = Answers(settings.bridge, objects, switch, (database, openflow), Prober(settings.openflow, clock))
    for kind in REPAIRED:
        REPAIRS.labels(kind)
    for command in REQUIRED:
        CNI_SECONDS.labels(command, "ok")
        CNI_SECONDS.labels(command, "refused")
    measures = Measures(objects, switch, openflow)

    async def read() -> Reading:
        return reading(readiness(checks), await measures.read())

    access = Access(client, settings.node)
    async with (
        client,
        published(settings.endpoints, client, checks, read),
        answering(settings.address, access, answers, checks),
        listen(settings.cni_socket, wiring.answer),
        asyncio.TaskGroup() as group,
    ):
        _subscribe(objects, database, openflow, lambda: passes.enqueue(THE_SWITCH), reports)
        objects.subscribe(lambda: passes.enqueue(THE_SWITCH), lambda: passes.enqueue_after(THE_SWITCH, MADE_AGAIN_SECONDS))
        devices.subscribe(lambda: passes.enqueue(THE_SWITCH))
        contact.subscribe(lambda: passes.enqueue(THE_SWITCH))
        for runner in (contact, *objects, database, openflow, devices, passes, reports, told):
            group.create_task(runner.run())
        for cache in objects:
            group.create_task(_then(cache.synced, lambda: passes.enqueue(THE_SWITCH)))


def _subscribe(
    objects: NodeObjects, database: Database, openflow: OpenFlow, look: Callable[[], None], reports: Controller[Subject]
) -> None:
    """Have each change looked at: of an object, of a port, of a connection."""
    database.subscribe(look)
    openflow.subscribe(look)
    openflow.watch(lambda _: look())
    objects.interfaces.subscribe(lambda change: reports.enqueue(Subject("ServiceInterface", change.key)))
    objects.chains.subscribe(lambda change: reports.enqueue(Subject("ServiceChain", change.key)))


async def _then(awaited: Callable[[], Awaitable[None]], action: Callable[[], None]) -> None:
    await awaited()
    action()
