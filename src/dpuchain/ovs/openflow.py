"""The flow tables of one bridge."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from dpuchain.flows.model import Flow, FlowChanges, FlowState, Flush
from dpuchain.flows.pipeline import COOKIE, LEARNED_KIND, OURS, OURS_MASK, PIPELINE, ROUND, is_ours, is_probe, round_of
from dpuchain.ovs import decode, encode
from dpuchain.ovs import protocol as of
from dpuchain.ovs.connection import Connection, connect, rejection
from dpuchain.ovs.decode import Counted, PortCounters, Update
from dpuchain.ovs.errors import OvsError, Unreachable

# Seconds between two attempts to connect. A restarted ovs-vswitchd forwards nothing until its flows are back, so the longest wait is
# short; an attempt at a socket that is not there costs some 30 microseconds.
FIRST_WAIT = 0.005
LONGEST_WAIT = 0.02
_LEARNED_TABLES = {PIPELINE.table(learned).number for table in PIPELINE.tables for learned in table.learns}
WATCHED_TABLES = tuple(number for number in range(of.LAST_TABLE + 1) if number not in _LEARNED_TABLES)
"""The tables that are watched: all but those that a switch itself writes to, whenever a station speaks for the first time, as anybody who
sends frames could then keep us busy. Whatever else somebody puts there is found when the tables are read next.
"""
_FOREIGN_TABLES = frozenset(WATCHED_TABLES) - {table.number for table in PIPELINE.tables}

_log = logging.getLogger(__name__)


class OpenFlow:
    """Reads and changes the flows of one bridge by OpenFlow 1.4 on its management socket, `BRIDGE.mgmt`.

    `run` keeps a connection; everything else raises Unreachable at once while there is none. A connection to a restarted ovs-vswitchd
    finds empty tables: `subscribe` tells when one is made or lost.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._connection: Connection | None = None
        self._failure: OvsError = Unreachable(f"{socket.name}: not connected yet")
        self._callbacks: list[Callable[[], None]] = []
        self._watchers: list[Callable[[list[Update]], None]] = []
        self._changed = asyncio.Event()
        self._one_bundle = asyncio.Lock()
        self._bundle = 0

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._connection is not None

    @property
    def failure(self) -> OvsError | None:
        """Why there is no connection; None while there is one."""
        return None if self.connected else self._failure

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call `callback` each time that the connection was made or lost."""
        self._callbacks.append(callback)

    def watch(self, callback: Callable[[list[Update]], None]) -> None:
        """Call `callback` with each change that somebody else makes to one of our tables, or to a flow of ours in another.

        What a switch learns is no such change, as it has a table of its own.
        """
        self._watchers.append(callback)

    async def synced(self) -> None:
        """Return when there is a connection."""
        while not self.connected:
            await self._changed.wait()

    async def run(self) -> None:
        """Connect, and connect again whenever the connection is lost, until cancelled."""
        wait = FIRST_WAIT
        while True:
            try:
                connection = await self._connect()
            except OvsError as error:
                if str(error) != str(self._failure):
                    _log.warning("%s", error)
                self._failure = error
                await asyncio.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)
                continue
            wait = FIRST_WAIT
            self._switch(connection)
            try:
                self._failure = await asyncio.shield(connection.lost)
            finally:
                connection.close()
                self._switch(None)

    async def _connect(self) -> Connection:
        """Connect, and ask to be told of changes before anything is read, so that none comes between the two."""
        connection = await connect(self._socket)
        try:
            connection.on_updates = self._tell
            await asyncio.gather(*(connection.ask(of.MULTIPART_REQUEST, encode.monitor_request(table, table)) for table in WATCHED_TABLES))
        except BaseException:
            connection.close()
            raise
        return connection

    def _tell(self, updates: list[Update]) -> None:
        told = (update for update in updates if update.table not in _FOREIGN_TABLES or is_ours(update.cookie))
        concerning = [update for update in told if not is_probe(update.cookie)]
        if concerning:
            for callback in self._watchers:
                callback(concerning)

    def _switch(self, connection: Connection | None) -> None:
        self._connection = connection
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        for callback in self._callbacks:
            callback()

    def _connected(self) -> Connection:
        if self._connection is None:
            raise Unreachable(str(self._failure)) from self._failure
        return self._connection

    async def read_state(self, owner: int | None = None) -> FlowState:
        """The flows under our cookies, of all tables and rounds, as the switch has them now: all, or those of one owner, by its number.

        Unreachable without a connection, Invalid if the answer makes no sense. Never an empty state for want of an answer.
        """
        cookie, mask = OURS, OURS_MASK
        if owner is not None:
            cookie, mask = cookie | COOKIE["owner"].place(owner), mask | COOKIE["owner"].mask
        content = await self._connected().ask(of.MULTIPART_REQUEST, encode.flow_request(of.ALL_TABLES, cookie, mask))
        found = [flow for flow in decode.flows(content) if is_ours(flow.cookie)]
        present = (flow for flow in found if round_of(flow.cookie) == ROUND)
        learned = frozenset(flow for flow in present if COOKIE["kind"].read(flow.cookie) == LEARNED_KIND)
        return FlowState(frozenset(found) - learned, learned)

    async def read_counted(self, cookie: int = 0, mask: int = 0) -> list[Counted]:
        """Every flow of the bridge with such a cookie, whoever made it, with its counts. Unreachable and Invalid as above."""
        content = await self._connected().ask(of.MULTIPART_REQUEST, encode.flow_request(of.ALL_TABLES, cookie, mask))
        return decode.counted_flows(content)

    async def count_flows(self, cookie: int, mask: int) -> int:
        """How many flows of the bridge have such a cookie. Unreachable and Invalid as above."""
        return decode.flow_count(await self._connected().ask(of.MULTIPART_REQUEST, encode.count_request(cookie, mask)))

    async def read_ports(self) -> dict[int, PortCounters]:
        """What has passed each port of the bridge, by number. Unreachable and Invalid as above."""
        return decode.port_counters(await self._connected().ask(of.MULTIPART_REQUEST, encode.port_request()))

    async def apply(self, changes: FlowChanges) -> None:
        """Carry out all of `changes` at once, or none of them: frames see the tables before, or after, nothing between.

        Returns when the switch has confirmed. Sends nothing if there is nothing to change. Rejected, naming the flow, if the switch
        refuses one; Unreachable if the connection ends, in which case it is not known whether the changes were made: read the state.
        """
        if not changes:
            return
        async with self._one_bundle:
            await self._send_bundle(changes)

    async def _send_bundle(self, changes: FlowChanges) -> None:
        connection = self._connected()
        self._bundle = self._bundle % 0xFFFFFFFF + 1
        connection.take_refusals()
        sent: dict[int, Flow | Flush] = {}
        messages = []
        opening = connection.next_transaction()
        messages.append(encode.message(of.BUNDLE_CONTROL, opening, encode.bundle_control(self._bundle, of.BUNDLE_OPEN)))
        for item, body in _modifications(changes):
            transaction = connection.next_transaction()
            sent[transaction] = item
            messages.append(encode.message(of.BUNDLE_ADD, transaction, encode.bundle_add(self._bundle, transaction, body)))
        connection.send(messages)
        # A message that the switch cannot take is left out of the bundle, with an error, and the rest could still be committed: so commit
        # only after a barrier has shown that there was no error.
        await connection.ask(of.BARRIER_REQUEST)
        refusals = connection.take_refusals()
        if refusals:
            await self._discard(connection)
            raise self._refused(refusals, sent)
        try:
            await connection.ask(of.BUNDLE_CONTROL, encode.bundle_control(self._bundle, of.BUNDLE_COMMIT))
        except OvsError as error:
            refusals = connection.take_refusals()
            raise (self._refused(refusals, sent) if refusals else error) from error

    async def _discard(self, connection: Connection) -> None:
        try:
            await connection.ask(of.BUNDLE_CONTROL, encode.bundle_control(self._bundle, of.BUNDLE_DISCARD))
        except OvsError as error:
            # The bundle may never have been opened; what matters is that it was not committed.
            _log.debug("%s: discarding bundle %d: %s", self._socket.name, self._bundle, error)

    def _refused(self, refusals: dict[int, decode.Error], sent: dict[int, Flow | Flush]) -> OvsError:
        transaction, error = next(((key, value) for key, value in refusals.items() if key in sent), next(iter(refusals.items())))
        return rejection(self._socket.name, str(sent.get(transaction, "the bundle")), error)


def _modifications(changes: FlowChanges) -> Iterator[tuple[Flow | Flush, bytes]]:
    """Everything to be done, in order: what goes, then what comes."""
    for pattern in changes.flush:
        yield pattern, encode.flush(pattern)
    for flow in changes.delete:
        yield flow, encode.delete(flow)
    for flow in (*changes.modify, *changes.add):
        yield flow, encode.add(flow)
    for flow in changes.renew:
        yield flow, encode.renew(flow)
