"""Plan, then apply, again and again: each time the rack becomes what the plan said, object for object, port for port, flow for flow.

PLAN_CHANGES=200 PLAN_SEED=7 .venv/bin/pytest tests/e2e/test_plan.py tries so many changes, and others.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import time
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from dpuchain.agent import ports as rows_of
from dpuchain.api.kinds import SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.api.meta import ObjectKey
from dpuchain.chain.comparison import Standing, at_node
from dpuchain.chain.fleet import Fleet
from dpuchain.chain.manifests import Manifest
from dpuchain.chain.manifests import apply as applied
from dpuchain.chain.manifests import delete as deleted
from dpuchain.cli import live
from dpuchain.cli.manifests import OURS
from dpuchain.flows.explain import describe
from dpuchain.flows.forecast import flow_state
from dpuchain.flows.model import FlowState
from dpuchain.flows.plan import Plan, plan
from dpuchain.kube.client import Client
from dpuchain.ovs.database import Database
from dpuchain.ovs.openflow import OpenFlow
from tests.e2e.conftest import Outcome, run
from tests.e2e.manifests import NAMESPACE, ON_FIRST, apply, chain, interface

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from dpuchain.api.chain import ServiceChain
    from dpuchain.api.interface import ServiceInterface
    from dpuchain.api.resource import Resource
    from dpuchain.ovs.rows import PortRow
    from tests.e2e.conftest import Rack

CHANGES = int(os.environ.get("PLAN_CHANGES", "12"))
SEED = int(os.environ.get("PLAN_SEED", "1"))
DPUS = ("dpu-1", "dpu-2")
CLUSTER = ObjectKey(NAMESPACE, "cluster-1")
PATIENCE = 60.0
NAMES = ("a", "b", "c", "d", "e", "f")
CHAINS = ("one", "two", "three")
PAIRS = (("x0", "x1"), ("x2", "x3"), ("x4", "x5"))


@pytest.fixture
def wired(rack: Rack) -> Iterator[Rack]:
    """Six further devices and another bridge on dpu-1; in the end the rack is as it was."""
    before = rack.snapshot()
    for pair in PAIRS:
        rack.at("dpu-1", "ip", "link", "add", pair[0], "type", "veth", "peer", "name", pair[1])
        for device in pair:
            rack.at("dpu-1", "ip", "link", "set", device, "up")
    rack.at("dpu-1", "ovs-vsctl", "add-br", "br-x", "--", "set", "bridge", "br-x", "datapath_type=netdev")
    yield rack
    rack.ok("host", "delete", "dpuservicechains,dpuserviceinterfaces", "--all", "--timeout=60s")
    rack.at("dpu-1", "ovs-vsctl", "del-br", "br-x")
    for pair in PAIRS:
        rack.at("dpu-1", "ip", "link", "del", pair[0])
    assert rack.snapshot() == before


@pytest.mark.timeout(3600)
def test_the_rack_becomes_what_was_planned(wired: Rack) -> None:
    chance = Random(SEED)
    for number in range(CHANGES):
        step(wired, number, change(chance))


def test_command_tells_by_its_status_what_applying_would_do(wired: Rack) -> None:
    uplink = {"interfaceType": "physical", "physical": {"interfaceName": "p0"}}
    items = [interface("p0", uplink), interface("hpf", {"interfaceType": "pf", "pf": {"pfID": 0}}), chain("wire", ("p0", "hpf"))]
    first = command(wired, items)
    assert first.status == 2, first.output
    assert "hpf on 2 DPUs reaches p0" in first.output
    apply(wired, *items)
    wired.ok("host", "wait", "--for=condition=Ready", "dpuservicechain/wire", "--timeout=60s")
    assert command(wired, items).output.strip() == "nothing to do"
    second = command(wired, [interface("second", uplink)])
    assert second.status == 1
    assert "port p0 is owned by ServiceInterface dpf-operator-system/p0-" in re.sub(r"[│├└─\s]+", " ", second.output)


def command(rack: Rack, items: list[dict[str, Any]]) -> Outcome:
    path = rack.directory / "planned.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    kubeconfig = f"--kubeconfig={rack.directory / 'host.kubeconfig'}"
    return run(sys.executable, "-m", "dpuchain", "plan", "--filename", str(path), kubeconfig, timeout=60)


def change(chance: Random) -> tuple[str, list[dict[str, Any]]]:
    """What to do: apply, or delete, an interface, a chain, or one of each. Two interfaces that come together would race for a port."""
    kinds = chance.choice(((_interface,), (_interface,), (_chain,), (_chain,), (_interface, _chain)))
    return "delete" if chance.random() < 0.2 else "apply", [make(chance) for make in kinds]


def _chain(chance: Random) -> dict[str, Any]:
    ports = chance.sample(NAMES, chance.choice((2, 2, 3, 4)))
    switches = [tuple(ports)] if len(ports) < 4 else [tuple(ports[:2]), tuple(ports[2:])]
    about = ON_FIRST if chance.random() < 0.4 else {}
    return chain(chance.choice(CHAINS), *switches, **about)


def _interface(chance: Random) -> dict[str, Any]:
    name = chance.choice(NAMES)
    sort = chance.choice(("physical", "physical", "physical", "uplink", "host", "vlan", "patch"))
    if sort == "physical":
        return interface(name, {"interfaceType": "physical", "physical": {"interfaceName": chance.choice(("x0", "x2", "x4"))}}, **ON_FIRST)
    if sort == "vlan":
        return interface(
            name, {"interfaceType": "vlan", "vlan": {"vlanID": chance.choice((5, 6)), "parentInterfaceRef": chance.choice(NAMES)}}
        )
    if sort == "patch":
        return interface(name, {"interfaceType": "patch", "patch": {"peerBridge": "br-x"}}, **ON_FIRST)
    about = ON_FIRST if chance.random() < 0.3 else {}
    spec = (
        {"interfaceType": "physical", "physical": {"interfaceName": "p0"}}
        if sort == "uplink"
        else {"interfaceType": "pf", "pf": {"pfID": 0}}
    )
    return interface(name, spec, **about)


def step(rack: Rack, number: int, what: tuple[str, list[dict[str, Any]]]) -> None:
    """Plan a change, make it, wait until all that is told is told of it, and compare."""
    action, items = what
    before = fleet_of(rack)
    manifests = [Manifest(msgspec.convert(item, OURS[item["kind"]].type)) for item in items]
    after = deleted(before, manifests) if action == "delete" else applied(before, manifests)
    planned = plan(before, after)
    expected = {dpu: at_node(before, after, CLUSTER, dpu) for dpu in DPUS}
    earlier = {dpu: asyncio.run(switch(rack, dpu)) for dpu in DPUS}
    time.sleep(1.1 - time.time() % 1)  # age is told in seconds: what is made now is younger than what is there
    if action == "delete":
        names = [f"{item['kind'].lower()}/{item['metadata']['name']}" for item in items]
        rack.ok("host", "delete", *names, "--ignore-not-found", "--timeout=60s")
    else:
        apply(rack, *items)
    deadline = time.monotonic() + PATIENCE
    while wrong := [*unsettled(rack), *differences(rack, planned, expected, earlier)]:
        if time.monotonic() > deadline:
            text = "\n".join([f"after change {number} of seed {SEED}: {action} {json.dumps(items)}", *wrong])
            pytest.fail(text)
        time.sleep(0.2)


def fleet_of(rack: Rack) -> Fleet:
    world = asyncio.run(live.read(Client.from_kubeconfig(rack.directory / "host.kubeconfig", user_agent="tests")))
    assert world.unread == []
    return world.fleet


def unsettled(rack: Rack) -> list[str]:
    """The objects of which nothing is told yet, as they are now."""
    found = []
    for cluster, kinds in (("host", ("dpuservicechains", "dpuserviceinterfaces")), ("cluster-1", ("servicechains", "serviceinterfaces"))):
        for kind in kinds:
            for item in rack.items(cluster, kind):
                told = item.get("status", {}).get("observedGeneration") == item["metadata"]["generation"]
                if not told or "deletionTimestamp" in item["metadata"]:
                    found.append(f"{cluster}: {kind}/{item['metadata']['name']} is not settled")
    return found


Switch = tuple["dict[str, PortRow]", FlowState]


def differences(rack: Rack, planned: Plan, expected: dict[str, Standing], earlier: dict[str, Switch]) -> list[str]:
    """Where the rack is not as it was planned."""
    found = objects(rack, expected)
    for dpu, standing in expected.items():
        rows, state = asyncio.run(switch(rack, dpu))
        wanted = {name: port.dpf_id for name, port in standing.after.ports.wanted.items()}
        made = (*rows_of.OUR_TYPES, "patch")
        there = {name: row.interface_external_ids.get("dpf-id") for name, row in rows.items() if row.external_ids.get("dpf-type") in made}
        found += [f"{dpu}: ports {there}, planned {wanted}"] if there != wanted else []
        flows = flow_state(standing.after, rows_of.numbers(rows)).flows
        found += [f"{dpu}: missing {describe(flow)}" for flow in flows - state.flows]
        found += [f"{dpu}: surplus {describe(flow)}" for flow in state.flows - flows]
        found += _counts(dpu, planned, earlier[dpu], (rows, state))
    return found


def _counts(dpu: str, planned: Plan, earlier: Switch, now: Switch) -> list[str]:
    """Where the plan's own lists say another number of flows than came and went; ports that come anew may have other numbers."""
    numbers = [rows_of.numbers(rows) for rows, _ in (earlier, now)]
    if any(numbers[1].get(name, number) != number for name, number in numbers[0].items()):
        return []
    group = next((group for group in planned.nodes if dpu in group.nodes), None)
    said = (len(group.flows.added), len(group.flows.removed)) if group is not None else (0, 0)
    happened = len(now[1].flows - earlier[1].flows), len(earlier[1].flows - now[1].flows)
    return [] if said == happened else [f"{dpu}: {happened} flows came and went, planned {said}"]


