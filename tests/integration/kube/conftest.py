"""What the tests of caches stand on: clients through a relay that misbehaves, and a journal of what a cache has told."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pytest
from tests.integration.relay import WAIT

from dpuchain.api.meta import Object, ObjectKey, key_of
from dpuchain.api.resource import Resource
from dpuchain.kube.cache import Cache, Change
from dpuchain.kube.client import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from tests.integration.relay import Relay

    from dpuchain.lab.cluster import Cluster

    Following = Callable[..., AbstractAsyncContextManager["Journal[Any]"]]

T = TypeVar("T", bound=Object)


@pytest.fixture
async def relayed(api_server: Cluster, relay: Relay) -> AsyncIterator[Client]:
    """A client whose connections pass through the relay."""
    async with Client.from_kubeconfig(relay.kubeconfig(api_server), user_agent="tests") as client:
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
