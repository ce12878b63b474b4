"""An API server that is started anew under a fleet: a thousand agents come back, and none of them knows of the others."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from dataclasses import dataclass

from bench.clusters import REQUEST, labels_of
from bench.figures import Figure
from bench.fleet import objects
from bench.fleet.chain import Say
from bench.fleet.plant import Plant
from bench.fleet.usage import usage
from dpuchain.api.kinds import SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.kube.errors import KubeError

NAME = "restarted"
AWAY_SECONDS = 3.0
"""How long the API server is away: less than any client's patience, so that all of them come back at once."""
SAMPLE_SECONDS = 0.5
WINDOW_SECONDS = 2.0
"""Over which lists are counted at least: a sample may be as old as the request for it took."""
PATIENCE = 180.0
_WATCHES = re.compile(r"^apiserver_longrunning_requests\{([^}]*)\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Sample:
    """What the API server has told of itself: watches of node objects that are open, lists answered, and requests turned away."""

    moment: float
    watches: int
    lists: int
    refused: int


async def restarted(plant: Plant, say: Say) -> list[Figure]:
    """Start the API server of the DPU cluster anew, and see how its agents come back. They have one chain each."""
    count = len(plant.nodes)
    await plant.apply(objects.chain(NAME, objects.WIRE))
    await plant.tallies.until(lambda: plant.tallies.of[NAME].ready == count)
    await plant.quiet(2)
    before = await _sample(plant)
    cluster = plant.clusters["cluster-1"]
    await plant.stop("dpu")  # it would end without its Lease, and be started again by a kubelet
    server = next(process for process in cluster.processes if process.name.endswith("/kube-apiserver"))
    await server.stop(first=signal.SIGKILL)
    await asyncio.sleep(AWAY_SECONDS)
    server.start_again()
    await cluster.until_ready()
    plant.start("dpu")
    began = time.monotonic()
    samples = [Sample(began, 0, 0, 0)]
    async with asyncio.timeout(PATIENCE):
        while samples[-1].watches < before.watches:
            await asyncio.sleep(SAMPLE_SECONDS)
            try:
                samples.append(await _sample(plant))
            except KubeError as error:
                say(f"no answer: {error}")
    back, spent = samples[-1].moment - began, usage(server.pid).seconds
    changed = await plant.apply(objects.chain(NAME, objects.HUB))
    await plant.tallies.until(lambda: plant.tallies.of[NAME].changed == plant.tallies.of[NAME].ready == count)
    carried_out = plant.tallies.last - changed
    later = ((a, next((b for b in samples if b.moment - a.moment >= WINDOW_SECONDS), None)) for a in samples)
    rates = [(b.lists - a.lists) / (b.moment - a.moment) for a, b in later if b is not None]
    last = samples[-1]
    say(f"{before.watches} watches are open again after {back:.1f} s; {last.lists} lists, {last.refused} requests turned away")
    await plant.delete(objects.chain(NAME))
    await plant.tallies.until(lambda: plant.tallies.of[NAME].present == 0)
    return [
        Figure(f"API server started anew → {count} agents hear of everything again", back, "s", runs=1),
        Figure("  lists an agent, of its node's objects", last.lists / count, ""),
        Figure(f"  most lists a second, over {WINDOW_SECONDS:g} s", max(rates), "/s"),
        Figure("  requests turned away (429), most of them while it reads what it serves", last.refused, ""),
        Figure("  processor time of the API server until then, its own start included", spent, "s"),
        Figure("  a chain that is changed then is carried out by all", carried_out, "s"),
    ]


async def _sample(plant: Plant) -> Sample:
    text = (await plant.dpu.request("GET", "/metrics")).decode()
    kinds = {SERVICE_CHAIN.plural, SERVICE_INTERFACE.plural}
    watches = lists = refused = 0
    for labels, value in _WATCHES.findall(text):
        label = labels_of(labels)
        if label["verb"] == "WATCH" and label["resource"] in kinds:
            watches += int(float(value))
    for labels, value in REQUEST.findall(text):
        label = labels_of(labels)
        if label["verb"] == "LIST" and label["resource"] in kinds:
            lists += int(float(value))
        if label["code"] == "429":
            refused += int(float(value))
    return Sample(time.monotonic(), watches, lists, refused)
