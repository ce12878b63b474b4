"""What holds for all chains, frames and orders of events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dpuchain.api.meta import ObjectKey
from dpuchain.flows.compile import ChainSwitches, compile_switches
from dpuchain.flows.diff import diff
from dpuchain.flows.model import FlowChanges, FlowState
from dpuchain.flows.simulate import VLAN_PRESENT, Frame, simulate

STATIONS = (0x020000000001, 0x020000000002, 0x020000000003, 0x010000000001, 0x0180C200000E, 0xFFFFFFFFFFFF)
frames = st.builds(Frame, st.sampled_from(STATIONS), st.sampled_from(STATIONS), st.sampled_from((0, VLAN_PRESENT, VLAN_PRESENT | 10)))
arrivals = st.lists(st.tuples(frames, st.integers(1, 14)), max_size=12)


@st.composite
def worlds(draw: st.DrawFn) -> list[ChainSwitches]:
    """Up to three chains whose switches share the ports 1..12 out among them, some left over."""
    ports = draw(st.permutations(range(1, 13)))
    sizes = draw(st.lists(st.integers(0, 5), max_size=5))
    switches = []
    for size in sizes:
        switches.append(tuple(ports[:size]))
        ports = ports[size:]
    owners = draw(st.lists(st.integers(0, 2), min_size=len(switches), max_size=len(switches)))
    assigned = list(zip(switches, owners, strict=True))
    return [
        ChainSwitches(ObjectKey("default", f"chain-{number}"), tuple(ports for ports, owner in assigned if owner == number))
        for number in range(3)
    ]


def apply(state: FlowState, changes: FlowChanges) -> FlowState:
    """What a switch does with changes."""
    replaced = {flow.key for flow in (*changes.add, *changes.modify)}
    flows = {flow for flow in state.flows if flow.key not in replaced} - set(changes.delete) | {*changes.add, *changes.modify}
    learned = {flow for flow in state.learned if all(flow.cookie & flush.mask != flush.cookie for flush in changes.flush)}
    return FlowState(frozenset(flows), frozenset(learned - set(changes.delete)))


def pass_through(state: FlowState, traffic: list[tuple[Frame, int]]) -> FlowState:
    for frame, port in traffic:
        state = simulate(state, frame, port).state
    return state


def peers(world: list[ChainSwitches], port: int) -> set[int]:
    """Ports that frames from `port` may leave by."""
    for chain in world:
        for ports in chain.switches:
            if port in ports:
                return set(ports) - {port}
    return set()


@given(worlds(), worlds(), arrivals, frames, st.integers(1, 14))
def test_no_frame_ever_leaves_its_switch(
    before: list[ChainSwitches], now: list[ChainSwitches], traffic: list[tuple[Frame, int]], frame: Frame, port: int
) -> None:
    """Whatever the switch learned, even by flows that are no longer there and with nothing cleaned up after them."""
    learned = pass_through(compile_switches(before), traffic).learned
    state = FlowState(compile_switches(now).flows, learned)
    assert simulate(state, frame, port).ports <= peers(now, port)


@given(worlds(), arrivals, frames, st.integers(1, 14))
def test_no_frame_is_lost_that_has_somewhere_to_go(
    world: list[ChainSwitches], traffic: list[tuple[Frame, int]], frame: Frame, port: int
) -> None:
    """A frame goes to all other ports of its switch, or to one; to none only if its station was last seen behind the port it came from."""
    state = pass_through(compile_switches(world), traffic)
    left_by = simulate(state, frame, port).ports
    wanted = peers(world, port)
    at_home = any(f.eth_src == frame.eth_dst and p == port for f, p in traffic)
    assert left_by == wanted or len(left_by) == 1 or (not left_by and at_home)


@given(worlds(), frames, st.integers(1, 14))
def test_a_wire_passes_everything(world: list[ChainSwitches], frame: Frame, port: int) -> None:
    state = compile_switches(world)
    if len(peers(world, port)) == 1:
        after = simulate(state, frame, port)
        assert after.ports == peers(world, port)
        assert not after.state.learned


@given(worlds(), st.randoms(use_true_random=False))
def test_order_does_not_matter(world: list[ChainSwitches], chance: st.DataObject) -> None:
    shuffled = [ChainSwitches(chain.owner, tuple(tuple(reversed(ports)) for ports in chain.switches)) for chain in world]
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis types it as what it draws from
    assert compile_switches(shuffled) == compile_switches(world)
    assert diff(FlowState(), compile_switches(shuffled)) == diff(FlowState(), compile_switches(world))


@given(worlds(), worlds(), arrivals, arrivals)
def test_the_difference_leads_there_and_back_again(
    first: list[ChainSwitches], second: list[ChainSwitches], traffic: list[tuple[Frame, int]], more: list[tuple[Frame, int]]
) -> None:
    a, b = compile_switches(first), compile_switches(second)
    there = apply(pass_through(a, traffic), diff(pass_through(a, traffic), b))
    assert there.flows == b.flows
    assert not diff(there, b)
    back = apply(pass_through(there, more), diff(pass_through(there, more), a))
    assert back.flows == a.flows
    assert not diff(back, a)


@given(worlds(), worlds())
def test_the_difference_is_no_larger_than_it_must_be(first: list[ChainSwitches], second: list[ChainSwitches]) -> None:
    a, b = compile_switches(first), compile_switches(second)
    changes = diff(a, b)
    assert {*changes.add, *changes.modify} == b.flows - a.flows
    assert set(changes.delete) == {flow for flow in a.flows - b.flows if flow.key not in {other.key for other in b.flows}}


@given(worlds(), worlds(), arrivals, frames, st.integers(1, 14))
def test_what_was_learned_about_ports_that_stay_is_kept(
    first: list[ChainSwitches], second: list[ChainSwitches], traffic: list[tuple[Frame, int]], frame: Frame, port: int
) -> None:
    """Everything that is left after a change points at a port of the switch that learned it."""
    before = pass_through(compile_switches(first), traffic)
    after = apply(before, diff(before, compile_switches(second)))
    left_by = simulate(after, frame, port).ports
    assert left_by <= peers(second, port)
    assert after.learned <= before.learned
    if first == second:
        assert after == before
