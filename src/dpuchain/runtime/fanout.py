"""Many writes at once: as many as the API server serves well, in fair turns."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import TypeVar

from dpuchain.kube.errors import KubeError, Throttled, Unreachable
from dpuchain.runtime.clock import Clock
from dpuchain.runtime.metrics import WRITES_IN_FLIGHT, WRITES_LIMIT, WRITES_WAITING

T = TypeVar("T")

FEWEST, FIRST, MOST = 2, 24, 48
"""Writes in flight: the bounds, and how many at first. More than the most is more than the connections that a client has to spare."""
SLOW = 0.5
"""Seconds that a write may take on average before fewer are sent at once: what waits in the server's queue waits better here."""


class FanOut:
    """Bounds the writes to one API server and says whose turn it is.

    The bound follows the answers: one more for each round of writes that were all in use and quick, a third fewer when they become slow
    (what was sent before that says nothing more), half as many when the server asks to wait (its priority and fairness does, with 429),
    and then none before it said. Parties take turns, so that one with a thousand writes does not hold up one with a single one; what is
    urgent, because a person waits, goes first.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._limit = float(FIRST)
        WRITES_LIMIT.set(self.limit)
        self._in_flight = 0
        self._round: list[float] = []
        self._paused_until = 0.0
        self._slowed = 0.0
        """When fewer were sent at once the last time because answers were slow."""
        self._timer: asyncio.TimerHandle | None = None
        self._queues: tuple[OrderedDict[Hashable, deque[asyncio.Future[None]]], ...] = (OrderedDict(), OrderedDict())

    @property
    def limit(self) -> int:
        """How many writes may be in flight now."""
        return int(self._limit)

    async def run(self, party: Hashable, write: Callable[[], Awaitable[T]], *, urgent: bool = False) -> T | KubeError:
        """Do one write when it is the party's turn; gives its result, or the KubeError that it ended with."""
        WRITES_WAITING.inc()
        return await self._run(party, write, urgent=urgent)

    async def _run(self, party: Hashable, write: Callable[[], Awaitable[T]], *, urgent: bool) -> T | KubeError:
        """`run`, of a write that is counted as waiting already."""
        await self._turn(party, urgent=urgent)
        began = self._clock.monotonic()
        saturated = self._in_flight >= self.limit
        try:
            result = await write()
        except KubeError as error:
            self._refused(error)
            return error
        else:
            self._answered(began, saturated=saturated)
            return result
        finally:
            self._release()
            self._admit()

    async def run_all(self, party: Hashable, writes: Sequence[Callable[[], Awaitable[T]]], *, urgent: bool = False) -> list[T | KubeError]:
        """Do the writes of a party, each when it is its turn; gives what each of them came to.

        Waiting takes no more than a few tasks: twice as many as can be in flight, so that some always stand in line where others do.
        """
        outcomes: dict[int, T | KubeError] = {}
        left = iter(enumerate(writes))

        async def work() -> None:
            for number, write in left:
                outcomes[number] = await self._run(party, write, urgent=urgent)

        WRITES_WAITING.inc(len(writes))
        try:
            await asyncio.gather(*(work() for _ in range(min(2 * MOST, len(writes)))))
        finally:
            WRITES_WAITING.dec(sum(1 for _ in left))  # of those whose turn never came
        return [outcomes[number] for number in range(len(writes))]

    async def _turn(self, party: Hashable, *, urgent: bool) -> None:
        """Return when the write may be sent."""
        queue = self._queues[0 if urgent else 1].setdefault(party, deque())
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was our turn: pass it on
                self._release()
                self._admit()
            raise
        finally:
            WRITES_WAITING.dec()

    def _admit(self) -> None:
        """Let as many go as may: the urgent first, and of each urgency one of each party in turn."""
        pause = self._paused_until - self._clock.monotonic()
        if pause > 0:
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(pause, self._resume)
            return
        for parties in self._queues:
            while parties and self._in_flight < self.limit:
                party, queue = parties.popitem(last=False)
                turn = queue.popleft()
                if queue:
                    parties[party] = queue
                if not turn.done():
                    self._in_flight += 1
                    WRITES_IN_FLIGHT.inc()
                    turn.set_result(None)

    def _release(self) -> None:
        self._in_flight -= 1
        WRITES_IN_FLIGHT.dec()

    def _resume(self) -> None:
        self._timer = None
        self._admit()

    def _answered(self, began: float, *, saturated: bool) -> None:
        now = self._clock.monotonic()
        if began < self._slowed:  # sent before it was found slow, which has had its effect
            return
        self._round.append(now - began)
        if len(self._round) < self.limit:
            return
        average = sum(self._round) / len(self._round)
        self._round.clear()
        if average > SLOW:
            self._slowed = now
            self._set(self._limit * 2 / 3)
        elif saturated and average < SLOW / 2:
            self._set(self._limit + 1)

    def _refused(self, error: KubeError) -> None:
        if isinstance(error, Throttled):
            self._paused_until = max(self._paused_until, self._clock.monotonic() + error.retry_after)
        if isinstance(error, Throttled | Unreachable):
            self._round.clear()
            self._set(self._limit / 2)

    def _set(self, limit: float) -> None:
        self._limit = min(max(limit, FEWEST), MOST)
        WRITES_LIMIT.set(self.limit)
