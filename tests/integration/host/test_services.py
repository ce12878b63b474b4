"""A DPUService becomes one Helm release in each selected DPU cluster, and stays what it is to be."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from dpuchain.api import kinds, names
from dpuchain.api.meta import key_of
from dpuchain.host.releases import DIGEST_LABEL, OWNER_LABEL, REVISION_LABEL
from dpuchain.lab.process import run as run_command
from dpuchain.runtime.metrics import exposition

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.host.conftest import Place, World

RECONCILED, READY = names.APPLICATIONS_RECONCILED, names.APPLICATIONS_READY
FIRST = [("service", "1", "deployed")]


async def installed(world: World, *clusters: str, **service: Any) -> None:
    """A service with two interfaces, installed in its clusters, and everything read that Helm wrote."""
    for name in ("eth1", "eth2"):
        await world.add_interface(name)
    for name in clusters:
        await world.add_cluster(name, zone=name)
    await world.add_service(**{"interfaces": ["eth1", "eth2"], **service})
    for name in clusters:
        await world.until(lambda name=name: world.places[name].revisions == FIRST, "installed")  # type: ignore[misc]
    await world.told(world.services, "service", RECONCILED, "True")


async def change(world: World, spec: dict[str, Any], name: str = "service") -> None:
    await world.client.patch(kinds.DPU_SERVICE, world.key(name), {"spec": spec})


async def helm(world: World, place: str, *arguments: str) -> str:
    """Run Helm by hand in a DPU cluster."""
    kubeconfig = str(world.fleet.members[place].kubeconfig)
    return await run_command(world.fleet.helm, *arguments, "--kubeconfig", kubeconfig, "--namespace", world.namespace)


async def pod_template(place: Place, world: World) -> dict[str, Any]:
    path = kinds.DAEMON_SET.path(world.namespace, "service")
    found: dict[str, Any] = json.loads(await place.client.request("GET", path))["spec"]["template"]
    return found


@pytest.mark.usefixtures("controller")
async def test_release_is_installed_once_in_each_cluster_and_changed_once(world: World) -> None:
    await installed(world, "north", "south")
    service = world.services.get(world.key("service"))
    assert service is not None
    for place in world.places.values():
        labels = next(iter(place.records)).metadata.labels
        assert labels[OWNER_LABEL] == service.metadata.uid
        assert labels[DIGEST_LABEL]
        template = await pod_template(place, world)
        assert template["metadata"]["labels"][names.SERVICE_LABEL] == "example"
        assert json.loads(template["metadata"]["annotations"][names.NETWORKS_ANNOTATION]) == [
            {"interface": name, "name": "mybrsfc", "namespace": world.namespace} for name in ("eth1", "eth2")
        ]
    await world.told(world.services, "service", READY, "False", "its controller has not seen its latest change yet")
    await world.run_pods(world.north)
    await world.run_pods(world.south, ready=1)
    await world.told(
        world.services,
        "service",
        READY,
        "False",
        f"* Cluster: {world.namespace}/south\n  DaemonSet: {world.key('service')}\n  1 of 2 pods are ready",
    )
    await world.run_pods(world.south)
    await world.told(world.services, "service", names.READY, "True")
    assert world.north.revisions == world.south.revisions == FIRST

    await change(world, {"helmChart": {"values": {"resources": {"memory": "128Mi"}}}})
    second = [("service", "1", "superseded"), ("service", "2", "deployed")]
    await world.until(lambda: world.north.revisions == world.south.revisions == second, "upgraded")
    assert (await pod_template(world.north, world))["spec"]["containers"][0]["resources"]["limits"]["memory"] == "128Mi"
    await world.told(world.services, "service", READY, "False", "its controller has not seen its latest change yet")


async def test_nothing_is_done_when_nothing_changed(world: World, start: Callable[..., asyncio.Task[None]]) -> None:
    first = start()
    await installed(world, "north")
    await world.run_pods(world.north)
    await world.told(world.services, "service", names.READY, "True")
    before = {key: version for key, version in (await world.versions()).items() if key[1].name != "eth1" or key[0].startswith("north")}
    note = {"metadata": {"annotations": {"note": "x"}}}
    await world.client.patch(kinds.DPU_SERVICE_INTERFACE, world.key("eth1"), note)  # has every service looked at
    await world.add_service("other", dpuClusterSelector={"matchLabels": {"zone": "none"}})
    await world.told(world.services, "other", RECONCILED, "False", "no DPUCluster is selected")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    start()
    await world.client.patch(kinds.DPU_SERVICE, world.key("other"), {"spec": {"serviceID": "another"}})
    await world.told(world.services, "other", RECONCILED, "False", "no DPUCluster is selected")
    await change(world, {"dpuClusterSelector": {"matchLabels": {"zone": "north"}}}, "other")
    await world.until(lambda: len(world.north.records) == 2, "at work")
    now = await world.versions()
    assert {key: now[key] for key in before} == before


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"chart": "none"}, "chart none 1.0.1 cannot be had from https://helm.ngc.nvidia.com/nvidia/doca"),
        ({"version": "9.9.9"}, "chart example-service 9.9.9 cannot be had from https://helm.ngc.nvidia.com/nvidia/doca"),
        ({"repoURL": "https://127.0.0.1:9/charts"}, "chart example-service 1.0.1 cannot be had from https://127.0.0.1:9/charts"),
        ({"repoURL": "oci://127.0.0.1:9/charts"}, "chart example-service 1.0.1 cannot be had from oci://127.0.0.1:9/charts"),
    ],
)
@pytest.mark.usefixtures("controller")
async def test_chart_that_cannot_be_had_is_named(world: World, source: dict[str, str], words: str) -> None:
    await world.add_cluster("north")
    await world.add_service(source=source)
    await world.told(world.services, "service", RECONCILED, "False", words)
    assert "check spec.helmChart.source" in world.message(world.services, "service", RECONCILED)
    await change(
        world,
        {"helmChart": {"source": {"repoURL": "https://helm.ngc.nvidia.com/nvidia/doca", "version": "1.0.1", "chart": "example-service"}}},
    )
    await world.told(world.services, "service", RECONCILED, "True")


@pytest.mark.usefixtures("controller")
async def test_chart_that_appears_is_installed(world: World) -> None:
    await world.add_cluster("north")
    await world.add_service(source={"repoURL": world.repository})
    await world.told(world.services, "service", RECONCILED, "False", f"cannot be had from {world.repository}")
    shutil.copytree(world.fleet.charts / "doca", world.fleet.charts / world.namespace)
    await world.told(world.services, "service", RECONCILED, "True")
    assert world.north.revisions == FIRST


@pytest.mark.usefixtures("controller")
async def test_values_that_the_chart_refuses_are_told_in_helms_words(world: World) -> None:
    await world.add_cluster("north")
    await world.add_service(values={"unknown": 1})
    await world.told(world.services, "service", RECONCILED, "False", "values don't meet the specifications of the schema(s)")
    assert "cannot be had" not in world.message(world.services, "service", RECONCILED)
    await world.client.patch(kinds.DPU_SERVICE, world.key("service"), {"spec": {"helmChart": {"values": {"unknown": None}}}})
    await world.told(world.services, "service", RECONCILED, "True")


@pytest.mark.usefixtures("controller")
async def test_interfaces_must_be_right(world: World) -> None:
    kind = names.DPU_SERVICE_INTERFACE_RECONCILED
    head = "Error occurred: Unable to reconcile interfaces for the DPUService:\n"
    await world.add_cluster("north")
    await world.add_interface("p0", {"interfaceType": "physical", "physical": {"interfaceName": "p0"}})
    other = {"interfaceType": "service", "service": {"serviceID": "foreign", "network": "mybrsfc", "interfaceName": "eth2"}}
    await world.add_interface("eth2", other)
    await world.add_service(interfaces=["p0", "eth2", "eth1"])
    lines = ["* wrong service definition in DPUServiceInterface p0", "* conflicting ServiceID in DPUServiceInterface eth2"]
    missing = f"* DPUServiceInterface eth1 not found in namespace {world.namespace}: create it"
    await world.told(world.services, "service", kind, "False", head + "\n".join([*lines, missing]))
    await world.add_interface("eth1")
    await world.until(lambda: world.message(world.services, "service", kind) == head + "\n".join(lines), "seen")
    assert len(world.north.records) == 0
    await change(world, {"interfaces": ["eth1"]})
    await world.told(world.services, "service", RECONCILED, "True")
    await world.told(world.services, "service", kind, "True")


def in_zone(value: str) -> dict[str, Any]:
    expression = {"key": "zone", "operator": "In", "values": [value]}
    return {"nodeSelector": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}


@pytest.mark.usefixtures("controller")
async def test_service_id_belongs_to_one_service_in_a_cluster(world: World) -> None:
    prerequisites = names.APPLICATION_PREREQUISITES_RECONCILED
    await installed(world, "north", dpuClusterSelector={"matchLabels": {"zone": "north"}})
    service, other = world.key("service"), world.key("other")
    words = f"DPUServices {service} and {other} both have serviceID example: on one node, their pods cannot be told from one another"
    await world.add_service("other")
    await world.told(world.services, "other", prerequisites, "False", words)
    assert [record.metadata.labels["name"] for record in await world.records(world.north)] == ["service"]
    await world.told(world.services, "service", prerequisites, "True")
    await world.client.patch(kinds.DPU_CLUSTER, world.key("north"), {"metadata": {"labels": {"zone": "elsewhere"}}})
    await world.told(world.services, "other", prerequisites, "True")
    await world.until(lambda: world.north.revisions == [("other", "1", "deployed")], "in its place")


@pytest.mark.usefixtures("controller")
async def test_interface_belongs_to_one_service(world: World) -> None:
    def consumer(name: str) -> str | None:
        interface = world.interfaces.get(world.key(name))
        return interface.metadata.annotations.get(names.CONSUMED_BY_ANNOTATION) if interface is not None else None

    await installed(world, "north", serviceDaemonSet=in_zone("a"))
    assert (consumer("eth1"), consumer("eth2")) == ("service", "service")
    await world.add_service("other", interfaces=["eth2"], serviceDaemonSet=in_zone("b"))
    taken = "Error occurred: Unable to reconcile interfaces for the DPUService:\n* dpuServiceInterface eth2 is in use by another DPUService"
    await world.told(world.services, "other", names.DPU_SERVICE_INTERFACE_RECONCILED, "False", taken)
    await change(world, {"interfaces": ["eth1"]})
    await world.until(lambda: consumer("eth2") == "other", "given to the other")
    await world.told(world.services, "other", names.DPU_SERVICE_INTERFACE_RECONCILED, "True")
    await world.client.delete(kinds.DPU_SERVICE, world.key("service"))
    await world.until(lambda: world.services.get(world.key("service")) is None, "gone")
    await world.until(lambda: consumer("eth1") is None, "free")
    assert consumer("eth2") == "other"


@pytest.mark.parametrize("status", ["pending-install", "pending-upgrade", "uninstalling"])
async def test_helm_run_that_was_cut_off_is_cleared(world: World, start: Callable[..., asyncio.Task[None]], status: str) -> None:
    """Helm keeps the status in the record too, so that a label alone would prove nothing: it is changed in both."""
    first = start()
    await installed(world, "north")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await world.cut_off(world.north, status)
    with pytest.raises(Exception, match=r"another operation|has no deployed releases"):
        await helm(world, "north", "upgrade", "service", str(next((world.fleet.charts / "doca").glob("*.tgz"))))
    start()
    await world.until(lambda: {entry[2] for entry in world.north.revisions} == {"deployed"}, "installed again")
    await world.told(world.services, "service", RECONCILED, "True")
    assert (await pod_template(world.north, world))["metadata"]["labels"][names.SERVICE_LABEL] == "example"


async def test_controller_that_ends_during_an_installation_is_succeeded(world: World, start: Callable[..., asyncio.Task[None]]) -> None:
    first = start()
    await world.add_cluster("north")
    await world.add_service()
    await world.until(lambda: len(world.north.records) == 1, "begun")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    start()
    await world.told(world.services, "service", RECONCILED, "True")
    statuses = [record.metadata.labels["status"] for record in await world.records(world.north)]
    # Helm may have been done just when it was ended; then its revision is the successor's too, who cannot know that.
    assert statuses in (["deployed"], ["superseded", "deployed"])


@pytest.mark.usefixtures("controller")
async def test_secret_among_the_values_is_repeated_by_nobody(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    secret = "marker, as no label may be"
    await world.add_cluster("north")
    await world.add_service(values={"serviceDaemonSet": {"labels": {"admin-password": secret, "plain": "not, either"}}})
    await world.told(world.services, "service", RECONCILED, "False", 'Invalid value: "***"')
    service = world.services.get(world.key("service"))
    assert service is not None
    logs = capsys.readouterr()
    told = (service.status, logs.out, logs.err, (await exposition()).decode(), [event.message for event in world.events])
    assert "not, either" in str(told)
    assert secret not in str(told)


@pytest.mark.usefixtures("controller")
async def test_helm_run_of_somebody_else_is_waited_for(world: World) -> None:
    await installed(world, "north")
    record = (await world.records(world.north))[0]
    theirs = {"metadata": {"labels": {REVISION_LABEL: "0", "status": "pending-upgrade"}}}
    await world.north.client.patch(kinds.SECRET_METADATA, key_of(record), theirs)
    await world.told(world.services, "service", RECONCILED, "False", "somebody else's Helm works on release")
    assert world.north.revisions == [("service", "1", "pending-upgrade")]
    ended = {"metadata": {"labels": {"status": "deployed"}}}
    await world.north.client.patch(kinds.SECRET_METADATA, key_of(record), ended)
    await world.until(lambda: ("service", "2", "deployed") in world.north.revisions, "made ours again")
    await world.told(world.services, "service", RECONCILED, "True")


@pytest.mark.usefixtures("controller")
async def test_paused_service_is_left_as_it_is(world: World) -> None:
    await installed(world, "north")
    await change(world, {"paused": True, "helmChart": {"values": {"resources": {"memory": "128Mi"}}}})
    await world.add_service("other", serviceID="other")
    await world.until(lambda: len(world.north.records) == 2, "at work")
    assert ("service", "1", "deployed") in world.north.revisions
    await change(world, {"paused": None})
    await world.until(lambda: ("service", "2", "deployed") in world.north.revisions, "going on")


@pytest.mark.usefixtures("controller")
async def test_release_goes_where_the_selector_says_and_ends_with_the_service(world: World) -> None:
    await installed(world, "north", "south")
    await change(world, {"dpuClusterSelector": {"matchLabels": {"zone": "south"}}})
    await world.until(lambda: len(world.north.records) == len(world.north.daemon_sets) == 0, "uninstalled")
    await world.told(world.services, "service", RECONCILED, "True")
    assert world.south.revisions == FIRST
    impossible = {"matchExpressions": [{"key": "zone", "operator": "Exists", "values": ["south"]}]}
    await change(world, {"dpuClusterSelector": {"matchLabels": None, **impossible}})
    await world.told(
        world.services, "service", names.APPLICATION_PREREQUISITES_RECONCILED, "False", "spec.dpuClusterSelector.matchExpressions[0]"
    )
    assert [record.metadata.labels["name"] for record in await world.records(world.south)] == ["service"]
    await world.client.delete(kinds.DPU_SERVICE, world.key("service"))
    await world.until(lambda: len(world.services) == 0, "gone")
    await world.until(lambda: len(world.south.records) == len(world.south.daemon_sets) == 0, "uninstalled")


@pytest.mark.usefixtures("controller")
async def test_service_that_is_deleted_at_once_leaves_nothing(world: World) -> None:
    await world.add_cluster("north")
    for name in ("one", "two", "three"):
        await world.add_service(name)
        await world.until(lambda name=name: name in {entry[0] for entry in world.north.revisions}, "begun")  # type: ignore[misc]
        await world.client.delete(kinds.DPU_SERVICE, world.key(name))
    await world.until(lambda: len(world.services) == 0, "gone")
    assert await world.records(world.north) == ()


@pytest.mark.usefixtures("controller")
async def test_renamed_release_takes_the_place_of_the_old(world: World) -> None:
    await installed(world, "north")
    await change(world, {"helmChart": {"source": {"releaseName": "renamed"}}})
    await world.until(lambda: world.north.revisions == [("renamed", "1", "deployed")], "renamed")
    await world.until(lambda: {item.metadata.name for item in world.north.daemon_sets} == {"renamed"}, "one DaemonSet")
    await world.told(world.services, "service", RECONCILED, "True")


@pytest.mark.usefixtures("controller")
async def test_release_of_somebody_else_is_not_touched(world: World) -> None:
    chart = str(next((world.fleet.charts / "doca").glob("*.tgz")))
    await helm(world, "north", "install", "service", chart, "--create-namespace")
    await world.add_cluster("north")
    await world.add_service()
    words = f"release {world.key('service')} exists already and was made by somebody else; uninstall it"
    await world.told(world.services, "service", RECONCILED, "False", words)
    assert world.north.revisions == FIRST
    await world.client.delete(kinds.DPU_SERVICE, world.key("service"))
    await world.until(lambda: len(world.services) == 0, "gone")
    assert [record.metadata.labels["status"] for record in await world.records(world.north)] == ["deployed"]
    await world.add_service()
    await world.told(world.services, "service", RECONCILED, "False", words)
    await helm(world, "north", "uninstall", "service")
    await world.told(world.services, "service", RECONCILED, "True")


@pytest.mark.usefixtures("controller")
async def test_what_somebody_did_to_our_release_by_hand_is_undone(world: World) -> None:
    await installed(world, "north")
    chart = str(next((world.fleet.charts / "doca").glob("*.tgz")))
    await helm(world, "north", "upgrade", "service", chart, "--set", "resources.memory=32Mi")
    await world.until(lambda: ("service", "3", "deployed") in world.north.revisions, "installed again")
    assert (await pod_template(world.north, world))["metadata"]["labels"][names.SERVICE_LABEL] == "example"
    await helm(world, "north", "uninstall", "service")
    await world.until(lambda: world.north.revisions == FIRST, "installed again")
