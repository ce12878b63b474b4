"""Processes of the lab: each is owned by whoever started it, dies with it, and leaves a log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dpuchain.lab.errors import LabError, NotReady, ProcessDied

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from dpuchain.lab.cgroups import ControlGroup

TAIL_LINES = 20
PROBE_INTERVAL = 0.05
"""Seconds between two questions to a part that has no way to announce that it is ready."""


@dataclass(frozen=True)
class Command:
    """What to run: a program with arguments and added environment, and where.

    `namespace` names the network namespace (empty: the caller's), `mounts_of` is a process whose mount namespace it shares, and `group` the
    control group that it is put into (None: the caller's).
    """

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""
    mounts_of: Process | None = None
    group: ControlGroup | None = None

    def argv(self) -> list[str]:
        """Return the full argument list: the process dies with its parent and enters the namespace before it becomes the program.

        `nsenter --net` and not `ip netns exec`, because the latter mounts another /sys, without the cgroup file systems.
        """
        where = [f"--net=/run/netns/{self.namespace}"] if self.namespace else []
        where += [f"--mount=/proc/{self.mounts_of.pid}/ns/mnt"] if self.mounts_of else []
        enter = ["nsenter", *where] if where else []
        return ["setpriv", "--pdeathsig", "KILL", *enter, *self.arguments]


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """Return the last lines of a log; empty if there is no such file."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 400 * lines))
        return b"\n".join(file.read().splitlines()[-lines:]).decode(errors="replace")


class Process:
    """One running program. Made by `start`, which must be called in a thread that outlives it: the kernel kills it with that thread.

    It belongs to no event loop: each method may be called from any, which lets a test stop what a fixture has started.
    """

    def __init__(self, command: Command, log: Path, child: subprocess.Popen[bytes]) -> None:
        self.name = command.name
        self.log = log
        self._command = command
        self._child = child
        self._asked_to_stop = False

    @classmethod
    def start(cls, command: Command, log: Path) -> Process:
        """Start the program with its output appended to `log`. It gets a session of its own: a Ctrl-C at the terminal is not for it."""
        log.parent.mkdir(parents=True, exist_ok=True)
        return cls(command, log, _spawn(command, log))

    def start_again(self) -> None:
        """Start the program anew after its end, with the same arguments and the same log."""
        assert not self.running, f"{self.name} runs"
        self._child = _spawn(self._command, self.log)
        self._asked_to_stop = False

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._child.poll() is None

    async def ended(self, timeout: float | None = None) -> bool:
        """Wait until it has ended, at most `timeout` seconds; return whether it has."""
        if not self.running:
            return True
        loop = asyncio.get_running_loop()
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:  # ended and reaped by another thread's question in this moment
            return True
        end = asyncio.Event()
        loop.add_reader(descriptor, end.set)
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(end.wait(), timeout)
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        return not self.running

    async def until(self, probe: Callable[[], Awaitable[bool]], what: str, timeout: float) -> None:
        """Wait until `probe` says yes. Raises `ProcessDied` as soon as the process ends, `NotReady` after `timeout` seconds."""
        deadline = asyncio.get_running_loop().time() + timeout
        while not await probe():
            if await self.ended(PROBE_INTERVAL):
                raise self.died()
            if asyncio.get_running_loop().time() > deadline:
                raise NotReady(f"{self.name} is not {what} after {timeout:.0f} s; the end of {self.log}:\n{tail(self.log)}")

    async def watch(self) -> None:
        """Return when the process has ended because it was stopped; raise `ProcessDied` when it ends by itself."""
        await self.ended()
        if not self._asked_to_stop:
            raise self.died()

    def died(self) -> ProcessDied:
        """Describe the end of a process that has ended."""
        return ProcessDied(self.name, self._child.wait(), self.log, tail(self.log))

    async def stop(self, grace: float = 5.0, first: signal.Signals = signal.SIGTERM) -> None:
        """End it and wait until it is gone: signal `first`, and SIGKILL after `grace` seconds. Does nothing if it has ended."""
        self._asked_to_stop = True
        self._child.send_signal(first)
        if not await self.ended(grace):
            self._child.kill()
            await self.ended()


def _spawn(command: Command, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        child = subprocess.Popen(
            command.argv(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **command.environment},
            start_new_session=True,
        )
    if command.group is not None:
        command.group.take(child.pid)
    return child


async def run(*arguments: str, environment: Mapping[str, str] | None = None, stdin: bytes | None = None, timeout: float = 60.0) -> str:
    """Run a command to its end and return what it printed. Raises `LabError` with its error output if it fails or takes too long."""
    child = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=None if environment is None else {**os.environ, **environment},
        start_new_session=True,
    )
    try:
        output, error = await asyncio.wait_for(child.communicate(stdin), timeout)
    except TimeoutError:
        raise LabError(f"`{' '.join(arguments)}` took longer than {timeout:.0f} s") from None
    finally:
        if child.returncode is None:
            os.killpg(child.pid, signal.SIGKILL)  # with what it started: a build has its compilers
            await child.wait()
    if child.returncode:
        raise LabError(f"`{' '.join(arguments)}` failed with status {child.returncode}: {error.decode(errors='replace').strip()}")
    return output.decode(errors="replace")
