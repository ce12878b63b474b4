"""What an agent tells of its switch to who scrapes it, beside what Open vSwitch says itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.integration.agent.world import World

from dpuchain.lab.ports import ReservedPort
from dpuchain.lab.scraping import scrape, token
from dpuchain.runtime.metrics import CATALOGUE

if TYPE_CHECKING:
    from dpuchain.kube.client import Client

FRAME = "020000000002020000000001" + "88b5" + "00" * 46
Scraped = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scraper:
    """Reads the agent's metrics."""

    def __init__(self, address: str, token: str) -> None:
        self._address, self._token = address, token

    async def read(self) -> Scraped:
        status, text = await scrape(self._address, self._token)
        assert status == 200, text
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


def value(scraped: Scraped, name: str, **labels: str) -> float | None:
    return scraped.get((f"dpuchain_{name}", frozenset(labels.items())))


@pytest.fixture
async def scraper(world: World, client: Client, rights: None, start_agent: Callable[..., asyncio.Task[None]]) -> Scraper:
    with ReservedPort("127.0.0.1") as reserved:
        address = f"127.0.0.1:{reserved.number}"
    start_agent("", address)
    for name in ("p0", "p1", "p2", "p3", "p4"):
        await world.add_physical(name)
    await world.add_chain("chain", ("p0", "p1"), ("p2", "p3", "p4"))
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    return Scraper(address, await token(client))


async def test_flows_ports_objects_and_what_passes_each_switch(world: World, scraper: Scraper) -> None:
    await world.switch.ofctl("add-flow", "table=7,priority=5,actions=drop")
    first = await scraper.read()
    chain = {"chain": f"{world.namespace}/chain"}
    assert value(first, "flows", kind="compiled") == len(await world.flows()) == 2 + 7
    assert value(first, "flows", kind="foreign") == 1
    assert value(first, "flows_missing") == 0
    assert value(first, "ports", state="up") == 5
    assert value(first, "objects", kind="ServiceInterface", state="ready") == 5
    assert value(first, "objects", kind="ServiceChain", state="ready") == 1
    assert value(first, "switch_packets_total", **chain, switch="0") == 0
    for port, count in (("p0", 3), ("p1", 1), ("p2", 2)):
        for _ in range(count):
            await world.switch.appctl("netdev-dummy/receive", port, FRAME)
    await world.switch.appctl("revalidator/purge")  # counters of the datapath are collected
    then = await scraper.read()
    assert [value(then, "switch_packets_total", **chain, switch=switch) for switch in "01"] == [4, 2]
    assert [value(then, "switch_bytes_total", **chain, switch=switch) for switch in "01"] == [4 * 60, 2 * 60]
    assert value(then, "flows", kind="learned") == 1
    assert value(then, "switch_dropped_packets_total", **chain, switch="0", by="flow") == 0


async def test_counters_do_not_fall_when_flows_are_made_again(world: World, scraper: Scraper) -> None:
    await world.switch.appctl("netdev-dummy/receive", "p0", FRAME)
    await world.switch.appctl("revalidator/purge")
    labels = {"chain": f"{world.namespace}/chain", "switch": "0"}
    assert value(await scraper.read(), "switch_packets_total", **labels) == 1
    right = sorted(await world.flows())
    await world.switch.ofctl("del-flows")
    await world.until_flows(right)
    assert value(await scraper.read(), "switch_packets_total", **labels) == 1
    await world.switch.appctl("netdev-dummy/receive", "p0", FRAME)
    await world.switch.appctl("revalidator/purge")
    assert value(await scraper.read(), "switch_packets_total", **labels) == 2


async def test_conflicts_and_what_is_not_as_it_should_be(world: World, scraper: Scraper) -> None:
    await world.add_physical("second", "p0")
    await world.add_physical("absent")
    await world.until(lambda: world.ready(world.interfaces, "second") == "False", "refused")
    await world.until(lambda: world.ready(world.interfaces, "absent") is not None, "looked at")
    found = await scraper.read()
    assert value(found, "conflicts", kind="port") == 1
    assert value(found, "objects", kind="ServiceInterface", state="unready") >= 1  # type: ignore[operator]
    assert value(found, "ready", check="openflow") == 1


async def test_everything_that_is_told_is_in_the_catalogue(scraper: Scraper) -> None:
    names = {measure.name for measure in CATALOGUE}
    told = {name for name, _ in await scraper.read() if name.startswith("dpuchain_")}
    for suffix in ("_bucket", "_sum", "_count", "_created"):
        told = {name.removesuffix(suffix) for name in told}
    assert {name for name in told if name not in names and f"{name}_total" not in names} == set()
