"""The rack's real processes, watched by a real Prometheus over TLS with a token, with our alert rules; and our dashboard, drawn from it.

Grafana is no package of Debian's and not to be built here, so `drawing` stands in for it: each query of each panel of the dashboard is put
to Prometheus as Grafana would put it, and what comes back is drawn.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest
import yaml

from dpuchain.kube.client import Client
from dpuchain.lab.scraping import token
from tests.e2e.conftest import EXAMPLE
from tests.e2e.drawing import Line, draw
from tests.e2e.manifests import apply, interface

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import Rack

RULES = "deploy/monitoring/alerts.yaml"
DASHBOARD = "deploy/dashboards/dpuchain.json"
WINDOW = "1m"
PROCESSES = ["dpuchain-admission", "dpuchain-agent", "dpuchain-agent", "dpuchain-dpu", "dpuchain-host"]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass
class Prometheus:
    """Prometheus, asked as Grafana asks it."""

    port: int
    began: float = field(default_factory=time.time)

    def get(self, path: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def draw(self, query: str) -> list[Line]:
        """What a panel's query has come to, second by second since the beginning."""
        asked = query.replace("$__rate_interval", WINDOW).replace("$node", ".*")
        found = self.get("query_range", query=asked, start=str(self.began), end=str(time.time()), step="2")
        return [
            Line(str(series["metric"]), tuple((float(moment), float(value)) for moment, value in series["values"]))
            for series in found["result"]
        ]


def tokens(rack: Rack, clusters: list[str]) -> dict[str, str]:
    """For each cluster the token of who may read metrics there."""

    async def ask(cluster: str) -> str:
        async with Client.from_kubeconfig(rack.directory / f"{cluster}.kubeconfig", user_agent="tests") as client:
            return await token(client)

    return {cluster: asyncio.run(ask(cluster)) for cluster in clusters}


def configuration(targets: list[dict[str, Any]], tokens: dict[str, str], rules: Path) -> dict[str, Any]:
    jobs = [
        {
            "job_name": cluster,
            "scheme": "https",
            "tls_config": {"insecure_skip_verify": True},
            "authorization": {"credentials": token},
            "static_configs": [target for target in targets if target["labels"]["cluster"] == cluster],
        }
        for cluster, token in tokens.items()
    ]
    return {
        "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"},
        "rule_files": [str(rules)],
        "scrape_configs": jobs,
    }


