"""What we say in OpenFlow is what os-ken, written by others, understands; what we hear is what it would have said."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dpuchain.ovs
from dpuchain.api.meta import ObjectKey
from dpuchain.chain.ports import SwitchPort
from dpuchain.flows.compile import ChainSwitches, compile_switches
from dpuchain.flows.model import (
    VLAN_PRESENT,
    Flow,
    Flush,
    Learn,
    LearnPart,
    Load,
    LoadCopy,
    MatchCopy,
    MatchValue,
    Output,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
)
from dpuchain.ovs import decode, encode
from dpuchain.ovs import protocol as of

ON_VLANS = ((SwitchPort(1, 10), SwitchPort(1, 20), SwitchPort(9)), (SwitchPort(2, 30), SwitchPort(8)))
STATE = compile_switches(
    [
        ChainSwitches.of_ports(ObjectKey("default", "chain"), ((1, 2), (3, 4, 5))),
        ChainSwitches(ObjectKey("default", "on-vlans"), ON_VLANS),
    ]
)


@pytest.fixture(scope="module")
def os_ken() -> Any:
    from os_ken.ofproto import ofproto_parser, ofproto_protocol, ofproto_v1_4, ofproto_v1_4_parser

    class OsKen:
        ofp = ofproto_v1_4
        parser = ofproto_v1_4_parser
        datapath = ofproto_protocol.ProtocolDesc(version=ofproto_v1_4.OFP_VERSION)

        def parse(self, data: bytes) -> Any:
            head = ofproto_parser.header(data)
            return ofproto_parser.msg(self.datapath, *head, data)

        def serialize(self, message: Any) -> bytes:
            message.set_xid(7)
            message.serialize()
            return bytes(message.buf)

    return OsKen()


def test_the_library_for_the_database_is_kept_from_importing_eventlet() -> None:
    assert isinstance(dpuchain.ovs, ModuleType)
    assert sys.modules["eventlet"] is None


def fields(match: Any) -> dict[str, Any]:
    return dict(match.items())


def learn_of(flow: Flow) -> Learn:
    return next(action for action in flow.actions if isinstance(action, Learn))


def test_flows_are_understood(os_ken: Any) -> None:
    flows = {(flow.table, flow.match): flow for flow in STATE.flows}
    for flow in STATE.flows:
        message = os_ken.parse(encode.message(of.FLOW_MOD, 7, encode.add(flow)))
        assert (message.table_id, message.priority, message.cookie, message.command) == (flow.table, flow.priority, flow.cookie, 0)
        assert fields(message.match) == {field: value for field, value, _ in flow.match}
        assert len(message.instructions) == (1 if flow.actions else 0)
        assert len(message.instructions[0].actions if flow.actions else ()) == len(flow.actions)
    learning = flows[0, (("in_port", 3, None),)]
    mark, origin, learn, first, second = os_ken.parse(encode.message(of.FLOW_MOD, 7, encode.add(learning))).instructions[0].actions
    assert (mark.key, mark.value) == ("metadata", learning.actions[0].value)  # type: ignore[union-attr]  # it is a SetField
    assert (origin.key, origin.value) == ("reg1", 3)
    assert (first.table_id, second.table_id) == (1, 2)
    wanted = learn_of(learning)
    assert (learn.table_id, learn.priority, learn.cookie, learn.hard_timeout) == (1, wanted.priority, wanted.cookie, 300)
    assert [(type(spec).__name__, spec.src, spec.dst, spec.n_bits) for spec in learn.specs] == [
        ("NXFlowSpecMatch", ("metadata", 0), ("metadata", 0), 64),
        ("NXFlowSpecMatch", ("vlan_vid", 0), ("vlan_vid", 0), 12),
        ("NXFlowSpecMatch", ("eth_src_nxm", 0), ("eth_dst_nxm", 0), 40),
        ("NXFlowSpecMatch", 0, ("eth_dst_nxm", 40), 1),
        ("NXFlowSpecMatch", ("eth_src_nxm", 41), ("eth_dst_nxm", 41), 7),
        ("NXFlowSpecLoad", ("reg1", 0), ("reg0", 0), 28),
    ]


def test_tags_are_understood(os_ken: Any) -> None:
    flows = {(flow.table, flow.match): flow for flow in STATE.flows if flow.actions}
    comes = flows[0, (("in_port", 2, None), ("vlan_vid", VLAN_PRESENT | 30, None))]
    pop, output = os_ken.parse(encode.message(of.FLOW_MOD, 7, encode.add(comes))).instructions[0].actions
    assert (type(pop).__name__, output.port) == ("OFPActionPopVlan", 8)
    push, tag, output = os_ken.parse(encode.message(of.FLOW_MOD, 7, encode.add(flows[0, (("in_port", 8, None),)]))).instructions[0].actions
    assert (push.ethertype, tag.key, tag.value, output.port) == (0x8100, "vlan_vid", VLAN_PRESENT | 30, 2)


def test_deletions_are_understood(os_ken: Any) -> None:
    flow = next(iter(STATE.flows))
    message = os_ken.parse(encode.message(of.FLOW_MOD, 7, encode.delete(flow)))
    assert message.command == os_ken.ofp.OFPFC_DELETE_STRICT
    assert (message.cookie, message.cookie_mask, message.priority) == (flow.cookie, 2**64 - 1, flow.priority)
    assert (message.out_port, message.out_group) == (os_ken.ofp.OFPP_ANY, os_ken.ofp.OFPG_ANY)
    message = os_ken.parse(encode.message(of.FLOW_MOD, 7, encode.flush(Flush(1, 0xAB, 0xFF))))
    assert (message.command, message.table_id, message.cookie, message.cookie_mask) == (os_ken.ofp.OFPFC_DELETE, 1, 0xAB, 0xFF)
    assert not fields(message.match)


def test_bundles_and_requests_are_the_bytes_that_os_ken_makes(os_ken: Any) -> None:
    parser, datapath = os_ken.parser, os_ken.datapath
    flags = os_ken.ofp.OFPBF_ATOMIC | os_ken.ofp.OFPBF_ORDERED
    for kind in (of.BUNDLE_OPEN, of.BUNDLE_COMMIT, of.BUNDLE_DISCARD):
        theirs = os_ken.serialize(parser.OFPBundleCtrlMsg(datapath, 5, kind, flags, []))
        assert encode.message(of.BUNDLE_CONTROL, 7, encode.bundle_control(5, kind)) == theirs
    inner = parser.OFPFlowMod(datapath, cookie=9, cookie_mask=9, table_id=1, command=3, priority=0, match=parser.OFPMatch(), flags=0)
    inner.out_port, inner.out_group, inner.buffer_id = of.ANY_PORT, of.ANY_GROUP, of.NO_BUFFER
    inner.set_xid(7)
    theirs = os_ken.serialize(parser.OFPBundleAddMsg(datapath, 5, flags, inner, []))
    assert encode.message(of.BUNDLE_ADD, 7, encode.bundle_add(5, 7, encode.flush(Flush(1, 9, 9)))) == theirs
    request = parser.OFPFlowStatsRequest(datapath, 0, of.ALL_TABLES, of.ANY_PORT, of.ANY_GROUP, 3, 4, parser.OFPMatch())
    assert encode.message(of.MULTIPART_REQUEST, 7, encode.flow_request(of.ALL_TABLES, 3, 4)) == os_ken.serialize(request)
    assert encode.message(of.BARRIER_REQUEST, 7) == os_ken.serialize(parser.OFPBarrierRequest(datapath))


def stats(flows: Iterable[Flow]) -> bytes:
    """The content of a reply that lists `flows`."""
    listed = b""
    for flow in flows:
        rest = encode.match(flow.match) + encode.instructions(flow.actions)
        length = of.FLOW_STATS_BODY.size + len(rest)
        numbers = (length, flow.table, 1, 2, flow.priority, flow.idle_timeout, flow.hard_timeout, flow.flags, 0, flow.cookie, 3, 4)
        listed += of.FLOW_STATS_BODY.pack(*numbers) + rest
    return listed


def test_os_ken_reads_the_same_flows_as_we(os_ken: Any) -> None:
    content = stats(STATE.flows)
    message = os_ken.parse(encode.message(of.MULTIPART_REPLY, 7, of.MULTIPART_HEADER.pack(of.MULTIPART_FLOW, 0) + content))
    ours = decode.flows(content)
    assert [(flow.table, flow.priority, flow.cookie) for flow in ours] == [(f.table_id, f.priority, f.cookie) for f in message.body]
    assert frozenset(ours) == STATE.flows


numbers = st.integers(0, 2**16 - 1)
places: st.SearchStrategy[tuple[str, int, int]] = st.sampled_from(
    [("metadata", 0, 64), ("metadata", 32, 16), ("eth_dst", 0, 40), ("vlan_vid", 0, 12), ("reg0", 3, 7)]
)
parts: st.SearchStrategy[LearnPart] = st.one_of(
    st.builds(lambda a, b: MatchCopy(a[0], a[1], a[2], b[0], b[1]), places, places),
    st.builds(lambda a, b: LoadCopy(a[0], a[1], a[2], b[0], b[1]), places, places),
    st.builds(lambda a, value: MatchValue(a[0], a[1], a[2], value % 2 ** a[2]), places, st.integers(0, 2**64 - 1)),
)
actions = st.one_of(
    st.builds(Output, st.integers(0, 2**32 - 1)),
    st.builds(Resubmit, st.integers(0, 254)),
    st.builds(PushVlan),
    st.builds(PopVlan),
    st.builds(SetField, st.just("metadata"), st.integers(0, 2**64 - 1)),
    st.builds(Load, st.just("reg0"), st.integers(1, 15), st.integers(1, 16), numbers),
    st.builds(Learn, st.integers(0, 254), numbers, st.integers(0, 2**64 - 1), numbers, st.lists(parts, max_size=6).map(tuple)),
)
conditions = st.one_of(
    st.tuples(st.just("in_port"), st.integers(0, 2**32 - 1), st.none()),
    st.tuples(st.just("metadata"), st.integers(0, 2**64 - 1), st.none() | st.integers(0, 2**64 - 2)),
    st.tuples(st.just("vlan_vid"), st.integers(0, 2**13 - 1), st.none() | st.integers(0, 2**13 - 2)),
    st.tuples(st.just("oxm:0x80001a02"), numbers, st.none()),
)
matches = st.lists(conditions, max_size=4, unique_by=lambda condition: condition[0]).map(
    lambda some: tuple(sorted(some, key=lambda c: c[0]))
)
flows = st.builds(
    Flow,
    st.integers(0, 254),
    numbers,
    matches,
    st.lists(actions, max_size=5).map(tuple),
    st.integers(0, 2**64 - 1),
    numbers,
    numbers,
    numbers,
)


@given(st.lists(flows, max_size=5))
def test_what_is_written_is_read_back_the_same(some: list[Flow]) -> None:
    assert decode.flows(stats(some)) == some
