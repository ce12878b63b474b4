"""The fleet as large as it is meant to be: filled from nothing, at rest, changed, and its controller restarted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from statistics import harmonic_mean, median
from typing import NamedTuple

from bench.clusters import writes
from bench.figures import Figure
from bench.fleet import objects
from bench.fleet.ceiling import BareClient, Fill, chain_rates, fill_rate
from bench.fleet.chain import Say, seconds, spent, started
from bench.fleet.plant import Plant
from bench.fleet.usage import usage

AT_ONCE = 32
"""Requests of the bare client: more make an API server on two cores no faster (part `chain` tries)."""
SAMPLE = objects.VFS[-2:]
"""Devices that no interface of the fleet is on: the bare client's."""
SETTLED_SECONDS = 60.0
QUIET = 3.0
PATIENCE = 1800.0
PROBE = {"bench/probe": "yes"}


class Size(NamedTuple):
    """How many chains and interfaces each node has, the interfaces of every fleet aside."""

    chains: int
    interfaces: int

    @property
    def manifests(self) -> list[objects.Manifest]:
        """The objects of the host cluster: each interface a virtual function, each chain a switch of two of them as far as they go."""
        devices = objects.VFS[: self.interfaces]
        return [
            *(objects.interface(f"interface-{number}", device) for number, device in enumerate(devices)),
            *(objects.chain(f"chain-{number}", wire) for number, wire in enumerate(objects.wires(self.chains, devices))),
        ]

    @property
    def sets(self) -> list[str]:
        """Names of the sets that become of them."""
        return [manifest["metadata"]["name"] for manifest in self.manifests]


async def full_fleet(plant: Plant, say: Say, size: Size, note: Callable[[list[Figure]], None]) -> None:
    """All figures of the full fleet, one after the other."""
    client, count = BareClient(plant), len(plant.nodes)
    await plant.stop("dpu")
    empty = await fill_rate(plant, client, AT_ONCE, SAMPLE)
    say(f"bare client, {AT_ONCE} at once: {empty.made:.0f} objects created a second, {empty.told:.0f} told of")
    await started(plant)
    filled, rate = await _fill(plant, say, size)
    note(filled)
    note(await settled(plant, say))
    changes = [await _change(plant, say, wider) for wider in (True, False, True, False)]
    note(await _restarts(plant, say))
    await plant.stop("dpu")
    full = await fill_rate(plant, client, AT_ONCE, SAMPLE)
    say(f"bare client in the full fleet, {AT_ONCE} at once: {full.made:.0f} objects created a second, {full.told:.0f} told of")
    change_rate = (await chain_rates(plant, client, AT_ONCE, plant.nodes)).changed
    ceilings = Fill(*map(harmonic_mean, zip(empty, full, strict=True)))
    name = f"{size.chains} chains + {size.interfaces} interfaces x {count} nodes"
    ratio = median(changes) * change_rate / count
    note(
        [
            Figure(f"{name}, told of by their agents: rate / the ceiling's", rate.told / ceilings.told, "", 0.85, at_least=True),
            Figure("  made: rate / that of a bare client whose agents are left behind", rate.made / ceilings.made, ""),
            *(
                Figure(f"  the ceiling: a bare client, {AT_ONCE} at once, {fleet} fleet: {what}", getattr(rates, what), "/s")
                for fleet, rates in (("empty", empty), ("full", full))
                for what in Fill._fields
            ),
            Figure(f"one chain changed → all {count} agents have compiled it / the ceiling's time", ratio, "", 1.3, len(changes)),
            Figure("  until all have compiled it", median(changes), "s", runs=len(changes)),
            Figure(f"  the ceiling: {count} writes of a bare client", count / change_rate, "s"),
        ]
    )


