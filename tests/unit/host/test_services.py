"""What is said of a service, and which of Helm's records are taken for what."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dpuchain.api import names
from dpuchain.api.conditions import Finding
from dpuchain.api.kubernetes import DaemonSet, Metadata
from dpuchain.api.service import DPUService
from dpuchain.chain.release import Release
from dpuchain.chain.status import Unready
from dpuchain.host import releases, services
from dpuchain.host.helm import Helm
from dpuchain.host.releases import DIGEST_LABEL, HOST_LABEL, OWNER_LABEL, REVISION_LABEL, Releases
from dpuchain.runtime.clock import SystemClock

RELEASE = Release("service", "dpf", "https://charts.example", "chart", "1.0.0", {})
BROKEN = Unready(("Cluster: dpf/north",), "no chart")
SERVICE = msgspec.convert(
    {
        "metadata": {"name": "service", "namespace": "dpf", "uid": "u-1"},
        "spec": {"helmChart": {"source": {"repoURL": "https://charts.example", "version": "1.0.0", "chart": "chart"}}},
    },
    DPUService,
)
OURS = {OWNER_LABEL: "u-1", HOST_LABEL: "h-1", DIGEST_LABEL: RELEASE.digest, REVISION_LABEL: "2", "status": "deployed"}


def record(version: str, name: str = "service", namespace: str = "dpf", **labels: str) -> Metadata:
    meta = {"name": f"sh.helm.release.v1.{name}.v{version}", "namespace": namespace, "labels": {"name": name, "version": version, **labels}}
    return msgspec.convert({"metadata": meta}, Metadata)


def said(findings: list[Finding]) -> dict[str, tuple[str, str]]:
    return {finding.type: (finding.status, finding.message) for finding in findings}


@pytest.mark.parametrize(
    ("failures", "unready", "clusters", "reconciled", "ready"),
    [
        ([], [], 2, "True", "True"),
        ([], [BROKEN], 2, "True", "False"),
        ([BROKEN], [], 2, "False", "True"),
        ([BROKEN], [BROKEN], 2, "False", "False"),
        ([], [], 0, "False", "False"),
        ([BROKEN], [], 0, "False", "False"),
    ],
)
def test_service_is_ready_only_if_it_is_somewhere_and_nothing_is_wrong(
    failures: list[Unready], unready: list[Unready], clusters: int, reconciled: str, ready: str
) -> None:
    found = said(services._findings(SERVICE, failures, unready, clusters))
    assert (found[names.APPLICATIONS_RECONCILED][0], found[names.APPLICATIONS_READY][0]) == (reconciled, ready)
    assert found[names.APPLICATION_PREREQUISITES_RECONCILED][0] == found[names.DPU_SERVICE_INTERFACE_RECONCILED][0] == "True"
    if failures:
        assert "* Cluster: dpf/north\n  no chart" in found[names.APPLICATIONS_RECONCILED][1]
    elif not clusters:
        assert "no DPUCluster is selected" in found[names.APPLICATIONS_RECONCILED][1]


def test_ports_that_are_not_exposed_are_named_and_hold_nothing_else_up() -> None:
    ports = {"ports": [{"name": "http", "port": 80}]}
    spec = {**msgspec.to_builtins(SERVICE)["spec"], "configPorts": ports}
    found = said(services._findings(msgspec.convert({"metadata": {}, "spec": spec}, DPUService), [], [], 1))
    text = "Error occurred: spec.configPorts: not supported yet; add a Service to the chart"
    assert found.pop(names.CONFIG_PORTS_RECONCILED) == ("False", text)
    assert {status for status, _ in found.values()} == {"True"}
    assert said(services._findings(SERVICE, [], [], 1))[names.CONFIG_PORTS_RECONCILED][0] == "True"


def test_field_and_interface_that_are_wrong_are_told_apart() -> None:
    by_field = said(services._blocked(["spec.x: not supported"], []))
    assert by_field[names.APPLICATION_PREREQUISITES_RECONCILED] == ("False", "Error occurred: spec.x: not supported")
    assert by_field[names.DPU_SERVICE_INTERFACE_RECONCILED][0] == "True"
    by_interface = said(services._blocked([], ["first", "second"]))
    assert by_interface[names.APPLICATION_PREREQUISITES_RECONCILED][0] == "True"
    text = "Error occurred: Unable to reconcile interfaces for the DPUService:\n* first\n* second"
    assert by_interface[names.DPU_SERVICE_INTERFACE_RECONCILED] == ("False", text)
    for found in (by_field, by_interface):
        assert found[names.APPLICATIONS_RECONCILED][0] == found[names.APPLICATIONS_READY][0] == "False"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, None),
        ({"observedGeneration": 2}, "has not seen its latest change"),
        ({"numberReady": 2}, "2 of 3 pods are ready, 3 are up to date"),
        ({"updatedNumberScheduled": 1}, "3 of 3 pods are ready, 1 are up to date"),
        ({"desiredNumberScheduled": 0, "numberReady": 0, "updatedNumberScheduled": 0}, None),
    ],
)
def test_daemon_set_works_if_all_its_pods_are_ready_and_new(changed: dict[str, int], words: str | None) -> None:
    status = {"observedGeneration": 3, "desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberReady": 3, **changed}
    cause = releases._daemon_set_cause(msgspec.convert({"metadata": {"generation": 3}, "status": status}, DaemonSet))
    assert cause is None if words is None else cause is not None and words in cause


def test_newest_record_is_that_of_the_highest_revision_of_the_release() -> None:
    others = [record("12", name="other"), record("12", namespace="elsewhere")]
    assert releases._newest([record("9"), record("10"), record("2"), *others], RELEASE) == record("10")
    assert releases._newest(others, RELEASE) is None


@pytest.mark.parametrize(
    ("changed", "installed"),
    [
        ({}, True),
        ({"more": "labels"}, True),
        ({OWNER_LABEL: "u-2"}, False),
        ({HOST_LABEL: "h-2"}, False),
        ({DIGEST_LABEL: "other"}, False),
        ({REVISION_LABEL: "1"}, False),
        ({"status": "failed"}, False),
    ],
)
def test_release_is_installed_only_if_we_did_it_and_nobody_after_us(changed: dict[str, Any], installed: bool) -> None:
    door = Releases(Helm("helm", {}), "h-1", SystemClock())
    assert door._is_installed(SERVICE, RELEASE, record("2", **{**OURS, **changed})) is installed


def test_release_of_another_host_cluster_or_of_nobody_has_no_owner_here() -> None:
    door = Releases(Helm("helm", {}), "h-1", SystemClock())
    assert door.owner_of(record("2", **OURS)) == "u-1"
    assert door.owner_of(record("2", **{**OURS, HOST_LABEL: "h-2"})) is None
    assert door.owner_of(record("2", **{OWNER_LABEL: "u-1"})) is None
    assert door.owner_of(record("2")) is None


@pytest.mark.parametrize(
    ("labels", "foreign"),
    [
        ({"status": "pending-upgrade", REVISION_LABEL: "2"}, False),
        ({"status": "pending-upgrade", REVISION_LABEL: "1"}, True),
        ({"status": "pending-rollback"}, True),
        ({"status": "deployed", REVISION_LABEL: "1"}, False),
    ],
)
def test_helm_run_is_taken_for_a_cut_off_one_of_ours_only_by_its_revision(labels: dict[str, str], foreign: bool) -> None:
    assert releases._is_in_other_hands(record("2", **labels)) is foreign
