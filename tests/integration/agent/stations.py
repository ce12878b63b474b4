"""Stations at the far ends of devices that a switch has, which send real frames and hear them."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

EXPERIMENTAL = 0x88B5
"""IEEE 802, local experimental Ethertype 1: nobody else sends it."""
SOL_PACKET, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING = 263, 8, 23
TAG_IS_VALID = 1 << 4
"""linux/if_packet.h: the kernel has taken the frame's tag off, and tells it beside."""
EVERYONE, ALICE, BOB = b"\xff" * 6, b"\x02\x00\x00\x00\x00\x0a", b"\x02\x00\x00\x00\x00\x0b"


class Station:
    """The far end of a device that the switch has: sends frames, and hears those that come."""

    def __init__(self, device: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        self._socket.bind((device, 0))
        self._socket.setblocking(False)
        self._socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)

    def close(self) -> None:
        self._socket.close()

    def send(self, text: bytes, *tags: int, source: bytes = ALICE, target: bytes = EVERYONE) -> None:
        header = b"".join(struct.pack("!HH", 0x8100, tag) for tag in tags) + struct.pack("!H", EXPERIMENTAL)
        self._socket.send((target + source + header + text).ljust(60, b"\0"))

    async def hear(self) -> tuple[bytes, tuple[int, ...]]:
        """The next frame of ours: its text and its tags."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._socket, readable.set)
        try:
            while True:
                heard = self._take()
                if heard is not None:
                    return heard
                readable.clear()
                await readable.wait()
        finally:
            loop.remove_reader(self._socket)

    def _take(self) -> tuple[bytes, tuple[int, ...]] | None:
        while True:
            try:
                frame, beside, _, _ = self._socket.recvmsg(2048, 256)
            except BlockingIOError:
                return None
            tags = []
            for _, kind, data in beside:
                status, _, _, _, _, tag = struct.unpack_from("=IIIHHH", data)
                if kind == PACKET_AUXDATA and status & TAG_IS_VALID:
                    tags.append(tag & 0xFFF)
            offset = 12
            while frame[offset : offset + 2] == b"\x81\x00":
                tags.append(int.from_bytes(frame[offset + 2 : offset + 4], "big") & 0xFFF)
                offset += 4
            if int.from_bytes(frame[offset : offset + 2], "big") == EXPERIMENTAL:
                return frame[offset + 2 :].rstrip(b"\0"), tuple(tags)


@dataclass
class Crossing:
    """What became of numbered frames that one station sent to another."""

    sent: int = 0
    heard: Counter[int] = field(default_factory=Counter)

    moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def further(self, count: int) -> None:
        """Return when so many more have been sent."""
        until = self.sent + count
        while self.sent < until:
            self.moved.clear()
            await self.moved.wait()

    @property
    def lost(self) -> list[int]:
        """Numbers of the frames that never came."""
        return [number for number in range(self.sent) if not self.heard[number]]


@asynccontextmanager
async def crossing(source: Station, target: Station) -> AsyncIterator[Crossing]:
    """Have frames cross, about a thousand a second, while the context lasts; afterwards all that will ever come have come."""
    crossing = Crossing()

    async def hear() -> None:
        while True:
            text, _ = await target.hear()
            if text.isdigit():
                crossing.heard[int(text)] += 1

    async def send() -> None:
        while True:
            source.send(b"%d" % crossing.sent, source=ALICE, target=BOB)
            crossing.sent += 1
            crossing.moved.set()
            await asyncio.sleep(0.001)

    hearing, sending = asyncio.ensure_future(hear()), asyncio.ensure_future(send())
    try:
        yield crossing
    finally:
        sending.cancel()
        await asyncio.wait([sending])
        await asyncio.sleep(0.5)
        hearing.cancel()
        await asyncio.wait([hearing])
