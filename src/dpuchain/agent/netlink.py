"""The one door to the kernel's network: the pair of devices between a pod and the bridge.

Every function blocks for a few milliseconds and is to be called in a thread, unless it says that it need not; `LinkEvents` and `Aliases` do
not.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import os
import re
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2 import netns as namespaces
from pyroute2.netlink.exceptions import NetlinkError

SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM = 0x17
"""linux/ethtool.h: switch the sender's checksum offload."""
SETTLE_SECONDS = 0.1
RTMGRP_LINK = 0x1
"""linux/rtnetlink.h: the group of messages about devices."""
UP, LOWER_UP = 0x1, 0x10000
"""IFF_UP and IFF_LOWER_UP of linux/if.h."""


class KernelError(Exception):
    """The kernel refused, or a network namespace cannot be entered; the message names device, namespace and reason."""


@dataclass(frozen=True)
class Link:
    """A network device. `carrier` is whether its other end is up too."""

    name: str
    mac: str
    mtu: int
    up: bool
    carrier: bool


class LinkEvents:
    """Tells that a network device of this namespace came, went, or changed; not which one."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        self._socket.bind((0, RTMGRP_LINK))

    def __enter__(self) -> LinkEvents:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    async def next(self) -> None:
        """Return once something has changed since the last call, with a moment for what comes along with it; many changes are one."""
        loop = asyncio.get_running_loop()
        told = asyncio.Event()
        loop.add_reader(self._socket, told.set)
        try:
            await told.wait()
        finally:
            loop.remove_reader(self._socket)
        # A pod's pair of devices tells six times while it is made, which is when its CNI call is waited for.
        await asyncio.sleep(SETTLE_SECONDS)
        self.seen()

    def seen(self) -> bool:
        """Whether something has changed since the last call; the answer is there at once."""
        found = False
        while True:
            try:
                self._socket.recv(65536)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # events were lost, which is an event too
                    raise KernelError(f"hear of network devices: {error.strerror}") from error
            found = True


class Aliases:
    """The aliases of those devices of this namespace whose names match. A device is asked until it has one, which it then keeps."""

    def __init__(self, name: re.Pattern[str]) -> None:
        self._name = name
        self._known: dict[tuple[int, str], str] = {}
        self._events = LinkEvents()
        self._outdated = True

    async def read(self) -> dict[str, str]:
        """By the names of the devices that are there now; one without an alias is left out. KernelError if the kernel cannot be asked.

        It is, in a thread, only if it has told of a change since the last time: a thread costs more than all the rest of a pass. Of a new
        alias it tells if the device is up, as a pod's is when it gets its own; else when that comes up.
        """
        self._outdated = self._events.seen() or self._outdated
        if self._outdated:
            await asyncio.to_thread(self._ask)
            self._outdated = False
        return {name: alias for (_, name), alias in self._known.items()}

    def _ask(self) -> None:
        present = [device for device in socket.if_nameindex() if self._name.fullmatch(device[1])]
        self._known = {device: self._known[device] for device in present if device in self._known}
        if unknown := [device for device in present if device not in self._known]:
            with IPRoute() as ip:
                self._known |= {device: alias for device in unknown if (alias := _alias(ip, *device))}


def _alias(ip: IPRoute, index: int, name: str) -> str:
    try:
        message = ip.link("get", index=index)[0]
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return ""
        raise KernelError(f"read {name}: {error}") from error
    return alias_in(message)


def alias_in(message: Mapping[str, Any]) -> str:
    """The alias that an answer about a device tells; empty if it has none, or one that is not text."""
    alias = dict(message["attrs"]).get("IFLA_IFALIAS")
    return alias if isinstance(alias, str) else ""


def set_alias(name: str, alias: str) -> None:
    """Give a device its alias. KernelError if there is no such device."""
    with IPRoute() as ip:
        _checked(f"set the alias of {name}", lambda: ip.link("set", index=_index(ip, name), ifalias=alias))


def make_veth(name: str, namespace: Path, peer: str, mtu: int) -> tuple[Link, Link]:
    """Make a pair with one end called `name` here and the other called `peer` in the network namespace, both up.

    Both ends leave no checksum to the other: a userspace datapath sends frames as they are. KernelError if the kernel refuses, for one
    because the namespace has a `peer` already; then nothing is left.
    """
    with _opened(namespace) as descriptor, IPRoute() as ip:
        end = {"ifname": peer, "net_ns_fd": descriptor, "mtu": mtu}
        _checked(f"make {name} and {peer} in {namespace}", lambda: ip.link("add", ifname=name, kind="veth", mtu=mtu, peer=end))
        try:
            here = _bring_up(ip, name)
            with _inside(descriptor, namespace), IPRoute() as there:
                return here, _bring_up(there, peer)
        except KernelError:
            delete_links(name)
            raise


def delete_links(prefix: str) -> None:
    """Remove the devices of this namespace whose names begin so, and with them their other ends; nothing happens if there are none."""
    found = [(index, name) for index, name in socket.if_nameindex() if name.startswith(prefix)]
    if not found:
        return
    with IPRoute() as ip:
        for index, name in found:
            try:
                ip.link("del", index=index)
            except NetlinkError as error:
                if error.code != errno.ENODEV:
                    raise KernelError(f"delete {name}: {error}") from error


def has_link(name: str) -> bool:
    """Whether this namespace has a device of that name. It takes microseconds and needs no thread."""
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def find_link(name: str, namespace: Path) -> Link | None:
    """A device of a network namespace; None if it has none of that name. KernelError if there is no such namespace."""
    with _opened(namespace) as descriptor, _inside(descriptor, namespace), IPRoute() as ip:
        index = _index(ip, name)
        return None if index is None else _link(ip, index)


def _bring_up(ip: IPRoute, name: str) -> Link:
    _no_checksum_offload(name)
    index = _index(ip, name)
    if index is None:
        raise KernelError(f"{name} was removed while it was being set up")
    _checked(f"set {name} up", lambda: ip.link("set", index=index, state="up"))
    return _link(ip, index)


def _link(ip: IPRoute, index: int) -> Link:
    return link_in(_checked(f"read device {index}", lambda: ip.link("get", index=index))[0])


def link_in(message: Mapping[str, Any]) -> Link:
    """The device that an answer tells of. KernelError if it lacks what every device has."""
    attributes, flags = dict(message["attrs"]), message["flags"]
    name, mac, mtu = (attributes.get(f"IFLA_{key}") for key in ("IFNAME", "ADDRESS", "MTU"))
    if not (isinstance(name, str) and isinstance(mac, str) and isinstance(mtu, int)):
        raise KernelError(f"the kernel tells of a device without name, address or MTU: {name!r}, {mac!r}, {mtu!r}")
    return Link(name, mac, mtu, up=bool(flags & UP), carrier=bool(flags & LOWER_UP))


def _index(ip: IPRoute, name: str) -> int | None:
    found = _checked(f"look for {name}", lambda: ip.link_lookup(ifname=name))
    return found[0] if found else None


def _checked(what: str, call: Callable[[], Any]) -> Any:  # pyroute2 has no types
    try:
        return call()
    except NetlinkError as error:
        raise KernelError(f"{what}: {os.strerror(error.code) if error.code else error}") from error
    except OSError as error:
        raise KernelError(f"{what}: {error.strerror or error}") from error


def _no_checksum_offload(name: str) -> None:
    """What `ethtool -K NAME tx off` does, by the ioctl that it makes (linux/ethtool.h)."""
    command = bytearray(struct.pack("=II", ETHTOOL_STXCSUM, 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            _ethtool(control, name, command)
        except OSError as error:
            raise KernelError(f"turn the checksum offload of {name} off: {error.strerror}") from error


def _ethtool(control: socket.socket, name: str, command: bytearray) -> None:
    buffer = (ctypes.c_char * len(command)).from_buffer(command)
    request = struct.pack("16sP16x", name.encode(), ctypes.addressof(buffer))
    fcntl.ioctl(control, SIOCETHTOOL, request)


@contextlib.contextmanager
def _opened(namespace: Path) -> Iterator[int]:
    try:
        descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise KernelError(f"network namespace {namespace} is not there") from error
    except OSError as error:
        raise KernelError(f"open network namespace {namespace}: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _inside(descriptor: int, namespace: Path) -> Iterator[None]:
    """Have this thread in the network namespace; afterwards it is back in its own, since the next call may be in the same thread."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            namespaces.setns(descriptor)
        except OSError as error:
            raise KernelError(f"enter network namespace {namespace}: {error.strerror}") from error
        try:
            yield
        finally:
            namespaces.setns(before)
    finally:
        os.close(before)
