"""The doors to a real Open vSwitch and those that the simulated fleet has in their place: the same cases hold for both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest
from bench.fleet.switch import MemoryDatabase, MemoryOpenFlow
from msgspec.structs import replace
from tests.integration.doors import opened, ports, until

from dpuchain.api.meta import ObjectKey
from dpuchain.flows.compile import ChainSwitches, compile_switches
from dpuchain.flows.diff import diff
from dpuchain.flows.identity import number_owners
from dpuchain.flows.lease import leased, renewed
from dpuchain.flows.model import FlowChanges, FlowState
from dpuchain.flows.pipeline import COOKIE
from dpuchain.ovs.changes import PATCH, AddPort, DeletePort, PortChange, SetInterface
from dpuchain.ovs.database import Database
from dpuchain.ovs.errors import OvsError, Rejected, Unreachable
from dpuchain.ovs.openflow import OpenFlow
from dpuchain.ovs.rows import Absent, PortRow

FIRST, SECOND = ObjectKey("default", "first"), ObjectKey("default", "second")
Doors: TypeAlias = tuple[Callable[[], Database], Callable[[], OpenFlow]]


@pytest.fixture(params=["real", "memory"])
def doors(request: pytest.FixtureRequest) -> Iterator[Doors]:
    if request.param == "memory":
        yield MemoryDatabase, MemoryOpenFlow
        return
    ovs = request.getfixturevalue("make_ovs")()
    yield lambda: Database(ovs.database), lambda: OpenFlow(ovs.management)


async def test_a_port_is_made_numbered_brought_up_and_kept_as_it_is(doors: Doors) -> None:
    wanted = AddPort("br-sfc", "p0", "dummy", {"dpf-type": "physical"}, {"dpf-id": "ns/p0"}, 9216, 17)
    async with opened(doors[0]()) as database:
        assert set(ports(database)) == {"br-sfc"}
        assert ports(database)["br-sfc"].ofport == 65534
        await database.apply([wanted, AddPort("br-sfc", "p1", "dummy"), AddPort("br-sfc", "p2", "dummy", ofport_request=17)])
        assert ports(database)["p0"].interface_external_ids == {"dpf-id": "ns/p0"}
        await until(
            database, lambda: all(row.ofport and row.link_state == "up" for name, row in ports(database).items() if name != "br-sfc")
        )
        rows = ports(database)
        assert sorted((rows["p0"].ofport == 17, rows["p2"].ofport == 17)) == [False, True], "two ports have the number that both asked for"
        assert len({row.ofport for row in rows.values()}) == 4
        assert (rows["p0"].type, rows["p0"].mtu_request, rows["p0"].ofport_request, rows["p0"].error) == ("dummy", 9216, 17, "")
        assert (rows["p0"].mtu, rows["p1"].mtu, rows["p0"].admin_state) == (9216, 1500, "up")
        assert rows["p0"].external_ids == {"dpf-type": "physical"}
        await database.apply([SetInterface("p1", mtu_request=2000)])
        await until(database, lambda: ports(database)["p1"].mtu == 2000)
        await database.apply([DeletePort("br-sfc", "p0"), DeletePort("br-sfc", "p0"), DeletePort("br-sfc", "never")])
        assert set(ports(database)) == {"br-sfc", "p1", "p2"}
        assert database.bridges().keys() == {"br-sfc"}
        assert database.bridges()["br-sfc"] == database.ports("br-sfc")


async def test_a_change_is_told_and_none_is_not(doors: Doors) -> None:
    wanted = AddPort("br-sfc", "p0", "dummy", {"a": "b"}, {"dpf-id": "ns/p0"}, 9216, 17, {"x": "y"})
    async with opened(doors[0]()) as database:
        await database.apply([wanted])
        await until(database, lambda: bool(ports(database)["p0"].ofport) and ports(database)["p0"].mtu == 9216)
        await until(database, lambda: ports(database)["p0"].link_state == "up")
        before = ports(database)["p0"]
        await database.apply([wanted, SetInterface("p0", {"dpf-id": "ns/p0", "gone": None}, mtu_request=9216)])
        await database.apply([])
        assert ports(database)["p0"] is before, "what is as it should be was written"
        told: list[PortRow] = []
        database.subscribe(lambda: told.append(ports(database)["p0"]))
        await database.apply([SetInterface("p0", {"note": "new"})])
        assert ports(database)["p0"].interface_external_ids == {"dpf-id": "ns/p0", "note": "new"}
        assert told
        assert before.interface_external_ids == {"dpf-id": "ns/p0"}, "a value that was given out has changed"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (AddPort("br-none", "p9"), "NoBridge"),
        (AddPort("br-sfc", "p0", "dummy", interface_external_ids={"dpf-id": "ns/second"}), "Claimed"),
        (AddPort("br-sfc", "p0", PATCH), "WrongType"),
        (SetInterface("p0", {"dpf-id": "ns/second"}), "Claimed"),
        (SetInterface("p0", {"note": "x"}, owner="ns/second"), "Claimed"),
        (SetInterface("nowhere"), "NoInterface"),
        (SetInterface("p0", ofport_request=70000), "constraint violation"),
        (DeletePort("br-sfc", "p0", owner="ns/second"), "Claimed"),
    ],
)
async def test_what_must_not_be_done_is_refused_and_nothing_beside_it_is_done(doors: Doors, change: PortChange, code: str) -> None:
    async with opened(doors[0]()) as database:
        await database.apply([AddPort("br-sfc", "p0", "dummy", interface_external_ids={"dpf-id": "ns/first", "note": "kept"})])
        with pytest.raises(Rejected) as caught:
            await database.apply([AddPort("br-sfc", "p1", "dummy"), SetInterface("p0", {"note": "changed"}), change])
        assert caught.value.code == code
        assert set(ports(database)) == {"br-sfc", "p0"}
        assert ports(database)["p0"].interface_external_ids == {"dpf-id": "ns/first", "note": "kept"}


async def test_what_is_not_there_is_not_what_cannot_be_read(doors: Doors) -> None:
    database, openflow = doors[0](), doors[1]()
    for unread in (lambda: database.ports("br-sfc"), database.bridges, database.settings, lambda: database.bridge("br-sfc")):
        with pytest.raises(Unreachable):
            unread()
    assert not database.connected
    assert not openflow.connected
    assert isinstance(openflow.failure, OvsError)
    async with opened(database), opened(openflow):
        assert database.ports("br-none") == Absent("bridge br-none")
        assert database.bridge("br-none") == Absent("bridge br-none")
        bridge = database.bridge("br-sfc")
        assert not isinstance(bridge, Absent)
        assert (bridge.fail_mode, bridge.datapath_type) == ("secure", "netdev")
        assert "OpenFlow14" in bridge.protocols
        assert database.settings() == {}
        assert openflow.failure is None
    with pytest.raises(Unreachable):
        database.ports("br-sfc")
    with pytest.raises(Unreachable):
        await database.apply([DeletePort("br-sfc", "p0")])
    with pytest.raises(Unreachable):
        await openflow.read_state()
    with pytest.raises(Unreachable):
        await openflow.apply(diff(FlowState(), compiled((FIRST, ((1, 2),)))))
    await openflow.apply(FlowChanges())


async def test_a_connection_is_told(doors: Doors) -> None:
    database, openflow = doors[0](), doors[1]()
    told: list[tuple[str, bool]] = []
    database.subscribe(lambda: told.append(("database", database.connected)))
    openflow.subscribe(lambda: told.append(("openflow", openflow.connected)))
    async with opened(database), opened(openflow):
        assert {("database", True), ("openflow", True)} == set(told)
    assert {("database", False), ("openflow", False)} <= set(told)


def compiled(*chains: tuple[ObjectKey, tuple[tuple[int, ...], ...]]) -> FlowState:
    return compile_switches([ChainSwitches.of_ports(owner, switches) for owner, switches in chains])


async def test_flows_are_read_back_as_they_were_sent(doors: Doors) -> None:
    a = compiled((FIRST, ((1, 2, 3), (4, 5))))
    b = compiled((FIRST, ((1, 2, 6), (4, 5, 3))), (SECOND, ((7, 8),)))
    async with opened(doors[1]()) as openflow:
        assert await openflow.read_state() == FlowState()
        for state in (a, b, a, FlowState(), b):
            await openflow.apply(diff(await openflow.read_state(), state))
            assert await openflow.read_state() == state
        number = number_owners([FIRST, SECOND])[SECOND]
        assert await openflow.read_state(owner=number) == FlowState(b.flows - a.flows - compiled((FIRST, ((1, 2, 6), (4, 5, 3)))).flows)
        assert (await openflow.read_state(owner=number)).flows
        await openflow.apply(diff(await openflow.read_state(), b))
        await openflow.apply(FlowChanges())
        assert await openflow.read_state() == b


async def test_flows_of_another_round_go_together_and_those_that_are_renewed_stay(doors: Doors) -> None:
    chain = leased(compile_switches([ChainSwitches.of_ports(FIRST, ((1, 2), (3, 4, 5)))]), 60)
    other = FlowState(frozenset(replace(flow, cookie=flow.cookie ^ COOKIE["round"].mask, table=flow.table + 9) for flow in chain.flows))
    async with opened(doors[1]()) as openflow:
        await openflow.apply(diff(FlowState(), other))
        assert (await openflow.read_state()).flows == other.flows
        await openflow.apply(diff(await openflow.read_state(), chain))
        assert await openflow.read_state() == chain
        gone, *rest = sorted(chain.flows, key=lambda flow: flow.key.order())
        await openflow.apply(FlowChanges(delete=(gone,)))
        await openflow.apply(renewed(FlowChanges(), chain))
        assert (await openflow.read_state()).flows == set(rest), "a renewal put back what was gone"


async def test_our_own_changes_are_not_told(doors: Doors) -> None:
    async with opened(doors[1]()) as openflow:
        openflow.watch(lambda updates: pytest.fail(f"told of {updates}"))
        await openflow.apply(diff(FlowState(), compiled((FIRST, ((1, 2), (3, 4, 5))))))
        await openflow.apply(diff(await openflow.read_state(), FlowState()))
        assert await openflow.read_state() == FlowState()
