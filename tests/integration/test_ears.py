"""The chaos run hears frames of streams on each device of a namespace, whichever way they go there and whenever the device has come."""

from __future__ import annotations

import os
import secrets
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from pyroute2 import netns
from tests.chaos.ears import Ear

from dpuchain.lab.process import run as command
from dpuchain.lab.traffic import frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BROADCAST, SOURCE = b"\xff" * 6, bytes.fromhex("020000000001")


@pytest.fixture
async def namespace() -> AsyncIterator[str]:
    name = f"ears-{secrets.token_hex(4)}"
    await command("ip", "netns", "add", name)
    yield name
    await command("ip", "netns", "delete", name)


async def pair(namespace: str, first: str, second: str) -> None:
    await command("ip", "-netns", namespace, "link", "add", first, "up", "type", "veth", "peer", "name", second)
    await command("ip", "-netns", namespace, "link", "set", second, "up")


def send(namespace: str, device: str, content: bytes) -> None:
    def sent() -> None:
        netns.setns(f"/run/netns/{namespace}")
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as opened:
            opened.bind((device, 0))
            opened.send(content)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(sent).result()


def heard(ear: Ear, *devices: str) -> dict[tuple[str, int], int]:
    """What was heard, once each of these devices was heard of."""
    found: dict[tuple[str, int], int] = {}
    deadline = time.monotonic() + 10
    while not {device for device, _ in found} >= set(devices):
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
        for key, count in ear.take().items():
            found[key] = found.get(key, 0) + count
    return found


async def test_frames_are_heard_where_they_leave_and_where_they_come(namespace: str) -> None:
    await pair(namespace, "a0", "a1")
    ear = Ear(namespace)
    send(namespace, "a0", frame(BROADCAST, SOURCE, 2 * 3 + 1, 0))
    assert heard(ear, "a0", "a1") == {("a0", 3): 1, ("a1", 3): 1}
    await pair(namespace, "b0", "b1")
    send(namespace, "b1", os.urandom(60))
    send(namespace, "b1", frame(BROADCAST, SOURCE, 2 * 2, 7))
    assert heard(ear, "b0", "b1") == {("b0", 2): 1, ("b1", 2): 1}
    ear.close()
