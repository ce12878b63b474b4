"""What holds for all chains, frames and orders of events."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from dpuchain.api.meta import ObjectKey
from dpuchain.chain.ports import SwitchPort
from dpuchain.flows.compile import ChainSwitches, compile_switches
from dpuchain.flows.diff import diff
from dpuchain.flows.model import VLAN_PRESENT, Flow, FlowChanges, FlowState
from dpuchain.flows.pipeline import COOKIE, ROUND, TAG_TYPES
from dpuchain.flows.simulate import Frame, Sent, simulate

STATIONS = (0x020000000001, 0x020000000002, 0x020000000003, 0x010000000001, 0x0180C200000E, 0xFFFFFFFFFFFF)
TAGS = (0, VLAN_PRESENT, VLAN_PRESENT | 10, VLAN_PRESENT | 20, VLAN_PRESENT | 30)
frames = st.builds(
    Frame, st.sampled_from(STATIONS), st.sampled_from(STATIONS), st.sampled_from(TAGS), st.sampled_from((0x800, 0x8100, 0x88A8))
)
arrivals = st.lists(st.tuples(frames, st.integers(1, 10)), max_size=12)
PLACES = tuple(SwitchPort(number) for number in range(1, 9)) + tuple(SwitchPort(number, vlan) for number in (1, 2, 3) for vlan in (10, 20))


@dataclass(frozen=True)
class World:
    """Chains, and the VLANs that are interfaces of their own, some of them in no chain."""

    chains: list[ChainSwitches]
    reserved: frozenset[SwitchPort]

    @property
    def state(self) -> FlowState:
        return compile_switches(self.chains, self.reserved)

    def place(self, frame: Frame, port: int) -> SwitchPort:
        """What a frame that comes in by `port` comes in by: a VLAN that is an interface, or the port itself."""
        tagged = SwitchPort(port, frame.vlan_vid - VLAN_PRESENT) if frame.vlan_vid > VLAN_PRESENT else None
        return tagged if tagged in self.reserved else SwitchPort(port)

    def peers(self, frame: Frame, port: int) -> frozenset[Sent]:
        """How a frame may leave if it goes to all other ports of the switch that it came in by."""
        here = self.place(frame, port)
        inside = () if here.vlan is not None or not frame.vlan_vid else (frame.vlan_vid,)
        others = next((ports for chain in self.chains for ports in chain.switches if here in ports), ())
        ways = {o: Sent(o.number, inside if o.vlan is None else (VLAN_PRESENT | o.vlan, *inside)) for o in others if o != here}
        return frozenset(sent for other, sent in ways.items() if self._is_for(other, sent, frame.eth_type))

    def _is_for(self, port: SwitchPort, sent: Sent, eth_type: int) -> bool:
        """Whether whoever is at the other end is sure to take what was sent for a frame of `port`, though it may have another tag."""
        if not sent.tags and eth_type in TAG_TYPES and any(vlan.number == port.number for vlan in self.reserved):
            return False
        return self.place(Frame(0, 0, sent.tags[0] if sent.tags else 0), port.number) == port


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Up to three chains whose switches share ports and VLANs on them out among them, some left over."""
    places = draw(st.permutations(PLACES))
    sizes = draw(st.lists(st.integers(0, 5), max_size=5))
    switches = []
    for size in sizes:
        switches.append(tuple(places[:size]))
        places = places[size:]
    owners = draw(st.lists(st.integers(0, 2), min_size=len(switches), max_size=len(switches)))
    assigned = list(zip(switches, owners, strict=True))
    chains = [
        ChainSwitches(ObjectKey("default", f"chain-{number}"), tuple(ports for ports, owner in assigned if owner == number))
        for number in range(3)
    ]
    used = {port for ports in switches for port in ports}
    unused = draw(st.sets(st.sampled_from(PLACES)))
    return World(chains, frozenset(port for port in used | unused if port.vlan is not None))


def stays(flow: Flow, changes: FlowChanges) -> bool:
    """Whether nothing is flushed that is like the flow."""
    return all(flow.cookie & flush.mask != flush.cookie or flush.table not in (None, flow.table) for flush in changes.flush)


def apply(state: FlowState, changes: FlowChanges) -> FlowState:
    """What a switch does with changes."""
    replaced = {flow.key for flow in (*changes.add, *changes.modify)}
    flows = {flow for flow in state.flows if flow.key not in replaced and stays(flow, changes)}
    flows = flows - set(changes.delete) | {*changes.add, *changes.modify}
    learned = {flow for flow in state.learned if stays(flow, changes)}
    return FlowState(frozenset(flows), frozenset(learned - set(changes.delete)))


