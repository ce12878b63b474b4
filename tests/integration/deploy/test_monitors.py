"""What the charts bring for the Prometheus Operator finds what it is to find, by port, token and certificate of the processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.conftest import define
from tests.integration.deploy.conftest import CHARTS, Helm, apply

from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.kube.errors import KubeError
from dpuchain.lab.process import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dpuchain.kube.client import Client
    from dpuchain.lab.cluster import Cluster

ON = "--set=crds.install=false,monitoring.enabled=true,monitoring.labels.release=stack"
WITH_SECRETS = f"{ON},monitoring.tokenSecret.name=reader,metrics.certificateSecret=shown"
OPERATOR, OPERATOR_SUM = "github.com/prometheus-operator/prometheus-operator@v0.92.0", "h1:tAbsod3+9sQsxDeAvLP27dAe9terToht5M+YdDwLGP0="
MONITORING = ("ServiceMonitor", "PodMonitor", "PrometheusRule")


def of_kind(items: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [item for item in items if item["kind"] in kinds]


def matching(items: list[dict[str, Any]], selector: dict[str, str]) -> list[dict[str, Any]]:
    return [item for item in items if selector.items() <= item["metadata"].get("labels", {}).items()]


def found_pods(items: list[dict[str, Any]], monitor: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The pods that a monitor finds, each with the endpoint by which it is asked."""
    pods = [item["spec"]["template"] for item in of_kind(items, "Deployment", "DaemonSet")]
    selector = monitor["spec"]["selector"]["matchLabels"]
    if monitor["kind"] == "PodMonitor":
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        yield from ((pod, endpoint) for pod in matching(pods, selector))
        return
    (endpoint,) = monitor["spec"]["endpoints"]
    (service,) = matching(of_kind(items, "Service"), selector)
    assert [(port["name"], port["port"]) for port in service["spec"]["ports"]] == [("metrics", 9802)]
    yield from ((pod, endpoint) for pod in matching(pods, service["spec"]["selector"]))


@pytest.mark.parametrize("options", [ON, WITH_SECRETS], ids=["own-token", "secrets"])
async def test_every_process_is_found_by_one_monitor(helm: Helm, options: str) -> None:
    jobs: dict[str, str] = {}
    for chart in CHARTS:
        items = await helm.rendered(chart, options)
        assert all(item["metadata"]["labels"]["release"] == "stack" for item in of_kind(items, *MONITORING))
        for monitor in of_kind(items, "ServiceMonitor", "PodMonitor"):
            ((pod, endpoint),) = found_pods(items, monitor)
            (container,) = pod["spec"]["containers"]
            assert {"name": "metrics", "containerPort": 9802} in container["ports"]
            assert "--metrics-address=0.0.0.0:9802" in container["args"]
            assert (endpoint["port"], endpoint["scheme"]) == ("metrics", "https")
            job = next(relabeling["replacement"] for relabeling in endpoint["relabelings"] if relabeling["targetLabel"] == "job")
            assert job == f"dpuchain-{container['name']}"
            jobs[job] = monitor["kind"]
    agents = "PodMonitor" if options == WITH_SECRETS else "ServiceMonitor"
    controllers = dict.fromkeys(("dpuchain-host", "dpuchain-admission", "dpuchain-dpu"), "ServiceMonitor")
    assert jobs == {**controllers, "dpuchain-agent": agents}


async def test_secrets_that_are_named_are_those_that_are_shown_and_checked(helm: Helm) -> None:
    for chart in CHARTS:
        items = await helm.rendered(chart, WITH_SECRETS)
        for monitor in of_kind(items, "ServiceMonitor", "PodMonitor"):
            ((pod, endpoint),) = found_pods(items, monitor)
            assert endpoint["authorization"]["credentials"] == {"name": "reader", "key": "token"}
            assert endpoint["tlsConfig"] == {
                "ca": {"secret": {"name": "shown", "key": "ca.crt"}},
                "serverName": "dpuchain-metrics.dpf-operator-system.svc",
            }
            (container,) = pod["spec"]["containers"]
            assert "--metrics-certificate=/etc/dpuchain/metrics" in container["args"]
            mount = next(mount for mount in container["volumeMounts"] if mount["mountPath"] == "/etc/dpuchain/metrics")
            volume = next(volume for volume in pod["spec"]["volumes"] if volume["name"] == mount["name"])
            assert volume["secret"]["secretName"] == "shown"


@pytest.fixture
async def monitoring_kinds(control_plane: Cluster, tmp_path: Path) -> None:
    """The Prometheus Operator's own definitions, of the module that the Go registry has."""
    download = (
        "go",
        "-C",
        str(tmp_path),
        "mod",
        "download",
        "-json",
        OPERATOR,
    )
    module = json.loads(await run(*download, environment={"GOTOOLCHAIN": "local"}, timeout=120))
    assert module["Sum"] == OPERATOR_SUM
    folder = Path(module["Dir"]) / "example" / "prometheus-operator-crd"
    names = (f"monitoring.coreos.com_{kind.lower()}s.yaml" for kind in MONITORING)
    await define(control_plane, [yaml.safe_load((folder / name).read_text()) for name in names])


@pytest.mark.usefixtures("monitoring_kinds")
@pytest.mark.parametrize("options", [ON, WITH_SECRETS], ids=["own-token", "secrets"])
async def test_prometheus_operator_knows_every_field(helm: Helm, client: Client, options: str) -> None:
    await apply(client, [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE}}])
    for chart in CHARTS:
        items = of_kind(await helm.rendered(chart, options), *MONITORING)
        assert items
        await apply(client, items, dry_run=True)
        (first, *_) = items
        with pytest.raises(KubeError, match=r"spec\.whatever"):
            await apply(client, [{**first, "spec": {**first["spec"], "whatever": 1}}], dry_run=True)


async def test_nothing_of_it_is_there_unless_it_is_wanted(helm: Helm) -> None:
    for chart in CHARTS:
        items = await helm.rendered(chart)
        assert of_kind(items, *MONITORING) == []
        assert not [item for item in items if item["metadata"]["name"] == "dpuchain-dashboard"]


async def test_dashboard_comes_with_the_chart(helm: Helm, pytestconfig: pytest.Config) -> None:
    (found,) = (item for item in await helm.rendered("dpuchain", ON) if item["metadata"]["name"] == "dpuchain-dashboard")
    assert found["data"]["dpuchain.json"] == (pytestconfig.rootpath / "deploy/dashboards/dpuchain.json").read_text()
    assert json.loads(found["data"]["dpuchain.json"])["uid"] == "dpuchain"
