"""Invariant: whatever a person, or whoever reaches an agent, calls a frame, reading it ends with a frame that can be sent or with a
`FrameError` that can be shown; and whatever Open vSwitch says of a frame ends with an answer or with `Invalid`.
"""

from __future__ import annotations

from contextlib import suppress

from hypothesis import example, given
from hypothesis import strategies as st

from dpuchain.flows.model import FlowState
from dpuchain.flows.packets import KEYS, SHORTEST, FrameError, parse
from dpuchain.flows.simulate import simulate
from dpuchain.ovs.errors import Invalid
from dpuchain.ovs.tracing import devices, read

WORDS = st.sampled_from(
    [
        *KEYS,
        *(f"{key}=" for keys in KEYS.values() for key in keys),
        "0x",
        "1",
        "4095",
        "::1",
        "1.2.3.4",
        "%",
        "²",
        "02:00:00:00:00:01",
        "=",
        " ",
    ]
)
TEXTS = st.text() | st.lists(WORDS | st.text(max_size=3), max_size=12).map("".join) | st.lists(WORDS, max_size=12).map(" ".join)


@given(text=TEXTS)
@example(text="eth vlan=٣")
@example(text="icmp src=fe80::1%\x00")
@example(text="tcp sport=0x")
def test_description(text: str) -> None:
    with suppress(FrameError):
        described = parse(text)
        for frame in (described, described.answer):
            assert len(frame.packet.content) >= SHORTEST
            assert parse(str(frame)).packet.eth_type == frame.packet.eth_type or frame.protocol == "eth"
            simulate(FlowState(), frame.packet.frame, 1)


LINES = st.sampled_from(
    ["Datapath actions: ", "drop", "push_vlan(vid=1,pcp=0)", "pop_vlan", "1", ",", ")", "(", "\n", " 0. ", '    bridge("', "Final flow:"]
)


@given(said=st.text() | st.lists(LINES, max_size=20).map("".join), shown=st.text())
@example(said="Datapath actions: ", shown="")
@example(said=" 0. x\nDatapath actions: push_vlan(vid=99999999999999999999,pcp=0),1", shown="")
def test_answer_of_the_switch(said: str, shown: str) -> None:
    with suppress(Invalid):
        for departure in read(said, devices(shown), ()).departures:
            assert str(departure)
