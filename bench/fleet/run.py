"""All parts of the measurement, one after the other."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

from bench import labels
from bench.figures import Figure
from bench.fleet import chain, full
from bench.fleet.plant import raised

PARTS = ("growth", "chain", "bytes", "full", "label")
ON_GROWING = {"growth", "chain", "bytes"}
"""Parts that one fleet serves, which grows to its size."""


@dataclass(frozen=True)
class Wanted:
    """What to measure: which parts, with how many nodes, and how much on each of them in the full fleet."""

    nodes: int
    size: full.Size
    parts: Collection[str] = PARTS


async def measure(wanted: Wanted) -> list[Figure]:
    """The figures of these parts."""
    found: list[Figure] = []
    if ON_GROWING & set(wanted.parts):
        found += await _growing(wanted)
    if "full" in wanted.parts:
        async with raised(wanted.nodes, say) as plant:
            found += await full.full_fleet(plant, say, wanted.size)
    if "label" in wanted.parts:
        found += await labels.measure()
    return found


async def _growing(wanted: Wanted) -> list[Figure]:
    sizes = sorted({min(wanted.nodes, size) for size in (chain.SMALLEST, 4 * chain.SMALLEST, 7 * chain.SMALLEST, wanted.nodes)})
    grows = "growth" in wanted.parts and len(sizes) > 1
    found: list[Figure] = []
    async with raised(sizes[0] if grows else wanted.nodes, say) as plant:
        if grows:
            found += await chain.growth(plant, say, sizes)
        if "chain" in wanted.parts:
            found += await chain.one_chain(plant, say)
        if "bytes" in wanted.parts:
            found += await chain.bystander(plant, say)
    return found


def say(text: str) -> None:
    """Tell whoever waits how far the run is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
