"""Commands to Open vSwitch's daemons, such as `ofproto/trace`, on their control sockets: what `ovs-appctl` does.

The library's client blocks, so the protocol is spoken here: one JSON-RPC request, one answer (ovs-appctl(8), RFC 7047 section 4).
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from dpuchain.ovs.errors import Invalid, Rejected, Unreachable

ANSWER_SECONDS = 10.0


class _Answer(msgspec.Struct):
    id: int | None = None
    result: Any = None
    error: Any = None


async def call(socket: Path, command: str, *arguments: str) -> str:
    """What the daemon behind `socket` answers to `command`.

    Rejected if it refuses, with its words; Unreachable if it cannot be reached or hangs up; Invalid if what it says is no answer.
    """
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write(msgspec.json.encode({"id": 0, "method": command, "params": list(arguments)}))
                return _result(await _object(reader, socket), socket, command)
            finally:
                writer.close()
    except OSError as error:  # TimeoutError is one
        message = f"{socket}: {command} was not answered: {error or 'time is up'}"
        raise Unreachable(message) from error


async def _object(reader: asyncio.StreamReader, socket: Path) -> bytes:
    """One JSON object. There is no delimiter: it ends with the bracket that closes the first."""
    received = bytearray()
    depth, in_text, escaped = 0, False, False
    while True:
        chunk = await reader.read(65536)
        if not chunk:
            message = f"{socket}: the daemon hung up before it had answered"
            raise Unreachable(message)
        for character in chunk:
            received.append(character)
            if in_text:
                in_text = escaped or character != ord('"')
                escaped = not escaped and character == ord("\\")
            elif character == ord('"'):
                in_text = True
            else:
                depth += (character == ord("{")) - (character == ord("}"))
                if not depth:
                    return bytes(received)


def _result(answer: bytes, socket: Path, command: str) -> str:
    try:
        reply = msgspec.json.decode(answer, type=_Answer)
    except msgspec.MsgspecError as error:
        message = f"{socket}: {command} was answered with something that is not JSON-RPC: {error}"
        raise Invalid(message) from error
    if reply.error is not None:
        message = f"{socket}: {command} was refused: {str(reply.error).strip()}"
        raise Rejected("error", message)
    if not isinstance(reply.result, str):
        message = f"{socket}: {command} was answered with {reply.result!r} instead of text"
        raise Invalid(message)
    return reply.result
