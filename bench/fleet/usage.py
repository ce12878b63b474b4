"""What the kernel says of a process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """Processor seconds since the process began; resident memory in MB, now and at most so far."""

    seconds: float
    resident: float
    peak: float


def usage(pid: int) -> Usage:
    """The usage of a process, all its threads together. OSError if it has ended."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return Usage(_processor_seconds(pid), int(fields["VmRSS"].split()[0]) / 1024, int(fields["VmHWM"].split()[0]) / 1024)


def _processor_seconds(pid: int) -> float:
    """By the process' own clock, as clock_getcpuclockid(3) names it: in nanoseconds, where /proc/PID/stat has hundredths of a second."""
    return time.clock_gettime(~pid << 3 | 2)
