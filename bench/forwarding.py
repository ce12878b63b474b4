"""How fast frames pass, and how soon they follow a station that moves."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.wires import Station, Wires, address, wires
from dpuchain.lab.traffic import End, Stream

PAIRS = 40
SLICE = 0.25
"""Seconds for which the frames that arrive are counted, each time with the chain's flows and with those written by hand."""
SETTLE = 0.1
BY_HAND = "cookie=0x1,priority=9000,in_port=1,actions=output:2\ncookie=0x1,priority=9000,in_port=2,actions=output:1\n"
"""Before those of the chain, which stay."""
MOVES = 20
KILLS = 5
PEER, MOVER = b"\x02\x00\x00\x00\x00\x0a", b"\x02\x00\x00\x00\x00\x0b"


@dataclass(frozen=True)
class Passed:
    """What arrives in a second through a chain, and with two hand-written flows: the medians."""

    chain: float
    by_hand: float

    @property
    def share(self) -> float:
        """What passes through the chain of what passes with two hand-written flows."""
        return self.chain / self.by_hand


async def passed(ports: int) -> tuple[Passed, Passed]:
    """Bytes of a TCP connection, and frames of the smallest size, from the first to the second port of a chain with one switch of so many.

    The chain's flows and those written by hand take turns a quarter of a second long, so that both meet the same machine.
    """
    async with wires(ports) as made:
        await made.connect(*range(1, ports + 1))
        return await _passed(made, "tcp", 0), await _passed(made, "packets", 1)


async def _passed(made: Wires, load: str, column: int) -> Passed:
    by_hand = made.switch.directory / "by-hand"
    by_hand.write_text(BY_HAND)
    chain: list[float] = []
    hand: list[float] = []
    with _loaded(made.ends, load) as sink:
        for number in range(PAIRS):
            order = (chain, hand) if number % 2 else (hand, chain)
            for found in order:
                if found is hand:
                    await made.switch.ofctl("add-flows", str(by_hand))
                else:
                    await made.switch.ofctl("del-flows", "cookie=0x1/-1")
                await asyncio.sleep(SETTLE)
                found.append(await _rate(sink, made.ends[1].interface, column))
        await made.switch.ofctl("del-flows", "cookie=0x1/-1")
    return Passed(median(chain), median(hand))


@contextlib.contextmanager
def _loaded(ends: tuple[End, ...], load: str) -> Iterator[int]:
    """Have the load pass; yields a process in the namespace where it arrives."""
    sink = _launch(ends[1], "sink", address(2))
    sender: subprocess.Popen[bytes] | None = None
    try:
        assert sink.stdout is not None
        sink.stdout.readline()  # it says when it listens
        sender = _launch(ends[0], load, address(2))
        yield sink.pid
    finally:
        for process in (sink, sender):
            if process is not None:
                process.kill()
                process.wait()


def _launch(end: End, *arguments: str) -> subprocess.Popen[bytes]:
    command = ["nsenter", f"--net=/run/netns/{end.namespace}", sys.executable, "-m", "bench.load", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


async def _rate(pid: int, device: str, column: int) -> float:
    began, before = time.perf_counter(), _received(pid, device)[column]
    await asyncio.sleep(SLICE)
    ended, after = time.perf_counter(), _received(pid, device)[column]
    return (after - before) / (ended - began)


def _received(pid: int, device: str) -> tuple[int, int]:
    """Bytes and frames that a device of a process' namespace has received."""
    lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()
    received = next(line.split(":")[1].split() for line in lines if line.strip().startswith(f"{device}:"))
    return int(received[0]), int(received[1])


async def without_database() -> list[int]:
    """Frames lost of 4,000 a second in each direction when ovsdb-server is killed and started, each time. Forwarding has its own thread."""
    found = []
    async with wires(2, dpdk=True) as made:
        await made.connect(1, 2)
        for _ in range(KILLS):
            with Stream(made.ends[0], made.ends[1]) as stream:
                await made.switch.restart_server()
                await made.switch.vsctl("set", "bridge", "br-sfc", "external_ids:bench=again")  # ovs-vswitchd has to have taken it up
            assert stream.outcome is not None
            found.append(stream.outcome.lost)
    return found


async def moves() -> list[float]:
    """Seconds from the first frame that a station sends from another port until a frame to it leaves by that port.

    All the while it and its peer send a frame a millisecond to each other. How long it takes depends on the moment: a switch takes what its
    datapath has cached, of the station's last stay behind that port too, for true until it looks at it again, twice a second. So the moves
    come at moments that are spread out.
    """
    async with wires(3) as made:
        await made.connect(1, 2, 3)
        with Station(made.ends[0]) as peer, Station(made.ends[1]) as second, Station(made.ends[2]) as third:
            places = (second, third)
            found = [await _until_followed(peer, places[number % 2], 1 + number / 2 / MOVES) for number in range(MOVES + 1)]
            return found[1:]  # at first nobody has moved


async def _until_followed(peer: Station, place: Station, stay: float) -> float:
    place.heard()
    began = time.perf_counter()
    followed = 0.0
    number = 0
    while time.perf_counter() - began < stay or not followed:
        number += 1
        place.send(PEER, MOVER, number)
        peer.send(MOVER, PEER, number)
        await asyncio.sleep(0.001)
        if not followed and place.heard():
            followed = time.perf_counter() - began
    return followed
