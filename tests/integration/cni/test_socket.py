"""The agent's socket: whose it is, and that no caller disturbs another."""

from __future__ import annotations

import asyncio
import json
import stat
import sys
from typing import TYPE_CHECKING, Any

import pytest

from dpuchain.lab.process import run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.cni.conftest import Pods
    from tests.integration.cni.node import Node

NOBODY = """
import os, socket, sys
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
with socket.socket(socket.AF_UNIX) as agent:
    try:
        agent.connect(sys.argv[1])
    except PermissionError:
        print("no permission")
        sys.exit()
    agent.sendall(sys.stdin.buffer.read())
    agent.shutdown(socket.SHUT_WR)
    while chunk := agent.recv(65536):
        sys.stdout.buffer.write(chunk)
"""


@pytest.fixture(autouse=True)
async def quiet_agent(node: Node) -> AsyncIterator[None]:
    """Whatever a caller does, the agent lives on and has no error that nobody expected."""
    log = node.directory / "agent.log"
    length = len(log.read_text())
    yield
    assert node.agent is not None
    assert node.agent.running
    assert await node.works()
    assert "Traceback" not in log.read_text()[length:]


async def as_nobody(node: Node, body: bytes) -> str:
    return await run(sys.executable, "-c", NOBODY, str(node.socket), stdin=body)


async def test_root_alone_may_connect(node: Node, pods: Pods) -> None:
    pod = await pods.make()
    mode = node.socket.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    node.directory.chmod(0o755)
    assert await as_nobody(node, pod.request()) == "no permission\n"
    assert await pod.bare()


async def test_peer_that_is_not_root_is_refused_whatever_the_mode(node: Node, pods: Pods) -> None:
    pod = await pods.make()
    node.directory.chmod(0o755)
    node.socket.chmod(0o666)
    try:
        for body in (pod.request(), b"", b"x" * 3_000_000):
            status, _, text = (await as_nobody(node, body)).partition("\n")
            assert status == "1"
            error = json.loads(text)
            assert error["code"] in (4, 7)
            assert "user 65534 may not" in error["msg"] or "bytes" in error["msg"]
    finally:
        node.socket.chmod(0o600)
    assert await pod.bare()


async def test_socket_of_a_killed_agent_is_replaced(node: Node, pods: Pods) -> None:
    await node.kill_agent()
    before = node.socket.stat().st_ino
    await node.start_agent()
    assert node.socket.stat().st_ino != before
    assert stat.S_IMODE(node.socket.stat().st_mode) == 0o600
    assert [path.name for path in node.directory.glob("*cni.sock*")] == ["cni.sock"]
    pod = await pods.make()
    await pod.add()
    assert await pod.wired()


@pytest.mark.parametrize("body", [b"", b"\0" * 5, b"[]", b"{}", b"ADD\0c\0n\0eth1\0a", b"ADD\0c\0n\0eth1\0a\0[]"])
async def test_garbage_is_answered(node: Node, body: bytes) -> None:
    answer = await node.ask(body)
    assert answer["error"]["code"] == 6, answer


async def test_too_large_a_call_is_told_so(node: Node, pods: Pods) -> None:
    pod = await pods.make()
    answer = await node.ask(pod.request(CNI_ARGS="x" * 2_000_000))
    assert answer["error"]["code"] == 7
    assert "1048576 bytes" in answer["error"]["msg"]
    changes: dict[str, Any] = {"args": {"x": "x" * 2_000_000}}
    assert (await pod.call("ADD", **changes)).refused(7, "1048576 bytes")


async def test_callers_that_say_nothing_or_hang_up_early_disturb_nobody(node: Node, pods: Pods) -> None:
    pod = await pods.make()
    silent = [await asyncio.open_unix_connection(str(node.socket)) for _ in range(20)]
    for part in (b"", pod.request()[:50], b"garbage"):
        for end in (True, False):
            _, writer = await asyncio.open_unix_connection(str(node.socket))
            writer.write(part)
            if end:
                writer.write_eof()
            writer.transport.abort()
    await pod.add()
    assert await pod.wired()
    for _, writer in silent:
        writer.close()


async def test_caller_that_does_not_wait_for_the_answer(node: Node, pods: Pods) -> None:
    pod = await pods.make()
    _, writer = await asyncio.open_unix_connection(str(node.socket))
    writer.write(pod.request())
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await pod.call("DEL")).done

    async def bare() -> bool:
        return await pod.bare() and await pod.link() is None

    assert await bare()


async def test_many_calls_for_one_attachment_take_turns(node: Node, pods: Pods) -> None:
    pod = await pods.make()
    answers = await asyncio.gather(*(pod.call(command) for command in ("ADD", "DEL", "ADD", "DEL", "ADD")))
    assert [answer.status for answer in answers] == [0] * 5, answers
    await pod.add()
    assert await pod.wired()
    assert len(await node.ports()) == 1
    assert (await pod.call("DEL")).done
    assert await node.ports() == set()
    assert await pod.bare()
