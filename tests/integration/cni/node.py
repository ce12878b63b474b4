"""A node with an agent, and pods on it, for the CNI's tests: network namespaces, a real Open vSwitch on the userspace datapath.

What the tests call is the executable itself, as Multus would.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from pyroute2 import netns

from dpuchain.agent.attachment import Request
from dpuchain.api.meta import ObjectKey
from dpuchain.cni import plugin
from dpuchain.lab.errors import LabError
from dpuchain.lab.node import launcher
from dpuchain.lab.openvswitch import OpenVSwitch
from dpuchain.lab.process import Command, Process, run, tail

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from tests.conftest import Background

    from dpuchain.lab.cluster import Cluster

NETWORK = "mybrsfc"


@dataclass(frozen=True)
class Answer:
    """How a call of the executable ended."""

    status: int
    output: bytes
    errors: bytes

    @property
    def value(self) -> Any:
        """What it printed, which must be one JSON document."""
        return json.loads(self.output)

    @property
    def done(self) -> bool:
        """Whether it is a success without a result."""
        return (self.status, self.output, self.errors) == (0, b"", b"")

    def refused(self, code: int, *words: str) -> bool:
        """Whether it is a CNI error object with this code that says these words, and nothing besides."""
        if self.status == 0:
            return False
        error = self.value
        text = f"{error['msg']}: {error['details']}"
        return (
            (self.status, self.errors, error["code"]) == (1, b"", code)
            and isinstance(error["cniVersion"], str)
            and bool(error["msg"])
            and all(word in text for word in words)
        )


class Forward:
    """Lets a network namespace reach a server of this one, at the same address. `cut` takes the server away, `open` brings it back."""

    def __init__(self, namespace: str, address: tuple[str, int], background: Background) -> None:
        self._background = background  # the tests' loops end with them
        self._namespace = namespace
        self._address = address
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    def open(self) -> None:
        self._background.run(self._open())

    def cut(self) -> None:
        self._background.run(self._cut())

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=await asyncio.to_thread(self._listen))

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            self._server = None

    def _listen(self) -> socket.socket:
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            netns.setns(self._namespace)
            return socket.create_server(self._address)
        finally:
            netns.setns(before)
            os.close(before)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._address)
        self._writers |= {writer, back}
        try:
            await asyncio.gather(self._copy(reader, back), self._copy(there, writer))
        finally:
            self._writers -= {writer, back}

    @staticmethod
    async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await source.read(65536):
                target.write(chunk)
                await target.drain()
        target.close()


class Node:
    """A network namespace with Open vSwitch and an agent."""

    def __init__(self, directory: Path, cluster: Cluster, background: Background) -> None:
        self.name = f"cni-{secrets.token_hex(4)}"
        self.directory = directory
        self.cluster = cluster
        self.switch = OpenVSwitch("ovs", directory / "ovs", namespace=self.name)
        self.socket = directory / "cni.sock"
        self.executable = directory / "bin" / "dpuchain-cni"
        self.agent: Process | None = None
        address = urlsplit(cluster.server)
        self.api = Forward(self.name, (str(address.hostname), int(address.port or 0)), background)

    async def start(self) -> None:
        await add_namespace(self.name)
        self.executable.parent.mkdir()
        self.executable.write_text(launcher([sys.executable, "-IS", str(plugin.__file__)], {"DPUCHAIN_CNI_SOCKET": str(self.socket)}))
        self.executable.chmod(0o755)
        await self.switch.start()

    async def stop(self) -> None:
        if self.agent is not None:
            await self.agent.stop()
        await self.switch.stop()
        await remove_namespace(self.name)

    async def start_agent(self) -> None:
        """Start the agent, or start it again after its end; return when it says that it can wire pods."""
        if self.agent is None:
            places = {
                "node": self.name,
                "ovsdb": self.switch.database,
                "openflow": self.switch.management,
                "cni-socket": self.socket,
                "kubeconfig": self.cluster.kubeconfig,
            }
            options = [f"--{name}={place}" for name, place in places.items()]
            command = Command("agent", [sys.executable, "-m", "dpuchain", "agent", *options], namespace=self.name)
            self.agent = Process.start(command, self.directory / "agent.log")
        else:
            self.agent.start_again()
        await self.agent.until(self.works, "able to wire pods", 30)

    async def kill_agent(self) -> None:
        """End the agent as the kernel would: at once, without a word."""
        assert self.agent is not None
        os.kill(self.agent.pid, 9)
        await self.agent.ended()

    async def works(self) -> bool:
        return (await self.call("STATUS", self.config())).done

    async def call(self, command: str, config: Any = None, environment: Mapping[str, str] | None = None, *, text: bytes = b"") -> Answer:
        """Run the executable with a configuration, or with any `text`, on its standard input."""
        child = await asyncio.create_subprocess_exec(
            self.executable,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "CNI_COMMAND": command, **(environment or {})},
        )
        output, errors = await child.communicate(text if config is None else json.dumps(config).encode())
        assert child.returncode is not None
        return Answer(child.returncode, output, errors)

    async def ask(self, body: bytes) -> Any:
        """Send bytes to the agent's socket as the executable does, and return the answer."""
        reader, writer = await asyncio.open_unix_connection(str(self.socket))
        try:
            writer.write(body)
            writer.write_eof()
            status, _, text = (await reader.read()).partition(b"\n")
        finally:
            writer.close()
        return {"error" if status == b"1" else "result": json.loads(text) if text else None}

    @staticmethod
    def config(**changes: Any) -> dict[str, Any]:
        """The configuration of the NetworkAttachmentDefinition; None removes a field."""
        whole = {"cniVersion": "1.1.0", "name": NETWORK, "type": "dpuchain-cni", "bridge": "br-sfc", **changes}
        return {name: value for name, value in whole.items() if value is not None}

    async def column(self, table: str, row: str, column: str) -> str:
        """A value of OVSDB without its quotes."""
        return (await self.switch.vsctl("get", table, row, column)).strip().strip('"')

    async def ports(self) -> set[str]:
        return set((await self.switch.vsctl("list-ports", "br-sfc")).split())

    async def links(self) -> set[str]:
        """The pods' devices at the node's end."""
        found = json.loads(await run("ip", "-json", "-netns", self.name, "link", "show", "type", "veth"))
        return {link["ifname"] for link in found}

    @staticmethod
    async def until(probe: Callable[[], Awaitable[bool]], what: str | Callable[[], str], seconds: float = 20) -> None:
        """Ask until it is so: for what is told by no event."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    if await probe():
                        return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"not {what if isinstance(what, str) else what()} after {seconds:.0f} s")

    async def log(self) -> str:
        parts = []
        for question in (self.switch.vsctl("show"), self.switch.ofctl("dump-flows")):
            try:
                parts.append(await question)
            except LabError as error:  # the test may have stopped what would answer
                parts.append(str(error))
        return "\n".join([*parts, tail(self.directory / "agent.log"), *self.switch.log_tails().values()])


@dataclass(frozen=True)
class Sandbox:
    """A pod's network namespace, and the calls for it. `again` makes another one of the same pod."""

    node: Node
    pod: ObjectKey
    uid: str
    netns: str
    container: str = field(default_factory=lambda: secrets.token_hex(32))

    @property
    def path(self) -> str:
        return f"/run/netns/{self.netns}"

    def prefix(self, interface: str = "eth1") -> str:
        """What the name of the pair's end on the node begins with."""
        return Request("ADD", {}, container_id=self.container, ifname=interface).prefix

    async def devices(self, interface: str = "eth1") -> list[str]:
        """The node's ends of the pair: one, or none."""
        return [name for name in await self.node.links() if name.startswith(self.prefix(interface))]

    async def port(self, interface: str = "eth1") -> str:
        """The port, which must be there, and only one, on a device of its own."""
        (port,) = (name for name in await self.node.ports() if name.startswith(self.prefix(interface)))
        assert [port] == await self.devices(interface)
        return port

    def environment(self, interface: str = "eth1") -> dict[str, str]:
        """What Multus sets for a call."""
        return {
            "CNI_CONTAINERID": self.container,
            "CNI_NETNS": self.path,
            "CNI_IFNAME": interface,
            "CNI_ARGS": f"IgnoreUnknown=true;K8S_POD_NAMESPACE={self.pod.namespace};K8S_POD_NAME={self.pod.name};K8S_POD_UID={self.uid}",
            "CNI_PATH": str(self.node.executable.parent),
        }

    async def call(self, command: str, interface: str = "eth1", **changes: Any) -> Answer:
        return await self.node.call(command, self.node.config(**changes), self.environment(interface))

    def request(self, command: str = "ADD", **variables: str) -> bytes:
        """The call as the executable hands it to the agent's socket."""
        values = {**self.environment(), "CNI_COMMAND": command, **variables}
        fields = [values[name].encode() for name in plugin.ENVIRONMENT]
        return b"\0".join([*fields, json.dumps(self.node.config()).encode()])

    async def add(self, interface: str = "eth1", **changes: Any) -> Any:
        """ADD, which must succeed; returns the result."""
        answer = await self.call("ADD", interface, **changes)
        assert (answer.status, answer.errors) == (0, b""), answer
        return answer.value

    async def link(self, interface: str = "eth1") -> dict[str, Any] | None:
        """The interface inside the pod, as iproute2 shows it; None if there is none."""
        found = json.loads(await run("ip", "-json", "-netns", self.netns, "link", "show"))
        return next((link for link in found if link["ifname"] == interface), None)

    async def address(self, address: str, interface: str = "eth1") -> None:
        """Give the interface an IPv4 address, as a service would."""
        await run("ip", "-netns", self.netns, "address", "add", f"{address}/24", "dev", interface)

    async def reaches(self, address: str) -> bool:
        """Whether a frame comes back from there, now."""
        try:
            await self.inside("busybox", "ping", "-c", "1", "-W", "1", address)
        except LabError:
            return False
        return True

    async def inside(self, *arguments: str) -> str:
        return await run("nsenter", f"--net={self.path}", *arguments)

    async def wired(self, interface: str = "eth1") -> bool:
        """Whether all is there: device, its other end, and the port with a number."""
        number = await self.node.column("interface", await self.port(interface), "ofport")
        return await self.link(interface) is not None and number.isdecimal()

    async def bare(self, interface: str = "eth1") -> bool:
        """Whether nothing is left of it."""
        return not await self.devices(interface) and not any(name.startswith(self.prefix(interface)) for name in await self.node.ports())


async def add_namespace(name: str) -> None:
    await run("ip", "netns", "add", name)
    await run("ip", "-netns", name, "link", "set", "lo", "up")


async def remove_namespace(name: str) -> None:
    if Path("/run/netns", name).exists():
        await run("ip", "netns", "delete", name)
