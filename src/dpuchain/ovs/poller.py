"""What the `ovs` library waits with, on the asyncio loop."""

from __future__ import annotations

import asyncio
from typing import Protocol

import ovs.poller
import ovs.timeval


class _HasDescriptor(Protocol):
    def fileno(self) -> int:
        """The file descriptor."""


class LoopPoller:
    """Stands in for `ovs.poller.Poller`: the library tells it what to wait for, then `block` waits, once, while other tasks run."""

    def __init__(self) -> None:
        self._descriptors: dict[int, int] = {}
        self._milliseconds: float | None = None
        self._woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fd_wait(self, descriptor: int | _HasDescriptor, events: int) -> None:
        """Wake up when the descriptor can be read or written, as `events` says."""
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        self._descriptors[number] = self._descriptors.get(number, 0) | events

    def timer_wait(self, milliseconds: float) -> None:
        """Wake up after so many milliseconds at the latest."""
        self._milliseconds = max(0, milliseconds if self._milliseconds is None else min(self._milliseconds, milliseconds))

    def timer_wait_until(self, milliseconds: float) -> None:
        """Wake up at this time of the library's clock at the latest."""
        self.timer_wait(milliseconds - ovs.timeval.msec())

    def immediate_wake(self) -> None:
        """Do not wait."""
        self.timer_wait(0)

    def wake(self) -> None:
        """End the wait, now or when it begins."""
        if not self._woken.done():
            self._woken.set_result(None)

    async def block(self) -> None:
        """Wait for the first of everything that was asked for."""
        if self._milliseconds == 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        timer = None if self._milliseconds is None else loop.call_later(self._milliseconds / 1000, self.wake)
        for number, events in self._descriptors.items():
            if events & ovs.poller.POLLIN:
                loop.add_reader(number, self.wake)
            if events & ovs.poller.POLLOUT:
                loop.add_writer(number, self.wake)
        try:
            await self._woken
        finally:
            for number in self._descriptors:
                loop.remove_reader(number)
                loop.remove_writer(number)
            if timer is not None:
                timer.cancel()
