"""The rack's wires: namespaces, the management bridge, the fabric that joins the uplinks, the hosts behind the DPUs.

```
 root namespace                    DPU namespace                          host namespace
 management bridge ── eth0         p0 ──┐ (br-sfc) ┌── pf0hpf ─────────── pf0  198.51.100.N
 SUBNET.1             SUBNET.10+N       │          │
                      server namespace, of a bare rack: eth0, a bridge, SUBNET.2, and its pods, SUBNET.128 and on
                                   fabric namespace: kernel bridge of all uplinks, 198.51.100.254
```
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

from dpuchain.lab.errors import LabError
from dpuchain.lab.process import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dpuchain.lab.identity import Identity

MANAGEMENT_POOL = IPv4Network("198.18.0.0/15")
"""Set aside for tests of network devices (RFC 2544), so hardly ever in use on a machine; each rack takes a free /24 of it."""
HOSTS = IPv4Network("198.51.100.0/24")
"""The hosts' network behind the DPUs (RFC 5737, for documentation); it exists in namespaces only, so racks may share it."""
HIGH_SPEED_MTU = 9216
HOST_MTU = 1500
MOST_DPUS = 99
HARDWARE = ("eth0", "p0", "pf0hpf")
"""The devices that a DPU has by itself."""
FABRIC = "fabric"
SERVER = "server"
FABRIC_ADDRESS = HOSTS[254]
"""Of the fabric itself, so that a host alone has somebody to speak with."""
LOCK = Path("/run/lock/dpuchain-lab")


def host_address(number: int) -> IPv4Address:
    """Return the address of host `number`, from 1."""
    return HOSTS[number]


class Network:
    """The network of one rack. `create` and `attach` fail loudly on what exists already; `remove` finds whatever is left and removes it."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.subnet: IPv4Network | None = None

    @property
    def management(self) -> str:
        """The address under which the whole rack reaches the API servers."""
        return str(self._management(1))

    def dpu_address(self, number: int) -> str:
        """Return the management address of DPU `number`, from 1."""
        return str(self._management(10 + number))

    @property
    def server_address(self) -> str:
        """The management address of the server."""
        return str(self._management(2))

    @property
    def pods(self) -> IPv4Network:
        """The part of the management network that the server's pods have; DPUs have the other."""
        return IPv4Network(f"{self._management(128)}/25")

    async def create(self) -> None:
        """Make the management bridge on a free subnet and the fabric. Raises `LabError`."""
        with _exclusive():  # two racks must not find the same subnet free
            subnet = free_subnet(await used_networks())
            bridge = self.identity.bridge
            await ip(
                f"link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
                f"address add {subnet[1]}/{subnet.prefixlen} dev {bridge}",
                f"link set {bridge} up",
            )
        self.subnet = subnet
        fabric = self.identity.namespace(FABRIC)
        await self._add_namespace(fabric)
        await ip("link add fabric type bridge stp_state 0 forward_delay 0 mcast_snooping 0", "link set fabric up", namespace=fabric)
        await ip(f"link set fabric mtu {HIGH_SPEED_MTU}", f"address add {FABRIC_ADDRESS}/{HOSTS.prefixlen} dev fabric", namespace=fabric)

    async def attach(self, number: int) -> None:
        """Make the namespaces of DPU and host `number` and wire them up."""
        names = self.identity
        dpu, host, fabric = names.namespace(f"dpu-{number}"), names.namespace(f"host-{number}"), names.namespace(FABRIC)
        await asyncio.gather(self._add_namespace(dpu), self._add_namespace(host))
        link = names.management_link(number)
        await ip(
            f"link add {link} type veth peer name eth0 netns {dpu}",
            f"link set {link} master {names.bridge} up",
            f"link add p0 netns {dpu} mtu {HIGH_SPEED_MTU} type veth peer name dpu-{number} netns {fabric} mtu {HIGH_SPEED_MTU}",
            f"link add pf0hpf netns {dpu} mtu {HIGH_SPEED_MTU} type veth peer name pf0 netns {host} mtu {HOST_MTU}",
        )
        await asyncio.gather(
            self._set_up(number),
            ip(f"address add {host_address(number)}/{HOSTS.prefixlen} dev pf0", "link set pf0 up", namespace=host),
            ip(f"link set dpu-{number} master fabric up", namespace=fabric),
        )
        await asyncio.gather(_send_checksums(host, "pf0"), _send_checksums(fabric, f"dpu-{number}"))

    async def attach_server(self) -> None:
        """Make the namespace of the server, whose eth0 is a bridge that its pods' devices may be put on."""
        names, server = self.identity, self.identity.namespace(SERVER)
        await self._add_namespace(server)
        await ip(
            f"link add {names.server_link} type veth peer name uplink netns {server}",
            f"link set {names.server_link} master {names.bridge} up",
        )
        prefix = self.subnet.prefixlen if self.subnet else 24
        await ip(
            "link add eth0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            "link set uplink master eth0 up",
            f"address add {self.server_address}/{prefix} dev eth0",
            "link set eth0 up",
            namespace=server,
        )
        # Pods reach the service `kubernetes` through it, on the network that the API server is in: nobody is to be told of a shorter way.
        for device in ("all", "eth0"):
            await inside(server, "sh", "-c", f"echo 0 >/proc/sys/net/ipv4/conf/{device}/send_redirects")

    async def reboot(self, number: int) -> None:
        """Make the namespace of DPU `number` anew: the devices that the hardware has come back with nothing on them, all others are gone.

        Their other ends stay: the host and the network see a link that goes down and comes up.
        """
        dpu, fabric = self.identity.namespace(f"dpu-{number}"), self.identity.namespace(FABRIC)
        aside = {device: f"{device}-{number}" for device in HARDWARE}
        await ip(*(f"link set {device} netns {fabric} name {name}" for device, name in aside.items()), namespace=dpu)
        await run("ip", "netns", "delete", dpu)
        await self._add_namespace(dpu)
        await ip(*(f"link set {name} netns {dpu} name {device}" for device, name in aside.items()), namespace=fabric)
        await self._set_up(number)

    async def _set_up(self, number: int) -> None:
        """Bring the devices of a DPU up."""
        dpu, prefix = self.identity.namespace(f"dpu-{number}"), self.subnet.prefixlen if self.subnet else 24
        address = f"address add {self.dpu_address(number)}/{prefix} dev eth0"
        await ip(address, *(f"link set {device} up" for device in HARDWARE), namespace=dpu)
        await asyncio.gather(_send_checksums(dpu, "p0"), _send_checksums(dpu, "pf0hpf"))

    async def remove(self) -> None:
        """Remove all namespaces (and with them their devices) and the bridge; nothing happens for what is not there."""
        prefix = self.identity.namespace_prefix
        namespaces = [path.name for path in Path("/run/netns").glob(f"{prefix}*")]
        await asyncio.gather(*(run("ip", "netns", "delete", name) for name in namespaces))
        links = json.loads(await run("ip", "-json", "link", "show"))
        ours = [link["ifname"] for link in links if link["ifname"].endswith(f"-{self.identity.digits}")]
        for name in sorted(ours, key=lambda name: name == self.identity.bridge):
            with contextlib.suppress(LabError):  # the veth ends go with their namespaces, which the kernel takes down in its own time
                await run("ip", "link", "delete", name)

    async def _add_namespace(self, name: str) -> None:
        await run("ip", "netns", "add", name)
        await ip("link set lo up", namespace=name)
        # No IPv6: its neighbour discovery would be frames that nobody asked for in every count.
        await inside(name, "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6")

    def _management(self, index: int) -> IPv4Address:
        if self.subnet is None:
            raise LabError("the rack has no management network yet")
        return self.subnet[index]


