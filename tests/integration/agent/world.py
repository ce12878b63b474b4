"""What a test of the agent sees: the node's objects as another client watches them, and the switch."""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from dpuchain.api.chain import Port, ServiceChain, ServiceChainSpec, ServiceInterfaceReference, Switch
from dpuchain.api.conditions import find
from dpuchain.api.interface import ServiceInterface, ServiceInterfaceSpec
from dpuchain.api.kinds import SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.api.meta import ObjectKey, ObjectMeta
from dpuchain.api.names import SERVICE_CHAIN_FINALIZER, SERVICE_INTERFACE_FINALIZER
from dpuchain.kube.cache import Cache

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from dpuchain.kube.client import Client
    from dpuchain.lab.openvswitch import OpenVSwitch


BRAND = re.compile(r"cookie=0xd9c")
STATIC = re.compile(r"cookie=0xd9c[0-9a-f]1")


class World:
    """What a test sees: the node's objects as another client watches them, and the switch."""

    def __init__(self, client: Client, namespace: str, switch: OpenVSwitch) -> None:
        self.client = client
        self.namespace = namespace
        self.node = f"node-of-{namespace}"  # the API server is shared
        self.switch = switch
        self.chains = Cache(client, SERVICE_CHAIN, namespace=namespace)
        self.interfaces = Cache(client, SERVICE_INTERFACE, namespace=namespace)
        self._changed = asyncio.Event()
        self.chains.subscribe(lambda _: self._changed.set())
        self.interfaces.subscribe(lambda _: self._changed.set())

    async def until(self, holds: Callable[[], bool], what: str, seconds: float = 15) -> None:
        """Wait for the objects to be so."""
        try:
            async with asyncio.timeout(seconds):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            state = [*self.chains, *self.interfaces]
            flows, ports = await self.switch.ofctl("dump-flows"), await self.switch.vsctl("show")
            pytest.fail(f"not {what}:\n" + "\n".join(map(str, state)) + f"\n{flows}\n{ports}")

    def ready(self, cache: Cache[Any], name: str) -> str | None:
        """Status of an object's Ready condition, if it speaks of the object's generation."""
        item = cache.get(ObjectKey(self.namespace, name))
        if item is None:
            return None
        condition = find(item.status.conditions, "Ready")
        return condition.status if condition and condition.observed_generation == item.metadata.generation else None

    def message(self, cache: Cache[Any], name: str) -> str:
        """Message of an object's Ready condition."""
        item = cache.get(ObjectKey(self.namespace, name))
        condition = find(item.status.conditions, "Ready") if item else None
        return condition.message if condition else ""

    def meta(self, name: str, *finalizers: str) -> ObjectMeta:
        return ObjectMeta(name=name, namespace=self.namespace, labels={"port": name}, finalizers=finalizers)

    async def add(self, name: str, kind: str, *, annotations: dict[str, str] | None = None, **block: Any) -> None:
        """Make a ServiceInterface of type `kind` whose block has these fields, named as in YAML."""
        content = {"node": self.node, "interfaceType": kind} | ({kind: block} if block else {})
        metadata = msgspec.structs.replace(self.meta(name, SERVICE_INTERFACE_FINALIZER), annotations=annotations or {})
        spec = msgspec.convert(content, ServiceInterfaceSpec)
        await self.client.create(SERVICE_INTERFACE, ServiceInterface(metadata=metadata, spec=spec))

    async def add_physical(self, name: str, device: str = "") -> None:
        await self.add(name, "physical", interfaceName=device or name)

    async def remove(self, name: str) -> None:
        """Delete a ServiceInterface."""
        await self.client.delete(SERVICE_INTERFACE, ObjectKey(self.namespace, name))

    async def add_chain(self, name: str, *switches: tuple[str, ...], finalizers: tuple[str, ...] = (SERVICE_CHAIN_FINALIZER,)) -> None:
        spec = ServiceChainSpec(
            node=self.node,
            switches=tuple(
                Switch(ports=tuple(Port(service_interface=ServiceInterfaceReference(match_labels={"port": port})) for port in switch))
                for switch in switches
            ),
        )
        await self.client.create(SERVICE_CHAIN, ServiceChain(metadata=self.meta(name, *finalizers), spec=spec))

    async def numbers(self) -> dict[str, str]:
        """The number of each port of the bridge."""
        names = (await self.switch.vsctl("list-ports", "br-sfc")).split()
        return {name: (await self.switch.vsctl("get", "interface", name, "ofport")).strip() for name in names}

    async def flows(self) -> list[str]:
        """Our flows, of whichever round, without what the switch learned."""
        return [line for line in (await self.switch.ofctl("dump-flows", "--no-stats")).splitlines() if STATIC.search(line)]

    async def foreign(self) -> list[str]:
        """The flows of others."""
        return sorted(line for line in (await self.switch.ofctl("dump-flows", "--no-stats")).splitlines() if not BRAND.search(line))[1:]

    async def marks(self, port: str) -> str:
        """What a port is marked with and made of."""
        return await self.switch.vsctl(
            *("--if-exists", "get", "port", port, "external_ids", "--"),
            *("--if-exists", "get", "interface", port, "external_ids", "mtu_request", "type", "options"),
        )

    async def until_quiet(self) -> None:
        """Wait until whatever was told to the agent before has been looked at: a change of ours comes after it, and goes again."""
        name = f"quiet{secrets.token_hex(3)}"
        await self.add_physical(name)
        await self.until(lambda: self.ready(self.interfaces, name) is not None, "looked at")
        await self.remove(name)
        await self.until(lambda: self.interfaces.get(ObjectKey(self.namespace, name)) is None, "gone")

    async def until_so(self, probe: Callable[[], Awaitable[bool]], what: str, seconds: float = 30) -> None:
        """Ask until it is so: what changes on a switch is told to the agent, and to no test."""
        for _ in range(int(20 * seconds)):
            if await probe():
                return
            await asyncio.sleep(0.05)
        pytest.fail(f"not {what}: {await self.switch.ofctl('dump-flows')}\n{await self.switch.vsctl('show')}")

    async def until_flows(self, right: list[str]) -> None:
        """Wait until our flows are these."""

        async def so() -> bool:
            return sorted(await self.flows()) == right

        await self.until_so(so, "\n".join(["these flows:", *right]))

    async def passes(self, source: str, target: str) -> bool:
        """Whether the switch itself says that a frame which enters by `source` leaves by `target`."""
        number = (await self.switch.vsctl("get", "interface", source, "ofport")).strip()
        other = (await self.switch.vsctl("get", "interface", target, "ofport")).strip()
        frame = f"in_port={number},dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02"
        trace = await self.switch.appctl("ofproto/trace", "br-sfc", frame)
        actions = next(line for line in trace.splitlines() if line.startswith("Datapath actions:"))
        datapath = await self.switch.appctl("dpctl/show") if "drop" not in actions else ""
        return (
            f"port {_datapath_number(datapath, target)}" == f"port {actions.removeprefix('Datapath actions: ').strip()}" and other != "-1"
        )


def add_device(sysfs: Path, name: str, port_name: str) -> None:
    """Have `sysfs` show a device of a BlueField's NIC that the kernel calls `port_name`."""
    function = sysfs / "devices/0000:03:00.0"
    function.mkdir(parents=True, exist_ok=True)
    (function / "vendor").write_text("0x15b3")
    (function / "device").write_text("0xa2dc")
    device = sysfs / "class/net" / name
    device.mkdir()
    (device / "phys_switch_id").write_text("1")
    (device / "phys_port_name").write_text(port_name)
    (device / "device").symlink_to(function)


def _datapath_number(show: str, name: str) -> str:
    for line in show.splitlines():
        head, _, rest = line.strip().partition(": ")
        if head.startswith("port ") and rest.split(" ")[0] == name:
            return head.removeprefix("port ")
    return "none"
