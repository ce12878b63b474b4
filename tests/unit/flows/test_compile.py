"""Which flows a switch gets, and what compiling refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from dpuchain.api.meta import ObjectKey
from dpuchain.flows import identity
from dpuchain.flows.compile import ChainSwitches, InvalidSwitchError, compile_switches
from dpuchain.flows.document import render
from dpuchain.flows.identity import number_owners
from dpuchain.flows.model import Output
from dpuchain.flows.pipeline import COOKIE

CHAIN = ObjectKey("default", "chain")


def chain(*switches: tuple[int, ...], owner: ObjectKey = CHAIN) -> ChainSwitches:
    return ChainSwitches.of_ports(owner, switches)


def test_a_switch_of_two_ports_is_a_wire() -> None:
    flows = compile_switches([chain((7, 9))]).flows
    assert {(flow.table, flow.match, flow.actions) for flow in flows} == {
        (0, (("in_port", 7, None),), (Output(9),)),
        (0, (("in_port", 9, None),), (Output(7),)),
    }


@pytest.mark.parametrize("ports", [(), (3,)])
def test_a_switch_of_fewer_than_two_ports_gets_no_flows(ports: tuple[int, ...]) -> None:
    assert not compile_switches([chain(ports)]).flows


@pytest.mark.parametrize("size", [2, 3, 4, 10, 50])
def test_flows_grow_with_ports_and_not_with_their_square(size: int) -> None:
    flows = compile_switches([chain(tuple(range(1, size + 1)))]).flows
    assert len(flows) <= 2 * size + 3


def test_the_largest_chain_has_at_most_two_flows_a_port_and_three_a_switch() -> None:
    switches = tuple(tuple(range(1 + 50 * index, 51 + 50 * index)) for index in range(50))
    assert len(compile_switches([chain(*switches)]).flows) <= 2 * 2500 + 3 * 50


def test_every_flow_names_its_owner() -> None:
    other = ObjectKey("default", "other")
    state = compile_switches([chain((1, 2, 3), (4, 5)), chain((6, 7), owner=other)])
    numbers = number_owners([CHAIN, other])
    by_owner = {number: [flow for flow in state.flows if COOKIE["owner"].read(flow.cookie) == number] for number in numbers.values()}
    assert {number: len(flows) for number, flows in by_owner.items()} == {numbers[CHAIN]: 9, numbers[other]: 2}


@pytest.mark.parametrize(
    ("switches", "words"),
    [
        (((1, 2), (2, 3)), "default/chain, switch 1: port 2 is a port of default/chain, switch 0, already"),
        (((1, 1),), "port 1 is a port of default/chain, switch 0, already"),
        (((0, 1),), "port number 0 lies outside 1..65279"),
        (((1, -1),), "port number -1 lies outside"),
        (((1, 65280),), "port number 65280 lies outside"),
    ],
)
def test_ports_that_cannot_be_are_refused_by_name(switches: tuple[tuple[int, ...], ...], words: str) -> None:
    with pytest.raises(InvalidSwitchError, match=words):
        compile_switches([chain(*switches)])


def test_a_port_has_one_chain() -> None:
    with pytest.raises(InvalidSwitchError, match="default/other, switch 0: port 2 is a port of default/chain"):
        compile_switches([chain((2, 3), owner=ObjectKey("default", "other")), chain((1, 2))])


def test_owners_whose_hashes_meet_get_different_numbers_that_follow_from_the_set_alone() -> None:
    owners = [ObjectKey("default", f"chain-{index}") for index in range(50)]
    numbers = number_owners(owners, largest=64)
    assert len(set(numbers.values())) == 50
    assert all(1 <= number <= 64 for number in numbers.values())
    assert number_owners(reversed(owners), largest=64) == numbers
    with pytest.raises(ValueError, match="at most 49"):
        number_owners(owners, largest=49)


def test_an_owner_whose_hash_met_no_other_keeps_its_number_whoever_goes() -> None:
    owners = [ObjectKey("default", f"chain-{index}") for index in range(40)]
    first = Counter(identity._hash(owner, 0, 256) for owner in owners)
    alone = [owner for owner in owners if first[identity._hash(owner, 0, 256)] == 1]
    assert 0 < len(alone) < 40
    numbers = number_owners(owners, largest=256)
    for gone in owners:
        rest = number_owners([owner for owner in owners if owner != gone], largest=256)
        assert all(rest[owner] == numbers[owner] for owner in alone if owner != gone)


def test_the_page_shows_every_table_and_field() -> None:
    page = render()
    assert all(f": {name}\n" in page for name in ("classify", "learned", "forward"))
    assert "| 16..43 | owner |" in page


def test_every_process_compiles_to_the_same_messages_in_the_same_order() -> None:
    """Python gives each process other hashes, which sets and dictionaries of text are in the order of."""
    program = (
        "from tests.unit.flows.test_compile import *\n"
        "from dpuchain.flows.diff import diff\n"
        "from dpuchain.flows.model import FlowState\n"
        "from dpuchain.ovs.openflow import _modifications\n"
        "state = compile_switches([chain((1, 2, 3), (4, 5)), chain((6, 7, 8), owner=ObjectKey('default', 'other'))])\n"
        "print(b''.join(body for _, body in _modifications(diff(FlowState(), state))).hex())\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True, text=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1
    assert all(len(output) > 1000 for output in outputs)
