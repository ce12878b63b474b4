"""Caches on a real API server, through a relay that misbehaves: no change is lost, none is told twice."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import msgspec
import pytest
from aiohttp import web

from dpuchain.api.interface import ServiceInterface
from dpuchain.api.kinds import NODE, SECRET, SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.api.kubernetes import Metadata, Secret
from dpuchain.api.meta import Model, Object, ObjectKey, ObjectMeta, key_of
from dpuchain.api.resource import Resource
from dpuchain.kube import cache as kube_cache
from dpuchain.kube.cache import FIRST_WAIT, Cache, Change
from dpuchain.kube.client import Client
from dpuchain.kube.errors import Expired, Invalid, Throttled, Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from dpuchain.lab.cluster import Cluster

T = TypeVar("T", bound=Object)
WAIT = 30.0
"""Seconds after which what a test waits for will not come any more."""


FORGOTTEN = "1"
"""A version from before our kinds were defined, which the server cannot go on from."""


class Choice(Model, frozen=True, kw_only=True):
    """A ConfigMap as a program reads it that knows two values only."""

    metadata: ObjectMeta = ObjectMeta()
    data: dict[str, Literal["yes", "no"]] = msgspec.field(default_factory=dict)


CHOICE = Resource("", "v1", "ConfigMap", "configmaps", Choice)
BARE_SECRET = Resource("", "v1", "Secret", "secrets", Metadata)


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


@asynccontextmanager
async def following(client: Client, resource: Resource[T], namespace: str, **how: Any) -> AsyncIterator[Journal[T]]:
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


def secret(namespace: str, name: str, value: str = "eA==", **labels: str) -> Secret:
    return Secret(metadata=ObjectMeta(name=name, namespace=namespace, labels=labels), type="Opaque", data={"a": value})


def uplink(namespace: str, name: str) -> ServiceInterface:
    spec = {"interfaceType": "physical", "physical": {"interfaceName": "p0"}}
    return msgspec.convert({"metadata": {"name": name, "namespace": namespace}, "spec": spec}, ServiceInterface)


async def label(client: Client, namespace: str, name: str, **labels: str | None) -> Secret:
    return await client.patch(SECRET, ObjectKey(namespace, name), {"metadata": {"labels": labels}})


async def work(client: Client, namespace: str, rounds: int, between: Callable[[int], None]) -> set[str]:
    """Make, change and delete; returns the version of each write."""
    versions: set[str] = set()
    for number in range(rounds):
        name = f"s{number % 4}"
        versions.add((await client.create(SECRET, secret(namespace, name))).metadata.resource_version)
        between(number)
        for value in "ab":
            versions.add((await label(client, namespace, name, value=value)).metadata.resource_version)
        await client.delete(SECRET, ObjectKey(namespace, name))
    return versions


def versions_told(journal: Journal[Secret]) -> list[str]:
    return [change.new.metadata.resource_version for change in journal.changes if change.new is not None]


async def test_a_cache_tells_what_is_there_and_what_happens(client: Client, namespace: str) -> None:
    await client.create(SECRET, secret(namespace, "early"))
    async with following(client, SECRET, namespace) as journal:
        await client.create(SECRET, secret(namespace, "late"))
        await label(client, namespace, "early", a="1")
        await client.delete(SECRET, ObjectKey(namespace, "late"))
        await journal.until(lambda: len(journal.changes) == 4)
        assert journal.told() == [("early", "added"), ("late", "added"), ("early", "changed"), ("late", "deleted")]
        await journal.caught_up(client, SECRET, namespace)
        assert journal.cache.get(ObjectKey(namespace, "late")) is None
        later = Journal(journal.cache)
        assert later.told() == [("early", "added")], "who comes later is told what is there"


@pytest.mark.parametrize("trouble", ["drop", "half_close"])
async def test_connections_that_end_lose_and_double_nothing(
    client: Client, relay: Relay, relayed: Client, namespace: str, trouble: str
) -> None:
    async with following(relayed, SECRET, namespace) as journal:
        written = await work(client, namespace, 16, lambda number: getattr(relay, trouble)() if number % 2 else None)
        await client.create(SECRET, secret(namespace, "last"))
        await journal.until(lambda: ObjectKey(namespace, "last") in journal.believed)
        told = versions_told(journal)
        assert len(told) == len(set(told)) == len(written) + 1
        assert set(told) > written
        assert [kind for _, kind in journal.told()].count("deleted") == 16
    assert relay.accepted > 2


async def test_a_watch_that_goes_silent_is_taken_up_again(
    client: Client, relay: Relay, relayed: Client, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_cache, "SILENCE", 0.5)
    async with following(relayed, SECRET, namespace) as journal:
        await client.create(SECRET, secret(namespace, "before"))
        await journal.until(lambda: len(journal.changes) == 1)
        relay.stall()
        await client.create(SECRET, secret(namespace, "meanwhile"))
        await journal.until(lambda: journal.cache.failing is not None)
        assert journal.cache.get(ObjectKey(namespace, "before")) is not None, "what was known stays"
        assert journal.cache.failing is not None
        assert isinstance(journal.cache.failing.error, Unreachable)
        relay.drop()
        relay.resume()
        await journal.until(lambda: ObjectKey(namespace, "meanwhile") in journal.believed)
        assert journal.told() == [("before", "added"), ("meanwhile", "added")]


async def test_a_server_that_is_away_fails_once_and_recovers_once(client: Client, relay: Relay, relayed: Client, namespace: str) -> None:
    async with following(relayed, SECRET, namespace) as journal:
        await client.create(SECRET, secret(namespace, "before"))
        await journal.until(lambda: len(journal.changes) == 1)
        attempts = relay.accepted
        relay.refuse()
        await journal.until(lambda: journal.cache.failing is not None)
        since = journal.cache.failing
        await relay.until_accepted(attempts + 4)
        assert journal.turns == [True], "one that tries and fails again has not recovered in between"
        assert journal.cache.failing is not None
        assert since is not None
        assert journal.cache.failing.since == since.since
        assert journal.cache._wait >= 4 * FIRST_WAIT, "each attempt waits longer"
        await client.create(SECRET, secret(namespace, "meanwhile"))
        relay.resume()
        await journal.until(lambda: journal.cache.failing is None)
        await journal.caught_up(client, SECRET, namespace)
        assert journal.turns == [True, False]
        assert journal.told() == [("before", "added"), ("meanwhile", "added")]


async def test_a_server_that_is_away_from_the_start_is_not_an_empty_one(
    client: Client, relay: Relay, relayed: Client, namespace: str
) -> None:
    await client.create(SECRET, secret(namespace, "a"))
    relay.refuse()
    cache = Cache(relayed, SECRET, namespace=namespace)
    journal = Journal(cache)
    task = asyncio.create_task(cache.run())
    await journal.until(lambda: cache.failing is not None)
    assert not cache.is_synced
    relay.resume()
    await journal.until(lambda: journal.told() == [("a", "added")])
    assert cache.is_synced
    task.cancel()
    await asyncio.wait([task])


async def test_a_point_that_the_server_no_longer_knows_leads_to_a_new_list(
    client: Client, relay: Relay, relayed: Client, namespace: str
) -> None:
    """What changed meanwhile is told as changes, each once."""
    for name in ("stays", "changes", "goes", "returns"):
        await client.create(SERVICE_INTERFACE, uplink(namespace, name))
    async with following(relayed, SERVICE_INTERFACE, namespace) as journal:
        first = len(journal.changes)
        assert first == 4
        relay.refuse()
        await journal.until(lambda: journal.cache.failing is not None)
        for port in ("p1", "p2"):
            change = {"spec": {"physical": {"interfaceName": port}}}
            await client.patch(SERVICE_INTERFACE, ObjectKey(namespace, "changes"), change)
        await client.delete(SERVICE_INTERFACE, ObjectKey(namespace, "goes"))
        await client.delete(SERVICE_INTERFACE, ObjectKey(namespace, "returns"))
        await client.create(SERVICE_INTERFACE, uplink(namespace, "returns"))
        await client.create(SERVICE_INTERFACE, uplink(namespace, "fresh"))
        await client.create(SERVICE_INTERFACE, uplink(namespace, "gone-again"))
        await client.delete(SERVICE_INTERFACE, ObjectKey(namespace, "gone-again"))
        journal.cache._version = FORGOTTEN
        relay.resume()
        await journal.caught_up(client, SERVICE_INTERFACE, namespace)
        assert sorted(journal.told()[first:]) == [
            ("changes", "changed"),
            ("fresh", "added"),
            ("goes", "deleted"),
            ("returns", "added"),
            ("returns", "deleted"),
        ]
        await client.create(SERVICE_INTERFACE, uplink(namespace, "after"))
        await journal.until(lambda: ObjectKey(namespace, "after") in journal.believed)
    assert journal.turns == [True, False]


async def test_the_server_says_410_for_such_a_point(client: Client, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test before stands on: without it, it would test a watch that goes on."""
    monkeypatch.setattr(kube_cache, "SILENCE", 5.0)
    cache = Cache(client, SERVICE_INTERFACE, namespace=namespace)
    cache._version = FORGOTTEN
    with pytest.raises(Expired):
        await cache._watch()


