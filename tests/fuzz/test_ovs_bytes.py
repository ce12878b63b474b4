"""Invariant: whatever bytes come from Open vSwitch, reading them ends with a value or with `Invalid` (`Rejected` for an error it
reports), nothing else.
"""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dpuchain.api.meta import ObjectKey
from dpuchain.flows.compile import ChainSwitches, compile_switches
from dpuchain.flows.diff import diff
from dpuchain.flows.explain import describe
from dpuchain.flows.model import FlowState
from dpuchain.ovs import decode, encode
from dpuchain.ovs import protocol as of
from dpuchain.ovs.connection import Connection
from dpuchain.ovs.errors import Invalid, Rejected, Unreachable
from dpuchain.ovs.jsonrpc import ObjectEnd, result
from dpuchain.ovs.unixctl import call

STATE = compile_switches([ChainSwitches.of_ports(ObjectKey("default", "chain"), ((1, 2), (3, 4, 5)))])
READERS: tuple[Callable[[bytes], Any], ...] = (
    decode.header,
    decode.versions,
    decode.error,
    decode.bundle_reply,
    decode.multipart,
    decode.flows,
    decode.port_counters,
    decode.updates,
)

JSON = st.recursive(st.none() | st.text() | st.integers(-9, 9), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


def listed() -> bytes:
    content = b""
    for flow in sorted(STATE.flows, key=lambda flow: flow.key.order()):
        rest = encode.match(flow.match) + encode.instructions(flow.actions)
        size = of.FLOW_STATS_BODY.size + len(rest)
        content += of.FLOW_STATS_BODY.pack(size, flow.table, 0, 0, flow.priority, 0, 0, 0, 0, flow.cookie, 0, 0) + rest
    return content


CONTENT = listed()


@pytest.mark.parametrize("read", READERS)
@given(data=st.binary(max_size=200))
@example(data=b"")
@example(data=b"\x05\x00\x00\x00\x00\x00\x00\x00")
@example(data=b"\x00\x01\x00\x00")
def test_garbage(read: Callable[[bytes], Any], data: bytes) -> None:
    with suppress(Invalid):
        read(data)


@given(st.integers(0, len(CONTENT) - 1))
def test_a_reply_cut_off_anywhere(length: int) -> None:
    try:
        flows = decode.flows(CONTENT[:length])
    except Invalid:
        return
    assert len(flows) < len(STATE.flows)


@given(st.lists(st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_reply_with_changed_bytes(changes: list[tuple[int, int]]) -> None:
    """What can be read can also be compared, put right, deleted and shown."""
    data = bytearray(CONTENT)
    for position, value in changes:
        data[position] = value
    try:
        flows = decode.flows(bytes(data))
    except Invalid:
        return
    seen = FlowState(frozenset(flows))
    difference = diff(seen, STATE)
    for flow in (*difference.add, *difference.modify):
        assert encode.add(flow)
    for flow in difference.delete:
        assert encode.delete(flow)
        assert describe(flow)


@given(st.lists(st.binary(max_size=60) | st.sampled_from([encode.hello(1), encode.message(of.ERROR, 1, bytes(4))]), max_size=6))
async def test_a_connection_that_brings_anything(chunks: list[bytes]) -> None:
    """The connection goes on or ends with a typed error; it never raises into the event loop."""
    connection = Connection("fuzz")
    for chunk in chunks:
        connection.data_received(chunk)
    if connection.lost.done():
        assert isinstance(connection.lost.result(), Invalid | Rejected | Unreachable)


@given(st.binary(max_size=80))
@example(b'{"id":0,"result":"fine","error":null}')
@example(b'{"id":0,"result":null,"error":"no"}')
@example(b'{"result":"\xff"}')
@example(b"[]")
def test_answers_of_daemons(data: bytes) -> None:
    with suppress(Invalid, Rejected):
        result(data, "a question")


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


ANSWERS = st.sampled_from([b'{"id":0,"result":"fine","error":null}', b'{"id":0,"result":5}', b'{"error":{"a":["}"]}', b'"}"', b"{", b"}"])


@given(st.lists(st.binary(max_size=20) | ANSWERS, max_size=4), st.booleans())
@example([b'{"id":0,"result":"fi', b'ne","error":null}'], True)
async def test_a_daemon_that_says_anything(directory: Path, chunks: list[bytes], asked: bool) -> None:
    """And then hangs up, be it before or after it has heard the question."""
    path = directory / f"{uuid.uuid4().hex[:8]}.ctl"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if asked:
            await reader.read(1)
        for chunk in chunks:
            writer.write(chunk)
            await asyncio.sleep(0)
        writer.close()

    async with await asyncio.start_unix_server(serve, str(path)):
        try:
            answer = await call(path, "version")
        except (Invalid, Rejected, Unreachable):
            return
    assert isinstance(answer, str)


@given(JSON, st.data())
def test_the_end_of_an_answer_is_found_wherever_it_is_cut(value: Any, data: st.DataObject) -> None:
    answer = msgspec.json.encode({"result": value})
    cut = data.draw(st.integers(0, len(answer)))
    end = ObjectEnd()
    first = end.find(answer[:cut])
    assert (first if first is not None else cut + (end.find(answer[cut:] + b"{}") or 0)) == len(answer)
