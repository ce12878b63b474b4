"""Commands to Open vSwitch's daemons, such as `ofproto/trace`, on their control sockets: what `ovs-appctl` does, without blocking the
loop.
"""

from __future__ import annotations

from pathlib import Path

from dpuchain.ovs.errors import Invalid
from dpuchain.ovs.jsonrpc import ask


async def call(socket: Path, command: str, *arguments: str) -> str:
    """What the daemon behind `socket` answers to `command`.

    Rejected if it refuses, with its words; Unreachable if it cannot be reached or hangs up; Invalid if what it says is not text.
    """
    answer = await ask(socket, command, arguments)
    if not isinstance(answer, str):
        message = f"{socket}: {command} was answered with {answer!r} instead of text"
        raise Invalid(message)
    return answer
