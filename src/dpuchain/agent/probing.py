"""The probe frames of a live trace: sent one after the other, and timed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from dpuchain.flows.path import Entry, Picture, judge
from dpuchain.flows.probes import CATCH_SECONDS, Course, begins, course, frame, measured, number_in
from dpuchain.flows.trace import Answer, Probe, Trace
from dpuchain.ovs.errors import Rejected
from dpuchain.ovs.frames import catching
from dpuchain.ovs.tracing import settled
from dpuchain.runtime.clock import Clock

FRAMES = 10
PATIENCE_SECONDS = 0.2
"""How long a frame may take until it counts as lost; a series is over long before what catches it goes."""
SAFE_SECONDS = CATCH_SECONDS - 1
"""Until when frames are sent, from before there is what catches them: nothing may be under way when it goes."""
UNSAFE = "probe frames might leave the DPU: the switch does not say that its datapath has taken in what would catch them"


class Prober:
    """Sends probe frames into the switch behind `socket`, for one live trace at a time."""

    def __init__(self, socket: Path, clock: Clock) -> None:
        self.socket = socket
        self.clock = clock
        self._turn = asyncio.Lock()

    async def probe(self, picture: Picture, trace: Trace, ask: Callable[[Entry], Awaitable[Answer]]) -> list[Probe]:
        """What became of probe frames at each switch that the ways of `trace` enter. Raises OvsErrors."""
        found = []
        async with self._turn:
            for interface in begins(trace):
                nonce = secrets.token_bytes(8)
                entry = Entry.by(picture.by_interface[interface], frame(nonce, 0))
                _, arrivals = judge(picture, entry, await ask(entry))
                planned = course(picture, entry, arrivals)
                found.append(planned.probe if planned.probe.skipped else await self._send(planned, nonce))
        return found

    async def _send(self, planned: Course, nonce: bytes) -> Probe:
        taken: dict[int, float] = {}
        arrived = asyncio.Event()

        def take(content: bytes) -> None:
            number = number_in(content, nonce)
            if number is not None:
                taken.setdefault(number, self.clock.monotonic())
                arrived.set()

        times, count = [], 0
        end = self.clock.monotonic() + SAFE_SECONDS
        async with catching(self.socket, planned.flows, take) as send:
            try:
                await settled(self.socket.parent)  # else the datapath might send the first frame where the last ones of its kind went
            except Rejected as error:
                return msgspec.structs.replace(planned.probe, skipped=f"{UNSAFE} ({error})")
            for number in range(FRAMES):
                arrived.clear()
                sent = self.clock.monotonic()
                if sent > end:
                    break
                count += 1
                send(planned.entry.number, Entry.by(planned.entry.place, frame(nonce, number)).packet.content)
                try:
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        while number not in taken:
                            await arrived.wait()
                            arrived.clear()
                except TimeoutError:
                    continue
                times.append(1000 * (taken[number] - sent))
        return measured(planned, count, times) if count else msgspec.structs.replace(planned.probe, skipped=f"{UNSAFE} in time")
