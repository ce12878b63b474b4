"""`python -m tests.chaos --seed N --minutes M`: raise a rack, harm it in random ways, and see it right itself each time.

Frames with numbers pass all the while (`world.STREAMS`). After each fault the world must come to rest as the pure core says it should
(`oracle`), what is somebody else's must be as it was, nobody may write any more, and in a quiet second every frame must arrive where it
should and nowhere else. No frame may ever have been heard on a device where it does not belong, quiet or not: all devices of the DPUs
are listened to (`ears`).

A fault follows from the seed, its number, and what it finds on the rack: the names of pods, say, are chance of another kind.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from dpuchain.lab import control
from dpuchain.lab.errors import LabError
from dpuchain.lab.layout import Shape
from tests.chaos.faults import FAULTS, Harm
from tests.chaos.oracle import Objects, differences, versions
from tests.chaos.world import DPUS, FAR_END, World, vsctl
from tests.e2e.conftest import Rack

if TYPE_CHECKING:
    from types import FrameType

    from dpuchain.lab.traffic import Outcome

PATIENCE = 120.0
"""Seconds that the world may take to be right again: a process waits up to 30 between two attempts at what is away, the kubelet longer
before it starts a container once more.
"""
ATTEMPTS = 3
"""A quiet second of a busy machine may lose a frame by itself; three on end do not."""


def main() -> None:
    """Run until the time is over or something stays wrong; then end with status 1 and say after which fault."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=1, help="number of the fault to begin with")
    parser.add_argument("--minutes", type=float, default=5)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    with tempfile.TemporaryDirectory(prefix="dpuchain-chaos-") as folder:
        world = World(Rack(Path(folder) / "rack"))
        try:
            world.raise_up()
            status = run(world, arguments.seed, arguments.first, arguments.minutes)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):  # an impatient person must not spoil the tidying
                signal.signal(number, signal.SIG_IGN)
            outcome = world.rack.lab("down")
            say(outcome.output.strip())
    sys.exit(status)


def _interrupt(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def say(text: str) -> None:
    """Tell the person, or the log, at once."""
    print(text, flush=True)  # noqa: T201


def run(world: World, seed: int, first: int, minutes: float) -> int:
    """Harm and wait, again and again; returns the exit status."""
    ends = time.monotonic() + 60 * minutes
    count, number = 0, first - 1
    with world.traffic():
        while time.monotonic() < ends:
            number += 1
            chance = Random(f"{seed}/{number}")
            harm = chance.choice(FAULTS)(world, chance)
            count += harm.count
            say(f"seed {seed}, fault {number}: {harm.text}")
            harmed = time.monotonic()
            left = settle(world, harm)
            world.hear()
            left += world.stray
            say(f"  {'wrong' if left else 'right'} after {time.monotonic() - harmed:.1f} s; {count} faults so far")
            if left:
                say("\n".join(["still wrong:", *left, *evidence(world)]))
                return 1
    total = {name: sum(getattr(outcome, name) for outcome in world.ended) for name in ("sent", "lost", "duplicates", "late", "alien")}
    say(f"seed {seed}: {count} faults in {number - first + 1} rounds; frames: {total}")
    return 1 if total["alien"] else 0


def settle(world: World, harm: Harm) -> list[str]:
    """Bring back what has died and wait until the world is right; returns what is still wrong after too long."""
    mended: list[str] = []
    try:
        if asyncio.run(control.up(world.layout, Shape(dpus=2), mended.append)):
            return ["the rack could not be mended, another was raised", *mended]
    except LabError as error:
        return [f"the rack cannot be mended: {error}", *mended]
    for dpu in harm.razed:
        world.plant(dpu)
    deadline = time.monotonic() + PATIENCE
    while True:
        objects, wrong = differences(world)
        wrong = wrong or unquiet(world, objects)
        if not wrong or world.stray or time.monotonic() > deadline:
            return wrong
        time.sleep(0.3)


def unquiet(world: World, objects: Objects) -> list[str]:
    """What happens in a quiet second that should not."""
    for _ in range(ATTEMPTS):
        before = world.pause()
        world.hear()
        world.resume()
        time.sleep(1)
        after = world.pause()
        world.hear({*objects.beside, *(FAR_END[device] for device in objects.beside)})
        world.resume()
        passes = {"x0", "x2"} <= objects.beside
        wrong = [line for name in before for line in _amiss(name, before[name], after[name], passes=name != "beside" or passes)]
        if not wrong:
            break
    again, found = differences(world)
    was, now = versions(objects), versions(again)
    wrong += [f"{name} was written" for name in was.keys() | now.keys() if was.get(name) != now.get(name)]
    return wrong + found


def _amiss(name: str, before: Outcome, after: Outcome, *, passes: bool) -> list[str]:
    sent, lost = after.sent - before.sent, after.lost - before.lost
    wrong = [f"stream {name}: {after.alien} frames where they do not belong"] if after.alien else []
    if passes and (lost or not sent):
        wrong.append(f"stream {name}: {lost} frames lost of {sent}")
    if not passes and lost != sent:
        wrong.append(f"stream {name}: {sent - lost} frames came through of {sent}, where there is no chain")
    return wrong


def evidence(world: World) -> list[str]:
    """Everything that helps to see what went wrong."""
    logs = [world.layout.supervisor_log, *sorted(world.rack.directory.glob("*/*.log"))]
    found = [world.rack.state()]
    for dpu in DPUS:
        found += [f"--- {dpu}", world.rack.at(dpu, "ip", "link").output, vsctl(world.rack, dpu, "list", "interface").output]
    return [*found, *(f"--- {log}\n{_end(log)}" for log in logs)]


def _end(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-60:])


if __name__ == "__main__":
    main()
