"""What is refused and what is warned of: the table, on the pure functions; and that looking at what is near is looking at all."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.admission_cases import CASES, NODES, Case
from tests.worlds import (
    NORTH,
    ZONE_A,
    ZONE_B,
    chain,
    chain_set,
    fleet,
    interface,
    interface_set,
    node,
    node_chain,
    node_interface,
    physical,
)

from dpuchain.api.meta import key_of
from dpuchain.chain.comparison import compare
from dpuchain.chain.findings import on_nodes
from dpuchain.chain.fleet import Fleet, Place
from dpuchain.chain.problems import Ref
from dpuchain.chain.review import Verdict, review


def judge(case: Case) -> Verdict:
    world = fleet(*case.host, north=case.north)
    return review(world if case.old is None else world.put(case.old), case.old, case.new)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_table(case: Case) -> None:
    verdict = judge(case)
    refused, warned = "\n".join(verdict.refusals), "\n".join(verdict.warnings)
    assert bool(verdict.refusals) == bool(case.refused), verdict
    assert [words for words in case.refused if words not in refused] == []
    assert [words for words in case.warned if words not in warned] == []
    if case.silent:
        assert verdict.warnings == ()


def test_names_in_table_are_different() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def test_deletion_is_never_refused_and_tells_what_is_lost() -> None:
    world = fleet(interface("p0"), interface("p1"), chain("wire", ("p0", "p1")), north=NODES)
    verdict = review(world, interface("p0"), None)
    assert verdict.refusals == ()
    assert "DPUServiceInterface ns/p0 is taken from DPUServiceChain ns/wire" in verdict.warnings[0]


def test_object_that_is_being_deleted_may_be_changed() -> None:
    world = fleet(interface("p0"), interface("two", physical("p1")), north=NODES)
    leaving = interface("two", physical("p0"), deletionTimestamp="2026-01-01T00:00:00Z")
    assert review(world, interface("two", physical("p1")), leaving).refusals == ()


def test_many_nodes_are_counted() -> None:
    world = fleet(interface("p0"), north=[node(f"dpu-{number:03}") for number in range(100)])
    (refusal,) = review(world, None, interface("two", physical("p0"))).refusals
    assert "on nodes dpu-000, dpu-001, dpu-002 and 97 more: port p0 is owned by ServiceInterface ns/p0-" in refusal


OWNER = {"dpuchain.dpu.nvidia.com/owner-uid": "u", "dpuchain.dpu.nvidia.com/owner-kind": "DPUServiceInterface"}
PROJECTED = msgspec.structs.replace(interface_set("p0"), metadata=msgspec.structs.replace(interface_set("p0").metadata, labels=OWNER))
"""A set that was made from an object of the host cluster."""
MEMBER_CASES: list[tuple[Any, Any, list[Any], list[str]]] = [
    (
        None,
        interface_set("two", physical("p0")),
        [interface_set("p0")],
        ["ServiceInterfaceSet ns/two conflicts with ServiceInterfaceSet ns/p0"],
    ),
    (None, interface_set("two"), [interface_set("p0")], []),
    (interface_set("two"), interface_set("two", physical("p0")), [interface_set("p0")], ["port p0 is owned by"]),
    (
        None,
        node_interface("two", "dpu-1", physical("p0")),
        [interface_set("p0")],
        ["ServiceInterface ns/two conflicts with", "on node dpu-1"],
    ),
    (None, node_interface("two", "dpu-1", physical("p0")), [interface_set("p0", nodes=ZONE_B)], []),
    (None, interface_set("two", physical("p0")), [node_interface("p0", "dpu-1")], ["conflicts with ServiceInterface ns/p0"]),
    (None, chain_set("b", ("p0", "p2")), [interface_set("p0"), chain_set("a", ("p0", "p1"))], ["ServiceChainSet ns/b conflicts with"]),
    (
        None,
        node_chain("b", "dpu-1", ("p0", "p2")),
        [interface_set("p0"), chain_set("a", ("p0", "p1"))],
        ["ServiceChain ns/b conflicts with"],
    ),
    (None, node_chain("b", "dpu-2", ("p0", "p1")), [interface_set("p0"), interface_set("p1"), chain_set("a", ("p0",), nodes=ZONE_A)], []),
    (None, interface_set("two", physical("p0")), [PROJECTED], ["ServiceInterfaceSet ns/two conflicts with DPUServiceInterface ns/p0"]),
]


@pytest.mark.parametrize(("old", "new", "others", "words"), MEMBER_CASES)
def test_objects_made_by_hand_in_a_dpu_cluster(old: Any, new: Any, others: list[Any], words: list[str]) -> None:
    world = Fleet(services=None, config=None)
    for item in [*NODES, *others, *([old] if old is not None else [])]:
        world = world.put(item, NORTH)
    verdict = review(world, old, new, NORTH)
    text = "\n".join(verdict.refusals)
    assert bool(text) == bool(words), verdict
    assert [word for word in words if word not in text] == []


selectors = st.sampled_from([None, ZONE_A, ZONE_B, {"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}])
ports = st.sampled_from(["p0", "p1", "p2"])
interfaces = st.builds(
    lambda name, port, label, nodes: interface(name, physical(port), labels={"port": label}, nodes=nodes),
    st.sampled_from(["i1", "i2", "i3"]),
    ports,
    ports,
    selectors,
)
chains = st.builds(
    lambda name, switch, nodes: chain(name, tuple(switch), nodes=nodes),
    st.sampled_from(["c1", "c2"]),
    st.lists(ports, min_size=1, max_size=3),
    selectors,
)
things = st.one_of(interfaces, chains)


@settings(max_examples=300, deadline=None)
@given(before=st.lists(things, max_size=5), new=things)
def test_what_is_near_an_object_is_all_that_it_can_have_to_do_with(before: list[Any], new: Any) -> None:
    """With a focus, everything is found that is found without, of what the object has part in."""
    one = fleet(*before, north=NODES)
    other = one.put(new)
    place = Place(None, type(new).__name__, key_of(new))

    def fresh(focus: set[Place] | None) -> set[Any]:
        return {
            (standing.cluster, name, identity)
            for found in on_nodes(compare(one, other, focus))
            for standing in found.standings
            for identity in found.identities
            if Ref(place.kind, place.key) in identity.between
            for name in standing.nodes
        }

    assert fresh({place}) == fresh(None)
