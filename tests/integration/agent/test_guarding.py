"""What others do to our flows and ports is noticed, undone, counted and told once; what is theirs stays, wherever it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from dpuchain.api.kinds import EVENT, SERVICE_CHAIN
from dpuchain.api.meta import ObjectKey
from dpuchain.runtime.metrics import REPAIRS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.integration.agent.world import World

    from dpuchain.kube.cache import Cache

KINDS = ("flow-deleted", "flow-altered", "flow-added", "port-deleted", "port-altered")
OURS = "cookie=0xd9c1100000010000"


def counted() -> dict[str, int]:
    return {kind: int(REPAIRS.labels(kind)._value.get()) for kind in KINDS}


async def told(world: World, name: str) -> list[tuple[str, int]]:
    """Reason and count of the Events about an object, its first Ready aside."""
    events = (await world.client.list(EVENT, namespace=world.namespace)).items
    return [(event.reason, event.count) for event in events if event.involved_object.name == name and event.reason != "Ready"]


async def until_told(world: World, name: str) -> None:
    async def so() -> bool:
        return bool(await told(world, name))

    await world.until_so(so, "told")


@pytest.fixture
async def right(world: World, agent: asyncio.Task[None]) -> list[str]:
    """The flows of a switch of three ports, p0 to p2."""
    for name in ("p0", "p1", "p2"):
        await world.add_physical(name)
    await world.add_chain("chain", ("p0", "p1", "p2"))
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    return sorted(await world.flows())


@pytest.mark.parametrize(
    ("harm", "kinds"),
    [
        (("del-flows", "table=0,in_port=p0"), {"flow-deleted": 1}),
        (("del-flows",), {"flow-deleted": 7}),
        (("mod-flows", "--strict", "table=0,priority=1000,in_port=p0,actions=drop"), {"flow-altered": 1}),
        (("add-flow", "cookie=0x78,table=0,priority=1000,in_port=p1,actions=drop"), {"flow-deleted": 1}),
        (("add-flow", f"{OURS},table=2,priority=5,actions=drop"), {"flow-added": 1}),
        (("add-flow", f"{OURS},table=0,priority=9,in_port=99,actions=drop"), {"flow-added": 1}),
        (("add-flow", f"{OURS},table=77,priority=5,actions=drop"), {"flow-added": 1}),
    ],
)
async def test_harm_to_flows_is_undone_and_counted(world: World, right: list[str], harm: tuple[str, ...], kinds: dict[str, int]) -> None:
    before = counted()
    await world.switch.ofctl(*harm)
    await world.until_flows(right)
    await world.until_quiet()
    assert {kind: counted()[kind] - before[kind] for kind in KINDS} == dict.fromkeys(KINDS, 0) | kinds
    assert world.ready(world.chains, "chain") == "True"


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        (("del-port", "br-sfc", "p0"), "port-deleted"),
        (("remove", "interface", "p0", "external_ids", "dpf-id"), "port-altered"),
        (("set", "interface", "p0", "external_ids:dpf-id=somebody/else"), "port-altered"),
        (("clear", "port", "p0", "external_ids"), "port-altered"),
        (("set", "port", "p0", "external_ids:dpf-type=vf"), "port-altered"),
        (("set", "interface", "p0", "mtu_request=1400"), "port-altered"),
    ],
)
async def test_harm_to_ports_is_undone_counted_and_told(world: World, right: list[str], harm: tuple[str, ...], kind: str) -> None:
    marks = await world.marks("p0")
    before, numbers = counted(), await world.numbers()
    await world.switch.vsctl(*harm)
    await world.until_flows(right)
    await until_told(world, "p0")
    assert await world.marks("p0") == marks
    assert await world.numbers() == numbers
    assert {kind: counted()[kind] - before[kind] for kind in KINDS} == dict.fromkeys(KINDS, 0) | {kind: 1}
    assert await told(world, "p0") == [("Repaired", 1)]


async def test_harm_to_either_end_of_a_patch_is_undone(world: World, right: list[str]) -> None:
    await world.switch.vsctl("add-br", "br-x", "--", "set", "bridge", "br-x", "datapath_type=netdev")
    await world.add("link", "patch", peerBridge="br-x", peerPatchName="mine", peerExternalIDs={"who": "x"})
    await world.until(lambda: world.ready(world.interfaces, "link") == "True", "ready")
    ends = "p_brsfc_to_mine", "mine"
    whole = [await world.marks(end) for end in ends]
    for harm in (
        ("del-port", "mine"),
        ("del-port", "p_brsfc_to_mine"),
        ("set", "interface", "mine", "options:peer=other"),
        ("remove", "interface", "mine", "external_ids", "who"),
        ("clear", "port", "mine", "external_ids"),
    ):
        await world.switch.vsctl(*harm)

        async def mended() -> bool:
            return [await world.marks(end) for end in ends] == whole

        await world.until_so(mended, f"mended after {harm}")
    assert ("Repaired", 1) in await told(world, "link")


async def test_repairs_of_a_chain_are_told_once(world: World, right: list[str]) -> None:
    for _ in range(5):
        await world.switch.ofctl("del-flows", "table=0,in_port=p0")
        await world.until_flows(right)
    await until_told(world, "chain")
    await world.until_quiet()
    assert await told(world, "chain") == [("Repaired", 1)]


async def test_what_is_not_ours_stays_where_it_is(
    world: World, agent: asyncio.Task[None], start_agent: Callable[[], asyncio.Task[None]], right: list[str]
) -> None:
    """Flows in any table, learned ones too, ports, groups and meters: we have none of the last two, so all of them are others'."""
    await world.switch.vsctl("add-port", "br-sfc", "theirs", "--", "set", "interface", "theirs", "external_ids:dpf-idea=x")
    groups = "group_id=7,type=all,bucket=output:1"
    await world.switch.ofctl("add-group", groups)
    await world.switch.ofctl("add-meter", "meter=3,kbps,band=type=drop,rate=1000")
    for table in (0, 1, 2, 3, 4, 200):
        await world.switch.ofctl("add-flow", f"cookie=0x{table + 1:x},table={table},priority=7,in_port=99,actions=group:7")
    await world.switch.ofctl(
        "add-flow", "cookie=0x77,table=5,priority=8,in_port=98,actions=learn(table=6,NXM_OF_IN_PORT[],output:NXM_OF_IN_PORT[])"
    )
    theirs = await world.foreign()
    before = counted()
    await world.until_quiet()
    assert counted() == before, "what others have was taken for harm"
    await world.switch.ofctl("mod-group", groups.replace("output:1", "output:2"))
    await world.switch.ofctl("mod-meter", "meter=3,kbps,band=type=drop,rate=2000")
    await world.switch.ofctl("del-flows", "table=0,in_port=p0")
    await world.until_flows(right)
    await world.client.delete(SERVICE_CHAIN, ObjectKey(world.namespace, "chain"))
    await world.until(lambda: len(world.chains) == 0, "gone")
    await world.add_chain("chain", ("p0", "p1", "p2"))
    await world.until_flows(right)
    agent.cancel()
    await asyncio.wait([agent])
    start_agent()
    await world.until_quiet()
    assert await world.foreign() == theirs
    assert "theirs" in await world.switch.vsctl("list-ports", "br-sfc")
    assert "bucket=actions=output:2" in await world.switch.ofctl("dump-groups")
    assert "rate=2000" in await world.switch.ofctl("dump-meters")


