"""One chain on every node: made, changed and deleted, beside what a bare client does in the same fleet."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import linear_regression, median
from typing import TypeAlias

from bench.clusters import Requests, writes
from bench.figures import Figure
from bench.fleet import objects
from bench.fleet.ceiling import CONCURRENCIES, BareClient, Rates, chain_rates, creation
from bench.fleet.plant import Plant
from dpuchain.api.kinds import SERVICE_CHAIN
from dpuchain.api.meta import LabelSelector

NAME = "one"
RUNS, PAIRS = 3, 5
"""How often a fleet of each size is measured; how often ours and the bare client take turns in the whole one."""
AT_ONCE = 32
SMALLEST = 100
BYSTANDERS = 300
TRIED = 300
"""Nodes with which it is found out how many requests at once are best."""
Say: TypeAlias = Callable[[str], None]
Act: TypeAlias = Callable[[], Awaitable[float]]
Holds: TypeAlias = Callable[[], bool]


STEPS = ("created", "changed", "deleted")


@dataclass(frozen=True)
class Step:
    """Seconds until the last node's object was made, changed or gone, and the writes to these objects in all, their status aside."""

    seconds: float
    requests: int


async def life(plant: Plant) -> dict[str, Step]:
    """Make a chain on every node, change it, and delete it, each time waiting until nothing happens any more."""
    count, tally = len(plant.nodes), plant.tallies.of[NAME]
    acts: dict[str, tuple[Act, Holds, Holds]] = {
        "created": (lambda: plant.apply(objects.chain(NAME, objects.WIRE)), lambda: tally.present == count, lambda: tally.ready == count),
        "changed": (lambda: plant.apply(objects.chain(NAME, objects.HUB)), lambda: tally.changed == count, lambda: tally.ready == count),
        "deleted": (lambda: plant.delete(objects.chain(NAME)), lambda: tally.present == 0, lambda: True),
    }
    found = {}
    for what, (act, done, settled) in acts.items():
        before = await plant.requests()
        await plant.collect()
        began = await act()
        seconds = await plant.tallies.until(done) - began
        await plant.tallies.until(settled)
        await plant.quiet(1)
        found[what] = Step(seconds, _to_children(await plant.requests() - before))
    return found


def _to_children(counted: Requests) -> int:
    """Writes to ServiceChains themselves: their status is the agents'."""
    chains = {request: count for request, count in counted.items() if request.resource == SERVICE_CHAIN.plural and not request.subresource}
    return writes(Requests(chains))


async def started(plant: Plant) -> None:
    """Start the controller, and return when it does its work."""
    plant.start("dpu")
    probe = objects.chain("probe", objects.WIRE, nodeSelector={"matchLabels": {"kubernetes.io/hostname": plant.nodes[0]}})
    await plant.apply(probe)
    await plant.tallies.until(lambda: plant.tallies.of["probe"].present == 1)
    await plant.delete(probe)
    await plant.tallies.until(lambda: plant.tallies.of["probe"].present == 0)
    await plant.quiet(1)


async def fastest(plant: Plant, say: Say) -> int:
    """The concurrency with which a bare client is through soonest."""
    taken = {}
    for at_once in CONCURRENCIES:
        rates = await _bare(plant, at_once, plant.nodes[:TRIED], say)
        taken[at_once] = sum(1 / getattr(rates, what) for what in STEPS)
    return min(taken, key=taken.__getitem__)


async def one_chain(plant: Plant, say: Say) -> list[Figure]:
    """Rates over the ceiling's. Bare client and controller take turns, so that what else the machine does is shared between them."""
    count = len(plant.nodes)
    await plant.stop("dpu")
    at_once = await fastest(plant, say)
    posted = (await chain_rates(plant, BareClient(plant), at_once, plant.nodes, creation)).created
    bare, ours = [], []
    for _ in range(PAIRS):
        bare.append(await _bare(plant, at_once, plant.nodes, say))
        await started(plant)
        before = seconds(plant)
        ours.append(await life(plant))
        each = ", ".join(f"{count / step.seconds:.0f} {what}" for what, step in ours[-1].items())
        say(f"dpuchain: {each} a second; processor seconds: {spent(before, plant)}")
        await plant.stop("dpu")
    await started(plant)
    found = []
    for what in STEPS:
        rates, most = [count / life_[what].seconds for life_ in ours], [getattr(rates, what) for rates in bare]
        ratio = median(rate / ceiling for rate, ceiling in zip(rates, most, strict=True))
        found += [
            Figure(f"1 chain x {count} nodes {what}: rate / the ceiling's", ratio, "", 0.9, PAIRS, at_least=True),
            Figure(f"  objects {what}", median(rates), "/s", runs=PAIRS),
            Figure(f"  the ceiling: a bare client, {at_once} at once", median(most), "/s", runs=PAIRS),
            Figure("  writes to an object, its status aside", median(life_[what].requests for life_ in ours) / count, "", runs=PAIRS),
        ]
    return [*found, Figure("objects created by a bare client with POST, whose fields nobody can take back by applying", posted, "/s")]


