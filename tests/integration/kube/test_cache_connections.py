"""A cache behind a relay that misbehaves: no change is lost, none is told twice."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiohttp import web

from dpuchain.api.interface import ServiceInterface
from dpuchain.api.kinds import SECRET, SERVICE_INTERFACE
from dpuchain.api.kubernetes import Secret
from dpuchain.api.meta import ObjectKey, ObjectMeta
from dpuchain.kube import cache as kube_cache
from dpuchain.kube.cache import FIRST_WAIT, Cache
from dpuchain.kube.client import Client
from dpuchain.kube.errors import Expired, Throttled, Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.integration.kube.conftest import Following, Journal
    from tests.integration.relay import Relay

WAIT = 30.0
"""Seconds after which what a test waits for will not come any more."""
FORGOTTEN = "1"
"""A version from before our kinds were defined, which the server cannot go on from."""


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


@pytest.mark.parametrize("trouble", ["drop", "half_close"])
async def test_connections_that_end_lose_and_double_nothing(
    client: Client, relay: Relay, relayed: Client, namespace: str, trouble: str, following: Following
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
    client: Client, relay: Relay, relayed: Client, namespace: str, monkeypatch: pytest.MonkeyPatch, following: Following
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


async def test_a_server_that_is_away_fails_once_and_recovers_once(
    client: Client, relay: Relay, relayed: Client, namespace: str, following: Following
) -> None:
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


@pytest.mark.parametrize("trouble", ["refuse", "stall", ""])
async def test_relist_brings_what_is_there_now_whatever_is_being_waited_for(
    client: Client, relay: Relay, relayed: Client, namespace: str, trouble: str, following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be it a next attempt that is minutes away, an answer that will never come, or nothing at all."""
    async with following(relayed, SECRET, namespace) as journal:
        await client.create(SECRET, secret(namespace, "before"))
        await journal.until(lambda: len(journal.changes) == 1)
        if trouble:
            getattr(relay, trouble)()
        if trouble == "refuse":
            monkeypatch.setattr(kube_cache, "LONGEST_WAIT", 600.0)
            journal.cache._wait = 600.0
            await journal.until(lambda: journal.cache.failing is not None)
        await client.create(SECRET, secret(namespace, "meanwhile"))
        await client.delete(SECRET, ObjectKey(namespace, "before"))
        if trouble == "refuse":
            relay.resume()
        elif trouble == "stall":
            relay.drop()
            relay.resume()
        async with asyncio.timeout(10):
            await journal.cache.relist()
        assert set(journal.believed) == {ObjectKey(namespace, "meanwhile")}
        await client.create(SECRET, secret(namespace, "after"))
        await journal.until(lambda: ObjectKey(namespace, "after") in journal.believed)
        assert len(journal.told()) == 4


async def test_a_server_that_is_away_from_the_start_is_not_an_empty_one(
    client: Client, relay: Relay, relayed: Client, namespace: str, journal_of: Callable[[Cache[Any]], Journal[Any]]
) -> None:
    await client.create(SECRET, secret(namespace, "a"))
    relay.refuse()
    cache = Cache(relayed, SECRET, namespace=namespace)
    journal = journal_of(cache)
    task = asyncio.create_task(cache.run())
    await journal.until(lambda: cache.failing is not None)
    assert not cache.is_synced
    relay.resume()
    await journal.until(lambda: journal.told() == [("a", "added")])
    assert cache.is_synced
    task.cancel()
    await asyncio.wait([task])


async def test_a_point_that_the_server_no_longer_knows_leads_to_a_new_list(
    client: Client, relay: Relay, relayed: Client, namespace: str, following: Following
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


async def test_many_that_must_list_anew_spread_their_lists(client: Client, namespace: str) -> None:
    """As when a server was started anew: a hundred do not come together, but from soon on until what is said."""
    await client.create(SERVICE_INTERFACE, uplink(namespace, "a"))
    caches = [Cache(client, SERVICE_INTERFACE, namespace=namespace) for _ in range(100)]
    loop, listed = asyncio.get_running_loop(), []

    async def follow(cache: Cache[ServiceInterface]) -> None:
        cache._version, cache.spread = FORGOTTEN, 2.0
        began = loop.time()
        running = asyncio.create_task(cache.run())
        await cache.synced()
        listed.append(loop.time() - began)
        running.cancel()

    async with asyncio.timeout(WAIT):
        await asyncio.gather(*map(follow, caches))
    listed.sort()
    assert listed[10] - listed[0] < 1.0
    assert listed[50] - listed[10] > 0.3
    assert listed[90] - listed[50] > 0.3


async def test_the_server_says_410_for_such_a_point(client: Client, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test before stands on: without it, it would test a watch that goes on."""
    monkeypatch.setattr(kube_cache, "SILENCE", 5.0)
    cache = Cache(client, SERVICE_INTERFACE, namespace=namespace)
    cache._version = FORGOTTEN
    with pytest.raises(Expired):
        await cache._watch()


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


@pytest.mark.parametrize("away", [False, True], ids=["there all the while", "away meanwhile"])
async def test_a_server_that_was_there_all_the_while_is_soon_asked_for_a_list(away: bool) -> None:
    """It has forgotten the points of a few then, not those of all as one that was started anew."""
    event = {"type": "ADDED", "object": msgspec.to_builtins(secret("ns", "a")) | {"metadata": {"name": "a", "resourceVersion": "6"}}}
    forgotten = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}
    clients, spread, loop = 20, 8.0, asyncio.get_running_loop()
    refusals = [web.Response(status=503) for _ in range(clients if away else 0)]

    def watch(request: web.Request) -> web.Response:
        if request.query["resourceVersion"] != "5" and refusals:
            return refusals.pop()
        return web.Response(text=json.dumps(event if request.query["resourceVersion"] == "5" else forgotten) + "\n")

    async def follow(client: Client) -> None:
        cache, anew = Cache(client, SECRET), asyncio.Event()
        cache.spread = spread
        cache.subscribe(lambda change: anew.set() if change.new is None else None)  # the list has nothing
        running = asyncio.create_task(cache.run())
        await anew.wait()
        running.cancel()

    began = loop.time()
    async with serving(watch) as client, asyncio.timeout(WAIT):
        await asyncio.gather(*(follow(client) for _ in range(clients)))
    assert (loop.time() - began > spread / 2) == away


async def test_who_is_throttled_knows(journal_of: Callable[[Cache[Any]], Journal[Any]]) -> None:
    async with serving(lambda _: web.Response(status=429, text="busy")) as client:
        cache = Cache(client, SECRET)
        journal = journal_of(cache)
        task = asyncio.create_task(cache.run())
        await journal.until(lambda: cache.failing is not None)
        assert cache.failing is not None
        assert isinstance(cache.failing.error, Throttled)
        task.cancel()
        await asyncio.wait([task])
