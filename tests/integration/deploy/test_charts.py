"""Our charts are what Helm and the API server take, and wrong values are named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.deploy.conftest import CHARTS, Helm, apply

from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.kube.client import Client
from dpuchain.lab.charts import OURS
from dpuchain.lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator

OFF = {
    "dpuchain": (
        *("crds.install=false", "admission.enabled=false", "deployInCluster.enabled=false", "networkPolicy.enabled=false"),
        *("dpuClusters.install=false", "dpuClusters.uninstall=false"),
    ),
    "dpuchain-dpu": ("crds.install=false", "network.create=false", "networkPolicy.enabled=false"),
}


@pytest.mark.parametrize("chart", CHARTS)
async def test_helm_finds_nothing_wrong(helm: Helm, chart: str) -> None:
    said = await helm("lint", "--strict", str(OURS / chart), f"--namespace={OPERATOR_NAMESPACE}")
    assert "1 chart(s) linted, 0 chart(s) failed" in said


@pytest.mark.parametrize("chart", CHARTS)
@pytest.mark.parametrize("off", [False, True], ids=["all", "all-off"])
async def test_api_server_knows_every_field(helm: Helm, client: Client, chart: str, off: bool) -> None:
    options = [f"--set={option}" for option in OFF[chart]] if off else []
    items = await helm.rendered(chart, *options)
    await apply(client, [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE}}])
    await apply(client, items, dry_run=True)
    kinds = [item["kind"] for item in items]
    assert ("CustomResourceDefinition" in kinds) != off
    assert all(item["metadata"].get("namespace", OPERATOR_NAMESPACE) == OPERATOR_NAMESPACE for item in items)


@pytest.mark.parametrize("chart", CHARTS)
async def test_kinds_outlive_their_release(helm: Helm, chart: str) -> None:
    definitions = [item for item in await helm.rendered(chart) if item["kind"] == "CustomResourceDefinition"]
    assert definitions
    assert all(item["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for item in definitions)


@pytest.mark.parametrize("chart", CHARTS)
async def test_other_namespaces_are_refused_with_the_remedy(helm: Helm, chart: str) -> None:
    with pytest.raises(LabError, match="works in namespace dpf-operator-system, not in elsewhere: helm install --namespace"):
        await helm.rendered(chart, "--namespace=elsewhere")


@pytest.mark.parametrize(
    ("chart", "value", "words"),
    [
        ("dpuchain", "admission.failurePolicy=Maybe", "failurePolicy"),
        ("dpuchain", "host.replicas=none", "replicas"),
        ("dpuchain", "host.replicas=0", "replicas"),
        ("dpuchain", "host.loglevel=debug", "loglevel"),
        ("dpuchain", "image.pullPolicy=Sometimes", "pullPolicy"),
        ("dpuchain", "dpuClusters.install=sometimes", "install"),
        ("dpuchain", "dpu.value.agent=none", "value"),
        ("dpuchain", "host.chartMirrors.a=b", "chartMirrors"),
        ("dpuchain", "logFormat=xml", "logFormat"),
        ("dpuchain", "tracing.sampleRatio=1.5", "sampleRatio"),
        ("dpuchain", "monitoring.enabled=perhaps", "enabled"),
        ("dpuchain", "monitoring.interval=often", "interval"),
        ("dpuchain-dpu", "monitoring.tokenSecret.key=", "key"),
        ("dpuchain-dpu", "metrics.certificate=secret", "certificate"),
        ("dpuchain-dpu", "tracing.endpoint=collector:4318", "endpoint"),
        ("dpuchain-dpu", "controller.maxUnavailable=many", "maxUnavailable"),
        ("dpuchain-dpu", "controller.restartDeadline=0", "restartDeadline"),
        ("dpuchain-dpu", "agent.portType=tap", "portType"),
        ("dpuchain-dpu", "agent.bridges=br-sfc", "bridges"),
    ],
)
async def test_wrong_values_are_named(helm: Helm, chart: str, value: str, words: str) -> None:
    with pytest.raises(LabError, match=words):
        await helm.rendered(chart, f"--set={value}")


@pytest.mark.parametrize("chart", CHARTS)
async def test_every_container_is_confined_and_bounded(helm: Helm, chart: str) -> None:
    """The agent aside, which is root on its DPU, none is root; none can write its own files, or take all of a node's memory."""
    for owner, pod, container in containers(await helm.rendered(chart)):
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert "memory" in container["resources"]["limits"]
        if owner != "dpuchain-agent":
            assert pod["securityContext"]["runAsNonRoot"]
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@pytest.mark.parametrize(
    ("chart", "options", "names"), [("dpuchain", ["--set=tracing.sampleRatio=0.01"], {"host"}), ("dpuchain-dpu", [], {"dpu", "agent"})]
)
async def test_traces_are_sent_where_an_endpoint_is_set(helm: Helm, chart: str, options: list[str], names: set[str]) -> None:
    def settings(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        found = {container["name"]: container.get("env", []) for _, _, container in containers(items)}
        told = {name: {item["name"]: item.get("value") for item in env if item["name"].startswith("OTEL_")} for name, env in found.items()}
        return {name: of for name, of in told.items() if of}

    endpoint = "http://collector.example:4318"
    assert settings(await helm.rendered(chart)) == {}
    found = settings(await helm.rendered(chart, f"--set=tracing.endpoint={endpoint}", *options))
    assert found.keys() == names
    assert {of["OTEL_EXPORTER_OTLP_ENDPOINT"] for of in found.values()} == {endpoint}
    assert chart != "dpuchain" or found["host"]["OTEL_TRACES_SAMPLER_ARG"] == "0.01"


@pytest.mark.parametrize("chart", CHARTS)
async def test_every_workload_can_be_watched_moved_and_does_not_go_all_at_once(helm: Helm, chart: str) -> None:
    items = await helm.rendered(chart)
    budgets = [item["spec"]["selector"]["matchLabels"] for item in items if item["kind"] == "PodDisruptionBudget"]
    policies = [item["spec"]["podSelector"]["matchLabels"] for item in items if item["kind"] == "NetworkPolicy"]
    for item in items:
        if item["kind"] not in ("Deployment", "DaemonSet"):
            continue
        template = item["spec"]["template"]
        pod, labels = template["spec"], template["metadata"]["labels"].items()
        assert pod["priorityClassName"].startswith("system-")
        for container in pod["containers"]:
            assert {"livenessProbe", "readinessProbe", "startupProbe"} <= set(container)
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        if item["kind"] == "Deployment":
            assert pod["topologySpreadConstraints"]
            assert any(budget.items() <= labels for budget in budgets), item["metadata"]["name"]
            assert any(policy.items() <= labels for policy in policies), item["metadata"]["name"]
    assert (OURS / chart / "templates" / "NOTES.txt").read_text().strip()


def containers(items: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Whose each container is, its pod, and itself."""
    for item in items:
        pod = item.get("spec", {}).get("template", {}).get("spec", {})
        for container in [*pod.get("initContainers", []), *pod.get("containers", [])]:
            yield item["metadata"]["name"], pod, container
