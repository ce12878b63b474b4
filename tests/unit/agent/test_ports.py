from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpuchain.agent import ports
from dpuchain.agent.ports import by_mark, claimable, made_by_cni, numbers, observed, pins, surplus
from dpuchain.api.meta import ObjectKey
from dpuchain.chain.ports import CNI_OWNER, DPF_ID, DPF_TYPE, ROUND, ObservedPort, WantedPort
from dpuchain.ovs.changes import AddPort, DeletePort, PortChange, SetInterface
from dpuchain.ovs.rows import Absent, BridgeRow, PortRow

BRIDGE = "br-sfc"
UPLINK = WantedPort("p0", "ns/p0", ObjectKey("ns", "p0"), 9216, {DPF_TYPE: "physical"})


def row(name: str, mark: str | None = None, **changes: Any) -> PortRow:
    values: dict[str, Any] = {
        "name": name,
        "interface": name,
        "type": "",
        "ofport": 1,
        "external_ids": {},
        "interface_external_ids": {} if mark is None else {DPF_ID: mark},
        "error": "",
        "link_state": "up",
        "admin_state": "up",
        "mtu": 1500,
        "mtu_request": None,
        "ofport_request": None,
        "options": {},
        "mac": "02:00:00:00:00:01",
        **changes,
    }
    return PortRow(**values)


def ours(name: str = "p0", mark: str = "ns/p0", **changes: Any) -> PortRow:
    return row(name, mark, **{"external_ids": {DPF_TYPE: "physical"}, "mtu_request": 9216, **changes})


def changes_for(rows: Mapping[str, PortRow], wanted: Mapping[str, WantedPort]) -> list[tuple[WantedPort, list[PortChange]]]:
    return ports.additions(BRIDGE, rows, wanted, {"p0": 7})


def test_marks_of_another_round_are_written_anew_on_the_port_as_it_is() -> None:
    wanted = {"p0": replace(UPLINK, external_ids={DPF_TYPE: "physical", **ROUND})}
    for marks in ({DPF_TYPE: "physical"}, {DPF_TYPE: "physical", "dpuchain-round": "0"}):
        ((_, (change,)),) = changes_for({"p0": ours(external_ids=marks)}, wanted)
        assert isinstance(change, AddPort)
        assert change.external_ids == {DPF_TYPE: "physical", **ROUND}
        assert change.ofport_request is None
    assert not changes_for({"p0": ours(external_ids={DPF_TYPE: "physical", **ROUND})}, wanted)


def pods(name: str, mark: str, **changes: Any) -> PortRow:
    return row(name, mark, external_ids=dict(CNI_OWNER), **changes)


@pytest.mark.parametrize(("ofport", "number"), [(None, None), (-1, None), (0, None), (1, 1), (65279, 65279)])
def test_a_port_has_a_number_only_if_it_can_be_used(ofport: int | None, number: int | None) -> None:
    assert observed(row("p0", ofport=ofport)).ofport == number


@pytest.mark.parametrize(("state", "up"), [("up", True), ("down", False), ("", None)])
def test_link_is_up_down_or_not_known(state: str, up: bool | None) -> None:
    assert observed(row("p0", link_state=state)).link_up is up


def test_observed_port_has_mark_error_and_mtu() -> None:
    seen = observed(row("p0", "ns/p0", ofport=-1, error="No such device", mtu=9216))
    assert seen == ObservedPort("p0", None, "ns/p0", "No such device", link_up=True, mtu=9216, set_up=True)
    assert observed(row("p0")).error is None
    assert observed(row("p0")).dpf_id is None


def test_of_two_ports_with_one_mark_the_one_with_a_number_counts() -> None:
    dead, alive = pods("a", "ns/pod/eth1", ofport=-1), pods("b", "ns/pod/eth1", ofport=7)
    for rows in ([dead, alive], [alive, dead]):
        assert {mark: port.name for mark, port in by_mark(rows).items()} == {"ns/pod/eth1": "b"}
    assert by_mark([row("unmarked")]) == {}


def test_ports_of_pods_cannot_be_claimed() -> None:
    rows = {"p0": row("p0"), "veth": pods("veth", "ns/pod/eth1")}
    assert not made_by_cni(rows["p0"])
    assert made_by_cni(rows["veth"])
    assert set(claimable(rows)) == {"p0"}