async def _fill(plant: Plant, say: Say, size: Size) -> tuple[list[Figure], Fill]:
    """Make everything; the figures, and the rates."""
    tallies, count = plant.tallies, len(plant.nodes)
    before, asked = seconds(plant), await plant.requests()
    began = await plant.apply(*size.manifests)
    made = await tallies.until(lambda: all(tallies.of[name].present == count for name in size.sets), PATIENCE) - began
    say(f"{len(size.sets) * count} objects after {made:.1f} s; processor seconds: {spent(before, plant)}")
    told = await tallies.until(lambda: all(tallies.of[name].told == count for name in size.sets), PATIENCE) - began
    say(f"all told of by their agents after {told:.1f} s; processor seconds: {spent(before, plant)}")
    await plant.quiet(QUIET)
    counted = await plant.requests() - asked
    say(f"requests: { ({'/'.join(filter(None, request)): number for request, number in counted.most_common(12)}) }")
    controller = usage(plant.processes["dpu"].pid)
    name = f"{len(size.sets) * count} objects"
    return [
        Figure(f"{name}: until all are made", made, "s"),
        Figure("  rate", len(size.sets) * count / made, "/s"),
        Figure("  until their agents have told of all of them", told, "s"),
        Figure("  writes for an object, by all processes", writes(counted) / (len(size.sets) * count), ""),
        Figure("  resident memory of dpuchain dpu", controller.resident, "MB", 400),
        Figure("  most resident memory of dpuchain dpu so far", controller.peak, "MB"),
        Figure("  processor time of dpuchain dpu for an object", spent(before, plant)["dpu"] / (len(size.sets) * count) * 1000, "ms"),
    ], Fill(len(size.sets) * count / made, len(size.sets) * count / told)


async def settled(plant: Plant, say: Say) -> list[Figure]:
    """What is asked of the API servers, and what is spent, when nothing happens."""
    await plant.quiet(QUIET)
    before, asked = seconds(plant), await plant.requests()
    await asyncio.sleep(SETTLED_SECONDS)
    used, counted = spent(before, plant), await plant.requests() - asked
    say(f"settled for {SETTLED_SECONDS:.0f} s: {dict(counted)}; processor seconds: {used}")
    return [
        Figure(f"settled, {SETTLED_SECONDS:.0f} s: requests but watches and the Lease", counted.total(), "", 0),
        *(Figure(f"  dpuchain {name}", used[name] / SETTLED_SECONDS * 100, "% of a core", 0.5) for name in ("dpu", "host")),
        Figure("  an agent", used["agents"] / len(plant.nodes) / SETTLED_SECONDS * 100, "% of a core"),
    ]


async def _change(plant: Plant, say: Say, wider: bool) -> float:
    """Seconds from a change of a chain until the flows of every agent have changed."""
    devices = objects.VFS[:2] if not wider else (*objects.VFS[:2], "p1")
    count, before = len(plant.nodes), seconds(plant)
    await plant.collect()
    began = await plant.apply(objects.chain("chain-0", devices))
    async with asyncio.timeout(PATIENCE):
        while True:
            answers = await plant.ask_agents("changed", since=began)
            if sum(answer["count"] for answer in answers) == count:
                break
            await asyncio.sleep(0.2)
    taken: float = max(answer["last"] for answer in answers) - began
    say(f"a changed chain is compiled by all agents after {taken:.2f} s; processor seconds: {spent(before, plant)}")
    await plant.quiet(QUIET)
    return taken


async def _restarts(plant: Plant, say: Say) -> list[Figure]:
    """What a restarted controller writes, and how soon another restarted one does its work."""
    asked = await plant.requests()
    await _restart(plant)
    await plant.quiet(QUIET + 7)
    counted = await plant.requests() - asked
    name, node = "probe", plant.nodes[0]
    await plant.apply(objects.chain(name, objects.WIRE, nodeSelector={"matchLabels": PROBE}))
    await plant.quiet(QUIET)
    began = await _restart(plant)
    await plant.label([node], dict(PROBE))
    working = await plant.tallies.until(lambda: plant.tallies.of[name].present == 1) - began
    say(f"a restarted controller reads {counted.total()} times and works after {working:.1f} s: {dict(counted)}")
    await plant.delete(objects.chain(name))
    await plant.tallies.until(lambda: plant.tallies.of[name].present == 0)
    await plant.label([node], dict.fromkeys(PROBE))
    return [
        Figure("controller restarted: writes", writes(counted), "", 0),
        Figure("  started → a node's label has had its effect", working, "s", 20),
        Figure("  resident memory of dpuchain dpu then", usage(plant.processes["dpu"].pid).resident, "MB", 400),
    ]


async def _restart(plant: Plant) -> float:
    """End the controller and start it; returns the moment of its start."""
    await plant.stop("dpu")
    plant.start("dpu")
    return time.monotonic()