@pytest.mark.parametrize("together", [True, False])
async def test_bridge_that_is_removed_and_added_has_everything_again(world: World, right: list[str], together: bool) -> None:
    addition = ("add-br", "br-sfc", "--", "set", "bridge", "br-sfc", "datapath_type=netdev", "fail_mode=secure")
    numbers, before = await world.numbers(), counted()
    if together:
        await world.switch.vsctl("del-br", "br-sfc", "--", *addition)
    else:
        await world.switch.vsctl("del-br", "br-sfc")
        await world.until(lambda: "bridge br-sfc does not exist" in world.message(world.chains, "chain"), "told")
        await world.until(lambda: {world.ready(world.interfaces, name) for name in ("p0", "p1", "p2")} == {"False"}, "told of each")
        await world.switch.vsctl(*addition)
    await world.until_flows(right)
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready again")
    assert await world.numbers() == numbers
    assert counted()["port-deleted"] - before["port-deleted"] == 3
    await world.until(lambda: world.ready(world.interfaces, "p1") == "True", "its interfaces too")


@pytest.fixture
async def harmful() -> AsyncIterator[Callable[[Callable[[], object]], asyncio.Task[None]]]:
    """Return `harmful(action)`: do it again and again until the task is cancelled, or the test ends."""
    tasks: list[asyncio.Task[None]] = []

    def begin(action: Callable[[], object]) -> asyncio.Task[None]:
        async def again() -> None:
            while True:
                await action()  # type: ignore[misc]  # every action of the tests is a coroutine function

        tasks.append(asyncio.ensure_future(again()))
        return tasks[-1]

    yield begin
    for task in tasks:
        task.cancel()


@pytest.mark.parametrize("about", ["flows", "ports"])
async def test_fight_is_slowed_and_told_the_same_as_long_as_it_lasts(
    world: World, right: list[str], harmful: Callable[..., asyncio.Task[None]], about: str
) -> None:
    words = "somebody else keeps changing the flows or ports of dpuchain on this node"
    action = {
        "flows": lambda: world.switch.ofctl("del-flows", "table=0"),
        "ports": lambda: world.switch.vsctl("--if-exists", "del-port", "br-sfc", "p0"),
    }
    writer = harmful(action[about])
    objects: list[tuple[Cache[Any], str]] = [(world.chains, "chain"), *([(world.interfaces, "p0")] if about == "ports" else [])]
    await world.until(lambda: all(words in world.message(cache, name) for cache, name in objects), "told")
    await asyncio.sleep(1)  # what was said of it before has been written
    before, events = counted(), [await told(world, name) for name in ("chain", "p0")]
    said: set[tuple[str, str | None, str]] = set()
    for cache, name in objects:
        cache.subscribe(lambda _, cache=cache, name=name: said.add((name, world.ready(cache, name), world.message(cache, name))))  # type: ignore[misc]
    await asyncio.sleep(4)
    assert len(said) == len(objects), f"what is said changes: {said}"
    assert {ready for _, ready, _ in said} == {"False"}
    kind = {"flows": "flow-deleted", "ports": "port-deleted"}[about]
    occasions = (counted()[kind] - before[kind]) / {"flows": 3, "ports": 1}[about]
    assert 2 <= occasions <= 9, f"{occasions} repairs in 4 s"
    assert [await told(world, name) for name in ("chain", "p0")] == events, "a fight is told again and again"
    writer.cancel()
    await world.until(lambda: all(world.ready(cache, name) == "True" for cache, name in objects), "ready again", 25)
    await world.until_flows(right)
    for name in ("chain", "p0"):
        assert [count for reason, count in await told(world, name) if reason == "Repaired"] in ([], [1])