async def test_metadata_alone(client: Client, namespace: str) -> None:
    await client.create(SECRET, secret(namespace, "a"))
    async with following(client, BARE_SECRET, namespace, metadata_only=True) as journal:
        await label(client, namespace, "a", x="1")
        await journal.until(lambda: len(journal.changes) == 2)
        item = journal.cache.get(ObjectKey(namespace, "a"))
        assert item is not None
        assert item.metadata.labels == {"x": "1"}
        await client.delete(SECRET, key_of(item))
        await journal.until(lambda: len(journal.changes) == 3)
    assert journal.told() == [("a", "added"), ("a", "changed"), ("a", "deleted")]


async def test_what_comes_into_a_selection_is_added_and_what_leaves_it_deleted(client: Client, namespace: str) -> None:
    await client.create(SECRET, secret(namespace, "a"))
    async with following(client, SECRET, namespace, label_selector="zone=east") as journal:
        assert len(journal.cache) == 0
        for zone in ("east", "west", "east"):
            await label(client, namespace, "a", zone=zone)
        await journal.until(lambda: len(journal.changes) == 3)
    assert journal.told() == [("a", "added"), ("a", "deleted"), ("a", "added")]


async def test_the_objects_of_one_node(client: Client, namespace: str) -> None:
    ports = [{"serviceInterface": {"matchLabels": {"uplink": "p0"}}}]

    def chain(name: str, node: str) -> Any:
        content = {"metadata": {"name": name, "namespace": namespace}, "spec": {"node": node, "switches": [{"ports": ports}]}}
        return msgspec.convert(content, SERVICE_CHAIN.type)

    await client.create(SERVICE_CHAIN, chain("theirs", "dpu-2"))
    async with following(client, SERVICE_CHAIN, namespace, field_selector="spec.node=dpu-1") as journal:
        await client.create(SERVICE_CHAIN, chain("late-theirs", "dpu-2"))
        await client.create(SERVICE_CHAIN, chain("ours", "dpu-1"))
        await journal.until(lambda: len(journal.changes) == 1)
        await client.patch(SERVICE_CHAIN, ObjectKey(namespace, "ours"), {"spec": {"node": "dpu-2"}})
        await journal.until(lambda: len(journal.changes) == 2)
    assert journal.told() == [("ours", "added"), ("ours", "deleted")]