async def _bare(plant: Plant, at_once: int, nodes: Sequence[str], say: Say) -> Rates:
    before = seconds(plant)
    rates = await chain_rates(plant, BareClient(plant), at_once, nodes)
    each = ", ".join(f"{getattr(rates, what):.0f} {what}" for what in STEPS)
    say(f"bare client, {at_once} at once: {each} a second; processor seconds: {spent(before, plant)}")
    return rates


async def growth(plant: Plant, say: Say, sizes: list[int]) -> list[Figure]:
    """The cost of a node as the fleet grows, to us and to a bare client; the fleet has the last of the sizes in the end.

    What grows for the bare client too is the API server's: it hands each change of an object to each watch of its kind, of which every
    node has one, and only then does each find that the change is of another node.
    """
    ours: list[tuple[int, float]] = []
    bare: list[tuple[int, float]] = []
    for size in sizes:
        if size > len(plant.nodes):
            await plant.grow(size)
        ours.append((size, median([(await life(plant))["created"].seconds for _ in range(RUNS)])))
        await plant.stop("dpu")
        bare.append((size, size / median([(await _bare(plant, AT_ONCE, plant.nodes, say)).created for _ in range(RUNS)])))
        await started(plant)
        say(f"{size} nodes: a chain is made in {ours[-1][1]:.2f} s, by a bare client in {bare[-1][1]:.2f} s")
    (cost, slope, start), (ceiling, bare_slope, _) = _line(ours), _line(bare)
    return [
        Figure(f"cost of a node, {sizes[-1]} nodes / {sizes[0]} nodes, over the bare client's", cost / ceiling, "", 1.2, RUNS),
        Figure("  without regard to the bare client", cost, "", runs=RUNS),
        *(Figure(f"  cost of a node, {size} nodes", seconds / size * 1000, "ms", runs=RUNS) for size, seconds in ours),
        *(Figure(f"  to a bare client, {size} nodes", seconds / size * 1000, "ms", runs=RUNS) for size, seconds in bare),
        Figure("  slope: each further node costs", slope * 1000, "ms", runs=RUNS * len(sizes)),
        Figure("  slope of the bare client", bare_slope * 1000, "ms", runs=RUNS * len(sizes)),
        Figure("  a fleet of no nodes costs, by the same line", start * 1000, "ms", runs=RUNS * len(sizes)),
    ]


def _line(found: Sequence[tuple[int, float]]) -> tuple[float, float, float]:
    """Of seconds by nodes: what a node costs in the last fleet over what it does in the first, and slope and start of the line."""
    slope, start = linear_regression(*zip(*found, strict=True))
    first, last = (seconds / size for size, seconds in (found[0], found[-1]))
    return last / first, slope, start


async def bystander(plant: Plant, say: Say) -> list[Figure]:
    """What an agent is told of while other nodes' objects change."""
    others, watched = plant.nodes[1 : 1 + BYSTANDERS], plant.nodes[0]
    label = {"bench/selected": "yes"}
    selector = {"nodeSelector": {"matchLabels": LabelSelector(match_labels=label).match_labels}}
    await plant.apply(objects.chain(NAME, objects.WIRE, **selector))
    tally = plant.tallies.of[NAME]
    received = [await _received(plant, watched)]
    for nodes, value, left in ((others, "yes", len(others)), (others, None, 0), ([watched], "yes", 1)):
        await plant.label(nodes, dict.fromkeys(label, value))
        await plant.tallies.until(lambda left=left: tally.present == tally.ready == left)  # type: ignore[misc]
        await plant.quiet(1)
        received.append(await _received(plant, watched))
    await plant.label([watched], dict.fromkeys(label))
    await plant.delete(objects.chain(NAME))
    await plant.tallies.until(lambda: tally.present == 0)
    told, own = received[2] - received[0], received[3] - received[2]
    say(f"one agent was told {told} bytes of {len(others)} other nodes' objects, and {own} of its own")
    if not own:
        raise RuntimeError(f"the agent of {watched} was told nothing of its own node's object: what is counted is not what it receives")
    return [Figure(f"bytes of objects that an agent receives while {len(others)} other nodes change", told, "B", 0)]


async def _received(plant: Plant, node: str) -> int:
    answers = await plant.ask_agents("received", node=node)
    return int(sum(answer["objects"] for answer in answers))


def spent(before: dict[str, float], plant: Plant) -> dict[str, float]:
    """Processor seconds of each process since `before`, which `seconds` gave."""
    return {name: round(used - before.get(name, 0.0), 2) for name, used in seconds(plant).items()}


def seconds(plant: Plant) -> dict[str, float]:
    """Processor seconds of each process so far."""
    return {name: usage.seconds for name, usage in plant.usages().items()} | {"bench": time.process_time()}