async def _send_checksums(namespace: str, device: str) -> None:
    """The userspace datapath sends what it got: a checksum left to the other end's hardware would never be made."""
    await inside(namespace, "ethtool", "-K", device, "tx", "off")


async def ip(*commands: str, namespace: str = "") -> None:
    """Run commands of iproute2 as one batch, in a namespace if one is named. Raises `LabError` at the first that fails."""
    where = ["-netns", namespace] if namespace else []
    await run("ip", *where, "-batch", "-", stdin="\n".join(commands).encode())


async def inside(namespace: str, *arguments: str, timeout: float = 60.0) -> str:
    """Run a command in a network namespace and return its output. Raises `LabError` if it fails."""
    return await run("nsenter", f"--net=/run/netns/{namespace}", *arguments, timeout=timeout)


async def used_networks() -> list[IPv4Network]:
    """Return the networks that this machine has addresses in or routes to."""
    addresses = json.loads(await run("ip", "-json", "-4", "address", "show"))
    routes = json.loads(await run("ip", "-json", "-4", "route", "show", "table", "all"))
    texts = [f"{address['local']}/{address['prefixlen']}" for link in addresses for address in link["addr_info"]]
    texts += [route["dst"] for route in routes if route["dst"] != "default"]
    return [IPv4Network(text, strict=False) for text in texts]


def free_subnet(used: list[IPv4Network]) -> IPv4Network:
    """Return the first /24 of the pool that overlaps none of the networks in use. Raises `LabError` if there is none."""
    for subnet in MANAGEMENT_POOL.subnets(new_prefix=24):
        if not any(subnet.overlaps(network) for network in used):
            return subnet
    raise LabError(f"no /24 of {MANAGEMENT_POOL} is free on this machine", "take another rack down or remove the route that covers it all")


@contextlib.contextmanager
def _exclusive() -> Iterator[None]:
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # held by others for milliseconds
        yield
