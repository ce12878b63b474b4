"""Open vSwitch's database: what ports there are, told at each change, and changes to them."""

from __future__ import annotations

import asyncio
import functools
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

import msgspec
import ovs.db.error
import ovs.db.idl

from dpuchain.ovs.changes import Composer, PortChange
from dpuchain.ovs.errors import Invalid, OvsError, Rejected, Unreachable
from dpuchain.ovs.jsonrpc import ask
from dpuchain.ovs.poller import LoopPoller
from dpuchain.ovs.rows import COLUMNS, Absent, BridgeRow, PortRow, Row, bridge_row, port_row

P = ParamSpec("P")
R = TypeVar("R")

SCHEMA = "Open_vSwitch"

# Milliseconds between attempts to connect: the shortest that the library takes, since its longest, 8 s, is long for a socket on the same
# machine.
RECONNECT_MILLISECONDS = 1000
# Seconds between attempts to read the schema, before the library takes over.
FIRST_WAIT = 0.05
LONGEST_WAIT = 1.0

_log = logging.getLogger(__name__)


def _readable(read: Callable[P, R]) -> Callable[P, R]:
    """Make whatever is wrong with a row one error: the library looks at values when they are asked for."""

    @functools.wraps(read)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return read(*args, **kwargs)
        except ovs.db.error.Error as error:
            message = f"the database holds what its schema does not allow ({read.__name__}): {error}"
            raise Invalid(message) from error

    return wrapper


class _Replica(ovs.db.idl.Idl):  # type: ignore[misc]  # the library has no types
    """The library's copy of the database, which says which rows changed and whether it is up to date."""

    def __init__(self, remote: str, schema: dict[str, Any]) -> None:
        helper = ovs.db.idl.SchemaHelper(schema_json=schema)
        for table, columns in COLUMNS.items():
            helper.register_columns(table, list(columns))
        super().__init__(remote, helper)
        self._session.reconnect.set_backoff(RECONNECT_MILLISECONDS, RECONNECT_MILLISECONDS)
        self.values: dict[uuid.UUID, BridgeRow | PortRow] = {}
        self._port_of: dict[uuid.UUID, uuid.UUID] = {}

    @property
    def current(self) -> bool:
        """Whether a connection is open and its first contents have been received."""
        return bool(self._session.is_connected() and self._session.get_seqno() == self._last_seqno and self.state == self.IDL_S_MONITORING)

    @property
    def session(self) -> int:
        """A number that differs between connections."""
        return int(self._session.get_seqno())

    def notify(self, event: str, row: Row, updates: Row = None) -> None:
        """Forget the value made of a row that has changed."""
        self.values.pop(row.uuid, None)
        self.values.pop(self._port_of.pop(row.uuid, row.uuid), None)

    def bridge(self, row: Row) -> BridgeRow:
        """Value of a row of table Bridge."""
        value = self.values.get(row.uuid)
        if not isinstance(value, BridgeRow):
            value = self.values[row.uuid] = bridge_row(row)
        return value

    def port(self, row: Row) -> PortRow:
        """Value of a row of table Port, made again only after the row, or one of its interface, has changed."""
        value = self.values.get(row.uuid)
        if not isinstance(value, PortRow):
            value = self.values[row.uuid] = port_row(row)
            for interface in row.interfaces:
                self._port_of[interface.uuid] = row.uuid
        return value