def test_port_that_is_absent_is_added_with_all_its_marks() -> None:
    ((port, changes),) = changes_for({}, {"p0": UPLINK})
    assert port is UPLINK
    assert changes == [
        AddPort(
            BRIDGE, "p0", external_ids={DPF_TYPE: "physical"}, interface_external_ids={DPF_ID: "ns/p0"}, mtu_request=9216, ofport_request=7
        )
    ]


def test_port_that_is_right_is_left_alone_whatever_else_it_carries() -> None:
    right = ours(type="dpdk", external_ids={DPF_TYPE: "physical", "somebody": "else"}, interface_external_ids={DPF_ID: "ns/p0", "a": "b"})
    assert changes_for({"p0": right}, {"p0": UPLINK}) == []


def test_port_that_is_there_is_asked_for_no_other_number() -> None:
    ((_, changes),) = changes_for({"p0": ours(ofport=3, mtu_request=None)}, {"p0": UPLINK})
    (change,) = changes
    assert isinstance(change, AddPort)
    assert change.ofport_request is None


def test_numbers_are_kept_of_marked_ports_that_have_one_and_did_not_ask_yet() -> None:
    rows = {
        "p0": ours(ofport=3),
        "asked": ours("asked", ofport=4, ofport_request=4),
        "broken": ours("broken", ofport=-1),
        "foreign": row("foreign", ofport=6),
        "veth": pods("veth", "ns/pod/eth1", ofport=5),
    }
    assert numbers(rows) == {"p0": 3, "asked": 4, "foreign": 6, "veth": 5}
    assert pins(rows) == [SetInterface("p0", ofport_request=3), SetInterface("veth", ofport_request=5)]


@pytest.mark.parametrize("damage", [{"mtu_request": 1500}, {"mtu_request": None}, {"external_ids": {}}, {"interface_external_ids": {}}])
def test_port_that_is_wrong_is_put_right_and_keeps_its_type(damage: dict[str, Any]) -> None:
    ((_, changes),) = changes_for({"p0": ours(type="dpdk", **damage)}, {"p0": UPLINK})
    (change,) = changes
    assert isinstance(change, AddPort)
    assert (change.interface_type, change.mtu_request) == ("dpdk", 9216)
    assert change.interface_external_ids == {DPF_ID: "ns/p0"}


def test_mtu_that_nobody_asks_for_is_left_alone() -> None:
    wanted = WantedPort("p0", "ns/p0", ObjectKey("ns", "p0"), None, {DPF_TYPE: "physical"})
    assert changes_for({"p0": ours(mtu_request=3000)}, {"p0": wanted}) == []


def test_port_is_handed_over_without_being_removed() -> None:
    ((_, changes),) = changes_for({"p0": ours(mark="ns/earlier")}, {"p0": UPLINK})
    release, claim = changes
    assert release == SetInterface("p0", {DPF_ID: None}, owner="ns/earlier")
    assert isinstance(claim, AddPort)
    assert not any(isinstance(change, DeletePort) for change in changes)


def test_port_of_a_pod_is_never_released_for_another() -> None:
    """The claim that is left is refused by the transaction, since the mark is another's."""
    ((_, changes),) = changes_for({"p0": pods("p0", "ns/pod/eth1")}, {"p0": UPLINK})
    assert not any(isinstance(change, SetInterface | DeletePort) for change in changes)


def test_surplus_is_what_was_made_for_an_interface_and_is_wanted_no_more() -> None:
    rows = {"p0": ours(), "pf0hpf": ours("pf0hpf", "ns/pf", external_ids={DPF_TYPE: "pf"})}
    assert surplus(BRIDGE, rows, {"p0": UPLINK}) == [DeletePort(BRIDGE, "pf0hpf", owner="ns/pf")]
    assert surplus(BRIDGE, rows, {}) == [DeletePort(BRIDGE, "p0", owner="ns/p0"), DeletePort(BRIDGE, "pf0hpf", owner="ns/pf")]


