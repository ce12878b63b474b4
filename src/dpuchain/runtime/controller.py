"""The control loop: takes keys from a queue and makes the world right for each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import structlog

from dpuchain.kube.errors import Conflict, KubeError, Throttled
from dpuchain.runtime.clock import Clock
from dpuchain.runtime.errors import Terminal, Unfinished
from dpuchain.runtime.logs import about
from dpuchain.runtime.metrics import BACKLOGS, QUEUE_SECONDS, RECONCILE_SECONDS, RECONCILES, RESULTS, RETRIES
from dpuchain.runtime.queue import WorkQueue

K = TypeVar("K", bound=Hashable)
Reconcile = Callable[[K], Awaitable[float | None]]

_log = structlog.get_logger(__name__)


class Controller(Generic[K]):
    """Calls `reconcile(key)` for each enqueued key until it succeeds.

    `reconcile` is level-based: it looks at the world as it is and must do no harm if called too often. It returns None, or the seconds
    after which to look again. A failure is logged with its key, counted, and tried again with back-off; one that cannot go away by
    itself (`Terminal`, or a `KubeError` that is not retryable) waits until the key is enqueued again.
    """

    def __init__(self, name: str, reconcile: Reconcile[K], *, clock: Clock, workers: int = 1, kind: str = "") -> None:
        """`kind` is that of the objects whose keys these are, if they are objects' keys, for the logs."""
        self.name = name
        self._kind = kind
        self._reconcile = reconcile
        self._workers = workers
        self._clock = clock
        self._queue: WorkQueue[K] = WorkQueue()
        RETRIES.labels(name)  # counters are there from the first scrape on, or their first increase would not be seen
        for result in RESULTS:
            RECONCILES.labels(name, result)

    def enqueue(self, key: K) -> None:
        """Have `key` looked at soon."""
        self._queue.add(key)

    def enqueue_after(self, key: K, seconds: float) -> None:
        """Have `key` looked at in `seconds`, or sooner if it is enqueued."""
        self._queue.add_after(key, seconds)

    @property
    def waiting(self) -> int:
        """How many keys wait for a worker."""
        return len(self._queue)

    @property
    def oldest(self) -> float:
        """For how many seconds one of them has waited at most; 0 if none waits."""
        return self._queue.oldest

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do, now or later."""
        return self._queue.idle

    async def run(self) -> None:
        """Work until cancelled."""
        BACKLOGS.add(self)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._workers):
                    group.create_task(self._work())
        finally:
            BACKLOGS.discard(self)
            self._queue.close()

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            QUEUE_SECONDS.labels(self.name).observe(self._queue.waited(key))
            began = self._clock.monotonic()
            try:
                with about(self._kind, key):
                    result = await self._attempt(key)
            finally:
                self._queue.done(key)
            RECONCILES.labels(self.name, result).inc()
            RECONCILE_SECONDS.labels(self.name).observe(self._clock.monotonic() - began)

    async def _attempt(self, key: K) -> str:
        """Work on one key; returns how it ended. Here, and only here, any failure is caught: one object must not stop the others."""
        try:
            again = await self._reconcile(key)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return self._failed(key, error)  # not we were cancelled, but something that the work waited for
        except Exception as error:  # noqa: BLE001 - the loop is where a bug in the handling of one key ends
            return self._failed(key, error)
        self._queue.forget(key)
        if again is not None:
            self._queue.add_after(key, again)
        return "success"

    def _failed(self, key: K, error: BaseException) -> str:
        log = _log.bind(controller=self.name, key=str(key))
        if isinstance(error, Terminal) or (isinstance(error, KubeError) and not error.retryable):
            self._queue.forget(key)
            log.error("cannot be done as things are", error=str(error))
            return "terminal"
        if isinstance(error, Throttled):
            self._queue.add_after(key, error.retry_after)
            log.warning("the API server asks to wait", seconds=error.retry_after, error=str(error))
            return "throttled"
        delay = self._queue.retry(key)
        RETRIES.labels(self.name).inc()
        if isinstance(error, Conflict):  # somebody was faster; the watch brings what they wrote
            log.debug("changed meanwhile", error=str(error))
            return "conflict"
        if isinstance(error, KubeError | Unfinished):
            log.warning("failed, trying again", error=str(error), seconds=round(delay, 3))
            return "error"
        log.error("failed, trying again", seconds=round(delay, 3), exc_info=error)
        return "bug"
