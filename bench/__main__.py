"""`python -m bench`: measure everything, print the table, leave the JSON. Ends with status 1 if a goal is missed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import acknowledged, admission, chains, cni, conflicts, dataplane, figures, forwarding, hitless, image, labels, largest, rest
from bench.figures import Figure, percentile
from bench.fleet import run as fleet
from bench.fleet.full import Size
from bench.flow_monitor import watching
from bench.objects import NODE
from bench.rack import Rack, raised
from dpuchain.kube.client import Client

DIRECTORY = Path(".bench") / "rack"
SMALL_FLEET = fleet.Wanted(100, Size(3, 3), ("chain", "bytes", "full"))


def main() -> None:
    """Run it all: what needs no rack, what needs one, and what needs many nodes."""
    found = [*compiling(), *passing()]
    with raised(DIRECTORY) as rack:
        found += [Figure("make lab, control plane cached", rack.seconds, "s", 60), *control(rack), *switching(rack), *surviving(rack)]
    found += shipped()
    found += admission.figures()
    found += asyncio.run(labels.measure())
    asyncio.run(fleet.measure(SMALL_FLEET, found.extend))
    figures.write(found)
    sys.exit(not all(figure.good for figure in found))


def compiling() -> list[Figure]:
    """The figures of the largest chain."""
    compiled, installed = asyncio.run(largest.measure())
    return [_most("largest chain (50 switches of 50 ports) compiled", compiled, 150), _most("largest chain installed", installed, 250)]


def passing() -> list[Figure]:
    """The figures of frames on their way through a switch."""
    found = []
    for kind, ports in (("wire", 2), ("switch of three", 3)):
        throughput, frames = asyncio.run(forwarding.passed(ports))
        found += [
            Figure(f"{kind}: throughput", throughput.chain * 8 / 1e9, "Gbit/s", runs=forwarding.PAIRS),
            Figure(f"{kind}: throughput, of two hand-written flows'", 100 * throughput.share, "%", 99, forwarding.PAIRS, at_least=True),
            Figure(f"{kind}: frames a second", frames.chain, "", runs=forwarding.PAIRS),
            Figure(f"{kind}: frames a second, of two hand-written flows'", 100 * frames.share, "%", 99, forwarding.PAIRS, at_least=True),
        ]
    lost = asyncio.run(forwarding.without_database())
    found.append(Figure("ovsdb-server killed and started: frames lost", max(lost), "", 0, len(lost)))
    return [*found, _most("station moves → reached", asyncio.run(forwarding.moves()), 1000)]


def shipped() -> list[Figure]:
    """The figures of the image."""
    size, seconds = image.measure()
    return [
        Figure("image, uncompressed", size / 1e6, "MB", 300),
        *(Figure(f"image: {what}, at most", max(times) * 1000, "ms", runs=len(times)) for what, times in seconds.items()),
    ]


def control(rack: Rack) -> list[Figure]:
    """The figures of objects on their way to a switch and back."""
    added = cni.add(rack)
    created, applied = asyncio.run(_to_flows(rack))
    told = asyncio.run(conflicts.told(rack))
    return [
        *_percentiles("ServiceChain created → flows", created, 10, 25),
        *_percentiles("DPUServiceChain applied → flows", applied, 150, 150),
        *_percentiles("conflict → message on DPUServiceChain", told, 300, 300),
        *_percentiles("CNI ADD, ours", added, 60, 60),
    ]


async def _to_flows(rack: Rack) -> tuple[list[float], list[float]]:
    async with _client(rack, "cluster-1") as cluster, _client(rack, "host") as host, watching(rack.directory / NODE) as monitor:
        port = await chains.prepare(rack, cluster)
        return await chains.service_chain(cluster, monitor, port), await chains.dpu_service_chain(rack, host, monitor, port)


def switching(rack: Rack) -> list[Figure]:
    """The figures of what the agent does to a switch, and of what it costs to do nothing."""
    plain, finalized, together, repaired, through_port, through_switch = asyncio.run(_on_switch(rack))
    idle = rest.measure(rack)
    at_rest = f"agent at rest, {dataplane.CHAINS} chains"
    return [
        _most(f"{dataplane.CHAINS} chains created at once → flows", together, 300),
        *_percentiles("flow deleted by another → back", repaired, 50, 50),
        Figure("chain deleted and made again at once: frames lost", max(plain), "", 40, len(plain)),
        # No goal: two writes to the API server lie between (bench/README.md), which are more than what a whole wire may lose.
        Figure("chain deleted, seen to be gone, and made again: frames lost", max(finalized), "", runs=len(finalized)),
        Figure("port removed: frames after the acknowledgement", through_port, "", 0, acknowledged.REMOVALS),
        Figure("switch removed: frames after the acknowledgement", through_switch, "", 0, acknowledged.REMOVALS),
        Figure(at_rest, idle.percent_of_a_core, "% of a core", 0.2, rest.WINDOWS),
        Figure(at_rest, idle.requests, "requests", 0, rest.WINDOWS),
        Figure(at_rest, idle.resident_mebibytes, "MB", 80),
    ]


async def _on_switch(rack: Rack) -> tuple[list[int], list[int], list[float], list[float], int, int]:
    async with _client(rack, "cluster-1") as cluster, watching(rack.directory / NODE) as monitor:
        plain, finalized = await dataplane.recreated(rack, cluster)
        together = await dataplane.burst(rack, cluster, monitor)
        number = int(rack.at(NODE, "ovs-vsctl", "get", "interface", "b0a", "ofport"))
        repaired = await dataplane.repairs(rack, monitor, number)
        return plain, finalized, together, repaired, *await acknowledged.leaks(rack, cluster)


def surviving(rack: Rack) -> list[Figure]:
    """The figures of what happens while frames pass; it takes the chains away that were there before."""
    restarted = asyncio.run(dataplane.restarts(rack))
    lost = hitless.lost(rack)
    return [
        _most("ovs-vswitchd killed, answers again → flows, without the API", restarted, 150),
        *(Figure(f"{what}: frames lost", most, "", 0, hitless.RUNS) for what, most in lost.items()),
    ]


def _client(rack: Rack, cluster: str) -> Client:
    return Client.from_kubeconfig(rack.kubeconfig(cluster), user_agent="bench")


def _most(name: str, seconds: Sequence[float], limit: float) -> Figure:
    return Figure(f"{name}, at most", max(seconds) * 1000, "ms", limit, len(seconds))


def _percentiles(name: str, seconds: Sequence[float], half: float, nearly_all: float) -> list[Figure]:
    limits = ((50, half), (99, nearly_all))
    return [Figure(f"{name}, p{percent}", percentile(seconds, percent), "ms", limit, len(seconds)) for percent, limit in limits]


if __name__ == "__main__":
    main()
