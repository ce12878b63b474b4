"""A DPU's Open vSwitch without Open vSwitch: what `ovs.database` and `ovs.openflow` promise, kept in memory.

Which changes are refused, and what a row says, the door's own code decides (`ovs.changes`, `ovs.rows`); only rows and flows are kept
elsewhere. Nobody else changes anything here and no connection is ever lost, so whatever the doors tell of that is never told. The tests
hold the real doors and these against the same cases.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from re import Pattern
from types import MappingProxyType
from typing import Any

from dpuchain.agent.netlink import Aliases
from dpuchain.agent.representors import Devices
from dpuchain.chain.representors import NetDevice
from dpuchain.flows.model import Flow, FlowChanges, FlowKey, FlowState
from dpuchain.flows.pipeline import COOKIE, LEARNED_KIND, ROUND, round_of
from dpuchain.ovs.changes import Composer, PortChange
from dpuchain.ovs.database import Database
from dpuchain.ovs.decode import Counted, Update
from dpuchain.ovs.errors import OvsError, Unreachable
from dpuchain.ovs.openflow import OpenFlow
from dpuchain.ovs.rows import Absent, BridgeRow, PortRow, bridge_row, port_row

BRIDGE = "br-sfc"
LOCAL_PORT = 65534
DEFAULT_MTU = 1500
RANGES = {"ofport_request": range(1, 65280), "mtu_request": range(68, 65536)}
"""What the schema allows (ovs-vswitchd.conf.db(5))."""


class _Row:
    """A row with its columns as attributes, as the library has it: an optional value is a list of one or none."""

    _data: Mapping[str, object] = MappingProxyType({})
    """None would say that the row is made by the transaction under way, and cannot be verified."""

    def __init__(self, undo: list[Callable[[], None]], **columns: object) -> None:
        vars(self).update(columns, _undo=undo)

    def __setattr__(self, column: str, value: Any) -> None:
        allowed = RANGES.get(column)
        if allowed is not None and any(number not in allowed for number in value):
            return  # the library logs and drops what the schema does not allow
        before = vars(self).get(column)
        self._undo.append(lambda: vars(self).update({column: before}))
        vars(self)[column] = value

    def __getattr__(self, column: str) -> Any:
        raise AttributeError(column)

    def addvalue(self, column: str, value: _Row) -> None:
        setattr(self, column, [*getattr(self, column), value])

    def delvalue(self, column: str, value: _Row) -> None:
        setattr(self, column, [other for other in getattr(self, column) if other is not value])

    def verify(self, column: str) -> None:
        """Nobody else writes between a look and the transaction."""


class _Table:
    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: dict[int, _Row] = {}


class _Tables(dict[str, _Table]):
    """The database's tables, with what takes back the changes of the transaction under way."""

    def __init__(self) -> None:
        super().__init__({name: _Table(name) for name in ("Bridge", "Port", "Interface")})
        self.undo: list[Callable[[], None]] = []

    def insert(self, table: _Table) -> _Row:
        empty: dict[str, list[object]] = {
            column: [] for column in ("ofport", "ofport_request", "error", "link_state", "admin_state", "mtu", "mtu_request", "mac_in_use")
        }
        row = _Row(self.undo, name="", **(empty if table.name == "Interface" else {}))
        table.rows[id(row)] = row
        self.undo.append(lambda: table.rows.__delitem__(id(row)))
        return row

    def roll_back(self) -> None:
        while self.undo:
            self.undo.pop()()

    def commit(self) -> bool:
        """End the transaction; returns whether it has changed anything. Ports that no bridge has are gone, as the database does it."""
        changed = bool(self.undo)
        self.undo.clear()
        kept = {id(port) for bridge in self["Bridge"].rows.values() for port in bridge.ports}
        if kept != self["Port"].rows.keys():
            self["Port"].rows = {key: row for key, row in self["Port"].rows.items() if key in kept}
            interfaces = {id(interface) for port in self["Port"].rows.values() for interface in port.interfaces}
            self["Interface"].rows = {key: row for key, row in self["Interface"].rows.items() if key in interfaces}
        return changed


