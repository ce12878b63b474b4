"""All parts of the measurement, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from bench import labels
from bench.figures import Figure
from bench.fleet import chain, full, restart, soak
from bench.fleet.plant import raised

PARTS = ("growth", "chain", "bytes", "restart", "full", "label", "soak")
BY_DEFAULT = PARTS[:-1]
ON_GROWING = {"growth", "chain", "bytes", "restart"}
"""Parts that one fleet serves, which grows to its size."""


@dataclass(frozen=True)
class Wanted:
    """What to measure: which parts, with how many nodes, and how much on each of them in the full fleet."""

    nodes: int
    size: full.Size
    parts: Collection[str] = BY_DEFAULT
    minutes: float = 30.0
    """How long to soak."""


async def measure(wanted: Wanted, note: Callable[[list[Figure]], None]) -> None:
    """Measure these parts, and note the figures of each as soon as they are there: a run is long, and may fail later."""
    if ON_GROWING & set(wanted.parts):
        await _growing(wanted, note)
    if "full" in wanted.parts:
        async with raised(wanted.nodes, say) as plant:
            await full.full_fleet(plant, say, wanted.size, note)
    if "soak" in wanted.parts:
        async with raised(wanted.nodes, say) as plant:
            note(await soak.soak(plant, say, wanted.minutes))
    if "label" in wanted.parts:
        note(await labels.measure())


async def _growing(wanted: Wanted, note: Callable[[list[Figure]], None]) -> None:
    sizes = sorted({min(wanted.nodes, size) for size in (chain.SMALLEST, 4 * chain.SMALLEST, 7 * chain.SMALLEST, wanted.nodes)})
    grows = "growth" in wanted.parts and len(sizes) > 1
    async with raised(sizes[0] if grows else wanted.nodes, say) as plant:
        if grows:
            note(await chain.growth(plant, say, sizes))
        if "chain" in wanted.parts:
            note(await chain.one_chain(plant, say))
        if "bytes" in wanted.parts:
            note(await chain.bystander(plant, say))
        if "restart" in wanted.parts:
            note(await restart.restarted(plant, say))


def say(text: str) -> None:
    """Tell whoever waits how far the run is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
