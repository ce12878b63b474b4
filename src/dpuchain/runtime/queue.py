"""A queue of keys to look at: each at most once in it, each worked on by one worker at a time."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_DELAY, LONGEST_DELAY = 0.005, 60.0
"""Seconds until a key that failed is looked at again: doubled with each failure, then up to a quarter less by chance."""


class WorkQueue(Generic[K]):
    """Keys that want attention, in the order in which they came.

    A key that is added while it waits is there once; added while it is worked on, it comes again afterwards, so that the newest state is
    always looked at. `retry` brings a key back after a delay that doubles with each failure until `forget`.
    """

    def __init__(self, chance: Callable[[], float] = random.random, now: Callable[[], float] = time.monotonic) -> None:
        self._chance = chance
        self._now = now
        self._ready: deque[K] = deque()
        self._waiting: dict[K, float] = {}
        """Keys that wait, with the moment since when."""
        self._working: dict[K, float] = {}
        """Keys that are worked on, with the seconds that each had waited."""
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._getters: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        """How many keys wait, those included that are worked on and come again."""
        return len(self._waiting)

    @property
    def oldest(self) -> float:
        """For how many seconds the key has waited that has waited longest; 0 if none waits."""
        return self._now() - next(iter(self._waiting.values())) if self._waiting else 0.0

    @property
    def idle(self) -> bool:
        """Whether nothing waits, now or for a later moment, and nothing is worked on."""
        return not (self._waiting or self._working or self._timers)

    def add(self, key: K) -> None:
        """Look at `key` as soon as possible."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._waiting:
            return
        self._waiting[key] = self._now()
        if key not in self._working:
            self._ready.append(key)
            self._wake()

    def add_after(self, key: K, seconds: float) -> None:
        """Look at `key` in `seconds`, or sooner if it is added or an earlier moment was named already."""
        loop = asyncio.get_running_loop()
        when = loop.time() + seconds
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= when:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(when, self._due, key)

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def retry(self, key: K) -> float:
        """Look at `key` again after its back-off; returns the seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay: float = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(failures, 32)) * (1 - self._chance() / 4)
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """The key succeeded: its next failure counts as the first."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        """How often the key has failed in a row."""
        return self._failures.get(key, 0)

    async def get(self) -> K:
        """The next key; `done` must be called with it."""
        while not self._ready:
            getter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                if getter in self._getters:
                    self._getters.remove(getter)
                elif self._ready:
                    self._wake()  # it was our turn: pass it on
                raise
        key = self._ready.popleft()
        self._working[key] = self._now() - self._waiting.pop(key)
        return key

    def waited(self, key: K) -> float:
        """Seconds that a key which is worked on had waited before."""
        return self._working[key]

    def done(self, key: K) -> None:
        """The work on `key` has ended; if it was added meanwhile it comes again."""
        self._working.pop(key, None)
        if key in self._waiting:
            self._ready.append(key)
            self._wake()

    def close(self) -> None:
        """Drop the timers. Keys that wait stay."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _wake(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return
