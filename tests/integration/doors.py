"""The doors to a switch, opened for a test; and what of them it waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from dpuchain.ovs.database import Database
from dpuchain.ovs.openflow import OpenFlow
from dpuchain.ovs.rows import Absent, PortRow

D = TypeVar("D", Database, OpenFlow)


@asynccontextmanager
async def opened(door: D) -> AsyncIterator[D]:
    """A door that has heard from the switch."""
    task = asyncio.create_task(door.run())
    try:
        async with asyncio.timeout(30):
            await door.synced()
        yield door
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(database: Database, holds: Callable[[], bool]) -> None:
    """Wait for what the database is told to bring."""
    told = asyncio.Event()
    database.subscribe(told.set)
    async with asyncio.timeout(15):
        while not (database.connected and holds()):
            await told.wait()
            told.clear()


def ports(database: Database) -> dict[str, PortRow]:
    """The ports of br-sfc, which must be there."""
    found = database.ports("br-sfc")
    assert not isinstance(found, Absent)
    return dict(found)