def objects(rack: Rack, expected: dict[str, Standing]) -> list[str]:
    """Where the objects on the nodes are not the planned ones, name for name."""
    should: dict[tuple[str, ...], Any] = {}
    there: dict[tuple[str, ...], Any] = {}
    for dpu, standing in expected.items():
        known: tuple[ServiceInterface | ServiceChain, ...] = (*standing.after.interfaces, *standing.after.chains)
        should |= {(type(item).__name__, dpu, item.metadata.name): item.spec for item in known}
    resources: tuple[Resource[Any], ...] = (SERVICE_INTERFACE, SERVICE_CHAIN)
    for resource in resources:
        for content in rack.items("cluster-1", resource.plural):
            item = msgspec.convert(content, resource.type, strict=False)
            there[resource.kind, item.spec.node or "", item.metadata.name] = item.spec
    return [f"{key}: is {there.get(key)}, planned {should.get(key)}" for key in {*should, *there} if should.get(key) != there.get(key)]


async def switch(rack: Rack, dpu: str) -> Switch:
    """The ports and flows of a bridge."""
    directory = rack.directory / dpu
    database, openflow = Database(f"unix:{directory / 'db.sock'}"), OpenFlow(directory / "br-sfc.mgmt")
    async with _running(database, openflow):
        return dict(database.bridges()["br-sfc"]), await openflow.read_state()


@contextlib.asynccontextmanager
async def _running(database: Database, openflow: OpenFlow) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(part.run()) for part in (database, openflow)]
    try:
        async with asyncio.timeout(10):
            await asyncio.gather(database.synced(), openflow.synced())
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
