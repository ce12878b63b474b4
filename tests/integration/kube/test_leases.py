"""Replicas that compete for a lease on a real API server: never two at once, and one after the other."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from dpuchain.api.kinds import LEASE
from dpuchain.api.meta import ObjectKey
from dpuchain.kube import leases
from dpuchain.kube.cache import Cache
from dpuchain.kube.client import Client
from dpuchain.kube.errors import NotFound
from dpuchain.kube.leases import Election, LeadershipLost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.integration.relay import Relay

    from dpuchain.lab.cluster import Cluster

WAIT = 30.0
"""Seconds after which what a test waits for will not come any more."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the real periods, in the same proportions."""
    for name, seconds in {"DURATION": 1.5, "DEADLINE": 1.0, "PERIOD": 0.2, "LOOK": 0.2, "PATIENCE": 0.3}.items():
        monkeypatch.setattr(leases, name, seconds)


class Slow(Client):
    """A client whose requests reach the server, and whose answers to writes are kept back while `open` is not set."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.open = asyncio.Event()
        self.open.set()

    async def request(self, method: str, *arguments: Any, **named: Any) -> bytes:
        answer = await super().request(method, *arguments, **named)
        if method != "GET":
            await self.open.wait()
        return answer


class Stage:
    """Who leads, in the order in which they began and ended; two at once is a failure of the test."""

    def __init__(self) -> None:
        self.leading: str = ""
        self.history: list[str] = []
        self.faults: list[str] = []
        self._moved = asyncio.Event()

    async def lead(self, name: str) -> None:
        if self.leading:
            self.faults.append(f"{name} leads while {self.leading} does")
        self.leading = name
        self._note(f"{name} begins")
        try:
            await asyncio.Event().wait()
        finally:
            self.leading = ""
            self._note(f"{name} ends")

    def _note(self, what: str) -> None:
        self.history.append(what)
        self.moved()

    def moved(self) -> None:
        """Something that is waited for may be so now."""
        self._moved.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT):
            while not holds():
                self._moved.clear()
                await self._moved.wait()


@pytest.fixture
async def slow(api_server: Cluster) -> AsyncIterator[Slow]:
    async with Slow.from_kubeconfig(api_server.kubeconfig, user_agent="tests") as client:
        assert isinstance(client, Slow)
        yield client
        client.open.set()


class Replica:
    """One competitor."""

    def __init__(self, stage: Stage, client: Client, key: ObjectKey, name: str) -> None:
        self.name = name
        self.task = asyncio.create_task(Election(client, key, name).lead(lambda: stage.lead(name)))

    async def end(self) -> None:
        """As a signal ends a process."""
        self.task.cancel()
        with suppress(asyncio.CancelledError, LeadershipLost):
            await self.task


async def test_one_leads_and_hands_over_when_it_ends(client: Client, namespace: str) -> None:
    stage, key = Stage(), ObjectKey(namespace, "lease")
    replicas = {name: Replica(stage, client, key, name) for name in "abc"}
    for round_number in range(3):
        await stage.until(lambda: stage.leading != "" and len(stage.history) == 2 * round_number + 1)  # noqa: B023 - awaited at once
        leader = stage.leading
        lease = await client.get(LEASE, key)
        assert lease.spec.holder_identity == leader
        assert lease.spec.lease_transitions == round_number
        await replicas.pop(leader).end()
    assert not stage.faults
    assert sorted(stage.history) == sorted(f"{name} {what}" for name in "abc" for what in ("begins", "ends"))
    assert (await client.get(LEASE, key)).spec.holder_identity == "", "who ends gives the lease back"


async def test_a_leader_renews(client: Client, namespace: str) -> None:
    stage, key = Stage(), ObjectKey(namespace, "lease")
    first = Replica(stage, client, key, "a")
    await stage.until(lambda: stage.leading == "a")
    second = Replica(stage, client, key, "b")
    acquired = (await client.get(LEASE, key)).spec
    renewals: set[Any] = set()
    async with asyncio.timeout(WAIT):
        while len(renewals) < 12:  # more than one duration's worth
            renewals.add((await client.get(LEASE, key)).spec.renew_time)
            await asyncio.sleep(0.05)
    spec = (await client.get(LEASE, key)).spec
    assert (spec.holder_identity, spec.acquire_time, spec.lease_transitions) == ("a", acquired.acquire_time, 0)
    assert stage.history == ["a begins"]
    await first.end()
    await second.end()


async def test_a_leader_that_gets_no_answer_ends_before_another_begins(client: Client, slow: Slow, namespace: str) -> None:
    stage, key = Stage(), ObjectKey(namespace, "lease")
    cut_off = Replica(stage, slow, key, "cut off")
    await stage.until(lambda: stage.leading == "cut off")
    other = Replica(stage, client, key, "other")
    slow.open.clear()
    await stage.until(lambda: stage.leading == "other")
    assert stage.history == ["cut off begins", "cut off ends", "other begins"]
    with pytest.raises(LeadershipLost, match="was not renewed for 1 s or is held by somebody else"):
        await asyncio.wait_for(cut_off.task, WAIT)
    await other.end()
    assert not stage.faults


async def test_who_does_not_learn_in_time_that_the_lease_is_its_own_does_not_lead(client: Client, slow: Slow, namespace: str) -> None:
    """The answer would come after others have taken the lease for abandoned; so the attempt is given up, and another one made."""
    stage, key = Stage(), ObjectKey(namespace, "lease")
    slow.open.clear()
    late = Replica(stage, slow, key, "late")
    versions: set[str] = set()
    async with asyncio.timeout(WAIT):
        while len(versions) < 2:
            with suppress(NotFound):
                lease = await client.get(LEASE, key)
                assert lease.spec.holder_identity == "late"
                versions.add(lease.metadata.resource_version)
            await asyncio.sleep(0.02)
    assert stage.history == []
    slow.open.set()
    await stage.until(lambda: stage.leading == "late")
    await late.end()


async def test_a_leader_whose_connection_dies_without_a_word_renews_by_another(
    client: Client, relayed: Client, relay: Relay, namespace: str
) -> None:
    stage, key = Stage(), ObjectKey(namespace, "lease")
    leader = Replica(stage, relayed, key, "leader")
    await stage.until(lambda: stage.leading == "leader")
    other = Replica(stage, client, key, "other")
    versions: set[str] = set()
    leases_seen = Cache(client, LEASE, namespace=namespace)
    leases_seen.subscribe(lambda change: versions.add(change.new.metadata.resource_version) if change.new else None)
    leases_seen.subscribe(lambda _: stage.moved())
    watching = asyncio.create_task(leases_seen.run())
    for _ in range(3):
        relay.lose()
        count = len(versions)
        await stage.until(lambda: len(versions) > count + 1)  # noqa: B023 - awaited at once
    assert stage.history == ["leader begins"]
    watching.cancel()
    await leader.end()
    await other.end()


async def test_a_leader_whose_lease_somebody_took_ends(client: Client, namespace: str) -> None:
    stage, key = Stage(), ObjectKey(namespace, "lease")
    robbed = Replica(stage, client, key, "robbed")
    await stage.until(lambda: stage.leading == "robbed")
    await client.patch(LEASE, key, {"spec": {"holderIdentity": "thief"}})
    with pytest.raises(LeadershipLost):
        await asyncio.wait_for(robbed.task, WAIT)
    assert stage.history == ["robbed begins", "robbed ends"]
    assert (await client.get(LEASE, key)).spec.holder_identity == "thief", "what is somebody else's is not given back"


async def test_a_lease_that_was_held_and_given_back_meanwhile_is_lost(client: Client, namespace: str) -> None:
    stage, key = Stage(), ObjectKey(namespace, "lease")
    robbed = Replica(stage, client, key, "robbed")
    await stage.until(lambda: stage.leading == "robbed")
    await client.patch(LEASE, key, {"spec": {"holderIdentity": ""}})
    with pytest.raises(LeadershipLost):
        await asyncio.wait_for(robbed.task, WAIT)


async def test_the_lease_of_one_who_died_is_taken_after_its_time(client: Client, namespace: str) -> None:
    dead = {"metadata": {"name": "lease", "namespace": namespace}, "spec": {"holderIdentity": "dead", "leaseDurationSeconds": 1}}
    key = ObjectKey(namespace, "lease")
    await client.create(LEASE, msgspec.convert(dead, LEASE.type))
    stage = Stage()
    heir = Replica(stage, client, key, "heir")
    await stage.until(lambda: stage.leading == "heir")
    assert (await client.get(LEASE, key)).spec.lease_transitions == 1
    await heir.end()


async def test_work_that_fails_gives_the_lease_back_and_says_why(client: Client, namespace: str) -> None:
    key = ObjectKey(namespace, "lease")

    async def fail() -> None:
        raise ValueError("the reason")

    with pytest.raises(ValueError, match="the reason"):
        await Election(client, key, "a").lead(fail)
    assert (await client.get(LEASE, key)).spec.holder_identity == ""
    done: list[str] = []

    async def finish() -> None:
        done.append("done")

    await Election(client, key, "b").lead(finish)
    assert done == ["done"]
