"""The CNI's commands: a pod's interface becomes a port of the bridge, and stops being one."""

from __future__ import annotations

import asyncio
import secrets
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import msgspec
import structlog
from msgspec import UNSET

from dpuchain.agent import netlink
from dpuchain.agent.attachment import (
    INVALID_CONFIG,
    IO_FAILURE,
    LONGEST_DEVICE_NAME,
    CniError,
    Config,
    Interface,
    Request,
    Result,
    ValidAttachment,
    decode_config,
)
from dpuchain.agent.node import NodeObjects
from dpuchain.agent.pods import Attachment
from dpuchain.agent.ports import CONTAINER, INTERFACE, NETWORK, made_by_cni
from dpuchain.api.kinds import POD
from dpuchain.api.kubernetes import Pod
from dpuchain.chain.mtu import of_pod_interface
from dpuchain.chain.ports import DPF_ID, pod_dpf_id
from dpuchain.cni.plugin import TRY_AGAIN, UNAVAILABLE
from dpuchain.kube.client import Client
from dpuchain.kube.errors import KubeError, NotFound
from dpuchain.ovs.changes import DeletePort
from dpuchain.ovs.database import Database
from dpuchain.ovs.errors import OvsError, Rejected
from dpuchain.ovs.rows import Absent, PortRow

PORT_SECONDS = 10.0
"""How long Open vSwitch may take to give a new port its number; it takes milliseconds."""

SUFFIX = string.ascii_lowercase + string.digits

_log = structlog.get_logger(__name__)


