"""What the tests of caches stand on: a relay that misbehaves, and a journal of what a cache has told."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
import pytest

from dpuchain.api.meta import Object, ObjectKey, key_of
from dpuchain.api.resource import Resource
from dpuchain.kube.cache import Cache, Change
from dpuchain.kube.client import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from dpuchain.lab.cluster import Cluster

    Following = Callable[..., AbstractAsyncContextManager["Journal[Any]"]]

T = TypeVar("T", bound=Object)
WAIT = 30.0
"""Seconds after which what a test waits for will not come any more."""


class Relay:
    """Passes bytes between clients and an API server, until it is told to misbehave."""

    def __init__(self, address: str, port: int) -> None:
        self.target = (address, port)
        self.port = 0
        self.accepted = 0
        self.refusing = False
        self._came = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.drop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until_accepted(self, count: int) -> None:
        """Wait until so many connections have come."""
        async with asyncio.timeout(WAIT):
            while self.accepted < count:
                self._came.clear()
                await self._came.wait()

    def drop(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def refuse(self) -> None:
        """Reset every connection, and each new one at once."""
        self.refusing = True
        self.drop()

    def half_close(self) -> None:
        """Send nothing more to anybody, and say so."""
        for writer in self._writers:
            if writer.can_write_eof():
                writer.write_eof()

    def stall(self) -> None:
        """Keep all bytes back, without a word."""
        self._flowing.clear()

    def resume(self) -> None:
        self.refusing = False
        self._flowing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._came.set()
        if self.refusing:
            writer.transport.abort()
            return
        upstream, uplink = await asyncio.open_connection(*self.target)
        self._writers |= {writer, uplink}
        for source, sink in ((reader, uplink), (upstream, writer)):
            task = asyncio.create_task(self._pass(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._flowing.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()


@pytest.fixture
async def relay(api_server: Cluster) -> AsyncIterator[Relay]:
    address, _, port = api_server.server.removeprefix("https://").rpartition(":")
    relay = Relay(address, int(port))
    await relay.start()
    yield relay
    await relay.stop()


@pytest.fixture
async def relayed(api_server: Cluster, relay: Relay) -> AsyncIterator[Client]:
    """A client whose connections pass through the relay."""
    content = msgspec.json.decode(api_server.kubeconfig.read_bytes())
    content["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{relay.port}"
    async with Client.from_kubeconfig(content, user_agent="tests") as client:
        yield client


class Journal(Generic[T]):
    """What a cache has told, checked as it comes: each change goes on where the one before ended."""

    def __init__(self, cache: Cache[T]) -> None:
        self.changes: list[Change[T]] = []
        self.believed: dict[ObjectKey, T] = {}
        self.turns: list[bool] = []
        """`failing` at each call of the callback for it."""
        self.cache = cache
        self._moved = asyncio.Event()
        cache.subscribe(self._note)
        cache.subscribe_failing(self._turn)

    def _note(self, change: Change[T]) -> None:
        before = self.believed.pop(change.key, None)
        if change.new is None:
            assert before is not None, f"{change.key} is told to be deleted, and nobody knew of it"
        else:
            assert change.old == before, f"{change.key} is told to have been what it was not"
            assert before is None or change.new.metadata.resource_version != before.metadata.resource_version, "told twice"
            self.believed[change.key] = change.new
        self.changes.append(change)
        self._moved.set()

    def _turn(self) -> None:
        self.turns.append(self.cache.failing is not None)
        self._moved.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until it holds; asked after each change and turn."""
        async with asyncio.timeout(WAIT):
            while True:
                self._moved.clear()
                if holds():
                    return
                await self._moved.wait()

    async def caught_up(self, client: Client, resource: Resource[T], namespace: str) -> None:
        """Wait until the cache has what the server has, and see that those who listen believe the same."""
        there = {key_of(item): item for item in (await client.list(resource, namespace=namespace)).items}
        await self.until(lambda: self.believed == there)
        assert {key_of(item): item for item in self.cache} == there

    def told(self) -> list[tuple[str, str]]:
        """Name and kind of each change."""
        kinds = {(True, False): "added", (False, False): "changed", (False, True): "deleted"}
        return [(change.key.name, kinds[change.old is None, change.new is None]) for change in self.changes]


@pytest.fixture
def following() -> Following:
    """Return `following(client, resource, namespace, **selectors)`: the journal of a cache that runs inside of `async with`."""
    return follow


@pytest.fixture
def journal_of() -> Callable[[Cache[Any]], Journal[Any]]:
    """Return `journal_of(cache)`: a journal from now on."""
    return Journal


@asynccontextmanager
async def follow(client: Client, resource: Resource[T], namespace: str, **how: Any) -> AsyncIterator[Journal[T]]:
    cache = Cache(client, resource, namespace=namespace, **how)
    journal = Journal(cache)
    task = asyncio.create_task(cache.run())
    try:
        async with asyncio.timeout(WAIT):
            await cache.synced()
        yield journal
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task.exception()
