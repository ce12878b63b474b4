"""What the foreground does with racks: raise one, say how it is, take it down. One at a time for each directory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec

from dpuchain.lab import remains
from dpuchain.lab.errors import LabError
from dpuchain.lab.process import tail
from dpuchain.lab.supervisor import Event, Request, encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from dpuchain.lab.layout import Layout, Shape

    Report = Callable[[str], None]


async def up(layout: Layout, shape: Shape, report: Report) -> bool:
    """Have a rack of this shape run: bring back what has died of the one that is there, or raise a new one; return whether it is new.

    Raises `LabError`. If raising fails, only the files stay, for their logs; if it is cancelled, nothing does.
    """
    layout.check_free()
    if await _converges(layout, shape, report):
        return False
    if layout.shape is not None:
        report("removing what an earlier rack has left")
        await remains.remove(layout)
    try:
        await _raise(layout, shape, report)
    except LabError:
        await remains.end(layout)
        raise
    except BaseException:
        await remains.remove(layout)
        raise
    return True


async def down(layout: Layout) -> bool:
    """Take the rack down and remove all of it; return whether there was one."""
    there = layout.shape is not None
    await remains.remove(layout)
    return there


async def status(layout: Layout) -> list[Event]:
    """Return one event for each process of the rack. Raises `LabError` if no rack is up."""
    try:
        return [event async for event in _ask(layout, Request("status"))]
    except OSError:
        raise _no_rack(layout) from None


async def reboot(layout: Layout, dpu: str, *, keep_database: bool, report: Report) -> None:
    """Crash a DPU and boot it; returns when the rack is ready again. Raises `LabError`."""
    try:
        async for event in _ask(layout, Request("reboot", dpu, keep_database)):
            if event.kind == "up":
                return
            if event.kind == "failed":
                raise LabError(event.text, event.remedy)
            report(event.text)
    except OSError:
        raise _no_rack(layout) from None
    raise LabError(f"the supervisor ended; the end of {layout.supervisor_log}:\n{tail(layout.supervisor_log)}")


def _no_rack(layout: Layout) -> LabError:
    return LabError(f"no rack is up in {layout.directory}", "raise one with `dpuchain lab up`")


@contextlib.contextmanager
def alone(layout: Layout) -> Iterator[None]:
    """Keep other commands away from the rack meanwhile. Raises `LabError` if one is at work on it."""
    with socket.socket(socket.AF_UNIX) as lock:
        try:
            lock.bind(f"\0dpuchain-lab-{layout.identity.digits}")  # an abstract address: it ends with this process and leaves no file
        except OSError:
            raise LabError(f"another `dpuchain lab` is at work on {layout.directory}", "wait for it or end it") from None
        yield


async def _converges(layout: Layout, shape: Shape, report: Report) -> bool:
    """Whether a rack of this shape is up, after bringing back what had died of it."""
    if layout.shape != shape:
        return False
    with contextlib.suppress(OSError):
        async for event in _ask(layout, Request("converge")):
            if event.kind == "up":
                return True
            report(event.text)
    return False


async def _ask(layout: Layout, request: Request) -> AsyncIterator[Event]:
    reader, writer = await asyncio.open_unix_connection(str(layout.supervisor_socket))
    try:
        writer.write(encode(request))
        async for line in reader:
            yield msgspec.json.decode(line, type=Event)
    finally:
        writer.close()


async def _raise(layout: Layout, shape: Shape, report: Report) -> None:
    layout.create(shape)
    arguments = [str(layout.directory), f"--dpus={shape.dpus}", f"--clusters={shape.clusters}"]
    async for event in _events(_start_supervisor(layout, arguments)):
        if event.kind == "up":
            return
        if event.kind == "failed":
            raise LabError(event.text, event.remedy)
        report(event.text)
    raise LabError(f"the supervisor ended; the end of {layout.supervisor_log}:\n{tail(layout.supervisor_log)}")


def _start_supervisor(layout: Layout, arguments: Sequence[str]) -> int:
    """Start the supervisor, which outlives this process, and return the descriptor that its events are read from."""
    ours, its = os.pipe()
    with layout.supervisor_log.open("ab") as log, os.fdopen(its, "wb") as output:
        subprocess.Popen(
            [sys.executable, "-m", "dpuchain.lab.supervisor", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=log,
            start_new_session=True,
        )
    return ours


async def _events(descriptor: int) -> AsyncIterator[Event]:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(descriptor, "rb"))
    try:
        async for line in reader:
            yield msgspec.json.decode(line, type=Event)
    finally:
        transport.close()
