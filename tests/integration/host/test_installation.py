"""Our own release in DPU clusters: installed, upgraded and rolled back by the host controller, and removed with it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from dpuchain.api import kinds
from dpuchain.api.kubernetes import Metadata
from dpuchain.api.meta import ObjectKey, ObjectMeta
from dpuchain.api.names import ADMISSION_CERTIFICATES_NAME, INSTALL_ANNOTATION, OPERATOR_NAMESPACE
from dpuchain.chain.installation import RELEASE
from dpuchain.host.helm import Helm
from dpuchain.host.installation import package
from dpuchain.host.uninstallation import Left, run
from dpuchain.kube.client import Client
from dpuchain.lab.charts import OURS, helm_environment
from dpuchain.lab.errors import LabError
from dpuchain.lab.process import run as command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.integration.host.conftest import Place, World

    from dpuchain.chain.installation import Package

    Start = Callable[..., asyncio.Task[None]]

ACCOUNTS = "serviceaccounts"


def brought(folder: Path, version: str = "", **values: object) -> Package:
    """Our chart, without the kinds that the test's clusters have anyway, in a version."""
    place = folder / f"chart-{version}"
    if not place.exists():
        shutil.copytree(OURS / RELEASE, place)
        chart = yaml.safe_load((place / "Chart.yaml").read_text())
        (place / "Chart.yaml").write_text(yaml.safe_dump({**chart, **({"version": version} if version else {})}))
    chosen = folder / "values.yaml"
    chosen.write_text(yaml.safe_dump({"crds": {"install": False}, **values}))
    return package(place, chosen)


def ours(place: Place) -> list[tuple[str, str]]:
    """Version and status of Helm's records of our release."""
    return [(version, status) for name, version, status in place.revisions if name == RELEASE]


async def helm(world: World, folder: Path, *arguments: str) -> None:
    """Helm, as somebody uses it in the first DPU cluster."""
    where = (f"--kubeconfig={world.fleet.members['north'].kubeconfig}", f"--namespace={OPERATOR_NAMESPACE}")
    await command(world.fleet.helm, *arguments, *where, environment=helm_environment(folder / "helm"), timeout=120)


@contextlib.contextmanager
def suppress_if(words: str) -> Iterator[None]:
    """An error of a command does not matter if these are among its words."""
    try:
        yield
    except LabError as error:
        if words not in str(error):
            raise


def told(world: World) -> list[str]:
    """The reasons of the Events about DPUClusters of the test."""
    return sorted(event.reason for event in world.events if event.involved_object.kind == "DPUCluster")


async def has_account(place: Place) -> bool:
    path = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/{ACCOUNTS}"
    return b'"dpuchain-agent"' in await place.client.request("GET", path)


@pytest.fixture(autouse=True)
async def removed(world: World, tmp_path: Path) -> AsyncIterator[None]:
    """Nothing of it stays in the clusters of other tests."""
    yield
    await helm(world, tmp_path, "uninstall", RELEASE, "--ignore-not-found")


async def test_release_follows_the_controller_and_nothing_runs_when_it_is_so(world: World, start: Start, tmp_path: Path) -> None:
    def came(reason: str, revision: str) -> bool:
        """By two watches, of which either may be behind."""
        return reason in told(world) and (revision, "deployed") in ours(world.north)

    controller = start(package=brought(tmp_path, "1.0.0"))
    await world.add_cluster("north")
    await world.until(lambda: ours(world.north) == [("1", "deployed")], "installed")
    assert await has_account(world.north)
    assert ours(world.south) == []
    await world.until(lambda: told(world) == ["Installed"], "told")
    for number, version, reason in ((2, "1.1.0", "Upgraded"), (3, "1.0.0", "RolledBack")):
        controller.cancel()
        await asyncio.wait([controller])
        controller = start(package=brought(tmp_path, version))
        await world.until(partial(came, reason, str(number)), "told and deployed")
    before = ours(world.north)
    controller.cancel()
    await asyncio.wait([controller])
    start(package=brought(tmp_path, "1.0.0"))
    await world.add_chain()
    await world.until(lambda: "north" in world.everywhere(), "at work")
    assert ours(world.north) == before, "the same again needs no run of Helm"


