"""Frames handed to the switch as if they had come in by a port, and frames that flows hand to us."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from dpuchain.flows.model import Flow
from dpuchain.ovs import encode
from dpuchain.ovs import protocol as of
from dpuchain.ovs.connection import Connection, connect, rejection

Send = Callable[[int, bytes], None]
"""Has the switch take a frame as come in by a port."""


@contextlib.asynccontextmanager
async def catching(socket: Path, flows: Sequence[Flow], take: Callable[[bytes], None]) -> AsyncIterator[Send]:
    """Have `flows` in the switch while the context lasts, and `take` called with the frames that they send to a controller.

    On a connection of its own, since one that asked for frames gets those of others too. Flows that a process leaves behind go by their
    timeouts, which each must have. Raises OvsErrors.
    """
    assert all(flow.hard_timeout for flow in flows), "nothing may be left behind"
    cookies = {flow.cookie for flow in flows}
    connection = await connect(socket)

    def caught(cookie: int, frame: bytes) -> None:
        if cookie in cookies:
            take(frame)

    connection.on_frame = caught
    try:
        wanted = encode.message(of.SET_CONFIG, connection.next_transaction(), encode.frames_wanted())
        await _tell(connection, [wanted, *(_modification(connection, encode.add(flow)) for flow in flows)])
        yield lambda port, frame: connection.send([_out(connection, port, frame)])
        await _tell(connection, [_modification(connection, encode.delete(flow)) for flow in flows])
    finally:
        connection.close()


def _modification(connection: Connection, body: bytes) -> bytes:
    return encode.message(of.FLOW_MOD, connection.next_transaction(), body)


def _out(connection: Connection, port: int, frame: bytes) -> bytes:
    return encode.message(of.PACKET_OUT, connection.next_transaction(), encode.packet_out(port, frame))


async def _tell(connection: Connection, messages: Sequence[bytes]) -> None:
    """Send messages and return when the switch has done as they say. Rejected if it refuses one."""
    connection.send(messages)
    await connection.ask(of.BARRIER_REQUEST)
    for error in connection.take_refusals().values():
        raise rejection(connection.name, "a probe", error)