@pytest.fixture(scope="module")
def prometheus(rack: Rack, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus watching the rack and an admission, while the example is applied, frames pass, and somebody takes away a flow."""
    folder = tmp_path_factory.mktemp("prometheus")
    admission, metrics, port = free_port(), free_port(), free_port()
    targets = json.loads((rack.directory / "metrics.json").read_text())
    targets.append({"targets": [f"127.0.0.1:{metrics}"], "labels": {"job": "dpuchain-admission", "cluster": "host"}})
    content = configuration(targets, tokens(rack, ["host", "cluster-1"]), pytestconfig.rootpath / RULES)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(content))
    (folder / "prometheus.yml").chmod(0o600)
    options = [f"--kubeconfig={rack.directory / 'host.kubeconfig'}", f"--address=127.0.0.1:{admission}", "--log-format=json"]
    options += [f"--url=https://127.0.0.1:{admission}/validate", f"--metrics-address=127.0.0.1:{metrics}"]
    commands = [
        [sys.executable, "-m", "dpuchain", "admission", *options],
        [
            "prometheus",
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
    ]
    rack.ok("cluster-1", "wait", "--for=delete", "pod", "--all", "--timeout=60s")  # of tests before, whose ports go with them
    before = rack.snapshot()
    logs = [rack.directory / "host" / "dpuchain-admission.log", folder / "prometheus.log"]
    processes = []
    for command, log in zip(commands, logs, strict=True):
        with log.open("wb") as file:
            processes.append(subprocess.Popen(command, stderr=file, stdout=file))
    manifest = ("--filename", str(pytestconfig.rootpath / EXAMPLE))
    try:
        found = Prometheus(port)
        rack.until(lambda: all_up(found), "watched", 60)
        rack.ok("host", "apply", *manifest)
        rack.ok("host", "wait", "--for=condition=Ready", *manifest, "--timeout=90s")
        assert rack.ping(20)
        assert rack.at("dpu-1", "ovs-ofctl", "-O", "OpenFlow14", "del-flows", "br-sfc").status == 0
        assert rack.ping()
        apply(rack, interface("watched", {"interfaceType": "physical", "physical": {"interfaceName": "absent0"}}))
        yield found
    finally:
        for process in processes:
            process.terminate()
            process.wait()
        for kind in ("validatingwebhookconfiguration/dpuchain-admission", "secret/dpuchain-admission-certificates"):
            rack.ok("host", "delete", kind, "--ignore-not-found")
        rack.ok("host", "delete", "dpuserviceinterface/watched", "--ignore-not-found", "--timeout=60s")
        rack.ok("host", "delete", *manifest, "--ignore-not-found", "--timeout=120s")
        rack.until_as(before)


def all_up(prometheus: Prometheus) -> bool:
    try:
        targets = prometheus.get("targets")["activeTargets"]
    except OSError:
        return False
    return len(targets) == len(PROCESSES) and all(target["health"] == "up" for target in targets)


def highest(line: Line) -> float:
    return max(value for _, value in line.seen)


def test_every_process_is_watched_over_tls_with_a_token(prometheus: Prometheus) -> None:
    targets = prometheus.get("targets")["activeTargets"]
    assert sorted(target["labels"]["job"] for target in targets) == PROCESSES
    assert all(target["scrapeUrl"].startswith("https://") for target in targets)
    up = {result["metric"]["job"]: float(result["value"][1]) for result in prometheus.get("query", query="up")["result"]}
    assert set(up.values()) == {1.0}


def test_every_panel_of_the_dashboard_shows_something(
    rack: Rack, prometheus: Prometheus, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    panels = [panel for panel in json.loads((pytestconfig.rootpath / DASHBOARD).read_text())["panels"] if panel["type"] != "row"]
    assert len(panels) > 20
    queries = {panel["title"]: [target["expr"] for target in panel["targets"]] for panel in panels}
    lines: dict[str, list[Line]] = {}

    def all_shown() -> bool:
        for title, asked in queries.items():
            each = [[line for line in prometheus.draw(query) if len(line.seen) > 1] for query in asked]
            lines[title] = [line for found in each for line in found] if all(each) else []
        return all(lines.values()) and any(highest(line) >= 1 for line in lines["Undone changes of others"])

    try:
        rack.until(all_shown, "all shown", 40)
    except pytest.fail.Exception:
        empty = [title for title, found in lines.items() if not found]
        pytest.fail(f"nothing is shown in {empty}; undone: {lines['Undone changes of others']}")
    picture = draw(lines)
    (tmp_path / "dashboard.svg").write_text(picture)
    drawn = ElementTree.fromstring(picture)
    groups = drawn.findall("{http://www.w3.org/2000/svg}g")
    assert len(groups) == len(panels)
    assert all(group.findall("{http://www.w3.org/2000/svg}polyline") for group in groups)
    frames = [line for line in lines["Frames"] if highest(line) > 0]
    assert len(frames) >= 4, "both switches of both DPUs have passed frames"


def test_rules_are_understood_and_nothing_critical_is_told_of_a_rack_that_is_well(prometheus: Prometheus) -> None:
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 20
    assert {(rule["name"], rule["health"], rule.get("lastError", "")) for rule in rules} == {(rule["name"], "ok", "") for rule in rules}
    critical = [rule["name"] for rule in rules if rule["labels"]["severity"] == "critical" and rule["state"] == "firing"]
    assert critical == []


def test_every_line_of_every_log_is_json_and_says_what_it_is_about(rack: Rack, prometheus: Prometheus) -> None:
    assert prometheus
    logs = {log.stem: log.read_text().splitlines() for log in rack.directory.glob("*/dpuchain-*.log")}
    assert {name.removeprefix("dpuchain-") for name in logs} >= {"host", "dpu", "agent", "admission"}
    for log in sorted(rack.directory.glob("*/dpuchain-*.log")):
        for text in log.read_text().splitlines():
            line = json.loads(text)
            assert {"event", "level", "timestamp"} <= line.keys(), text
            if log.stem == "dpuchain-agent":
                assert line["node"] == log.parent.name, text
            if "/" in line.get("key", ""):
                assert {"kind", "namespace", "name"} <= line.keys(), text
            if line["event"] == "CNI call done":
                assert line["kind"] == "Pod", text


def test_no_secret_is_in_logs_metrics_events_or_conditions(rack: Rack, prometheus: Prometheus) -> None:
    assert prometheus
    secrets = {secret for name in ("host", "cluster-1") for secret in tokens(rack, [name]).values()}
    for path in [*rack.directory.glob("*.kubeconfig"), *rack.directory.glob("*/*.kubeconfig")]:
        for user in yaml.safe_load(path.read_text())["users"]:
            secrets |= {value for key, value in user["user"].items() if key in ("client-key-data", "token", "password")}
    secrets |= {value for item in rack.items("host", "secrets") for value in item.get("data", {}).values() if len(value) > 40}
    assert len(secrets) > 3
    told = {str(log): log.read_text() for log in rack.directory.glob("*/dpuchain-*.log")}
    for cluster, kinds in (("host", "events,dpuservicechains,dpuservices,dpuserviceinterfaces"), ("cluster-1", "events,servicechains")):
        told[cluster] = rack.ok(cluster, "get", kinds, "--all-namespaces", "--output=json")
    series = prometheus.get("series", **{"match[]": '{job=~"dpuchain-.*"}'})
    told["metrics"] = json.dumps(series)
    assert len(series) > 100
    found = [(where, secret[:8]) for where, text in told.items() for secret in secrets if secret in text]
    assert found == []
