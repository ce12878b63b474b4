"""What has to be done to get from one state to another."""

from __future__ import annotations

import msgspec
import pytest

from dpuchain.api.meta import ObjectKey
from dpuchain.flows.compile import ChainSwitches, compile_switches
from dpuchain.flows.diff import diff
from dpuchain.flows.explain import describe
from dpuchain.flows.model import VLAN_PRESENT, Flow, FlowChanges, FlowState, Opaque, Output
from dpuchain.flows.pipeline import COOKIE, LEARNED_KIND
from dpuchain.flows.simulate import Frame, simulate

OWNER = ObjectKey("default", "chain")
ALICE, BOB, ALL = 0x02_00_00_00_00_0A, 0x02_00_00_00_00_0B, 0xFF_FF_FF_FF_FF_FF


def state(*switches: tuple[int, ...]) -> FlowState:
    return compile_switches([ChainSwitches.of_ports(OWNER, switches)])


def test_equal_states_need_nothing() -> None:
    assert not diff(state((1, 2, 3)), state((3, 2, 1)))
    assert len(diff(state((1, 2, 3)), state((1, 2, 3)))) == 0


def test_adding_a_port_touches_only_the_flood_of_its_switch() -> None:
    changes = diff(state((1, 2, 3), (5, 6)), state((1, 2, 3, 4), (5, 6)))
    assert (len(changes.add), len(changes.modify), len(changes.delete), len(changes.flush)) == (2, 1, 0, 0)


def test_a_port_that_leaves_takes_what_was_learned_behind_it_along() -> None:
    before = simulate(state((1, 2, 3)), Frame(ALL, ALICE), 1).state
    before = simulate(before, Frame(ALL, BOB), 2).state
    changes = diff(before, state((2, 3, 4)))
    assert [(COOKIE["kind"].read(flush.cookie), COOKIE["port"].read(flush.cookie)) for flush in changes.flush] == [(LEARNED_KIND, 1)]
    assert all(flow.cookie != flush.cookie for flow in changes.delete for flush in changes.flush)


def test_an_entry_that_points_out_of_its_switch_is_deleted_even_if_its_port_is_long_gone() -> None:
    taught = simulate(state((1, 2, 3, 9)), Frame(ALL, ALICE), 9).state
    leftover = FlowState(state((1, 2, 3)).flows, taught.learned)
    assert diff(leftover, state((1, 2, 3))).delete == tuple(taught.learned)
    assert not diff(taught, state((1, 2, 3, 9)))


def test_a_flow_that_somebody_changed_is_put_right() -> None:
    want = state((1, 2))
    first, second = sorted(want.flows, key=lambda flow: flow.key.order())
    changed = msgspec.structs.replace(first, actions=(Output(77),))
    assert diff(FlowState(frozenset({changed, second})), want) == FlowChanges(modify=(first,))
    extra = Flow(9, 1, (), (Opaque(b"12345678"),), first.cookie)
    assert diff(FlowState(want.flows | {extra}), want) == FlowChanges(delete=(extra,))
    assert diff(FlowState(frozenset({second})), want) == FlowChanges(add=(first,))


def test_a_station_is_found_where_it_was_seen_last_in_its_vlan() -> None:
    after = simulate(state((1, 2, 3, 4)), Frame(ALL, ALICE), 1)
    assert after.ports == {2, 3, 4}
    assert simulate(after.state, Frame(ALICE, BOB), 2).ports == {1}
    assert simulate(after.state, Frame(ALICE, BOB), 1).ports == set()
    assert simulate(after.state, Frame(ALICE, BOB, VLAN_PRESENT | 10), 2).ports == {1, 3, 4}
    moved = simulate(after.state, Frame(ALL, ALICE), 3).state
    assert simulate(moved, Frame(ALICE, BOB), 2).ports == {3}


def test_nobody_can_teach_a_switch_where_everyone_is() -> None:
    after = simulate(state((1, 2, 3)), Frame(ALICE, ALL), 1).state
    assert simulate(after, Frame(ALL, BOB), 2).ports == {1, 3}


def test_a_hint_that_is_out_of_date_floods_and_does_not_sink() -> None:
    taught = simulate(state((1, 2, 3, 4)), Frame(ALL, ALICE), 1).state
    without = FlowState(state((2, 3, 4)).flows, taught.learned)
    assert simulate(without, Frame(ALICE, BOB), 2).ports == {3, 4}


def test_a_frame_that_meets_an_unknown_action_is_not_guessed_about() -> None:
    flow = Flow(0, 1, (), (Opaque(b"12345678"),), 0)
    with pytest.raises(ValueError, match="cannot tell what the action"):
        simulate(FlowState(frozenset({flow})), Frame(ALICE, BOB), 1)
    assert describe(flow).endswith("actions=unknown(3132333435363738)")