class MemoryDatabase(Database):
    """A database with one bridge, and a switch daemon that gives each new port its number and brings its link up at once."""

    def __init__(self, remote: str = "") -> None:
        self._remote = remote
        self._subscribers: list[Callable[[], None]] = []
        self._running = asyncio.Event()
        self._tables = _Tables()
        self._bridges: Mapping[str, Mapping[str, PortRow]] | None = None
        bridge = self._tables.insert(self._tables["Bridge"])
        port, interface = (self._tables.insert(self._tables[table]) for table in ("Port", "Interface"))
        for row in (bridge, port, interface):
            row.name, row.external_ids = BRIDGE, {}
        interface.type, interface.options, interface.ofport = "internal", {}, [LOCAL_PORT]
        port.interfaces, bridge.ports = [interface], [port]
        bridge.datapath_type, bridge.datapath_id, bridge.fail_mode, bridge.protocols = "netdev", ["0" * 16], ["secure"], ["OpenFlow14"]
        self._tables.commit()

    @property
    def connected(self) -> bool:
        return self._running.is_set()

    async def synced(self) -> None:
        await self._running.wait()

    def subscribe(self, callback: Callable[[], None]) -> None:
        self._subscribers.append(callback)

    async def run(self) -> None:
        self._running.set()
        try:
            self._told()
            await asyncio.Event().wait()
        finally:
            self._running.clear()
            self._told()

    def _told(self) -> None:
        for callback in self._subscribers:
            callback()

    def _rows(self, table: str) -> Iterator[_Row]:
        if not self.connected:
            raise Unreachable(f"{self._remote}: not connected")
        return iter(self._tables[table].rows.values())

    def bridge(self, name: str) -> BridgeRow | Absent:
        return next((bridge_row(row) for row in self._rows("Bridge") if row.name == name), Absent(f"bridge {name}"))

    def ports(self, bridge: str) -> Mapping[str, PortRow] | Absent:
        return self.bridges().get(bridge, Absent(f"bridge {bridge}"))

    def bridges(self) -> Mapping[str, Mapping[str, PortRow]]:
        rows = self._rows("Bridge")
        if self._bridges is None:
            self._bridges = MappingProxyType(
                {row.name: MappingProxyType({value.name: value for value in map(port_row, row.ports)}) for row in rows}
            )
        return self._bridges

    def settings(self) -> Mapping[str, str]:
        self._rows("Bridge")
        return MappingProxyType({})

    async def apply(self, changes: Sequence[PortChange]) -> None:
        if not changes:
            return
        self._rows("Bridge")
        try:
            composer = Composer(self._tables, self._tables)
            for change in changes:
                composer.compose(change)
        except BaseException:
            self._tables.roll_back()
            raise
        if self._tables.commit():
            self._changed_rows()
            asyncio.get_running_loop().call_soon(self._take_up)

    def _changed_rows(self) -> None:
        self._bridges = None
        self._told()

    def _take_up(self) -> None:
        """What ovs-vswitchd does with a changed database."""
        interfaces = self._tables["Interface"].rows.values()
        taken = {number for row in interfaces for number in row.ofport}
        for row in interfaces:
            if not row.ofport:
                free = (number for number in chain(row.ofport_request, range(1, LOCAL_PORT)) if number not in taken)
                row.ofport, row.link_state, row.admin_state = [next(free)], ["up"], ["up"]
                taken.update(row.ofport)
            mtu = row.mtu_request or [DEFAULT_MTU]
            if row.mtu != mtu:
                row.mtu = mtu
        if self._tables.commit():
            self._changed_rows()


class MemoryOpenFlow(OpenFlow):
    """The flow tables of a bridge that takes every flow."""

    def __init__(self, socket: Path = Path("memory")) -> None:
        self._socket = socket
        self._subscribers: list[Callable[[], None]] = []
        self._running = asyncio.Event()
        self._flows: dict[FlowKey, Flow] = {}
        self.changed = 0.0
        """When a flow was changed last, by `time.monotonic`; 0 if none ever was."""

    @property
    def connected(self) -> bool:
        return self._running.is_set()

    @property
    def failure(self) -> OvsError | None:
        return None if self.connected else Unreachable(f"{self._socket.name}: not connected")

    def subscribe(self, callback: Callable[[], None]) -> None:
        self._subscribers.append(callback)

    def watch(self, callback: Callable[[list[Update]], None]) -> None:
        """There is nobody else whose changes could be told."""

    async def synced(self) -> None:
        await self._running.wait()

    async def run(self) -> None:
        self._running.set()
        try:
            self._told()
            await asyncio.Event().wait()
        finally:
            self._running.clear()
            self._told()

    def _told(self) -> None:
        for callback in self._subscribers:
            callback()

    def _check(self) -> None:
        failure = self.failure
        if failure is not None:
            raise failure

    async def read_state(self, owner: int | None = None) -> FlowState:
        self._check()
        found = [flow for flow in self._flows.values() if owner is None or COOKIE["owner"].read(flow.cookie) == owner]
        present = (flow for flow in found if round_of(flow.cookie) == ROUND)
        learned = frozenset(flow for flow in present if COOKIE["kind"].read(flow.cookie) == LEARNED_KIND)
        return FlowState(frozenset(found) - learned, learned)

    async def read_counted(self, cookie: int = 0, mask: int = 0) -> list[Counted]:
        """Nothing is forwarded, so nothing is counted."""
        self._check()
        return [Counted(flow, 0) for flow in self._flows.values() if not (flow.cookie ^ cookie) & mask]

    async def apply(self, changes: FlowChanges) -> None:
        """As on a switch, but that no flow ends by itself, so there is nothing to be renewed."""
        if not changes:
            return
        self._check()
        for pattern in changes.flush:
            behind = [
                key
                for key, flow in self._flows.items()
                if pattern.table in (None, key.table) and not (flow.cookie ^ pattern.cookie) & pattern.mask
            ]
            for key in behind:
                del self._flows[key]
        for flow in changes.delete:
            if self._flows.get(flow.key) is not None and self._flows[flow.key].cookie == flow.cookie:
                del self._flows[flow.key]
        for flow in (*changes.modify, *changes.add):
            self._flows[flow.key] = flow
        self.changed = time.monotonic()


class NoPods(Aliases):
    """The aliases of a DPU's devices: none, as no pod is attached. The machine that all of them run on is not asked."""

    def __init__(self, name: Pattern[str]) -> None:
        """No socket is opened."""

    async def read(self) -> dict[str, str]:
        return {}


class FixedDevices(Devices):
    """The devices of a DPU, by the names that BlueField's udev rules give to representors; none ever changes."""

    def __init__(self, names: Sequence[str]) -> None:
        self.present = tuple(NetDevice(name) for name in names)

    def subscribe(self, callback: Callable[[], None]) -> None:
        """There is no change to tell of."""

    async def run(self) -> None:
        await asyncio.Event().wait()
