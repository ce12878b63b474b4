"""The rack's control groups: the one mark that each of its processes carries, whoever started it and whatever became of its parent."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from pathlib import Path

from dpuchain.lab.errors import LabError


def hierarchies() -> list[Path]:
    """Return where control groups are mounted: one place with version 2, one for each controller with version 1."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(mount[1]) for mount in mounts if mount[2] in {"cgroup", "cgroup2"}]


class ControlGroup:
    """The control group of a rack, by name, in all hierarchies."""

    def __init__(self, name: str) -> None:
        self.name = name

    def enter(self) -> None:
        """Put the calling process, and with it all that it starts from now on, into the group. Raises `LabError` if none can be made."""
        self.take(os.getpid())

    def take(self, pid: int) -> None:
        """Put a process, and with it all that it starts from now on, into the group. Raises `LabError` if none can be made."""
        for hierarchy in hierarchies():
            group = hierarchy / self.name / "processes"
            with contextlib.suppress(OSError):  # a hierarchy may be read-only or need settings; one is enough
                group.mkdir(parents=True, exist_ok=True)
                (group / "cgroup.procs").write_text(str(pid))
                return
        raise _no_group()

    @staticmethod
    def probe() -> None:
        """Raise `LabError` if this machine has no place where a control group can be made."""
        if not any(os.access(hierarchy, os.W_OK) and os.statvfs(hierarchy).f_flag & os.ST_RDONLY == 0 for hierarchy in hierarchies()):
            raise _no_group()

    def leave(self) -> None:
        """Put the calling process back into the root group, so that the group can be removed."""
        for hierarchy in hierarchies():
            if os.getpid() in self._members(hierarchy):
                (hierarchy / "cgroup.procs").write_text(str(os.getpid()))

    def members(self) -> set[int]:
        """Return the ids of all processes in the group and below it, the caller's excepted."""
        return {pid for hierarchy in hierarchies() for pid in self._members(hierarchy)} - {os.getpid()}

    def kill(self) -> None:
        """Kill all members and wait until they are gone; those that they start meanwhile too."""
        while members := self.members():
            for pid in members:
                _kill(pid)

    def remove(self) -> None:
        """Remove the group from all hierarchies; its members must be gone."""
        for hierarchy in hierarchies():
            top = hierarchy / self.name
            groups = [path for path in top.rglob("*") if path.is_dir()]
            for group in [*sorted(groups, key=lambda path: len(path.parts), reverse=True), top]:
                with contextlib.suppress(FileNotFoundError):
                    group.rmdir()

    def _members(self, hierarchy: Path) -> set[int]:
        found: set[int] = set()
        for procs in (hierarchy / self.name).rglob("cgroup.procs"):
            with contextlib.suppress(OSError):  # the group was removed meanwhile, or is threaded
                found.update(int(pid) for pid in procs.read_text().split())
        return found


def _no_group() -> LabError:
    return LabError("no control group can be made", "run as root on a machine with writable /sys/fs/cgroup")


def _kill(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        select.select([descriptor], [], [])
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)
    with contextlib.suppress(ChildProcessError):  # somebody else's child
        os.waitpid(pid, os.WNOHANG)
