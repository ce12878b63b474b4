"""What the switch does while things happen to it: repairs, bursts, rest, restarts."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.flow_monitor import FlowMonitor
from bench.rack import NAMESPACE, Rack
from dpuchain.api.chain import Port, ServiceChain, ServiceChainSpec, ServiceInterfaceReference, Switch
from dpuchain.api.interface import Physical, ServiceInterface, ServiceInterfaceSpec
from dpuchain.api.kinds import SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.api.meta import ObjectKey, ObjectMeta
from dpuchain.kube.client import Client
from dpuchain.lab.layout import Layout
from dpuchain.lab.traffic import End, Stream

NODE = "dpu-1"
CHAINS = 40
REPAIRS = 50
REST_SECONDS = 20.0
RECREATIONS = 5


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


async def burst(rack: Rack, cluster: Client, monitor: FlowMonitor) -> float:
    """Seconds from the first of 40 chains of two ports, created at once, to the last of their flows."""
    devices = [(f"b{number}a", f"b{number}b") for number in range(CHAINS)]
    for first, second in devices:
        rack.at(NODE, "ip", "link", "add", first, "type", "veth", "peer", "name", second)
        rack.at(NODE, "ip", "link", "set", first, "up")
        rack.at(NODE, "ip", "link", "set", second, "up")
    names = [name for pair in devices for name in pair]
    await asyncio.gather(*(cluster.create(SERVICE_INTERFACE, _interface(name)) for name in names))
    rack.kubectl("cluster-1", "wait", "--for=condition=Ready", *(f"serviceinterface/{name}" for name in names), "--timeout=60s")
    began = time.perf_counter()
    creations = asyncio.ensure_future(asyncio.gather(*(cluster.create(SERVICE_CHAIN, _chain(*pair)) for pair in devices)))
    ended = await monitor.count("ADDED", 2 * CHAINS)
    await creations
    rack.kubectl("cluster-1", "wait", "--for=condition=Ready", *(f"servicechain/{pair[0]}" for pair in devices), "--timeout=60s")
    return ended - began


def _interface(name: str) -> ServiceInterface:
    spec = ServiceInterfaceSpec(node=NODE, interface_type="physical", physical=Physical(interface_name=name))
    return ServiceInterface(metadata=ObjectMeta(name=name, namespace=NAMESPACE, labels={"bench": name}), spec=spec)


def _chain(first: str, second: str) -> ServiceChain:
    ports = tuple(Port(service_interface=ServiceInterfaceReference(match_labels={"bench": name})) for name in (first, second))
    spec = ServiceChainSpec(node=NODE, switches=(Switch(ports=ports),))
    return ServiceChain(metadata=ObjectMeta(name=first, namespace=NAMESPACE), spec=spec)


def rest(rack: Rack) -> tuple[float, int]:
    """What an agent with all of these chains costs while nothing happens: percent of a core, and requests to its kinds but watches."""
    ticks, requests = _ticks(rack), _requests(rack)
    time.sleep(REST_SECONDS)
    seconds = (_ticks(rack) - ticks) / os.sysconf("SC_CLK_TCK")
    return 100 * seconds / REST_SECONDS, _requests(rack) - requests


def _ticks(rack: Rack) -> int:
    fields = Path(f"/proc/{rack.agent_pid(NODE)}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _requests(rack: Rack) -> int:
    """Requests for ServiceChains and ServiceInterfaces so far, whoever made them, watches excepted."""
    metrics = rack.kubectl("cluster-1", "get", "--raw", "/metrics")
    pattern = re.compile(
        r'^apiserver_request_total\{(?=[^}]*resource="service(?:chains|interfaces)")(?![^}]*verb="WATCH")[^}]*\} (\S+)$', re.M
    )
    return sum(int(float(value)) for value in pattern.findall(metrics))


def restart(rack: Rack) -> float:
    """Seconds from the first answer of a killed and started ovs-vswitchd until all flows are back."""
    wanted = len(_flows(rack) or ())
    pid = (rack.directory / NODE / "ovs-vswitchd.pid").read_text().strip()
    rack.at(NODE, "kill", "-9", pid)
    revive = [sys.executable, "-m", "dpuchain", "lab", "up", f"--directory={rack.directory}", "--no-example"]
    with ThreadPoolExecutor() as pool:
        reviving = pool.submit(subprocess.run, revive, check=True, capture_output=True)
        while _flows(rack) is None:
            time.sleep(0.002)
        answered = time.perf_counter()
        while len(_flows(rack) or ()) < wanted:
            time.sleep(0.002)
        ended = time.perf_counter()
        reviving.result()
    return ended - answered


def _flows(rack: Rack) -> list[str] | None:
    """The flows of ours on the bridge; None if the switch does not answer."""
    command = [str(rack.directory / "bin" / NODE), "ovs-ofctl", "-O", "OpenFlow14", "dump-flows", "br-sfc"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        return None
    return [line for line in done.stdout.splitlines() if line.lstrip().startswith("cookie=0xd9c11")]


async def recreated(rack: Rack, cluster: Client) -> list[int]:
    """Frames lost of 4,000 a second in each direction when a chain is deleted and made again at once, each time."""
    first, second = "r0", "r1"
    names = Layout.at(rack.directory).identity
    namespace = names.namespace("host-1")
    await asyncio.to_thread(_attach, rack, namespace, (first, second))
    await asyncio.gather(*(cluster.create(SERVICE_INTERFACE, _interface(name)) for name in (first, second)))
    rack.kubectl("cluster-1", "wait", "--for=condition=Ready", f"serviceinterface/{first}", f"serviceinterface/{second}", "--timeout=60s")
    await cluster.create(SERVICE_CHAIN, _chain(first, second))
    rack.kubectl("cluster-1", "wait", "--for=condition=Ready", f"servicechain/{first}", "--timeout=60s")
    lost = []
    for number in range(RECREATIONS):
        with Stream(End(namespace, f"{first}h"), End(namespace, f"{second}h"), number=number + 1) as stream:
            await asyncio.sleep(0.3)
            await cluster.delete(SERVICE_CHAIN, ObjectKey(NAMESPACE, first))
            await cluster.create(SERVICE_CHAIN, _chain(first, second))
            await asyncio.sleep(0.7)
        assert stream.outcome is not None
        lost.append(stream.outcome.lost)
    return lost


def _attach(rack: Rack, namespace: str, devices: tuple[str, ...]) -> None:
    """Give a DPU further ports whose other ends are in a host's namespace."""
    for device in devices:
        rack.at(NODE, "ip", "link", "add", device, "type", "veth", "peer", "name", f"{device}h", "netns", namespace)
        rack.at(NODE, "ip", "link", "set", device, "up")
        rack.at("host-1", "ip", "link", "set", f"{device}h", "up")
