"""The work queue. Invariant: after the last time that a key was added it is worked on, and never by two workers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from dpuchain.runtime.queue import FIRST_DELAY, LONGEST_DELAY, WorkQueue

T = TypeVar("T")
KEYS = st.sampled_from("abc")


class Clockwork(asyncio.SelectorEventLoop):
    """An event loop whose time goes on only when the test says so."""

    moment = 0.0

    def time(self) -> float:
        return self.moment


class Queue(RuleBasedStateMachine):
    """Workers come, take, finish and give up; keys are added now and for later; time goes on in jumps."""

    getters: Bundle[asyncio.Task[str]] = Bundle("getters")

    def __init__(self) -> None:
        super().__init__()
        self.loop = Clockwork()
        self.queue = self.run(self.make())
        self.owed: set[str] = set()
        """Keys that were added and not taken since."""
        self.later: dict[str, float] = {}
        """Keys that must be taken once this moment has come."""
        self.working: set[str] = set()
        self.waiting: list[asyncio.Task[str]] = []

    async def make(self) -> WorkQueue[str]:
        return WorkQueue(lambda: 0.0)

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(what)

    def settle(self) -> None:
        """Let timers that are due and workers that were woken run, then take note of what they took."""
        for _ in range(4):
            self.run(asyncio.sleep(0))
        for key, moment in list(self.later.items()):
            if moment <= self.loop.moment:
                self.owed.add(key)
                del self.later[key]
        for getter in [getter for getter in self.waiting if getter.done()]:
            self.waiting.remove(getter)
            if not getter.cancelled():
                self.taken(getter.result())

    def taken(self, key: str) -> None:
        assert key not in self.working, "two workers on one key"
        assert key in self.owed, "nobody asked for it"
        self.owed.discard(key)
        self.working.add(key)

    @rule(key=KEYS)
    def add(self, key: str) -> None:
        self.queue.add(key)
        self.owed.add(key)
        self.later.pop(key, None)
        self.settle()

    @rule(key=KEYS, seconds=st.integers(0, 3))
    def add_after(self, key: str, seconds: int) -> None:
        async def add_after() -> None:
            self.queue.add_after(key, seconds)

        self.run(add_after())
        moment = self.loop.moment + seconds
        self.later[key] = min(self.later.get(key, moment), moment)
        self.settle()

    @rule(key=KEYS)
    def retry(self, key: str) -> None:
        async def retry() -> float:
            return self.queue.retry(key)

        moment = self.loop.moment + self.run(retry())
        self.later[key] = min(self.later.get(key, moment), moment)
        self.settle()

    @rule(target=getters)
    def get(self) -> asyncio.Task[str]:
        getter = self.loop.create_task(self.queue.get())
        self.waiting.append(getter)
        self.settle()
        return getter

    @rule(getter=consumes(getters))
    def give_up(self, getter: asyncio.Task[str]) -> None:
        getter.cancel()
        self.settle()

    @rule(getter=consumes(getters), key=KEYS)
    def give_up_at_the_moment_of_being_woken(self, getter: asyncio.Task[str], key: str) -> None:
        self.queue.add(key)
        self.owed.add(key)
        self.later.pop(key, None)
        getter.cancel()
        self.settle()

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.working)))
        self.working.discard(key)
        self.queue.done(key)
        self.settle()

    @rule(seconds=st.integers(1, 4))
    def time_passes(self, seconds: int) -> None:
        self.loop.moment += seconds
        self.settle()

    @invariant()
    def who_waits_gets_what_is_there(self) -> None:
        takeable = self.owed - self.working
        assert not (self.waiting and takeable), f"{takeable} are there and {len(self.waiting)} workers wait"
        assert len(self.queue) == len(self.owed), "what is worked on and comes again waits too"

    @invariant()
    def idle_means_that_nothing_is_left(self) -> None:
        assert self.queue.idle == (not (self.owed or self.later or self.working))

    def teardown(self) -> None:
        for getter in self.waiting:
            getter.cancel()
        self.settle()
        self.queue.close()
        self.loop.close()


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


async def test_a_failing_key_waits_twice_as_long_each_time_up_to_a_limit() -> None:
    queue: WorkQueue[str] = WorkQueue(lambda: 0.0)
    delays = [queue.retry("a") for _ in range(20)]
    assert delays[:3] == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY]
    assert delays[-1] == LONGEST_DELAY
    assert queue.failures("a") == 20
    assert queue.retry("b") == FIRST_DELAY
    queue.forget("a")
    assert queue.retry("a") == FIRST_DELAY
    queue.close()


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
async def test_chance_spreads_the_retries_downwards(chance: float) -> None:
    queue: WorkQueue[str] = WorkQueue(lambda: chance)
    assert queue.retry("a") == FIRST_DELAY * (1 - chance / 4)
    queue.close()


async def test_keys_come_in_the_order_in_which_they_were_added() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in "bacab":
        queue.add(key)
    assert [await queue.get() for _ in range(3)] == ["b", "a", "c"]
    queue.close()


async def test_it_is_known_how_long_a_key_has_waited() -> None:
    moment = [10.0]
    queue: WorkQueue[str] = WorkQueue(now=lambda: moment[0])
    queue.add("a")
    moment[0] += 3
    queue.add("a")
    queue.add("b")
    moment[0] += 2
    assert queue.oldest == 5
    assert await queue.get() == "a"
    assert queue.waited("a") == 5
    assert queue.oldest == 2
    await queue.get()
    assert queue.oldest == 0