async def test_who_opts_out_is_left_alone_and_who_opts_in_again_is_served(world: World, start: Start, tmp_path: Path) -> None:
    await world.add_cluster("north")
    annotation = {"metadata": {"annotations": {INSTALL_ANNOTATION: "false"}}}
    await world.client.patch(kinds.DPU_CLUSTER, world.key("north"), annotation)
    start(package=brought(tmp_path))
    await world.until(lambda: told(world) == ["NotInstalled"], "told")
    assert ours(world.north) == []
    await world.client.patch(kinds.DPU_CLUSTER, world.key("north"), {"metadata": {"annotations": {INSTALL_ANNOTATION: None}}})
    await world.until(lambda: ours(world.north) == [("1", "deployed")], "installed")
    (before,) = world.north.records
    with suppress_if("not found"):  # the controller ends what it takes for a run that was cut off, and may be sooner
        await helm(world, tmp_path, "uninstall", RELEASE)
    await world.until(
        lambda: (
            ours(world.north) == [("1", "deployed")] and before.metadata.uid not in {record.metadata.uid for record in world.north.records}
        ),
        "installed again",
    )


async def test_release_of_somebody_else_is_told_and_not_touched(world: World, start: Start, tmp_path: Path) -> None:
    await helm(world, tmp_path, "install", RELEASE, str(OURS / RELEASE), "--set=crds.install=false", "--create-namespace")
    await world.until(lambda: ours(world.north) == [("1", "deployed")], "installed")
    start(package=brought(tmp_path, "9.0.0"))
    await world.add_cluster("north")
    await world.until(lambda: told(world) == ["NotInstalled"], "told")
    await uninstall(world)
    assert ours(world.north) == [("1", "deployed")]


async def test_values_that_the_chart_refuses_are_told_in_helms_words(world: World, start: Start, tmp_path: Path) -> None:
    start(package=brought(tmp_path, agent={"bridges": "br-sfc"}))
    await world.add_cluster("north")
    await world.until(lambda: told(world) == ["NotInstalled"], "told")
    assert any("bridges" in event.message for event in world.events)
    assert ours(world.north) == []


async def test_uninstallation_takes_away_what_was_made_and_names_what_it_cannot_reach(world: World, start: Start, tmp_path: Path) -> None:
    controller = start("host", brought(tmp_path))
    await world.add_cluster("north")
    await world.until(lambda: ours(world.north) == [("1", "deployed")], "installed")
    certificates = ObjectKey(OPERATOR_NAMESPACE, ADMISSION_CERTIFICATES_NAME)
    await world.client.create(
        kinds.SECRET_METADATA, Metadata(metadata=ObjectMeta(name=certificates.name, namespace=certificates.namespace))
    )
    controller.cancel()
    await asyncio.wait([controller])
    await world.add_cluster("south", b"no kubeconfig")
    with pytest.raises(Left, match=r"DPUCluster .*/south: .*delete the DPUClusters that are gone for good"):
        await uninstall(world)
    await world.until(lambda: len(world.north.records) == 0, "uninstalled")
    assert not await has_account(world.north)
    assert not any(lease.metadata.name.startswith("dpuchain") for lease in world.leases if lease.metadata.name != "dpuchain-host")
    left = await world.client.list(kinds.SECRET_METADATA, namespace=OPERATOR_NAMESPACE, metadata_only=True)
    assert certificates.name not in {item.metadata.name for item in left.items}


async def uninstall(world: World) -> None:
    """What the chart does when it is uninstalled."""
    fleet = world.fleet
    client = Client.from_kubeconfig(fleet.host.kubeconfig, user_agent="tests")
    await run(client, Helm(fleet.helm, {}, fleet.host.kubeconfig), "uninstall", keep=False)
