"""What DPUServices leave that are gone: uninstalled where that is certain; and Helm does not go on without the controller."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from aiohttp import web

from dpuchain.api import kinds, names
from dpuchain.api.service import DPUService
from dpuchain.chain.release import release_of
from dpuchain.host.helm import Helm
from dpuchain.host.members import Member
from dpuchain.host.releases import Releases
from dpuchain.host.targets import Target
from dpuchain.kube.cache import Cache
from dpuchain.kube.identity import cluster_identity
from dpuchain.lab.charts import REPOSITORY
from dpuchain.lab.process import Command, Process
from dpuchain.runtime.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.integration.host.conftest import World

RECONCILED = names.APPLICATIONS_RECONCILED


async def left_behind(world: World, name: str, host: str, target: Target) -> None:
    """The release of a DPUService that is gone from a host cluster, as a Helm run leaves it that ends after its controller."""
    source = {"repoURL": REPOSITORY, "version": "1.0.1", "chart": "example-service"}
    meta = {"name": name, "namespace": world.namespace, "uid": f"uid-of-{name}"}
    service = msgspec.convert({"metadata": meta, "spec": {"helmChart": {"source": source}, "serviceID": "example"}}, DPUService)
    helm = Helm(world.fleet.helm, {REPOSITORY: f"{world.fleet.url}/doca"})
    assert await Releases(helm, host, SystemClock()).install(service, release_of(service, {}), target) is None


@contextlib.asynccontextmanager
async def north(world: World) -> AsyncIterator[Target]:
    member = Member.of(world.key("north"), world.kubeconfig("north"))
    async with member.client:
        yield member


async def test_release_whose_service_is_gone_is_uninstalled_and_that_of_another_host_cluster_is_not(
    world: World, start: Callable[..., asyncio.Task[None]]
) -> None:
    identity = await cluster_identity(world.client)
    async with north(world) as target:
        await left_behind(world, "ours", identity, target)
        await left_behind(world, "theirs", "another", target)
    await left_behind(world, "inside", identity, Target.of_host(world.client, world.fleet.host.kubeconfig))
    inside = Cache(world.client, kinds.DAEMON_SET, namespace=world.namespace)
    watching = asyncio.ensure_future(inside.run())
    await inside.synced()
    assert len(inside) == 1
    await world.until(lambda: len(world.north.records) == len(world.north.daemon_sets) == 2, "seen")
    gone = asyncio.Event()
    inside.subscribe(lambda change: gone.set() if change.new is None else None)
    start()
    await world.add_cluster("north")
    await world.until(lambda: world.north.revisions == [("theirs", "1", "deployed")], "uninstalled")
    await world.until(lambda: {item.metadata.name for item in world.north.daemon_sets} == {"theirs"}, "removed")
    async with asyncio.timeout(30):
        await gone.wait()
    watching.cancel()
    await world.add_service("probe", serviceID="probe")
    await world.told(world.services, "probe", RECONCILED, "True")
    assert ("theirs", "1", "deployed") in world.north.revisions


@pytest.mark.usefixtures("controller")
async def test_service_whose_finalizer_somebody_took_off_leaves_nothing(world: World) -> None:
    await world.add_cluster("north")
    await world.add_service()
    await world.told(world.services, "service", RECONCILED, "True")
    await world.client.patch(kinds.DPU_SERVICE, world.key("service"), {"spec": {"paused": True}})
    await world.client.patch(kinds.DPU_SERVICE, world.key("service"), {"metadata": {"finalizers": None}})
    await world.client.delete(kinds.DPU_SERVICE, world.key("service"))
    await world.until(lambda: len(world.north.records) == len(world.north.daemon_sets) == 0, "uninstalled")


@contextlib.asynccontextmanager
async def silent_repository() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A chart repository that takes requests and never answers; yields its URL, and what is set when it was asked."""
    asked, over = asyncio.Event(), asyncio.Event()

    async def wait(_: web.Request) -> web.Response:
        asked.set()
        await over.wait()
        return web.Response(status=503)

    application = web.Application()
    application.router.add_get("/index.yaml", wait)
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        over.set()
        await runner.cleanup()


def children_of(pid: int) -> dict[int, str]:
    """The processes that a process has started, with the names of their programs."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(child): Path(f"/proc/{child}/comm").read_text().strip() for child in found}


async def test_helm_does_not_outlive_a_controller_that_is_killed(world: World, tmp_path: Path) -> None:
    fleet = world.fleet
    await world.add_cluster("north")
    async with silent_repository() as (url, asked):
        await world.add_service()
        options = ["--helm", fleet.helm, "--kubeconfig", str(fleet.host.kubeconfig), "--chart-mirror", f"{REPOSITORY}={url}"]
        program = str(Path(sys.executable).with_name("dpuchain"))
        controller = Process.start(Command("controller", [program, "host", *options]), tmp_path / "log")
        try:
            async with asyncio.timeout(30):
                await asked.wait()
            ((helm, name),) = children_of(controller.pid).items()
            assert name == "helm"
            ended = asyncio.Event()
            descriptor = os.pidfd_open(helm)
            asyncio.get_running_loop().add_reader(descriptor, ended.set)
        finally:
            await controller.stop(first=signal.SIGKILL)
        async with asyncio.timeout(10):
            await ended.wait()
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
    assert await world.records(world.north) == ()
