"""Writes in fair turns, as many at once as the server takes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from dpuchain.kube.errors import KubeError, Throttled, Unreachable
from dpuchain.runtime import fanout
from dpuchain.runtime.clock import SystemClock
from dpuchain.runtime.fanout import FanOut

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Server:
    """Takes writes, shows which, and answers them when it is told to."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.most = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._came = asyncio.Condition()

    def write(self, name: str) -> Callable[[], Awaitable[str]]:
        async def write() -> str:
            async with self._came:
                self.log.append(name)
                self._came.notify_all()
            answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(answer)
            self.most = max(self.most, len(self._waiting))
            await answer
            return name

        return write

    async def came(self, count: int) -> None:
        """Return when so many writes have come."""
        async with self._came:
            await self._came.wait_for(lambda: len(self.log) >= count)

    async def answer(self, error: KubeError | None = None) -> None:
        """Answer the oldest write, and let what follows from that happen."""
        answer = self._waiting.pop(0)
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)
        for _ in range(5):
            await asyncio.sleep(0)

    async def answer_all(self) -> None:
        while self._waiting:
            await self.answer()


async def begun(tasks: list[asyncio.Task[str | KubeError]]) -> None:
    for _ in range(5):
        await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> FanOut:
    monkeypatch.setattr(fanout, "FIRST", 2)
    monkeypatch.setattr(fanout, "MOST", 2)
    return FanOut(SystemClock())


async def test_parties_take_turns_and_the_urgent_go_first(narrow: FanOut) -> None:
    server = Server()
    tasks = [asyncio.ensure_future(narrow.run("big", server.write(f"big-{number}"))) for number in range(6)]
    tasks += [asyncio.ensure_future(narrow.run("small", server.write(f"small-{number}"))) for number in range(2)]
    await begun(tasks)
    tasks.append(asyncio.ensure_future(narrow.run("person", server.write("person"), urgent=True)))
    await begun(tasks)
    assert server.log == ["big-0", "big-1"]
    await server.answer_all()
    assert server.log == ["big-0", "big-1", "person", "big-2", "small-0", "big-3", "small-1", "big-4", "big-5"]
    assert server.most == 2
    assert await asyncio.gather(*tasks) == [*(f"big-{n}" for n in range(6)), "small-0", "small-1", "person"]


async def test_an_error_is_a_result_and_frees_its_place(narrow: FanOut) -> None:
    server = Server()
    tasks = [asyncio.ensure_future(narrow.run("a", server.write(str(number)))) for number in range(3)]
    await begun(tasks)
    error = Unreachable("gone")
    await server.answer(error)
    await server.answer_all()
    assert await asyncio.gather(*tasks) == [error, "1", "2"]


async def test_a_server_that_asks_to_wait_is_left_alone_meanwhile() -> None:
    turns, server = FanOut(SystemClock()), Server()
    before = turns.limit
    first = asyncio.ensure_future(turns.run("a", server.write("first")))
    await begun([first])
    await server.answer(Throttled("too many", 0.05))
    assert turns.limit == before // 2
    second = asyncio.ensure_future(turns.run("a", server.write("second")))
    await begun([second])
    assert server.log == ["first"]
    async with asyncio.timeout(5):
        await server.came(2)
    await server.answer_all()
    assert await second == "second"


async def test_the_bound_grows_while_answers_are_quick_and_never_beyond_the_most() -> None:
    turns = FanOut(SystemClock())

    async def quick() -> None:
        await asyncio.sleep(0)

    before = turns.limit
    await asyncio.gather(*(turns.run(number % 7, quick) for number in range(400)))
    assert turns.limit > before
    await asyncio.gather(*(turns.run(number % 7, quick) for number in range(4000)))
    assert turns.limit == fanout.MOST


async def test_one_slow_moment_makes_the_bound_smaller_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that was in flight then comes late, and is more than a round of the smaller bound."""
    monkeypatch.setattr(fanout, "SLOW", 0.0)
    turns, server = FanOut(SystemClock()), Server()
    before = turns.limit
    tasks = [asyncio.ensure_future(turns.run("a", server.write(str(number)))) for number in range(before)]
    await begun(tasks)
    await server.answer(Throttled("too many", 0.0))
    await server.answer_all()
    assert turns.limit == int(before / 2 * 2 / 3)
    await asyncio.gather(*tasks)


async def test_a_cancelled_writer_passes_its_turn_on(narrow: FanOut) -> None:
    server = Server()
    tasks = [asyncio.ensure_future(narrow.run("a", server.write(str(number)))) for number in range(4)]
    await begun(tasks)
    tasks[2].cancel()
    await begun([tasks[0], tasks[1], tasks[3]])
    await server.answer_all()
    assert server.log == ["0", "1", "3"]
    assert [await task for task in (tasks[0], tasks[1], tasks[3])] == ["0", "1", "3"]


async def test_many_writes_of_a_party_take_few_tasks_and_let_others_have_their_turns(narrow: FanOut) -> None:
    server, before = Server(), len(asyncio.all_tasks())
    big = asyncio.ensure_future(narrow.run_all("big", [server.write(f"big-{number}") for number in range(1000)]))
    await server.came(2)
    assert len(asyncio.all_tasks()) - before == 1 + 2 * fanout.MOST
    small = asyncio.ensure_future(narrow.run("small", server.write("small")))
    await begun([small])
    error = Unreachable("gone")
    await server.answer(error)
    await server.answer_all()
    assert server.log.index("small") <= 4
    assert await small == "small"
    assert await big == [error, *(f"big-{number}" for number in range(1, 1000))]
    assert await narrow.run_all("none", []) == []
