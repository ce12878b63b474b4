"""Random changes for a while: nothing that a process holds may grow with what has happened."""

from __future__ import annotations

import asyncio
import random
import re
import time
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure
from bench.fleet import objects
from bench.fleet.chain import Say
from bench.fleet.plant import Plant
from bench.fleet.usage import usage
from dpuchain.kube.client import Client
from dpuchain.lab.scraping import scrape, token

SLOTS = 12
"""Chains and interfaces that come, change and go."""
PREFIX = "soak-"
LABEL = "bench/soak"
PAUSE = 0.5
"""Seconds between two changes."""
WARM_SECONDS = 120.0
"""Until as many objects have been there at once as ever will be, and what a process needs for that has been asked of the kernel."""
IDLE_SECONDS = 400.0
"""After which connections that nothing is sent by have been closed, and with them what they hold. A client closes one that was idle for
75 to 150 s; but a watch that is begun anew takes the connection that has been idle for longest, and leaves its own to be idle in its
place. An agent begins each of its four watches anew every five to seven minutes, so that of 100 agents 12 had such a one after 160 s.
"""
TELL_SECONDS = 120.0
"""Between two lines that say how far it is."""
SPARE = 3
"""Connections more or fewer that are no growth: a watch that has just been begun anew leaves the one before it open for a while."""
_TASKS = re.compile(r"^dpuchain_tasks (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Holding:
    """What a process holds: resident memory in MB, open files, threads, tasks."""

    resident: float
    files: int
    threads: int
    tasks: int


async def soak(plant: Plant, say: Say, minutes: float, seed: int = 0) -> list[Figure]:
    """Change something at random twice a second for so long, and compare what the processes hold at rest before and after."""
    chance = random.Random(seed)
    await _churn(plant, say, chance, WARM_SECONDS)
    before = await _at_rest(plant)
    say(f"at rest after {WARM_SECONDS:.0f} s of changes: {before}")
    asked = await plant.requests()
    changes = await _churn(plant, say, chance, minutes * 60)
    counted = (await plant.requests() - asked).total()
    after = await _at_rest(plant)
    say(f"at rest after {changes} more changes: {after}")
    found = [Figure(f"soak of {minutes:g} minutes, {len(plant.nodes)} nodes: changes", changes, ""), Figure("  requests", counted, "")]
    for name, holding in after.items():
        was = before[name]
        found += [
            Figure(f"  {name}: memory after / before", holding.resident / was.resident, "", 1.1),
            Figure(f"  {name}: open files more than before", holding.files - was.files, "", SPARE),
            Figure(f"  {name}: threads more than before", holding.threads - was.threads, ""),
            Figure(f"  {name}: tasks more than before", holding.tasks - was.tasks, "", 0),
        ]
    return found


async def _churn(plant: Plant, say: Say, chance: random.Random, seconds: float) -> int:
    """Change something again and again, then take it all back; returns how many changes that were."""
    there: dict[int, objects.Manifest] = {}
    count, end = 0, time.monotonic() + seconds
    tell = time.monotonic() + TELL_SECONDS
    while (now := time.monotonic()) < end:
        if now >= tell:
            resident = {name: round(usage(process.pid).resident) for name, process in plant.processes.items()}
            say(f"{count} changes, {(end - now) / 60:.0f} minutes to go; MB in use: {resident}")
            tell += TELL_SECONDS
        await _change(plant, chance, there, f"{int(end)}-{count}")
        count += 1
        await asyncio.sleep(PAUSE)
    await plant.delete(*there.values())
    await plant.label(plant.nodes, {LABEL: None})
    await plant.tallies.until(lambda: all(tally.present == 0 for name, tally in plant.tallies.of.items() if name.startswith(PREFIX)))
    return count


async def _change(plant: Plant, chance: random.Random, there: dict[int, objects.Manifest], suffix: str) -> None:
    """One change; what it makes has a name of its own, so that what is kept by name shows, and so that none is made while it goes."""
    if chance.random() < 0.5:
        nodes = chance.sample(plant.nodes, min(len(plant.nodes), 10))
        await plant.label(nodes, {LABEL: chance.choice(["a", "b", None])})
        return
    number = chance.randrange(SLOTS)
    if number in there and chance.random() < 0.4:
        await plant.delete(there.pop(number))
        return
    name = there[number]["metadata"]["name"] if number in there else f"{PREFIX}{suffix}"
    selector = {"nodeSelector": {"matchLabels": {LABEL: chance.choice("ab")}}}
    devices = objects.VFS[2 * number : 2 * number + 2]
    manifest = objects.interface(name, devices[0], **selector) if number % 2 else objects.chain(name, devices, **selector)
    there[number] = manifest
    await plant.apply(manifest)


async def _at_rest(plant: Plant) -> dict[str, Holding]:
    await plant.quiet(3)
    await asyncio.sleep(IDLE_SECONDS)
    tasks = {name: await _tasks(plant, name, client) for name, client in (("host", plant.host), ("dpu", plant.dpu))}
    tasks |= {name: (await plant.ask(name, "tasks"))["tasks"] for name in plant.agents}
    return {name: _holding(plant.processes[name].pid, count) for name, count in tasks.items()}


async def _tasks(plant: Plant, name: str, admin: Client) -> int:
    status, text = await scrape(plant.metrics[name], await token(admin))
    found = _TASKS.search(text)
    if found is None:
        raise RuntimeError(f"{name} does not say how many tasks it has: {status}")
    return int(float(found[1]))


def _holding(pid: int, tasks: int) -> Holding:
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
    return Holding(usage(pid).resident, files, threads, tasks)
