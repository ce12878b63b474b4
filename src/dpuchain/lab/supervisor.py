"""The process in the background that raises a rack and owns all its processes.

It tells how raising goes as lines of JSON (`Event`) on its standard output, up to and including `up` or `failed`; its log goes to standard
error. Once the rack is up it answers on a socket: the foreground writes a `Request` as a line and gets such lines until the supervisor
closes. `converge` brings back what has died, `reboot` crashes and boots a DPU; `status` tells what runs and what does not.

A supervisor that could not raise its rack ends. What it leaves is removed by who started it, or by `dpuchain lab down`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import structlog

from dpuchain.lab.cgroups import ControlGroup
from dpuchain.lab.errors import LabError, ProcessDied
from dpuchain.lab.layout import Layout, Shape
from dpuchain.lab.rack import Rack, describe
from dpuchain.lab.toolchain import Toolchain
from dpuchain.runtime import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from dpuchain.lab.process import Process

    Tell = Callable[["Event"], None]

PR_SET_CHILD_SUBREAPER = 36
REVIVALS = 3

_log = structlog.get_logger(__name__)


class Event(msgspec.Struct, frozen=True):
    """What the supervisor tells: progress, a process that runs or does not, or that the rack is up or has failed."""

    kind: Literal["progress", "dead", "running", "up", "failed"]
    text: str
    remedy: str = ""
    pid: int = 0


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the foreground wants; `dpu` and `keep_database` are of a reboot."""

    kind: Literal["status", "converge", "reboot"]
    dpu: str = ""
    keep_database: bool = True


class Supervisor:
    """Raises one rack, watches over it and answers requests about it."""

    def __init__(self, rack: Rack) -> None:
        self._rack = rack
        self._watches: set[asyncio.Task[None]] = set()
        self._mending = asyncio.Lock()

    async def run(self, tell: Tell) -> None:
        """Raise the rack and watch over it until this process is killed; returns if the rack cannot be raised."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, reap_orphans)
        try:
            await self._rack.build()
            await self._rack.operate()
            await self._rack.until_ready()
        except (LabError, BaseExceptionGroup) as error:
            tell(_failure(error))
            return
        for process in self._rack.processes:
            self._watch(process)
        async with await asyncio.start_unix_server(self._answer, str(self._rack.layout.supervisor_socket)):
            tell(Event("up", f"{self._rack.shape}: up"))
            await asyncio.Event().wait()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def tell(event: Event) -> None:
            writer.write(encode(event))

        with contextlib.suppress(ConnectionError):
            request = msgspec.json.decode(await reader.readline(), type=Request)
            if request.kind == "status":
                self._status(tell)
            else:
                await self._mend(request, tell)
            await writer.drain()
        writer.close()

    def _status(self, tell: Tell) -> None:
        for process in self._rack.processes:
            tell(Event("running" if process.running else "dead", process.name, pid=process.pid))

    async def _mend(self, request: Request, tell: Tell) -> None:
        """Reboot a DPU if that is asked for, start again what has died, and tell when the rack is ready."""
        async with self._mending:
            try:
                if request.kind == "reboot":
                    await self._reboot(request, tell)
                await self._revive(tell)
            except (LabError, BaseExceptionGroup) as error:
                tell(_failure(error))
            else:
                tell(Event("up", f"{self._rack.shape}: up"))

    async def _reboot(self, request: Request, tell: Tell) -> None:
        finds = "its" if request.keep_database else "an empty"
        tell(Event("progress", f"{request.dpu} is rebooted; Open vSwitch finds {finds} database"))
        for process in await self._rack.reboot(request.dpu, keep_database=request.keep_database):
            self._watch(process)

    async def _revive(self, tell: Tell) -> None:
        """Start what has died until nothing dies any more: the end of one process may be that of another, a moment later."""
        for remaining in reversed(range(REVIVALS)):
            for process in self._rack.revive():
                tell(Event("progress", f"{process.name} had died and is started again"))
                self._watch(process)
            try:
                await self._rack.until_ready()
            except (LabError, BaseExceptionGroup) as error:
                if not remaining or not isinstance(describe(error), ProcessDied):
                    raise
            else:
                return

    def _watch(self, process: Process) -> None:
        """Log the end of a process that nobody asked for."""

        async def watch() -> None:
            try:
                await process.watch()
            except LabError as error:
                _log.error("process died", name=process.name, problem=str(error))

        task = asyncio.create_task(watch())
        self._watches.add(task)
        task.add_done_callback(self._watches.discard)


def reap_orphans() -> None:
    """Take note of the end of processes that became ours by their parents' deaths, so that they do not stay as zombies.

    Whatever we started ourselves leads a session of its own and is waited for by who started it.
    """
    children: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            children += map(int, path.read_text().split())
    for pid in children:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            if os.getsid(pid) != pid:
                os.waitpid(pid, os.WNOHANG)


def encode(message: Event | Request) -> bytes:
    """Return an event or a request as a line."""
    return msgspec.json.encode(message) + b"\n"


def _failure(error: BaseException) -> Event:
    problem = describe(error)
    return Event("failed", problem.problem, problem.remedy)


def _tell_parent(event: Event) -> None:
    _log.info(event.kind, text=event.text)
    with contextlib.suppress(BrokenPipeError):  # nobody is interested any more; the rack may be used all the same
        sys.stdout.buffer.write(encode(event))
        sys.stdout.buffer.flush()


def main() -> None:
    """Run the supervisor of the rack in a directory; everything that it starts is in the rack's control group and dies with it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--dpus", type=int, required=True)
    parser.add_argument("--clusters", type=int, required=True)
    arguments = parser.parse_args()
    logs.set_up("info")
    layout = Layout.at(arguments.directory)
    ControlGroup(layout.identity.cgroup).enter()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    rack = Rack(layout, Shape(arguments.dpus, arguments.clusters), Toolchain(), lambda text: _tell_parent(Event("progress", text)))
    asyncio.run(Supervisor(rack).run(_tell_parent))


if __name__ == "__main__":
    main()
