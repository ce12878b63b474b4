"""Whatever API servers refuse, lose and cut off while operators go on: the world ends as the core says of the final objects.

DPUCHAIN_FAULT_SEEDS says how many sequences are tried; each is made from its number alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from tests.property.faulty import FaultyServer
from tests.property.test_world import MEMBERS, NODES, PROCESSES, ZONES, Machines, machines, open_world

if TYPE_CHECKING:
    from pathlib import Path

    from tests.property.test_world import World

__all__ = ["machines"]  # the fixture
SEEDS = int(os.environ.get("DPUCHAIN_FAULT_SEEDS", "8"))
STEPS = 12
SELECTORS: tuple[Any, ...] = (
    None,
    {"matchLabels": {"zone": "a"}},
    {"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]},
    {"matchExpressions": [{"key": "zone", "operator": "Exists"}]},
)


def step(chance: Random) -> tuple[Any, ...]:
    """Something that operators and clusters do."""
    named = chance.choice(("chain", "interface")), chance.choice(("one", "two"))
    labels: dict[str, str] = {key: chance.choice("12") for key in "xy" if chance.random() < 0.5}
    apply = ("apply", named, chance.choice(SELECTORS), chance.choice(SELECTORS), labels, labels, chance.choice((1280, 1500)))
    return chance.choice(
        [
            apply,
            apply,
            ("delete", named),
            ("label cluster", chance.choice(MEMBERS), chance.choice(ZONES)),
            ("label node", chance.choice(MEMBERS), chance.choice(NODES), chance.choice(ZONES)),
            ("remove node", chance.choice(MEMBERS), chance.choice(NODES)),
            ("spoil", chance.choice(MEMBERS)),
            ("kill", chance.choice(PROCESSES)),
            ("start", chance.choice(PROCESSES)),
        ]
    )


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_the_world_ends_as_the_core_says_whatever_servers_do(machines: Machines, tmp_path: Path, seed: int) -> None:
    async with contextlib.AsyncExitStack() as stack:
        servers = {name: FaultyServer(cluster) for name, cluster in machines.clusters.items()}
        doors = {name: tmp_path / f"{name}.kubeconfig" for name in servers}
        for name, server in servers.items():
            await stack.enter_async_context(server.serve(doors[name]))
        world = await stack.enter_async_context(open_world(Machines(machines.clusters, doors)))
        await _play(world, servers, Random(seed))
        assert any(server.faults for server in servers.values()), "nothing went wrong"


async def _play(world: World, servers: dict[str, FaultyServer], chance: Random) -> None:
    for process in PROCESSES:
        world.start(process)
    for server in servers.values():
        server.chance, server.faulty = chance, True
    for _ in range(STEPS):
        await world.do(*step(chance))
        await asyncio.sleep(chance.uniform(0, 0.1))
    for server in servers.values():
        server.faulty = False
    await world.settle()
