"""`python -m bench`: measure everything, print the table, leave the JSON. Ends with status 1 if a goal is missed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bench import chains, cni, conflicts, dataplane, figures, labels
from bench.figures import Figure, percentile
from bench.fleet import run as fleet
from bench.fleet.full import Size
from bench.flow_monitor import watching
from bench.rack import Rack, raised
from dpuchain.kube.client import Client

DIRECTORY = Path(".bench") / "rack"
SMALL_FLEET = fleet.Wanted(100, Size(3, 3), ("chain", "bytes", "full"))


def main() -> None:
    """Run it all on one rack."""
    with raised(DIRECTORY) as rack:
        found = [Figure("make lab, control plane cached", rack.seconds, "s", 60), *measure(rack)]
    found += asyncio.run(labels.measure())
    asyncio.run(fleet.measure(SMALL_FLEET, found.extend))
    figures.write(found)
    sys.exit(not all(figure.good for figure in found))


def measure(rack: Rack) -> list[Figure]:
    """All figures that a running rack gives."""
    added = cni.add(rack)
    found = asyncio.run(_on_flows(rack))
    told = asyncio.run(conflicts.told(rack))
    share, requests = dataplane.rest(rack)
    return [
        *found,
        Figure("conflict → message on DPUServiceChain, p50", percentile(told, 50), "ms", 300, len(told)),
        Figure("conflict → message on DPUServiceChain, p99", percentile(told, 99), "ms", 300, len(told)),
        Figure("CNI ADD, ours, p50", percentile(added, 50), "ms", 60, len(added)),
        Figure("CNI ADD, ours, p99", percentile(added, 99), "ms", 60, len(added)),
        Figure(f"agent at rest, {dataplane.CHAINS} chains", share, "% of a core", 0.2),
        Figure(f"agent at rest, {dataplane.CHAINS} chains", requests, "requests", 0),
        Figure("ovs-vswitchd answers → flows", dataplane.restart(rack) * 1000, "ms", 150),
        Figure("agent resident memory", rack.agent_resident_mebibytes("dpu-1"), "MB", 80),
    ]


async def _on_flows(rack: Rack) -> list[Figure]:
    cluster = Client.from_kubeconfig(rack.kubeconfig("cluster-1"), user_agent="bench")
    host = Client.from_kubeconfig(rack.kubeconfig("host"), user_agent="bench")
    async with cluster, host, watching(rack.directory / "dpu-1") as monitor:
        port = await chains.prepare(rack, cluster)
        created = await chains.service_chain(cluster, monitor, port)
        applied = await chains.dpu_service_chain(rack, host, monitor, port)
        lost = await dataplane.recreated(rack, cluster)
        together = await dataplane.burst(rack, cluster, monitor)
        repaired = await dataplane.repairs(rack, monitor, int(rack.at(dataplane.NODE, "ovs-vsctl", "get", "interface", "b0a", "ofport")))
    return [
        Figure("ServiceChain created → flows, p50", percentile(created, 50), "ms", 10, len(created)),
        Figure("ServiceChain created → flows, p99", percentile(created, 99), "ms", 25, len(created)),
        Figure("DPUServiceChain applied → flows, p50", percentile(applied, 50), "ms", 150, len(applied)),
        Figure("DPUServiceChain applied → flows, p99", percentile(applied, 99), "ms", 150, len(applied)),
        Figure(f"{dataplane.CHAINS} chains created at once → flows", together * 1000, "ms", 300),
        Figure("flow deleted by another → back, p50", percentile(repaired, 50), "ms", 50, len(repaired)),
        Figure("flow deleted by another → back, p99", percentile(repaired, 99), "ms", 50, len(repaired)),
        Figure("chain deleted and made again, most frames lost", max(lost), "frames", 40, len(lost)),
    ]


if __name__ == "__main__":
    main()
