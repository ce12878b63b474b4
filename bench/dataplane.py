"""What the switch does while things happen to it: repairs, bursts, chains that are made again, restarts."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator

from bench.flow_monitor import FlowMonitor
from bench.objects import NODE, add_interfaces, add_pair, attach, chain
from bench.rack import NAMESPACE, Rack
from dpuchain.api.kinds import SERVICE_CHAIN
from dpuchain.api.meta import ObjectKey
from dpuchain.api.names import SERVICE_CHAIN_FINALIZER
from dpuchain.kube.cache import Cache
from dpuchain.kube.client import Client
from dpuchain.lab.traffic import Stream
from dpuchain.ovs.openflow import OpenFlow

CHAINS = 40
BURSTS = 5
REPAIRS = 50
RECREATIONS = 10
RESTARTS = 5
PATIENCE = 30.0


async def repairs(rack: Rack, monitor: FlowMonitor, port: int) -> list[float]:
    """Seconds from the moment at which a flow of ours was deleted by somebody else until it is back, each time."""
    found = []
    for _ in range(REPAIRS):
        # The agent slows down for who deletes ten times in ten seconds; a second between two is an accident.
        await asyncio.sleep(1.1)
        deletion = asyncio.to_thread(rack.at, NODE, "ovs-ofctl", "-O", "OpenFlow14", "del-flows", "br-sfc", f"table=0,in_port={port}")
        request = asyncio.ensure_future(deletion)
        gone = await monitor.until("DELETED", port, 1)
        found.append(await monitor.until("ADDED", port, 1) - gone)
        await request
    return found


async def burst(rack: Rack, cluster: Client, monitor: FlowMonitor) -> list[float]:
    """Seconds from the first of 40 chains of two ports, created at once, to the last of their flows, each time. The last ones stay."""
    pairs = [(f"b{number}a", f"b{number}b") for number in range(CHAINS)]
    for pair in pairs:
        add_pair(rack, *pair)
    await add_interfaces(rack, cluster, tuple(name for pair in pairs for name in pair))
    found: list[float] = []
    while len(found) < BURSTS:
        if found:
            removals = asyncio.ensure_future(asyncio.gather(*(cluster.delete(SERVICE_CHAIN, _key(pair)) for pair in pairs)))
            await monitor.count("DELETED", 2 * CHAINS)
            await removals
        began = time.perf_counter()
        creations = asyncio.ensure_future(asyncio.gather(*(cluster.create(SERVICE_CHAIN, chain(pair)) for pair in pairs)))
        found.append(await monitor.count("ADDED", 2 * CHAINS) - began)
        await creations
        rack.kubectl("cluster-1", "wait", "--for=condition=Ready", *(f"servicechain/{pair[0]}" for pair in pairs), "--timeout=60s")
    return found


def _key(ports: tuple[str, ...]) -> ObjectKey:
    return ObjectKey(NAMESPACE, ports[0])


async def recreated(rack: Rack, cluster: Client) -> tuple[list[int], list[int]]:
    """Frames lost, of 4,000 a second in each direction, when a chain is deleted and made again at once, each time.

    First of one without a finalizer, which is made again as soon as its deletion is answered; then of one as the DPU controller makes them,
    which is made again as soon as a watch tells that it is gone.
    """
    ports = ("r0", "r1")
    ends = await asyncio.to_thread(attach, rack, ports)
    await add_interfaces(rack, cluster, ports)
    found = []
    for number, finalizers in enumerate(((), (SERVICE_CHAIN_FINALIZER,)), 1):
        item = chain(ports, finalizers=finalizers)
        async with _gone(cluster, _key(ports)) as gone:
            await cluster.create(SERVICE_CHAIN, item)
            lost = []
            for _ in range(RECREATIONS):
                rack.kubectl("cluster-1", "wait", "--for=condition=Ready", f"servicechain/{ports[0]}", "--timeout=60s")
                gone.clear()
                with Stream(ends[ports[0]], ends[ports[1]], number=number) as stream:
                    await asyncio.sleep(0.3)
                    await cluster.delete(SERVICE_CHAIN, _key(ports))
                    if finalizers:
                        await asyncio.wait_for(gone.wait(), PATIENCE)
                    await cluster.create(SERVICE_CHAIN, item)
                    await asyncio.sleep(0.7)
                assert stream.outcome is not None
                lost.append(stream.outcome.lost)
            gone.clear()
            await cluster.delete(SERVICE_CHAIN, _key(ports))
            await asyncio.wait_for(gone.wait(), PATIENCE)
        found.append(lost)
    plain, finalized = found
    return plain, finalized


@contextlib.asynccontextmanager
async def _gone(cluster: Client, key: ObjectKey) -> AsyncIterator[asyncio.Event]:
    """An event that a watch sets when this chain is deleted."""
    event = asyncio.Event()
    chains = Cache(cluster, SERVICE_CHAIN, namespace=key.namespace)
    chains.subscribe(lambda change: event.set() if change.new is None and change.key == key else None)
    watching = asyncio.ensure_future(chains.run())
    try:
        await chains.synced()
        yield event
    finally:
        watching.cancel()


async def restarts(rack: Rack) -> list[float]:
    """Seconds from the first answer of a killed and started ovs-vswitchd until all flows are back, the API server being away, each time."""
    openflow = OpenFlow(rack.directory / NODE / "br-sfc.mgmt")
    running = asyncio.ensure_future(openflow.run())
    await openflow.synced()
    found = [await _restart(rack, openflow) for _ in range(RESTARTS)]
    running.cancel()
    return found


async def _restart(rack: Rack, openflow: OpenFlow) -> float:
    wanted = (await openflow.read_state()).flows
    revive = [sys.executable, "-m", "dpuchain", "lab", "up", f"--directory={rack.directory}", "--no-example"]
    api = str(rack.pid("kube-apiserver --etcd-servers=unix://{}/cluster-1/"))
    lost, changed = asyncio.Event(), asyncio.Event()
    openflow.subscribe(lost.set)
    openflow.watch(lambda _: changed.set())
    rack.at("fabric", "kill", "-STOP", api)
    try:
        rack.at(NODE, "kill", "-9", (rack.directory / NODE / "ovs-vswitchd.pid").read_text().strip())
        await asyncio.wait_for(lost.wait(), PATIENCE)
        reviving = asyncio.ensure_future(asyncio.create_subprocess_exec(*revive, stdout=subprocess.DEVNULL))
        await asyncio.wait_for(openflow.synced(), PATIENCE)
        answered = time.perf_counter()
        while (await openflow.read_state()).flows != wanted:
            await asyncio.wait_for(changed.wait(), PATIENCE)
            changed.clear()
        ended = time.perf_counter()
    finally:
        rack.at("fabric", "kill", "-CONT", api)
    if await (await reviving).wait():
        raise RuntimeError("the rack is not whole again")
    return ended - answered
