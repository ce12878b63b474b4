"""The largest chain that the API allows: 50 switches of 50 ports."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from dpuchain.api.meta import ObjectKey
from dpuchain.flows.compile import ChainSwitches, compile_switches
from dpuchain.flows.diff import diff
from dpuchain.flows.model import FlowState
from dpuchain.lab.openvswitch import OpenVSwitch
from dpuchain.ovs.openflow import OpenFlow

SWITCHES, PORTS = 50, 50
RUNS = 10


async def measure() -> tuple[list[float], list[float]]:
    """Seconds in which its flows are compiled, and those in which they are installed on an empty bridge, each time."""
    compiled, installed = [], []
    with tempfile.TemporaryDirectory(prefix="dpuchain-bench-") as directory:
        switch = OpenVSwitch("bench", Path(directory), dummy=True)
        await switch.start()
        openflow = OpenFlow(switch.management)
        running = asyncio.ensure_future(openflow.run())
        await openflow.synced()
        for _ in range(RUNS):
            began = time.perf_counter()
            wanted = compile_switches([_chain()])
            compiled.append(time.perf_counter() - began)
            began = time.perf_counter()
            await openflow.apply(diff(FlowState(), wanted))
            installed.append(time.perf_counter() - began)
            if await openflow.read_state() != wanted:
                raise RuntimeError("the bridge does not have the flows that it confirmed")
            await openflow.apply(diff(wanted, FlowState()))
        running.cancel()
        await switch.stop()
    return compiled, installed


def _chain() -> ChainSwitches:
    ports = ([1 + PORTS * switch + port for port in range(PORTS)] for switch in range(SWITCHES))
    return ChainSwitches.of_ports(ObjectKey("default", "largest"), ports)
