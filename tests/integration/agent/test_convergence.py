"""Whatever happens in whatever order, and however often: the switch ends as the objects ask for, and is as it was when they are again."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from dpuchain.api.kinds import SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.api.meta import ObjectKey
from dpuchain.flows.pipeline import STATIC_KIND, cookie

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.integration.agent.world import World

    Step = Callable[[], Awaitable[object]]

Chains: TypeAlias = "dict[str, tuple[tuple[str, ...], ...]]"
BEFORE: Chains = {"x": (("p0", "p1"),), "y": (("p2", "p3", "p4"), ("p5", "blue"))}
AFTER: Chains = {"x": (("p0", "p2", "p5"),), "y": (("p1", "blue"),), "z": (("p3", "p4"),)}


class Actor:
    """Does things to the node, one at a time."""

    def __init__(self, world: World, start_agent: Callable[[], asyncio.Task[None]]) -> None:
        self.world = world
        self._start_agent = start_agent
        self._agent = start_agent()

    async def prepare(self) -> None:
        for number in range(6):
            await self.world.add_physical(f"p{number}")
        await self.world.add("blue", "vlan", vlanID=10, parentInterfaceRef="p0")
        for name, switches in BEFORE.items():
            await self.world.add_chain(name, *switches)

    async def settled(self, chains: Chains) -> list[str]:
        """The flows, once all chains, which must be these, are Ready and nothing is left to be looked at."""
        world = self.world
        await world.until(lambda: {chain.metadata.name for chain in world.chains} == set(chains), "there", 30)
        await world.until(lambda: all(world.ready(world.chains, name) == "True" for name in chains), "ready", 60)
        await world.until_quiet()
        await world.until(lambda: all(world.ready(world.chains, name) == "True" for name in chains), "ready", 60)
        return sorted(await world.flows())

    async def restart_agent(self) -> None:
        self._agent.cancel()
        await asyncio.wait([self._agent])
        self._agent = self._start_agent()

    async def restart_daemon(self) -> None:
        await self.world.switch.stop_daemon()
        await self.world.switch.start_daemon()

    async def replace(self, name: str, switches: tuple[tuple[str, ...], ...]) -> None:
        """Delete a chain and make it anew."""
        await self.remove(name)
        await self.world.until(lambda: self.world.chains.get(ObjectKey(self.world.namespace, name)) is None, "gone")
        await self.world.add_chain(name, *switches)

    async def remove(self, name: str) -> None:
        await self.world.client.delete(SERVICE_CHAIN, ObjectKey(self.world.namespace, name))

    async def change(self, name: str, switches: tuple[tuple[str, ...], ...]) -> None:
        ports = [{"ports": [{"serviceInterface": {"matchLabels": {"port": port}}} for port in switch]} for switch in switches]
        await self.world.client.patch(SERVICE_CHAIN, ObjectKey(self.world.namespace, name), {"spec": {"switches": ports}})

    async def relabel(self, chance: random.Random) -> None:
        """An event that asks for nothing."""
        key = ObjectKey(self.world.namespace, f"p{chance.randrange(6)}")
        await self.world.client.patch(SERVICE_INTERFACE, key, {"metadata": {"labels": {"noise": str(chance.random())}}})

    def harm(self, chance: random.Random) -> list[Step]:
        """What others may do."""
        switch = self.world.switch
        port = f"p{chance.randrange(6)}"
        return [
            lambda: switch.ofctl("del-flows"),
            lambda: switch.ofctl("del-flows", f"table=0,in_port={port}"),
            lambda: switch.ofctl("mod-flows", "table=2,actions=drop"),
            lambda: switch.ofctl("add-flow", f"cookie={cookie(STATIC_KIND, 1)},table=0,priority=9000,actions=drop"),
            lambda: switch.vsctl("--if-exists", "del-port", "br-sfc", port),
            lambda: switch.vsctl("clear", "interface", port, "external_ids"),
            lambda: switch.vsctl("clear", "port", port, "external_ids"),
            lambda: self.relabel(chance),
            self.restart_agent,
            self.restart_daemon,
            switch.restart_server,
        ]


def there(actor: Actor, chance: random.Random) -> list[Step]:
    """The steps from BEFORE to AFTER, some of them twice."""
    steps: list[Step] = [
        lambda: actor.change("x", AFTER["x"]),
        lambda: actor.replace("y", AFTER["y"]) if chance.random() < 0.5 else actor.change("y", AFTER["y"]),
        lambda: actor.world.add_chain("z", *AFTER["z"]),
    ]
    return [*steps, lambda: actor.change("x", AFTER["x"])]


def back(actor: Actor) -> list[Step]:
    steps: list[Step] = [lambda name=name: actor.change(name, BEFORE[name]) for name in ("x", "y", "y")]  # type: ignore[misc]
    return [*steps, lambda: actor.remove("z")]


async def carry_out(steps: list[Step], harm: list[Step], chance: random.Random) -> None:
    steps = [*steps, *chance.sample(harm, 4)]
    chance.shuffle(steps)
    for step in steps:
        await step()
        await asyncio.sleep(chance.choice([0, 0, 0.05, 0.3]))


@pytest.mark.parametrize("seed", range(3))
async def test_any_order_of_events_converges_and_the_way_back_restores_everything(
    world: World, start_agent: Callable[[], asyncio.Task[None]], seed: int
) -> None:
    chance = random.Random(seed)
    actor = Actor(world, start_agent)
    await actor.prepare()
    before = await actor.settled(BEFORE)
    assert len(before) == 16
    numbers = await world.numbers()
    outcomes: list[Any] = []
    for _ in range(2):
        await carry_out(there(actor, chance), actor.harm(chance), chance)
        outcomes.append(await actor.settled(AFTER))
        await carry_out(back(actor), actor.harm(chance), chance)
        assert await actor.settled(BEFORE) == before
        assert await world.numbers() == numbers
    assert outcomes[0] == outcomes[1]