async def test_a_kind_without_a_namespace(client: Client, namespace: str) -> None:
    name = f"node-{namespace}"
    async with following(client, NODE, "", metadata_only=True, field_selector=f"metadata.name={name}") as journal:
        await client.create(NODE, Metadata(metadata=ObjectMeta(name=name, labels={"a": "1"})))
        await client.delete(NODE, ObjectKey("", name))
        await journal.until(lambda: journal.told()[-1:] == [(name, "deleted")])
    assert journal.told()[0] == (name, "added")


async def choose(client: Client, namespace: str, name: str, value: str, method: str = "PATCH") -> None:
    content = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": value}}
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    body = msgspec.json.encode(content)
    if method == "POST":
        await client.request("POST", path, body=body)
    else:
        await client.request("PATCH", f"{path}/{name}", body=body, content_type="application/merge-patch+json")


async def test_an_object_that_cannot_be_decoded_is_named_until_it_can(client: Client, namespace: str) -> None:
    await choose(client, namespace, "odd-from-the-start", "maybe", "POST")
    await choose(client, namespace, "good", "yes", "POST")
    async with following(client, CHOICE, namespace) as journal:
        good, odd = ObjectKey(namespace, "good"), ObjectKey(namespace, "odd-from-the-start")
        assert set(journal.cache.invalid) == {odd}
        assert isinstance(journal.cache.invalid[odd], Invalid)
        await choose(client, namespace, "good", "maybe")
        await journal.until(lambda: set(journal.cache.invalid) == {odd, good})
        assert journal.told() == [("good", "added")], "it is not gone"
        await choose(client, namespace, "odd-from-the-start", "no")
        await journal.until(lambda: set(journal.cache.invalid) == {good})
        await client.delete(CHOICE, good)
        await journal.until(lambda: not journal.cache.invalid)
        assert journal.told() == [("good", "added"), ("odd-from-the-start", "added"), ("good", "deleted")]


