"""One question to a daemon of Open vSwitch by JSON-RPC, as its control sockets and its database speak it (RFC 7047, section 4)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from dpuchain.ovs.errors import Invalid, Rejected, Unreachable

ANSWER_SECONDS = 10.0


class _Answer(msgspec.Struct):
    result: Any = None
    error: Any = None


async def ask(socket: Path, method: str, parameters: Sequence[str]) -> Any:  # JSON has no narrower type
    """The result that the daemon behind `socket` gives, as decoded JSON.

    Rejected if it refuses, with its words; Unreachable if it cannot be reached or hangs up; Invalid if what it says is no answer.
    """
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write(msgspec.json.encode({"id": 0, "method": method, "params": parameters}))
                answer = await _object(reader, socket)
            finally:
                writer.close()
    except OSError as error:  # TimeoutError is one
        message = f"{socket}: {method} was not answered: {error or f'{ANSWER_SECONDS:g} s have passed'}"
        raise Unreachable(message) from error
    return result(answer, f"{socket}: {method}")


async def _object(reader: asyncio.StreamReader, socket: Path) -> bytes:
    received = bytearray()
    end = ObjectEnd()
    while True:
        chunk = await reader.read(65536)
        if not chunk:
            message = f"{socket}: the daemon hung up before it had answered"
            raise Unreachable(message)
        position = end.find(chunk)
        received += chunk[:position]
        if position is not None:
            return bytes(received)


class ObjectEnd:
    """Finds where a JSON object ends, in bytes that come piece by piece: messages have no delimiter but the bracket that closes them."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_text = False
        self._escaped = False

    def find(self, chunk: bytes) -> int | None:
        """Position in `chunk` just after the object, or None if it goes on. What comes before its first bracket counts as part of it."""
        for position, character in enumerate(chunk, 1):
            if self._in_text:
                self._in_text = self._escaped or character != ord('"')
                self._escaped = not self._escaped and character == ord("\\")
            elif character == ord('"'):
                self._in_text = True
            elif character == ord("{"):
                self._depth += 1
            elif character == ord("}"):
                self._depth -= 1
                if self._depth <= 0:
                    return position
        return None


def result(answer: bytes, question: str) -> Any:  # JSON has no narrower type
    """The result in the bytes of an answer. Rejected if it is an error, Invalid if it is not an answer at all."""
    try:
        reply = msgspec.json.decode(answer, type=_Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = f"{question} was answered with something that is not JSON-RPC: {error}"
        raise Invalid(message) from error
    if reply.error is not None:
        message = f"{question} was refused: {str(reply.error).strip()}"
        raise Rejected("error", message)
    return reply.result