class Database:
    """A live copy of the part of Open vSwitch's database that is about ports.

    `run` keeps it up to date until cancelled. Reading raises Unreachable while there is no connection, so that what could not be read is
    never taken for what is not there; that is `Absent`.
    """

    def __init__(self, remote: str) -> None:
        """`remote` is `unix:` and the path of ovsdb-server's socket."""
        kind, _, path = remote.partition(":")
        if kind != "unix" or not path:
            message = f"{remote}: the database of a DPU is reached by its socket: unix:/path/to/db.sock"
            raise ValueError(message)
        self._remote = remote
        self._socket = Path(path)
        self._replica: _Replica | None = None
        self._failure: OvsError = Unreachable(f"{remote}: not connected yet")
        self._callbacks: list[Callable[[], None]] = []
        self._changed = asyncio.Event()
        self._pending: dict[Any, asyncio.Future[str]] = {}
        self._poller: LoopPoller | None = None

    @property
    def connected(self) -> bool:
        """Whether the copy is up to date."""
        return self._replica is not None and self._replica.current

    async def synced(self) -> None:
        """Return when the copy is complete."""
        while not self.connected:
            await self._changed.wait()

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each change of a row, and each time that the connection was made or lost."""
        self._callbacks.append(callback)

    async def run(self) -> None:
        """Keep the copy up to date, and connect again whenever the connection is lost, until cancelled."""
        self._replica = replica = _Replica(self._remote, await self._schema())
        connected = False
        try:
            while True:
                changed = replica.run()
                self._settle()
                if replica.current != connected:
                    connected = replica.current
                    changed = True
                    self._note(connected)
                if changed:
                    self._tell()
                self._poller = LoopPoller()
                replica.wait(self._poller)
                await self._poller.block()
        finally:
            self._replica = None
            replica.close()
            self._give_up()
            self._tell()

    def _note(self, connected: bool) -> None:
        if connected:
            _log.info("%s: connected", self._remote)
            return
        self._failure = Unreachable(f"{self._remote}: the connection to the database was lost")
        _log.warning("%s", self._failure)
        if self._replica is not None:
            # Rows that vanish while nobody looks are not told one by one.
            self._replica.values.clear()

    async def _schema(self) -> dict[str, Any]:
        wait = FIRST_WAIT
        while True:
            try:
                schema = await ask(self._socket, "get_schema", [SCHEMA])
            except OvsError as error:
                if str(error) != str(self._failure):
                    _log.warning("%s", error)
                self._failure = error
                await asyncio.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)
                continue
            if isinstance(schema, dict):
                return schema
            message = f"{self._remote}: the schema of the database is {schema!r}"
            raise Invalid(message)

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        for callback in self._callbacks:
            callback()

    def _settle(self) -> None:
        for transaction, outcome in list(self._pending.items()):
            status = transaction.commit()
            if status != transaction.INCOMPLETE:
                del self._pending[transaction]
                if not outcome.done():
                    outcome.set_result(status)

    def _give_up(self) -> None:
        for outcome in self._pending.values():
            if not outcome.done():
                outcome.set_result(ovs.db.idl.Transaction.TRY_AGAIN)
        self._pending.clear()

    def _current(self) -> _Replica:
        if self._replica is None or not self._replica.current:
            raise Unreachable(str(self._failure)) from self._failure
        return self._replica

    @_readable
    def bridge(self, name: str) -> BridgeRow | Absent:
        """The bridge called `name`. Unreachable without a connection."""
        replica = self._current()
        row = self._bridge_of(replica, name)
        return Absent(f"bridge {name}") if row is None else replica.bridge(row)

    @_readable
    def ports(self, bridge: str) -> Mapping[str, PortRow] | Absent:
        """The ports of `bridge` by name, its own included; Absent if there is no such bridge. Unreachable without a connection."""
        replica = self._current()
        row = self._bridge_of(replica, bridge)
        if row is None:
            return Absent(f"bridge {bridge}")
        values = (replica.port(port) for port in row.ports)
        return MappingProxyType({value.name: value for value in values})

    @_readable
    def bridges(self) -> Mapping[str, Mapping[str, PortRow]]:
        """The ports of every bridge, by the names of both. Unreachable without a connection."""
        replica = self._current()
        found = {row.name: {value.name: value for value in map(replica.port, row.ports)} for row in replica.tables["Bridge"].rows.values()}
        return MappingProxyType(found)

    @_readable
    def settings(self) -> Mapping[str, str]:
        """The `other_config` of Open vSwitch as a whole. Unreachable without a connection."""
        rows = self._current().tables["Open_vSwitch"].rows.values()
        return MappingProxyType({key: value for row in rows for key, value in row.other_config.items()})

    @staticmethod
    def _bridge_of(replica: _Replica, name: str) -> Row:
        return next((row for row in replica.tables["Bridge"].rows.values() if row.name == name), None)

    async def apply(self, changes: Sequence[PortChange]) -> None:
        """Make all changes in one transaction, and return when the database has them and this copy shows them.

        Nothing is sent if everything is as it should be. Rejected, with nothing done, if a change must not be made or the database refuses;
        Unreachable if the connection is lost, in which case it is not known whether the changes were made.
        """
        while changes:
            replica = self._current()
            session, before = replica.session, replica.change_seqno
            transaction = self._compose(replica, changes)
            status = await self._commit(transaction)
            if status in (transaction.SUCCESS, transaction.UNCHANGED):
                return
            if not (self.connected and replica.session == session):
                message = f"{self._remote}: the connection was lost before the database had answered"
                raise Unreachable(message)
            if status == transaction.ERROR:
                refusal = _refusal(self._remote, transaction.get_error())
                # Somebody else may have made a port of this name just now; then the next try says whose it is.
                if refusal.code != "constraint violation" or replica.change_seqno == before:
                    raise refusal
                continue
            # What the change was composed from is no longer so: compose it again once the copy shows what is.
            while self.connected and replica.change_seqno == before:
                await self._changed.wait()

    @staticmethod
    def _compose(replica: _Replica, changes: Sequence[PortChange]) -> Any:
        transaction = ovs.db.idl.Transaction(replica)
        try:
            composer = Composer(transaction, replica.tables)
            for change in changes:
                composer.compose(change)
        except BaseException:
            transaction.abort()
            raise
        return transaction

    async def _commit(self, transaction: Any) -> str:
        status: str = transaction.commit()
        if status != transaction.INCOMPLETE:
            return status
        outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._pending[transaction] = outcome
        if self._poller is not None:
            self._poller.wake()  # so that what could not be sent at once is waited for
        return await outcome


def _refusal(remote: str, error: str) -> Rejected:
    """The database's error, a JSON object with `error` and `details` (RFC 7047, section 3.1), as an exception."""
    try:
        said = msgspec.json.decode(error, type=dict[str, Any])
    except msgspec.MsgspecError:
        said = {}
    code = str(said.get("error", "error"))
    return Rejected(code, f"{remote}: the database refused the change: {code}: {said.get('details', error)}")
