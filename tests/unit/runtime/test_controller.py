"""How a controller goes on after each kind of end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from dpuchain.kube.errors import Conflict, Denied, Invalid, KubeError, Throttled, Unreachable
from dpuchain.runtime import queue
from dpuchain.runtime.clock import SystemClock
from dpuchain.runtime.controller import Controller
from dpuchain.runtime.errors import Terminal, Unfinished
from dpuchain.runtime.metrics import REGISTRY

Reconcile = Callable[[str], Awaitable[float | None]]


class Work:
    """Notes each call, and ends as it is told: raises what is there for the key, then succeeds."""

    def __init__(self, **ends: list[BaseException | float | None]) -> None:
        self.ends = ends
        self.calls: list[str] = []
        self.called = asyncio.Condition()

    async def __call__(self, key: str) -> float | None:
        async with self.called:
            self.calls.append(key)
            self.called.notify_all()
        left = self.ends.get(key)
        end = left.pop(0) if left else None
        if isinstance(end, BaseException):
            raise end
        return end

    async def until(self, key: str, count: int) -> None:
        async with asyncio.timeout(20), self.called:
            await self.called.wait_for(lambda: self.calls.count(key) >= count)


@asynccontextmanager
async def running(name: str, work: Reconcile, workers: int = 1) -> AsyncIterator[Controller[str]]:
    controller: Controller[str] = Controller(name, work, clock=SystemClock(), workers=workers)
    task = asyncio.create_task(controller.run())
    try:
        yield controller
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), "it works until it is cancelled"


async def idle(controller: Controller[str]) -> None:
    async with asyncio.timeout(20):
        while True:
            if controller.idle:
                return
            await asyncio.sleep(0)


def ended(name: str, result: str) -> float:
    return REGISTRY.get_sample_value("dpuchain_reconciles_total", {"controller": name, "result": result}) or 0.0


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (Unreachable("away"), "error"),
        (Denied("no"), "error"),
        (Unfinished("partly"), "error"),
        (Conflict("changed"), "conflict"),
        (Throttled("busy", 0.01), "throttled"),
        (ValueError("a bug"), "bug"),
        (TimeoutError(), "bug"),
        (ExceptionGroup("several", [ValueError("a bug")]), "bug"),
        (asyncio.CancelledError(), "bug"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value,
)
async def test_what_may_go_away_is_tried_again_and_others_are_not_held_up(error: BaseException, result: str) -> None:
    name = f"again-{type(error).__name__}"
    work = Work(bad=[error, error])
    async with running(name, work) as controller:
        controller.enqueue("bad")
        controller.enqueue("good")
        await work.until("good", 1)
        await work.until("bad", 3)
    assert ended(name, result) == 2
    assert ended(name, "success") >= 1


@pytest.mark.parametrize("error", [Terminal("never"), Invalid("refused")], ids=lambda error: type(error).__name__)
async def test_what_cannot_go_away_waits_until_it_is_enqueued_again(error: Exception) -> None:
    name = f"terminal-{type(error).__name__}"
    work = Work(bad=[error])
    async with running(name, work) as controller:
        controller.enqueue("bad")
        controller.enqueue("next")
        await work.until("next", 1)
        assert ended(name, "terminal") == 1
        controller.enqueue("bad")
        await work.until("bad", 2)
    assert work.calls == ["bad", "next", "bad"]


async def test_it_looks_again_when_it_was_asked_to() -> None:
    work = Work(a=[0.01, 0.0])
    async with running("again", work) as controller:
        controller.enqueue("a")
        await work.until("a", 3)
        await idle(controller)
    assert work.calls == ["a", "a", "a"]


async def test_a_success_ends_the_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(queue.WorkQueue, "retry", counting(seen))
    work = Work(a=[Unreachable("1"), Unreachable("2"), None, Unreachable("3")])
    async with running("back-off", work) as controller:
        controller.enqueue("a")
        await work.until("a", 3)
        controller.enqueue("a")
        await work.until("a", 5)
    assert seen == [1, 2, 1]


def counting(seen: list[int]) -> Callable[[queue.WorkQueue[str], str], float]:
    original = queue.WorkQueue.retry

    def retry(self: queue.WorkQueue[str], key: str) -> float:
        delay = original(self, key)
        seen.append(self.failures(key))
        return delay

    return retry


async def test_a_key_that_is_enqueued_while_it_is_worked_on_is_worked_on_again_and_not_at_once() -> None:
    going, gate = asyncio.Event(), asyncio.Event()
    active = most = calls = 0

    async def work(_: str) -> None:
        nonlocal active, most, calls
        active, calls = active + 1, calls + 1
        most = max(most, active)
        going.set()
        await gate.wait()
        active -= 1

    async with running("twice", work, workers=4) as controller:
        controller.enqueue("a")
        await going.wait()
        for _ in range(3):
            controller.enqueue("a")
        gate.set()
        await idle(controller)
    assert (calls, most) == (2, 1)


async def test_workers_work_side_by_side() -> None:
    barrier = asyncio.Barrier(3)

    async def work(_: str) -> None:
        await barrier.wait()

    async with running("side-by-side", work, workers=3) as controller:
        for key in "abc":
            controller.enqueue(key)
        await idle(controller)


def test_every_error_says_whether_it_is_worth_another_attempt() -> None:
    assert [kind.__name__ for kind in KubeError.__subclasses__() if not kind.retryable and kind.__module__.endswith("kube.errors")] == [
        "Invalid"
    ]
