"""Whatever API servers refuse, lose and cut off while operators go on: the world ends as the core says of the final objects.

`make faults SEEDS=300 SEED=0` tries so many sequences from the first on, each made from its number alone. All are played on one API server,
which is the host cluster and the DPU cluster of each; a proxy shows each controller the namespace and the nodes of its own world alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from tests.property.test_world import BY_HAND, NODES, ZONES, Machines, open_world
from tests.proxy import Misfortune, Proxy, within

from dpuchain.api.chain import Port, ServiceChain, ServiceChainSpec, ServiceInterfaceReference, Switch
from dpuchain.api.kinds import SERVICE_CHAIN
from dpuchain.api.meta import ObjectMeta, key_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Background

    from dpuchain.lab.cluster import Cluster

FIRST, SEEDS = int(os.environ.get("DPUCHAIN_FAULT_SEED", "0")), int(os.environ.get("DPUCHAIN_FAULT_SEEDS", "8"))
AT_ONCE = 8
STEPS = 12
PLACE = "north"
SELECTORS: tuple[Any, ...] = (
    None,
    {"matchLabels": {"zone": "a"}},
    {"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]},
    {"matchExpressions": [{"key": "zone", "operator": "Exists"}]},
)


@pytest.fixture(scope="module")
def server(make_cluster: Callable[..., Cluster], background: Background) -> Cluster:
    from tests.conftest import define_kinds

    cluster = make_cluster("faults")
    background.run(define_kinds(cluster))
    return cluster


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
            ("label cluster", PLACE, chance.choice(ZONES)),
            ("label node", PLACE, chance.choice(NODES), chance.choice(ZONES)),
            ("remove node", PLACE, chance.choice(NODES)),
            ("spoil", PLACE),
            ("kill", chance.choice(("host", PLACE))),
            ("start", chance.choice(("host", PLACE))),
        ]
    )


@pytest.mark.timeout(120 + 10 * SEEDS)
async def test_the_world_ends_as_the_core_says_whatever_servers_do(server: Cluster) -> None:
    turns = asyncio.Semaphore(AT_ONCE)
    failed: dict[int, str] = {}

    async def play(seed: int) -> int:
        async with turns:
            try:
                return await _play(server, Random(seed))
            except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - so that each seed that fails is named
                failed[seed] = f"seed {seed}: {error!r}"
                return 0

    faults = await asyncio.gather(*map(play, range(FIRST, FIRST + SEEDS)))
    assert not failed, "\n".join(failed[seed] for seed in sorted(failed))
    assert sum(map(bool, faults)) > SEEDS / 2, "too little went wrong"


async def _play(server: Cluster, chance: Random) -> int:
    """Play one sequence; returns how many faults there were: none where its controllers were killed before they had asked for anything."""
    async with contextlib.AsyncExitStack() as stack:
        proxies = {name: await stack.enter_async_context(Proxy(server).serve()) for name in ("host", PLACE)}
        doors = {name: proxy.kubeconfig for name, proxy in proxies.items()}
        world = await stack.enter_async_context(open_world(Machines(dict.fromkeys(proxies, server), doors)))
        client = world.places[PLACE].client
        switch = Switch(ports=(Port(service_interface=ServiceInterfaceReference(match_labels={"port": "one"})),))
        node = f"{NODES[0]}-{world.namespace}"
        meta = ObjectMeta(name=BY_HAND, namespace=world.namespace)
        by_hand = await client.create(SERVICE_CHAIN, ServiceChain(metadata=meta, spec=ServiceChainSpec(node=node, switches=(switch,))))
        misfortune = Misfortune(chance)
        for proxy in proxies.values():
            proxy.narrow = within(world.namespace)
            misfortune.begin(proxy)
        world.start_all()
        for _ in range(STEPS):
            await world.do(*step(chance))
            await asyncio.sleep(chance.uniform(0, 0.1))
        misfortune.end()
        await world.settle()
        assert await client.get(SERVICE_CHAIN, key_of(by_hand)) == by_hand, "what is of no set was written"
        return misfortune.faults
