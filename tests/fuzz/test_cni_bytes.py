"""Invariant: whatever a caller of the CNI sends, to the executable or to the agent's socket, reading it ends with a value that can be used
or with a `CniError` that can be shown; nothing else.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dpuchain.agent.attachment import LONGEST_DEVICE_NAME, CniError, decode_config, decode_request, version_of
from dpuchain.cni.plugin import VERSIONS

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
CALL: dict[str, Any] = {
    "command": "ADD",
    "container_id": "c" * 64,
    "netns": "/run/netns/x",
    "ifname": "eth1",
    "args": "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web-0;K8S_POD_UID=1-2",
    "config": {
        "cniVersion": "1.1.0",
        "name": "mybrsfc",
        "type": "dpuchain-cni",
        "bridge": "br-sfc",
        "ipam": {},
        "prevResult": {"cniVersion": "1.1.0", "interfaces": [{"name": "eth1", "mac": "02:00:00:00:00:01", "sandbox": "/x", "mtu": 1500}]},
        "cni.dev/valid-attachments": [{"containerID": "c", "ifname": "eth1"}],
    },
}
COMMANDS = st.sampled_from(["ADD", "DEL", "CHECK", "GC", "STATUS"])
PATHS = st.sampled_from(
    [
        *((name,) for name in CALL),
        *(("config", name) for name in CALL["config"]),
        ("config", "unheard-of"),
        ("config", "prevResult", "interfaces"),
        ("config", "cni.dev/valid-attachments"),
    ]
)


def encode(call: dict[str, Any], config: bytes | None = None) -> bytes:
    """The call as the executable hands it over."""
    fields = [str(call[name]).encode(errors="surrogatepass") for name in ("command", "container_id", "netns", "ifname", "args")]
    return b"\0".join([*fields, json.dumps(call["config"]).encode() if config is None else config])


def read(body: bytes) -> CniError | None:
    """What the agent does with a call before it touches anything; returns why it would not."""
    try:
        request = decode_request(body)
        decode_config(request, "br-sfc")
        pod = request.pod
    except CniError as error:
        return error
    assert pod.name
    assert len(request.prefix) < LONGEST_DEVICE_NAME
    assert "\0" not in request.container_id + request.netns + request.ifname
    return None


def hold(body: bytes) -> None:
    error = read(body)
    if error is not None:
        assert error.message
        assert error.code in (1, 2, 4, 6, 7)
        assert msgspec.json.encode([error.message, error.details])


def mutated(changes: list[tuple[tuple[str, ...], Any]], command: str) -> dict[str, Any]:
    call: dict[str, Any] = json.loads(json.dumps(CALL)) | {"command": command}
    for (*way, last), value in changes:
        place = call
        for name in way:
            place = place[name] if isinstance(place.get(name), dict) else {}
        place[last] = value
    return call


@given(st.binary(max_size=300))
@example(b"")
@example(b"\xff\xfe{\x00}\x00")
@example(b'ADD\0c\0/n\0eth1\0\0{"cniVersion":"1.1.0","a":"\\ud800"}')
@example(b'ADD\0c\0/n\0eth1\0\0{"cniVersion":"1.1.0","a":"\xff"}')
@example(b'ADD\0\xff\0/n\0eth1\0\0{"cniVersion":"1.1.0"}')
@example(b'ADD\0c\0/n\0eth1\0\0{"cniVersion":"1.1.0","a":1e999}')
@example(b"ADD\0c\0/n\0eth1\0\0" + b"[" * 100_000)
@example(b"ADD\0c\0/n\0eth1\0\0" + b'{"a":' * 100_000)
def test_agent_reads_any_bytes(body: bytes) -> None:
    hold(body)


@given(st.lists(st.tuples(PATHS, JSON), max_size=3), COMMANDS)
def test_agent_reads_calls_with_anything_in_them(changes: list[tuple[tuple[str, ...], Any]], command: str) -> None:
    hold(encode(mutated(changes, command)))


@given(st.integers(0, len(encode(CALL))), st.binary(min_size=1, max_size=3))
def test_agent_reads_calls_with_changed_bytes(position: int, replacement: bytes) -> None:
    body = encode(CALL)
    hold(body[:position] + replacement + body[position + len(replacement) :])
    hold(body[:position])


def test_the_call_that_is_changed_is_a_good_one() -> None:
    assert read(encode(CALL)) is None


@pytest.mark.parametrize("depth", range(900, 1100, 3))
def test_agent_reads_any_depth(depth: int) -> None:
    for text in (b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth):
        error = read(encode(CALL, text))
        assert error is not None


@given(st.binary(max_size=300))
def test_version_to_answer_in_can_always_be_told(body: bytes) -> None:
    assert version_of(body) in VERSIONS
