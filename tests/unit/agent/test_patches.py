"""What makes the two ends of a patch whole, and what removes them, on rows as OVSDB shows them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.agent.test_ports import row

from dpuchain.agent.patches import additions, marks, surplus
from dpuchain.api.meta import ObjectKey
from dpuchain.chain.patches import Peer
from dpuchain.chain.ports import DPF_ID, DPF_TYPE, WantedPort
from dpuchain.ovs.changes import AddPort, DeletePort, SetInterface
from dpuchain.ovs.rows import PortRow

BRIDGE, OTHER = "br-sfc", "br-x"
PATCH = WantedPort("a", "ns/link", ObjectKey("ns", "link"), None, {DPF_TYPE: "patch"}, Peer(OTHER, "b", {"k": "v"}))
WANTED = {"a": PATCH}


def end(name: str, peer: str, mark: str | None = "ns/link", **changes: Any) -> PortRow:
    extra = {"k": "v"} if name == "b" else {}
    about = {"type": "patch", "options": {"peer": peer}, "external_ids": {DPF_TYPE: "patch"}, **changes}
    about.setdefault("interface_external_ids", extra | ({DPF_ID: mark} if mark else {}))
    return row(name, mark, **about)


def bridges(here: PortRow | None = None, there: PortRow | None = None) -> dict[str, dict[str, PortRow]]:
    return {BRIDGE: {here.name: here} if here else {}, OTHER: {there.name: there} if there else {}}


def test_both_ends_are_made_at_once_the_peer_first() -> None:
    assert additions(BRIDGE, bridges(), WANTED, {"a": 7}) == [
        (
            PATCH,
            [
                AddPort(OTHER, "b", "patch", {DPF_TYPE: "patch"}, {"k": "v", DPF_ID: "ns/link"}, options={"peer": "a"}),
                AddPort(BRIDGE, "a", "patch", {DPF_TYPE: "patch"}, {DPF_ID: "ns/link"}, ofport_request=7, options={"peer": "b"}),
            ],
        )
    ]


def test_a_whole_pair_is_left_alone() -> None:
    assert additions(BRIDGE, bridges(end("a", "b"), end("b", "a")), WANTED, {}) == []


@pytest.mark.parametrize(
    "present",
    [
        bridges(end("a", "b"), None),
        bridges(None, end("b", "a")),
        bridges(end("a", "b"), end("b", "elsewhere")),
        bridges(end("a", "b", options={}), end("b", "a")),
        bridges(end("a", "b"), end("b", "a", interface_external_ids={DPF_ID: "ns/link"})),
        bridges(end("a", "b", None), end("b", "a")),
        bridges(end("a", "b"), end("b", "a", external_ids={})),
    ],
)
def test_a_pair_that_is_not_whole_is_mended_at_both_ends(present: dict[str, dict[str, PortRow]]) -> None:
    ((_, changes),) = additions(BRIDGE, present, WANTED, {})
    assert [type(change) for change in changes] == [AddPort, AddPort]


def test_the_peer_leaves_the_bridge_that_it_was_on_before() -> None:
    present = {**bridges(end("a", "b")), "br-before": {"b": end("b", "a")}}
    ((_, changes),) = additions(BRIDGE, present, WANTED, {})
    assert changes[0] == DeletePort("br-before", "b", owner="ns/link")
    assert surplus(BRIDGE, present, WANTED) == [DeletePort("br-before", "b", owner="ns/link")]


def test_ends_of_one_who_is_no_owner_any_more_are_taken_over() -> None:
    ((_, changes),) = additions(BRIDGE, bridges(end("a", "b", "ns/gone"), end("b", "a", "ns/gone")), WANTED, {})
    assert changes[:2] == [SetInterface("a", {DPF_ID: None}, owner="ns/gone"), SetInterface("b", {DPF_ID: None}, owner="ns/gone")]


def test_a_peer_of_another_owner_is_left_to_him() -> None:
    rival = WantedPort("c", "ns/rival", ObjectKey("ns", "rival"), None, {DPF_TYPE: "patch"}, Peer(OTHER, "b"))
    present = bridges(None, end("b", "c", "ns/rival"))
    (mine, _) = additions(BRIDGE, present, {**WANTED, "c": rival}, {})
    assert not any(isinstance(change, SetInterface | DeletePort) for change in mine[1])


def test_both_ends_go_together_and_so_does_one_that_is_alone() -> None:
    assert surplus(BRIDGE, bridges(end("a", "b"), end("b", "a")), {}) == [
        DeletePort(BRIDGE, "a", owner="ns/link"),
        DeletePort(OTHER, "b", owner="ns/link"),
    ]
    assert surplus(BRIDGE, bridges(None, end("b", "a")), {}) == [DeletePort(OTHER, "b", owner="ns/link")]
    assert surplus(BRIDGE, bridges(end("a", "b"), end("b", "a")), WANTED) == []


@pytest.mark.parametrize(
    "foreign", [end("b", "a", None), end("b", "a", external_ids={}), end("b", "a", external_ids={DPF_TYPE: "physical"})]
)
def test_an_end_that_nobody_here_made_is_never_surplus(foreign: PortRow) -> None:
    assert surplus(BRIDGE, bridges(None, foreign), {}) == []
    assert marks(bridges(None, foreign)) == set()


def test_an_interface_is_there_as_long_as_one_end_is() -> None:
    assert marks(bridges(None, end("b", "a"))) == {"ns/link"}
