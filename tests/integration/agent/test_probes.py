"""Probe frames of a live trace through a real Open vSwitch and a service that passes frames on, or does not.

The service is a wire: two dummy devices of Open vSwitch that are connected to each other.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from dpuchain.agent import probing
from dpuchain.api.kinds import POD
from dpuchain.api.meta import ObjectKey
from dpuchain.api.names import PASSES_PROBES_ANNOTATION, SERVICE_LABEL
from dpuchain.flows.probes import CATCH_SECONDS, PROBE_TYPE
from dpuchain.ovs.unixctl import call
from dpuchain.runtime.metrics import REPAIRS

if TYPE_CHECKING:
    from tests.integration.agent.asker import Asker
    from tests.integration.agent.world import World

PROBE_COOKIE = "cookie=0xd9c13"
T = TypeVar("T")


@pytest.fixture
async def firewall(world: World, asker: Asker) -> AsyncIterator[str]:
    """p0, eth1, the service, eth2, p1; gives the name of the service's pod, which says that it passes probe frames."""
    account = b'{"metadata": {"name": "default"}}'  # which a controller manager would make
    await world.client.request("POST", f"/api/v1/namespaces/{world.namespace}/serviceaccounts", body=account)
    annotations = {PASSES_PROBES_ANNOTATION: "true"}
    metadata = {"name": "fw-1", "labels": {SERVICE_LABEL: "fw"}, "annotations": annotations}
    body = {"metadata": metadata, "spec": {"nodeName": world.node, "containers": [{"name": "c", "image": "none"}]}}
    await world.client.request("POST", POD.path(world.namespace), body=json.dumps(body).encode())
    status = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    await world.client.patch(POD, ObjectKey(world.namespace, "fw-1"), status, subresource="status")
    wire = world.switch.directory / "wire"
    for device, name, option in (("v1", "eth1", f"options:pstream=punix:{wire}"), ("v2", "eth2", f"options:stream=unix:{wire}")):
        mark = f"external_ids:dpf-id={world.namespace}/fw-1/{name}"
        owner = "external_ids:owner=ovs-cni.network.kubevirt.io"
        await world.switch.vsctl(
            "add-port", "br-sfc", device, "--", "set", "interface", device, mark, option, "--", "set", "port", device, owner
        )
        await world.add(name, "service", serviceID="fw", network="mybrsfc", interfaceName=name)
    for name in ("p0", "p1"):
        await world.add_physical(name)
    await world.add_chain("chain", ("p0", "eth1"), ("eth2", "p1"))
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    yield "fw-1"
    await world.client.request("DELETE", POD.path(world.namespace, "fw-1"), body=b'{"gracePeriodSeconds": 0}')


def repaired() -> float:
    """How often agents of this process have undone what others did."""
    return sum(sample.value for metric in REPAIRS.collect() for sample in metric.samples if sample.name.endswith("_total"))


async def tables(world: World) -> list[str]:
    return sorted(line.strip() for line in (await world.switch.ofctl("dump-flows", "--no-stats")).splitlines() if "cookie" in line)


def by(found: dict[str, Any], begins: str) -> dict[str, Any]:
    (probe,) = [probe for probe in found["probes"] if probe["begins"].partition(" ")[0] == begins]
    return dict(probe)


async def until(look: Callable[[], Awaitable[T]], holds: Callable[[T], bool]) -> T:
    """Look again and again until it is so, for what nothing tells of."""
    async with asyncio.timeout(20):
        while not holds(seen := await look()):  # noqa: ASYNC110  # each look asks the agent or the switch
            await asyncio.sleep(0.02)
    return seen


@pytest.mark.usefixtures("firewall")
async def test_frames_come_back_from_the_service_and_nothing_is_left_or_repaired(asker: Asker, world: World) -> None:
    before, repairs = await tables(world), repaired()
    found = await until(
        lambda: asker.live("p0"), lambda seen: by(seen, "p0").get("received") == 10
    )  # the two devices connect within a second
    assert found["verdict"] == "delivered"
    there, back = by(found, "p0"), by(found, "p1")
    assert (there["sent"], there["received"], there["ends"], there["through"]) == (10, 10, ["eth2 (v2)"], "service fw, pod fw-1")
    assert (back["sent"], back["received"], back["ends"]) == (10, 10, ["eth1 (v1)"])
    assert 0 < there["least"] <= there["mean"] <= there["most"] < 1000 * 0.2
    for name, uplink in (("eth1", "p0"), ("eth2", "p1")):
        assert by(found, name)["skipped"].startswith(f"a frame would leave the DPU by {uplink}, which no probe frame may; ")
    assert await tables(world) == before
    assert repaired() == repairs
    counters = await world.switch.ofctl("dump-ports", "p1")
    assert "tx pkts=0" in counters, "no probe frame has left the DPU"


async def test_service_that_passes_nothing_is_where_the_frame_is_lost(asker: Asker, world: World, firewall: str) -> None:
    await world.switch.vsctl("clear", "interface", "v2", "options")
    found = await asker.live("p0")
    assert (by(found, "p0")["sent"], by(found, "p0").get("received", 0)) == (10, 0)
    assert found["sentence"] == f"dropped: p0 → lost in service fw, pod {firewall}"
    assert found["cause"] == "none of 10 probe frames that came in by p0 was passed on to eth2 (v2)"


async def test_service_that_did_not_say_so_gets_none(asker: Asker, world: World, firewall: str) -> None:
    await world.client.patch(POD, ObjectKey(world.namespace, firewall), {"metadata": {"annotations": None}})
    found = await until(lambda: asker.live("p0"), lambda seen: "skipped" in by(seen, "p0"))
    assert PASSES_PROBES_ANNOTATION in by(found, "p0")["skipped"]
    assert found["verdict"] == "delivered"


@pytest.mark.usefixtures("firewall")
async def test_frames_after_others_are_caught_though_the_datapath_remembers_where_those_went(asker: Asker, world: World) -> None:
    """What the datapath has cached outlives what catches frames, and would take the first frame of the next series out of the DPU."""
    await until(lambda: asker.live("p0"), lambda seen: by(seen, "p0").get("received") == 10)
    for _ in range(3):
        found = await asker.live("p0")
        assert [by(found, name)["received"] for name in ("p0", "p1")] == [10, 10]
    counters = await world.switch.ofctl("dump-ports", "p1")
    assert "tx pkts=0" in counters, "no probe frame has left the DPU"


@pytest.mark.usefixtures("firewall")
async def test_agent_that_dies_while_frames_are_under_way_leaves_nothing(
    asker: Asker, world: World, agents: list[asyncio.Task[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "PATIENCE_SECONDS", 60.0)  # so that it dies while it waits, however busy the machine is
    await world.switch.vsctl("clear", "interface", "v2", "options")
    before = await tables(world)
    asking = asyncio.ensure_future(asker.live("p0"))
    await until(lambda: tables(world), lambda seen: any(PROBE_COOKIE in line for line in seen))
    await call(world.switch.control, "time/stop")
    agents[0].cancel()
    await asyncio.wait([agents[0], asking])
    left = [line for line in await tables(world) if line not in before]
    assert len(left) == 1
    assert f"dl_type={PROBE_TYPE:#06x}" in left[0]
    assert f"hard_timeout={CATCH_SECONDS}" in left[0]
    await call(world.switch.control, "time/warp", str(1000 * (CATCH_SECONDS + 1)), "1000")
    await until(lambda: tables(world), lambda seen: seen == before)