@pytest.mark.parametrize(
    "foreign",
    [
        row("x"),
        row("x", "ns/x"),
        row("x", external_ids={DPF_TYPE: "physical"}),
        row("x", "ns/x", external_ids={DPF_TYPE: "patch"}),
        row("x", type="internal"),
        pods("x", "ns/pod/eth1"),
    ],
)
def test_foreign_port_is_never_surplus(foreign: PortRow) -> None:
    assert surplus(BRIDGE, {"x": foreign}, {}) == []


MARKS = st.none() | st.sampled_from(["ns/p0", "ns/other", "ns/pod/eth1"])
ROWS = st.dictionaries(
    st.sampled_from(["p0", "p1", "veth1"]),
    st.tuples(MARKS, st.sampled_from([{}, {DPF_TYPE: "physical"}, {DPF_TYPE: "x"}, dict(CNI_OWNER)]), st.sampled_from([None, 1500, 9216])),
).map(lambda found: {name: row(name, mark, external_ids=ids, mtu_request=mtu) for name, (mark, ids, mtu) in found.items()})


@given(ROWS, st.booleans())
def test_only_ports_with_our_mark_and_type_are_deleted_and_wanted_ones_are_not(rows: dict[str, PortRow], wanted: bool) -> None:
    names = {"p0": UPLINK} if wanted else {}
    for change in surplus(BRIDGE, rows, names):
        assert isinstance(change, DeletePort)
        assert change.name not in names
        assert not made_by_cni(rows[change.name])
        assert rows[change.name].external_ids[DPF_TYPE] == "physical"
        assert change.owner == rows[change.name].interface_external_ids[DPF_ID]


@given(ROWS)
def test_once_made_nothing_is_left_to_do(rows: dict[str, PortRow]) -> None:
    for _, changes in changes_for(rows, {"p0": UPLINK}):
        for change in changes:
            if isinstance(change, AddPort):
                before = rows.get("p0") or row("p0")
                rows["p0"] = row(
                    "p0",
                    external_ids={**before.external_ids, **change.external_ids},
                    interface_external_ids={**before.interface_external_ids, **change.interface_external_ids},
                    mtu_request=change.mtu_request,
                )
    assert changes_for(rows, {"p0": UPLINK}) == []


USERSPACE = BridgeRow("br-sfc", "netdev", "1", "secure", frozenset(), {})
KERNEL = BridgeRow("br-sfc", "system", "1", "secure", frozenset(), {})


@pytest.mark.parametrize(
    ("forced", "bridge", "settings", "expected"),
    [
        ("auto", USERSPACE, {"dpdk-init": "true"}, "dpdk"),
        ("auto", USERSPACE, {"dpdk-init": "try"}, "dpdk"),
        ("auto", USERSPACE, {"doca-init": "true"}, "dpdk"),
        ("auto", USERSPACE, {"dpdk-init": "false"}, ""),
        ("auto", USERSPACE, {}, ""),
        ("auto", KERNEL, {"dpdk-init": "true"}, ""),
        ("auto", Absent("bridge br-sfc"), {"dpdk-init": "true"}, ""),
        ("system", USERSPACE, {"dpdk-init": "true"}, ""),
        ("dpdk", KERNEL, {}, "dpdk"),
    ],
)
def test_the_type_of_a_new_port_follows_the_bridge_unless_it_is_forced(
    forced: ports.PortType, bridge: BridgeRow | Absent, settings: dict[str, str], expected: str
) -> None:
    assert ports.device_type(forced, bridge, settings) == expected


def test_a_new_port_has_the_new_type_and_one_that_is_there_keeps_its_own() -> None:
    def type_of(rows: dict[str, PortRow]) -> str:
        ((_, (change,)),) = ports.additions(BRIDGE, rows, {"p0": UPLINK}, {}, "dpdk")
        assert isinstance(change, AddPort)
        return change.interface_type

    assert type_of({}) == "dpdk"
    assert type_of({"p0": row("p0", type="internal")}) == "internal"


def test_a_port_that_is_left_behind_is_nobodys_but_stays() -> None:
    rows = {"p0": ours(), "p1": ours("p1", "ns/p1")}
    changes = surplus(BRIDGE, rows, {}, left_behind=["ns/p0"])
    assert changes == [SetInterface("p0", {DPF_ID: None}, owner="ns/p0"), DeletePort(BRIDGE, "p1", owner="ns/p1")]
    assert surplus(BRIDGE, {"p0": ours(interface_external_ids={})}, {}) == []
