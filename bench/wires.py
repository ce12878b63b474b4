"""Stations around a switch of the bench's own: no rack, nothing else that runs on it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import netns

from dpuchain.api.meta import ObjectKey
from dpuchain.flows.compile import ChainSwitches, compile_switches
from dpuchain.flows.diff import diff
from dpuchain.lab.network import inside, ip
from dpuchain.lab.openvswitch import OpenVSwitch
from dpuchain.lab.process import run
from dpuchain.lab.traffic import BODY, ETHERTYPE, HEADER, MARK, SO_RCVBUFFORCE, End, frame
from dpuchain.ovs.openflow import OpenFlow

SWITCH = "dpuchain-bench"
PORT = "port"
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
"""linux/if_packet.h"""


@dataclass(frozen=True)
class Wires:
    """An Open vSwitch on the userspace datapath, and what is behind its ports 1, 2, ...: a device in a namespace of its own."""

    switch: OpenVSwitch
    openflow: OpenFlow
    ends: tuple[End, ...]

    async def connect(self, *ports: int) -> None:
        """Have the flows of a chain with one switch of these ports, as an agent makes them, in the place of any before."""
        wanted = compile_switches([ChainSwitches.of_ports(ObjectKey("default", "bench"), [ports])])
        await self.openflow.apply(diff(await self.openflow.read_state(), wanted))


def address(number: int) -> str:
    """The address of the station at a port."""
    return f"198.51.100.{number}"


@contextlib.asynccontextmanager
async def wires(count: int, *, dpdk: bool = False) -> AsyncIterator[Wires]:
    """Make all of it, and remove it in the end. With `dpdk` the ports are DPDK's, so forwarding has a thread of its own."""
    ends = tuple(End(f"{SWITCH}-{number}", "eth0") for number in range(1, count + 1))
    namespaces = (SWITCH, *(end.namespace for end in ends))
    with tempfile.TemporaryDirectory(prefix="dpuchain-bench-") as directory:
        switch = OpenVSwitch("bench", Path(directory), namespace=SWITCH, dpdk=dpdk)
        try:
            for namespace in namespaces:
                await run("ip", "netns", "add", namespace)
                await ip("link set lo up", namespace=namespace)
            await switch.start()
            for number, end in enumerate(ends, 1):
                await _attach(switch, number, end, dpdk=dpdk)
            openflow = OpenFlow(switch.management)
            async with _running(openflow):
                yield Wires(switch, openflow, ends)
        finally:
            await switch.stop()
            for namespace in namespaces:
                await run("ip", "netns", "del", namespace)


@contextlib.asynccontextmanager
async def _running(openflow: OpenFlow) -> AsyncIterator[None]:
    task = asyncio.ensure_future(openflow.run())
    try:
        await openflow.synced()
        yield
    finally:
        task.cancel()


async def _attach(switch: OpenVSwitch, number: int, end: End, *, dpdk: bool) -> None:
    near = f"{PORT}{number}"
    await ip(
        f"link add {near} type veth peer name {end.interface} netns {end.namespace}",
        f"link set {near} addrgenmode none up",
        namespace=SWITCH,
    )
    await ip(
        f"link set {end.interface} addrgenmode none up", f"address add {address(number)}/24 dev {end.interface}", namespace=end.namespace
    )
    for namespace, device in ((SWITCH, near), (end.namespace, end.interface)):
        await inside(namespace, "ethtool", "-K", device, "tx", "off")  # nobody else makes the checksums
    kind = ["type=dpdk", f"options:dpdk-devargs=net_af_packet{number},iface={near}"] if dpdk else []
    await switch.vsctl("add-port", "br-sfc", near, "--", "set", "interface", near, f"ofport_request={number}", *kind)


class Station:
    """A socket on the device of an end, for frames of the lab's streams, opened in that namespace from outside."""

    def __init__(self, end: End) -> None:
        with ThreadPoolExecutor(1) as thread:  # a thread has the namespace that it entered; this one ends
            self._socket = thread.submit(_opened, end).result()

    def __enter__(self) -> Station:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, target: bytes, source: bytes, number: int) -> None:
        """Send one frame of stream 0."""
        self._socket.send(frame(target, source, 0, number))

    def heard(self) -> list[tuple[bytes, int]]:
        """Source and stream of each frame that has come since this was last asked."""
        found: list[tuple[bytes, int]] = []
        while True:
            try:
                data = self._socket.recv(2048)
            except BlockingIOError:
                return found
            mark, stream, _ = BODY.unpack_from(data, HEADER.size)
            if mark == MARK:
                found.append((HEADER.unpack_from(data)[1], stream))


def _opened(end: End) -> socket.socket:
    netns.setns(end.namespace)
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    opened.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 23)
    opened.bind((end.interface, ETHERTYPE))
    opened.setblocking(False)
    return opened
