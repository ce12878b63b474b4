"""What the DPFOperatorConfig says of agents reaches every DPU cluster, stays there, and goes again."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from dpuchain.api import kinds
from dpuchain.api.meta import ObjectKey
from dpuchain.api.names import AGENT_SETTINGS_NAME, HOST_LABEL, OPERATOR_CONFIG_NAME, OPERATOR_NAMESPACE
from dpuchain.kube.client import MERGE_PATCH
from dpuchain.kube.errors import Invalid, KubeError, NotFound
from dpuchain.kube.views import agent_settings_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.host.conftest import World


KEY = ObjectKey(OPERATOR_NAMESPACE, AGENT_SETTINGS_NAME)
CONFIG = ObjectKey(OPERATOR_NAMESPACE, OPERATOR_CONFIG_NAME)
BOTH = ("north", "south")


class Told:
    """What the agents of both clusters are told."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.caches = {name: agent_settings_of(world.places[name].client) for name in BOTH}
        self.changed = asyncio.Event()
        for cache in self.caches.values():
            cache.subscribe(lambda _: self.changed.set())

    def seconds(self, name: str) -> float | None:
        item = self.caches[name].get(KEY)
        return item.secure_flow_deletion_seconds if item is not None else None

    async def until(self, **expected: float | None) -> None:
        try:
            async with asyncio.timeout(15):
                while {name: self.seconds(name) for name in expected} != expected:
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            pytest.fail(f"told {[self.seconds(name) for name in BOTH]} instead of {expected}")

    async def configure(self, timeout: str | None) -> None:
        await self.world.set_high_speed_mtu(1500)
        controller = None if timeout is None else {"secureFlowDeletionTimeout": timeout}
        await self.world.client.patch(kinds.DPF_OPERATOR_CONFIG, CONFIG, {"spec": {"sfcController": controller}})

    async def versions(self) -> list[str]:
        found = [await self.world.places[name].client.get(kinds.AGENT_SETTINGS, KEY) for name in BOTH]
        return [item.metadata.resource_version for item in found]


@pytest.fixture
async def told(world: World) -> AsyncIterator[Told]:
    told = Told(world)
    watches = [asyncio.ensure_future(cache.run()) for cache in told.caches.values()]
    yield told
    for watch in watches:
        watch.cancel()
    await asyncio.wait(watches)
    for name in BOTH:
        with contextlib.suppress(NotFound):
            await world.places[name].client.delete(kinds.AGENT_SETTINGS, KEY)


@pytest.mark.usefixtures("controller")
async def test_timeout_is_told_in_every_cluster_changed_and_taken_back(told: Told) -> None:
    await told.configure("5m0s")
    await told.world.add_cluster("north")
    await told.until(north=300, south=None)
    await told.world.add_cluster("south")
    await told.until(north=300, south=300)
    await told.configure("1.5s")
    await told.until(north=1.5, south=1.5)
    await told.configure("0s")
    await told.until(north=None, south=None)
    await told.configure("90s")
    await told.until(north=90, south=90)
    await told.configure(None)
    await told.until(north=None, south=None)


@pytest.mark.usefixtures("controller")
async def test_what_others_do_to_it_is_undone_and_nothing_is_written_at_rest(told: Told) -> None:
    await told.configure("5m0s")
    for name in BOTH:
        await told.world.add_cluster(name)
    await told.until(north=300, south=300)
    client = told.world.north.client
    await client.delete(kinds.AGENT_SETTINGS, KEY)
    await told.until(north=None)
    await told.until(north=300)
    for value in ("7", "never"):
        body = b'{"data": {"secureFlowDeletionMilliseconds": "%b"}}' % value.encode()
        await client.request("PATCH", kinds.AGENT_SETTINGS.path(KEY.namespace, KEY.name), body=body, content_type=MERGE_PATCH)
        for _ in range(200):
            with contextlib.suppress(Invalid):
                if (await client.get(kinds.AGENT_SETTINGS, KEY)).secure_flow_deletion_seconds == 300:
                    break
            await asyncio.sleep(0.05)
        else:
            pytest.fail(f"{value} stays")
    before = await told.versions()
    await told.world.add_chain()
    await told.world.until(lambda: told.world.everywhere() == set(BOTH), "in both")
    assert await told.versions() == before


@pytest.mark.usefixtures("controller")
async def test_what_makes_no_sense_is_refused_or_told_and_changes_nothing(told: Told) -> None:
    await told.configure("5m0s")
    await told.world.add_cluster("north")
    await told.until(north=300)
    with pytest.raises(KubeError, match="secureFlowDeletionTimeout"):
        await told.configure("5 minutes")
    before = await told.world.north.client.get(kinds.AGENT_SETTINGS, KEY)
    await told.configure("3000000h")  # which no schema can tell
    field = "DPFOperatorConfig dpf-operator-system/dpfoperatorconfig: spec.sfcController.secureFlowDeletionTimeout"
    problem = "'3000000h' is longer than a duration can be, which is some 292 years; use a shorter one; 0 turns it off"
    for _ in range(200):
        if f"{field}: {problem}" in (said := await messages(told)):
            break
        await asyncio.sleep(0.05)
    else:
        pytest.fail(f"not told: {said}")
    assert await told.world.north.client.get(kinds.AGENT_SETTINGS, KEY) == before
    await told.configure("6m")
    await told.until(north=360)


async def messages(told: Told) -> list[str]:
    events = (await told.world.client.list(kinds.EVENT, namespace=OPERATOR_NAMESPACE)).items
    return [event.message for event in events if event.reason == "InvalidSetting" and event.involved_object.name == OPERATOR_CONFIG_NAME]


@pytest.mark.usefixtures("controller")
async def test_another_host_clusters_word_stands(told: Told) -> None:
    client = told.world.north.client
    await told.configure("5m0s")
    await told.world.add_cluster("north")
    await told.until(north=300)
    theirs: dict[str, Any] = {"metadata": {"labels": {HOST_LABEL: "other"}}, "data": {"secureFlowDeletionMilliseconds": "8000"}}
    await client.patch(kinds.AGENT_SETTINGS, KEY, theirs)
    await told.until(north=8)
    await told.configure("6m")
    await told.configure(None)
    await told.world.add_chain()
    await told.world.until(lambda: "north" in told.world.everywhere(), "looked at")
    assert told.seconds("north") == 8
