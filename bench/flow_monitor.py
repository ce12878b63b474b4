"""The clock's other end: tells when flows come and go on a bridge, from a connection of the bench itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

PATIENCE = 30.0


class FlowMonitor:
    """Events of `ovs-ofctl monitor`, each with the moment at which it was read."""

    def __init__(self, output: asyncio.StreamReader) -> None:
        self._output = output

    async def until(self, event: str, port: int, count: int) -> float:
        """The moment at which the last of `count` events about flows that name `port` has come. `event` is ADDED or DELETED."""
        return await self.count(event, count, f"in_port={port} ", f"output:{port}\n")

    async def count(self, event: str, count: int, *names: str) -> float:
        """The moment at which the last of `count` events has come; if `names` are given, of those about flows with one of them."""
        async with asyncio.timeout(PATIENCE):
            while count:
                line = (await self._output.readline()).decode()
                if not line:
                    raise RuntimeError("ovs-ofctl monitor has ended")
                if f"event={event}" in line and (not names or any(name in line for name in names)):
                    count -= 1
            return time.perf_counter()


@contextlib.asynccontextmanager
async def watching(directory: Path) -> AsyncIterator[FlowMonitor]:
    """Watch br-sfc of the Open vSwitch whose sockets are in a directory."""
    arguments = ["-O", "OpenFlow14", "monitor", f"unix:{directory / 'br-sfc.mgmt'}", "watch:!initial"]
    environment = {**os.environ, "OVS_RUNDIR": str(directory)}
    child = await asyncio.create_subprocess_exec("ovs-ofctl", *arguments, stderr=asyncio.subprocess.PIPE, env=environment)
    assert child.stderr is not None  # where it prints events
    try:
        yield FlowMonitor(child.stderr)
    finally:
        child.terminate()
        await child.wait()
