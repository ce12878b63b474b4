"""A rack: one host cluster, DPU clusters, virtual DPUs as their nodes, and dpuchain's own processes on top."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any, TypeVar

from dpuchain.lab import charts, manifests
from dpuchain.lab.cluster import ADMINISTRATORS, Cluster
from dpuchain.lab.dpu import Dpu
from dpuchain.lab.errors import LabError
from dpuchain.lab.images import write_image
from dpuchain.lab.kubectl import Kubectl
from dpuchain.lab.layout import HOST, Layout, Shape
from dpuchain.lab.machine import Machine
from dpuchain.lab.network import SERVER, Network
from dpuchain.lab.operators import Operators
from dpuchain.lab.server import Server
from dpuchain.lab.toolchain import GROUPS, Toolchain
from dpuchain.lab.tools import write_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from dpuchain.lab.process import Process

    Report = Callable[[str], None]

T = TypeVar("T")
TOOLS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl", "multus", "helm")
NODE_TIMEOUT = 120.0


class Rack:
    """A rack whose files lie in a directory that `Layout.create` has made. Its processes belong to the thread that calls its methods.

    `build` raises everything that is not ours, `operate` starts dpuchain, `until_ready` waits for both. Nothing takes it all down in good
    order, since nothing of it is worth keeping: `remains.remove` ends and removes whatever carries the rack's identity.

    A `bare` rack has nothing of ours, neither kinds nor processes nor a CNI plugin: that is for our charts to bring. Its host cluster has
    a server for pods, and is told of DPU clusters by `register` when it knows their kind.
    """

    def __init__(self, layout: Layout, shape: Shape, toolchain: Toolchain, report: Report = lambda _: None, *, bare: bool = False) -> None:
        self.layout = layout
        self.shape = shape
        self.network = Network(layout.identity)
        self.clusters: dict[str, Cluster] = {}
        self.dpus: list[Dpu] = []
        self.server: Server | None = None
        self.operators: Operators | None = None
        self._toolchain = toolchain
        self._report = report
        self._bare = bare

    @property
    def host(self) -> Cluster:
        """The host cluster."""
        return self.clusters[HOST]

    @property
    def processes(self) -> list[Process]:
        """All that run for the rack, those first that others stand on."""
        ours = self.operators.processes if self.operators else []
        clusters = (process for cluster in self.clusters.values() for process in cluster.processes)
        machines = (process for machine in self.machines for process in machine.processes)
        return [*clusters, *machines, *ours]

    @property
    def machines(self) -> list[Machine]:
        """All that have a kubelet."""
        return [*self.dpus, *([self.server] if self.server is not None else [])]

    def cluster_of(self, dpu: Dpu) -> Cluster:
        """Return the cluster that a DPU is a node of."""
        return self.clusters[self.shape.cluster_of(dpu.number)]

    def _cluster_of(self, machine: Machine) -> str:
        return self.cluster_of(machine).name if isinstance(machine, Dpu) else HOST

    def kubectl(self, cluster: str) -> Kubectl:
        """Return kubectl for the administrator of a cluster."""
        return Kubectl(self._toolchain.path("kubectl"), self.clusters[cluster].kubeconfig, self.layout.root / "kubectl-cache")

    async def build(self) -> None:
        """Raise network, clusters and DPUs, as much at a time as can be. Raises `LabError`; then what runs is for `remains.remove`."""
        await self._toolchain.provide(*TOOLS, report=self._report)
        await self.network.create()
        self._report(f"network {self.network.subnet}")
        self._plan()
        write_tools(self.layout, self._toolchain, self.dpus)
        image = asyncio.create_task(asyncio.to_thread(write_image, self._image))
        async with asyncio.TaskGroup() as group:
            prepared = {name: group.create_task(self._prepare(name)) for name in self.clusters}
            if self._bare:
                group.create_task(self._join_server(image, prepared[HOST]))
            else:
                group.create_task(self._register(prepared))
            for dpu in self.dpus:
                group.create_task(self._join(dpu, image, prepared[self.cluster_of(dpu).name]))
            group.create_task(charts.package(self._charts, self._toolchain, self._helm))

    async def operate(self) -> None:
        """Start dpuchain's processes."""
        self.operators = operators = Operators(self)
        await operators.start(self._charts)

    async def until_ready(self) -> None:
        """Wait until each DPU is a Ready node and each of our processes is ready. Raises `ProcessDied` if anything ends meanwhile."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.guard(self.host.until_ready()))
            for name in self.clusters:
                group.create_task(self.guard(self._nodes_ready(name)))
            if self.operators:
                group.create_task(self.guard(self.operators.until_ready()))

    def revive(self) -> list[Process]:
        """Start again what has died and return it. Raises `LabError` where only a reboot helps."""
        dead = [process for process in self.processes if not process.running]
        for dpu in self.dpus:
            if dpu.mounts in dead:
                raise LabError(f"{dpu.name} has lost its mounts, and with them its pods", f"`dpuchain lab reboot {dpu.name}`")
        for process in dead:
            process.start_again()
        return dead

    async def reboot(self, name: str, *, keep_database: bool) -> list[Process]:
        """Crash a DPU and boot it, and return the processes that were started; Open vSwitch finds its database again, or an empty one.

        Raises `LabError`; for one if there is no such DPU.
        """
        dpu = next((dpu for dpu in self.dpus if dpu.name == name), None)
        if dpu is None or self.operators is None:
            raise LabError(f"the rack has no {name}", f"it has {', '.join(dpu.name for dpu in self.dpus)}")
        agent = self.operators.agent(dpu)
        await agent.stop(first=signal.SIGKILL)
        await dpu.crash()
        await self.network.reboot(dpu.number)
        if not keep_database:
            dpu.switch.lose_database()
        await dpu.boot()
        agent.start_again()
        return [*dpu.processes, agent]

    async def guard(self, waiting: Coroutine[Any, Any, T]) -> T:
        """Wait for something that only comes while all processes live: raises `ProcessDied` as soon as one ends."""
        task = asyncio.ensure_future(waiting)
        watches = [asyncio.ensure_future(process.watch()) for process in self.processes]
        try:
            await asyncio.wait([task, *watches], return_when=asyncio.FIRST_COMPLETED)
            for watch in watches:
                if watch.done():
                    watch.result()
            return await task
        finally:
            for unfinished in (task, *watches):
                unfinished.cancel()
            await asyncio.gather(task, *watches, return_exceptions=True)

    @property
    def _image(self) -> Path:
        return self.layout.root / "busybox.tar"

    @property
    def _charts(self) -> Path:
        return self.layout.root / "charts"

    @property
    def _version(self) -> str:
        return GROUPS["kubernetes"].version()

    @property
    def _helm(self) -> dict[str, str]:
        return charts.helm_environment(self.layout.root / "helm")

    def _plan(self) -> None:
        """Make the parts as objects, which needs the management network's addresses."""
        address, identity = self.network.management, self.layout.identity
        for name in (HOST, *self.shape.cluster_names):
            self.layout.part(name).mkdir()
            self.clusters[name] = Cluster(name, self.layout.part(name), self._toolchain, address)
        for number in range(1, self.shape.dpus + 1):
            name = f"dpu-{number}"
            namespace = identity.namespace(name)
            dpu = Dpu(number, self.layout.part(name), namespace, self.network.dpu_address(number), self._toolchain, identity.cgroup)
            self.dpus.append(dpu)
        if self._bare:
            self.server = Server(self.layout.part(SERVER), self.network, self._toolchain)

    async def _prepare(self, name: str) -> None:
        """Start a cluster and give it our kinds; when this is done its kinds can be used."""
        cluster, is_host = self.clusters[name], name == HOST
        await cluster.start(controller_manager=True, scheduler=self._bare or not is_host)
        cluster.write_kubeconfig(self.layout.kubeconfig(name), "admin", (ADMINISTRATORS,))
        self._report(f"{name}: API server is ready")
        kubectl = self.kubectl(name)
        if self._bare:
            if not is_host:
                await kubectl.apply([manifests.network_attachment_definition()])
            return
        definitions = manifests.host_definitions() if is_host else manifests.dpu_definitions()
        await kubectl.apply(definitions)
        await kubectl.until_established()
        await kubectl.apply([manifests.operator_configuration()] if is_host else [manifests.network()])
        rights = await charts.rights("dpuchain" if is_host else "dpuchain-dpu", self._toolchain, self._version, self._helm)
        await kubectl("apply", "--server-side", "--field-manager=dpuchain-lab", "--filename=-", stdin=rights.encode())

    async def _register(self, prepared: dict[str, asyncio.Task[None]]) -> None:
        await asyncio.gather(*prepared.values())
        await self.register()

    async def register(self) -> None:
        """Tell the host cluster of the DPU clusters, with the rights of an administrator there as DPF does."""
        objects = []
        for name in self.shape.cluster_names:
            connection = self.clusters[name].connection("dpuchain-host", (ADMINISTRATORS,))
            objects += manifests.dpu_cluster(name, self._version, connection.kubeconfig(name))
        kubectl = self.kubectl(HOST)
        await kubectl.apply(objects)
        for name in self.shape.cluster_names:
            await kubectl.patch_status("dpucluster", name, {"phase": "Ready"})

    async def _join(self, dpu: Dpu, image: asyncio.Task[None], prepared: asyncio.Task[None]) -> None:
        await self.network.attach(dpu.number)
        await image
        await dpu.start(self._image)
        self._report(f"{dpu.name}: Open vSwitch and containerd are up")
        await asyncio.wait([prepared])
        if not prepared.cancelled() and not prepared.exception():
            await dpu.join(self.cluster_of(dpu), bare=self._bare)

    async def _join_server(self, image: asyncio.Task[None], prepared: asyncio.Task[None]) -> None:
        assert self.server is not None, "has been planned"
        await self.network.attach_server()
        await image
        await self.server.start(self._image)
        await asyncio.wait([prepared])
        if not prepared.cancelled() and not prepared.exception():
            await self.server.join(self.host)

    async def _nodes_ready(self, cluster: str) -> None:
        await self.clusters[cluster].until_ready()
        nodes = [f"node/{machine.name}" for machine in self.machines if self._cluster_of(machine) == cluster]
        if not nodes:
            return
        timeout = f"--timeout={NODE_TIMEOUT:.0f}s"
        kubectl = self.kubectl(cluster)
        try:
            # One wait a node: kubectl takes two that are not there yet for a failure.
            await asyncio.gather(*(kubectl("wait", "--for=create", node, timeout, timeout=NODE_TIMEOUT + 10) for node in nodes))
            await kubectl("wait", "--for=condition=Ready", *nodes, timeout, timeout=NODE_TIMEOUT + 10)
        except LabError as error:
            remedy = f"look into {self.layout.directory}/*/kubelet.log"
            raise LabError(f"the nodes of {cluster} are not Ready: {error}", remedy) from None
        self._report(f"{cluster}: {', '.join(nodes)} Ready")


def describe(error: BaseException) -> LabError:
    """Return the `LabError` in an exception, which tasks may have wrapped in groups; any other error is raised on."""
    if isinstance(error, BaseExceptionGroup):
        found = error.subgroup(LabError)
        if found is None:
            raise error
        return describe(found.exceptions[0])
    if isinstance(error, LabError):
        return error
    raise error
