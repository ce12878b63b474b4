"""A gate before some of the requests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proxy import Fate, Proxy, Seen


def makes(request: Seen) -> bool:
    """Whether it is a write of an object on a node."""
    return request.writes and request.is_of("servicechains") and not request.of_status


class Gate:
    """Keeps requests back (writes of objects on nodes, unless others are named) until it is opened."""

    def __init__(self, proxy: Proxy, stops: Callable[[Seen], bool] = makes) -> None:
        self._stops = stops
        self.came: list[Seen] = []
        self._open = asyncio.Event()
        self._moved = asyncio.Event()
        proxy.rule = self.rule

    async def rule(self, request: Seen) -> Fate:
        if self._stops(request):
            self.came.append(request)
            self._moved.set()
            await self._open.wait()
        return None

    def open(self) -> None:
        self._open.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not holds():
                self._moved.clear()
                await self._moved.wait()