def pass_through(state: FlowState, traffic: list[tuple[Frame, int]]) -> FlowState:
    for frame, port in traffic:
        state = simulate(state, frame, port).state
    return state


@given(worlds(), worlds(), arrivals, frames, st.integers(1, 10))
def test_no_frame_ever_leaves_its_switch(before: World, now: World, traffic: list[tuple[Frame, int]], frame: Frame, port: int) -> None:
    """Whatever the switch learned, even by flows that are no longer there and with nothing cleaned up after them."""
    learned = pass_through(before.state, traffic).learned
    state = FlowState(now.state.flows, learned)
    assert simulate(state, frame, port).sent <= now.peers(frame, port)


@given(worlds(), arrivals, frames, st.integers(1, 10))
def test_no_frame_is_lost_that_has_somewhere_to_go(world: World, traffic: list[tuple[Frame, int]], frame: Frame, port: int) -> None:
    """A frame goes to all other ports of its switch, or to one; to none only if its station was last seen behind the port that it came
    from, or behind one that cannot be given a frame with such a tag.
    """
    state = pass_through(world.state, traffic)
    sent = simulate(state, frame, port).sent
    wanted = world.peers(frame, port)
    known = any(f.eth_src == frame.eth_dst for f, _ in traffic)
    assert sent == wanted or len(sent) == 1 or (not sent and known)


@given(worlds(), frames, st.integers(1, 10))
def test_a_switch_of_two_ports_passes_everything_and_learns_nothing(world: World, frame: Frame, port: int) -> None:
    here = world.place(frame, port)
    if any(here in ports and len(ports) == 2 for chain in world.chains for ports in chain.switches):
        after = simulate(world.state, frame, port)
        assert after.sent == world.peers(frame, port)
        assert not after.state.learned


@given(worlds(), st.randoms(use_true_random=False))
def test_order_does_not_matter(world: World, chance: st.DataObject) -> None:
    shuffled = [ChainSwitches(chain.owner, tuple(tuple(reversed(ports)) for ports in chain.switches)) for chain in world.chains]
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis types it as what it draws from
    state = compile_switches(shuffled, world.reserved)
    assert state == world.state
    assert diff(FlowState(), state) == diff(FlowState(), world.state)


@given(worlds(), worlds(), arrivals, arrivals)
def test_the_difference_leads_there_and_back_again(
    first: World, second: World, traffic: list[tuple[Frame, int]], more: list[tuple[Frame, int]]
) -> None:
    a, b = first.state, second.state
    there = apply(pass_through(a, traffic), diff(pass_through(a, traffic), b))
    assert there.flows == b.flows
    assert not diff(there, b)
    back = apply(pass_through(there, more), diff(pass_through(there, more), a))
    assert back.flows == a.flows
    assert not diff(back, a)


@given(worlds(), worlds(), arrivals, st.sampled_from([number for number in range(16) if number != ROUND]), st.integers(0, 9))
def test_whatever_another_round_has_left_is_exchanged_for_what_is_wanted(
    earlier: World, now: World, traffic: list[tuple[Frame, int]], number: int, shift: int
) -> None:
    """Be it the same tables or others, and whether it was compiled or learned, even since it was read."""
    before = pass_through(earlier.state, traffic)
    left = frozenset(of_round(flow, number, shift) for flow in before.flows)
    learned = frozenset(of_round(flow, number, shift) for flow in before.learned)
    for seen in (left, left | learned, left | now.state.flows):
        changes = diff(FlowState(seen), now.state)
        assert apply(FlowState(seen | learned), changes) == now.state
        assert not changes.delete


def of_round(flow: Flow, number: int, shift: int) -> Flow:
    cookie = flow.cookie & ~COOKIE["round"].mask | COOKIE["round"].place(number)
    return msgspec.structs.replace(flow, cookie=cookie, table=flow.table + shift)


@given(worlds(), worlds())
def test_the_difference_is_no_larger_than_it_must_be(first: World, second: World) -> None:
    a, b = first.state, second.state
    changes = diff(a, b)
    assert {*changes.add, *changes.modify} == b.flows - a.flows
    assert set(changes.delete) == {flow for flow in a.flows - b.flows if flow.key not in {other.key for other in b.flows}}


@given(worlds(), worlds(), arrivals, frames, st.integers(1, 10))
def test_what_was_learned_about_ports_that_stay_is_kept(
    first: World, second: World, traffic: list[tuple[Frame, int]], frame: Frame, port: int
) -> None:
    """Everything that is left after a change points at a port of the switch that learned it."""
    before = pass_through(first.state, traffic)
    after = apply(before, diff(before, second.state))
    assert simulate(after, frame, port).sent <= second.peers(frame, port)
    assert after.learned <= before.learned
    if first == second:
        assert after == before