class Wiring:
    """Carries out CNI calls. Each may be repeated, and each may have been interrupted at any point before."""

    def __init__(self, bridge: str, client: Client, objects: NodeObjects, database: Database) -> None:
        self._bridge = bridge
        self._client = client
        self._objects = objects
        self._database = database
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._changed = asyncio.Event()
        database.subscribe(self._wake)

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def answer(self, request: Request) -> Any:  # the result as JSON's values, None for commands without one
        """Carry out one call. CniError says what is wrong and, by its code, whether to try again."""
        # A runtime that gave an ADD up may call DEL while it is still under way.
        turn = self._turns.setdefault(request.prefix, asyncio.Lock())
        try:
            config = decode_config(request, self._bridge)
            async with turn:
                return await self._carry_out(request, config)
        except KubeError as error:
            raise CniError(TRY_AGAIN, "the API server cannot be asked about the pod", str(error)) from error
        except Rejected as error:
            raise CniError(IO_FAILURE, "Open vSwitch refuses the port", str(error)) from error
        except OvsError as error:
            raise CniError(TRY_AGAIN, "Open vSwitch cannot be reached", str(error)) from error
        except netlink.KernelError as error:
            raise CniError(IO_FAILURE, "the kernel refuses the pod's devices", str(error)) from error

    async def _carry_out(self, request: Request, config: Config) -> Any:
        match request.command:
            case "ADD":
                return msgspec.to_builtins(await self._add(request, config))
            case "DEL":
                await self._remove(request.prefix)
            case "CHECK":
                await self._check(request, config)
            case "GC":
                await self._collect(config)
            case "STATUS":
                self._status()
        return None

    async def _add(self, request: Request, config: Config) -> Result:
        """Make pair and port, with the MTU of the chain that the interface is part of, or of none.

        It waits for nothing that comes later than the pod: neither for chains, nor for the pod's other interfaces, nor for its readiness.
        """
        pod = await self._pod(request)
        if not self._objects.known:
            raise CniError(TRY_AGAIN, "the node's chains are not known yet", self._objects.problem or "")
        mtu = of_pod_interface(pod.metadata.namespace, pod.metadata.labels, request.ifname, self._objects.chains, self._objects.interfaces)
        await self._remove(request.prefix)
        # Never a name a second time: Open vSwitch keeps a port whose device goes and comes back before it looks, but not its frames.
        device = request.prefix + "".join(secrets.choice(SUFFIX) for _ in range(LONGEST_DEVICE_NAME - len(request.prefix)))
        here, there = await asyncio.to_thread(netlink.make_veth, device, Path(request.netns), request.ifname, mtu)
        attachment = Attachment(request.pod, request.ifname, request.container_id, config.name, request.netns)
        try:
            await self._add_port(device, attachment)
            await asyncio.to_thread(netlink.set_alias, device, attachment.alias)
        except BaseException:
            await self._delete(device, [device])
            raise
        versioned = config.cni_version == "1.1.0"  # mtu came to results with 1.1.0
        ends = ((here, ""), (there, request.netns))
        interfaces = (Interface(link.name, link.mac, link.mtu if versioned else 0, sandbox) for link, sandbox in ends)
        return Result(config.cni_version, tuple(interfaces))

    async def _pod(self, request: Request) -> Pod:
        """The pod with its labels, asked of the API server where the cache has not heard of it yet."""
        key, uid = request.pod, request.arguments.get("K8S_POD_UID", "")
        pod = self._objects.pods.get(key)
        if pod is None or uid not in ("", pod.metadata.uid):
            try:
                pod = await self._client.get(POD, key)
            except NotFound as error:
                raise CniError(IO_FAILURE, f"pod {key} is not there any more", str(error)) from error
        if uid not in ("", pod.metadata.uid):
            raise CniError(IO_FAILURE, f"pod {key} with uid {uid} is not there any more", f"there is one with uid {pod.metadata.uid}")
        return pod

    async def _add_port(self, device: str, attachment: Attachment) -> None:
        """Add the port and wait for its number. A port of an earlier sandbox of the same pod goes in the same transaction."""
        mark = attachment.mark
        earlier = [row.name for row in self._cni_ports().values() if row.interface_external_ids.get(DPF_ID) == mark]
        for name in earlier:
            await asyncio.to_thread(netlink.delete_links, name)
        deletions = [DeletePort(self._bridge, name, owner=mark) for name in earlier]
        await self._database.apply([*deletions, attachment.port(self._bridge, device)])
        try:
            async with asyncio.timeout(PORT_SECONDS):
                await self._numbered(device)
        except TimeoutError as error:
            raise CniError(
                TRY_AGAIN, f"Open vSwitch gave port {device} no number in {PORT_SECONDS:.0f} s", "see ovs-vswitchd.log"
            ) from error

    async def _numbered(self, name: str) -> None:
        """Return when the port has a number. CniError if Open vSwitch says that it cannot have one."""
        while True:
            changed = self._changed
            row = self._ports().get(name)
            if row is not None and row.ofport is not None and row.ofport > 0:
                return
            if row is not None and row.error:
                raise CniError(IO_FAILURE, f"Open vSwitch cannot use device {name}", row.error)
            await changed.wait()

    async def _remove(self, prefix: str) -> None:
        """Remove port and pair. What is gone already is fine, with the whole bridge too; what could not be found out is an error."""
        rows = self._database.ports(self._bridge)
        found = [] if isinstance(rows, Absent) else [row for name, row in rows.items() if name.startswith(prefix)]
        for row in found:
            if not made_by_cni(row):
                raise CniError(IO_FAILURE, f"port {row.name} was not made by this plugin", "it is left alone")
        await self._delete(prefix, [row.name for row in found])

    async def _delete(self, prefix: str, ports: Sequence[str]) -> None:
        """Delete pair and ports, in this order: as long as the pair is there its port is put back (`agent.pods`)."""
        await asyncio.to_thread(netlink.delete_links, prefix)
        await self._database.apply([DeletePort(self._bridge, port) for port in ports])

    async def _check(self, request: Request, config: Config) -> None:
        mark = pod_dpf_id(request.pod, request.ifname)
        row = next((row for name, row in self._cni_ports().items() if name.startswith(request.prefix)), None)
        if row is None:
            raise CniError(IO_FAILURE, f"bridge {self._bridge} has no port for {mark}", "the pod must be restarted")
        if row.interface_external_ids.get(DPF_ID) != mark:
            raise CniError(IO_FAILURE, f"port {row.name} is marked {row.interface_external_ids.get(DPF_ID)} instead of {mark}")
        if row.error or row.ofport is None or row.ofport < 1:
            raise CniError(IO_FAILURE, f"port {row.name} does not work", row.error or "it has no number")
        link = await asyncio.to_thread(netlink.find_link, request.ifname, Path(request.netns))
        if link is None or not link.up:
            raise CniError(IO_FAILURE, f"interface {request.ifname} of {request.pod} is {'down' if link else 'gone'}")
        if not link.carrier:
            raise CniError(IO_FAILURE, f"interface {request.ifname} of {request.pod} has no carrier", f"{row.name} on the node is down")
        expected = {i.name: i for i in config.previous.interfaces if i.sandbox} if config.previous else {}
        before = expected.get(request.ifname)
        if before is not None and before.mac.lower() not in ("", link.mac.lower()):
            raise CniError(IO_FAILURE, f"interface {request.ifname} of {request.pod} has MAC {link.mac}, was made with {before.mac}")

    async def _collect(self, config: Config) -> None:
        """Remove the ports of this network whose attachments the runtime no longer knows."""
        if config.valid is UNSET:
            raise CniError(INVALID_CONFIG, "GC without cni.dev/valid-attachments", "nothing is removed")
        failures = []
        for name, row in self._cni_ports().items():
            identity = ValidAttachment(row.external_ids.get(CONTAINER, ""), row.external_ids.get(INTERFACE, ""))
            if row.external_ids.get(NETWORK) != config.name or identity in (config.valid or ()):
                continue
            _log.info("removing the port of an attachment that is gone", port=name, mark=row.interface_external_ids.get(DPF_ID))
            try:
                await self._remove(name)
            except (netlink.KernelError, Rejected) as error:
                failures.append(f"{name}: {error}")
        if failures:
            raise CniError(IO_FAILURE, "not everything that is gone could be removed", "; ".join(failures))

    def _status(self) -> None:
        if self._objects.problem is not None:
            raise CniError(UNAVAILABLE, "the agent does not know the node's objects", self._objects.problem)
        try:
            self._ports()
        except OvsError as error:
            raise CniError(UNAVAILABLE, "Open vSwitch cannot be used", str(error)) from error

    def _ports(self) -> Mapping[str, PortRow]:
        rows = self._database.ports(self._bridge)
        if isinstance(rows, Absent):
            raise Rejected("NoBridge", f"bridge {self._bridge} does not exist on this DPU; create it with datapath_type=netdev")
        return rows

    def _cni_ports(self) -> dict[str, PortRow]:
        return {name: row for name, row in self._ports().items() if made_by_cni(row)}