async def test_what_cannot_be_decoded_in_a_new_list_is_not_gone_either(
    client: Client, relay: Relay, relayed: Client, namespace: str
) -> None:
    for name in ("spoils", "goes"):
        await choose(client, namespace, name, "yes", "POST")
    async with following(relayed, CHOICE, namespace) as journal:
        relay.refuse()
        await journal.until(lambda: journal.cache.failing is not None)
        await choose(client, namespace, "spoils", "maybe")
        await client.delete(CHOICE, ObjectKey(namespace, "goes"))
        journal.cache._version = ""
        relay.resume()
        await journal.until(lambda: bool(journal.cache.invalid) and len(journal.changes) == 3)
        assert journal.told()[2:] == [("goes", "deleted")]
        assert [item.metadata.name for item in journal.cache] == ["spoils"]


async def test_an_index_is_kept_through_every_change(client: Client, namespace: str) -> None:
    cache = Cache(client, SECRET, namespace=namespace)
    journal = Journal(cache)
    cache.index("zone", lambda item: item.metadata.labels.values())
    task = asyncio.create_task(cache.run())

    def found(zone: str) -> list[str]:
        return [item.metadata.name for item in cache.by_index("zone", zone)]

    for name in "ba":
        await client.create(SECRET, secret(namespace, name, zone="east"))
    await journal.until(lambda: found("east") == ["a", "b"])
    await label(client, namespace, "a", zone="west", second="east")
    await journal.until(lambda: found("west") == ["a"])
    assert found("east") == ["a", "b"]
    await label(client, namespace, "a", second=None)
    await journal.until(lambda: found("east") == ["b"])
    await client.delete(SECRET, ObjectKey(namespace, "b"))
    await journal.until(lambda: found("east") == [])
    cache.index("late", lambda item: [item.metadata.name])
    assert [item.metadata.name for item in cache.by_index("late", "a")] == ["a"]
    task.cancel()
    await asyncio.wait([task])


@asynccontextmanager
async def serving(watch: Callable[[web.Request], web.Response]) -> AsyncIterator[Client]:
    """A client of a server with an empty list and the given answer to each watch."""

    async def answer(request: web.Request) -> web.Response:
        if "watch" in request.query:
            return watch(request)
        return web.json_response({"items": [], "metadata": {"resourceVersion": "5"}})

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    content = {
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c"}}],
        "current-context": "x",
    }
    async with Client.from_kubeconfig(content, user_agent="tests") as client:
        yield client
    await runner.cleanup()


@pytest.mark.parametrize(
    ("answer", "least"),
    [
        (lambda _: web.Response(text=""), [FIRST_WAIT / 2 * 2**n for n in range(8)]),
        (lambda _: web.Response(status=410, text="too old"), [FIRST_WAIT / 2 * 2**n for n in range(8)]),
        (lambda _: web.Response(status=500, text="broken"), [FIRST_WAIT / 2 * 2**n for n in range(8)]),
        (lambda _: web.Response(text='{"type": "NONSENSE"}\n'), [FIRST_WAIT / 2 * 2**n for n in range(8)]),
        (lambda _: web.Response(status=429, headers={"Retry-After": "7"}), [7.0] * 8),
    ],
    ids=["ends at once", "410 each time", "500", "nonsense", "429"],
)
async def test_a_server_that_never_lets_us_watch_is_asked_ever_more_rarely(
    answer: Callable[[web.Request], web.Response], least: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    enough = asyncio.Event()
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == len(least):
            enough.set()
        await sleep(0)

    async with serving(answer) as client:
        cache = Cache(client, SECRET)
        monkeypatch.setattr(asyncio, "sleep", note)
        task = asyncio.create_task(cache.run())
        async with asyncio.timeout(WAIT):
            await enough.wait()
        task.cancel()
        await asyncio.wait([task])
        monkeypatch.undo()
    assert all(pause >= bound for pause, bound in zip(pauses, least, strict=False)), pauses


async def test_who_is_throttled_knows() -> None:
    async with serving(lambda _: web.Response(status=429, text="busy")) as client:
        cache = Cache(client, SECRET)
        journal = Journal(cache)
        task = asyncio.create_task(cache.run())
        await journal.until(lambda: cache.failing is not None)
        assert cache.failing is not None
        assert isinstance(cache.failing.error, Throttled)
        task.cancel()
        await asyncio.wait([task])
