"""Alert rules as the charts bring them: each fires when it should and is quiet when it should be, as Prometheus' own promtool says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.integration.deploy.conftest import CHARTS, Helm

from dpuchain.lab.process import run
from dpuchain.runtime.metrics import CATALOGUE

if TYPE_CHECKING:
    from pathlib import Path

RUNBOOKS = "https://runbooks.example/dpuchain"
OF_PROMETHEUS = {"up", "process_open_fds", "process_max_fds"}
AGENT = 'job="dpuchain-agent",instance="a",node="dpu-1"'


@dataclass(frozen=True)
class Case:
    """Series by which an alert fires, others by which it does not, each from minute to minute; and when that is looked at."""

    fires: dict[str, str]
    quiet: dict[str, str]
    minutes: int


def histogram(name: str, labels: str, fast: str, slow: str) -> dict[str, str]:
    """What is below 0.01 s, and all."""
    return {f'{name}_bucket{{{labels},le="{bound}"}}': values for bound, values in (("0.01", fast), ("300", slow), ("+Inf", slow))}


def slow(name: str, labels: str) -> Case:
    """A histogram most of which is slow; and one of which nothing is."""
    return Case(histogram(name, labels, "0x60", "0+60x60"), histogram(name, labels, "0+60x60", "0+60x60"), 40)


def gauge(name: str, labels: str, minutes: int, bad: str = "1x60", good: str = "0x60") -> Case:
    series = f"{name}{{{labels}}}"
    return Case({series: bad}, {series: good}, minutes)


CASES = {
    "DpuchainDown": gauge("up", 'job="dpuchain-host",instance="a"', 6, "0x60", "1 1 0 0 1x50"),
    "DpuchainNotReady": gauge("dpuchain_ready", 'job="dpuchain-host",check="api"', 6, "0x60", "1x60"),
    "DpuchainNoLeader": Case(
        {f'dpuchain_leading{{job="dpuchain-host",instance="{name}"}}': "0x60" for name in "ab"},
        {'dpuchain_leading{job="dpuchain-host",instance="a"}': "0x60", 'dpuchain_leading{job="dpuchain-host",instance="b"}': "1x60"},
        4,
    ),
    "DpuchainBug": Case(
        {'dpuchain_reconciles_total{job="j",controller="c",result="bug"}': "0 0 1x60"},
        {'dpuchain_reconciles_total{job="j",controller="c",result="error"}': "0+5x60"},
        5,
    ),
    "DpuchainFilesRunOut": Case(
        {'process_open_fds{job="dpuchain-host"}': "900x60", 'process_max_fds{job="dpuchain-host"}': "1000x60"},
        {'process_open_fds{job="dpuchain-host"}': "90x60", 'process_max_fds{job="dpuchain-host"}': "1000x60"},
        15,
    ),
    "DpuchainObjectsNotReady": gauge("dpuchain_objects", 'kind="ServiceChain",state="unready"', 20, "2x60", "2x10 0x60"),
    "DpuchainDeletionStuck": gauge("dpuchain_objects", 'kind="ServiceChain",state="deleting"', 35, "1x60", "1x20 0x60"),
    "DpuchainConvergenceSlow": slow("dpuchain_convergence_seconds", 'kind="ServiceChainSet"'),
    "DpuchainBacklog": gauge("dpuchain_queue_oldest_seconds", 'controller="c"', 10, "70x60", "0 30 59 10x60"),
    "DpuchainRetries": gauge("dpuchain_retries_total", 'controller="c"', 30, "0+120x60", "0+6x60"),
    "DpuchainClusterUnusable": Case(
        {'dpuchain_cluster_up{dpu_cluster="n/c",instance="a"}': "0x60", 'dpuchain_leading{instance="a"}': "1x60"},
        {'dpuchain_cluster_up{dpu_cluster="n/c",instance="a"}': "0x60", 'dpuchain_leading{instance="a"}': "0x60"},
        15,
    ),
    "DpuchainRequestsFail": Case(
        {
            'dpuchain_api_requests_total{job="j",instance="a",answer="ok"}': "0+90x60",
            'dpuchain_api_requests_total{job="j",instance="a",answer="Throttled"}': "0+10x60",
        },
        {
            'dpuchain_api_requests_total{job="j",instance="a",answer="ok"}': "0+90x60",
            'dpuchain_api_requests_total{job="j",instance="a",answer="NotFound"}': "0+50x60",
        },
        30,
    ),
    "DpuchainRequestsSlow": slow("dpuchain_api_request_seconds", 'job="j",verb="PATCH"'),
    "DpuchainWritesHeldBack": Case(
        {"dpuchain_writes_in_flight_limit": "2x60", "dpuchain_writes_waiting": "40x60"},
        {"dpuchain_writes_in_flight_limit": "2x60", "dpuchain_writes_waiting": "0x60"},
        15,
    ),
    "DpuchainToldLate": slow("dpuchain_watch_lag_seconds", 'job="j",kind="ServiceChain"'),
    "DpuchainFlowsMissing": gauge("dpuchain_flows_missing", AGENT, 4, "3x60", "0 3 0x60"),
    "DpuchainPortsDown": gauge("dpuchain_ports", f'{AGENT},state="missing"', 15),
    "DpuchainConflict": gauge("dpuchain_conflicts", f'{AGENT},kind="port"', 10),
    "DpuchainFoughtOver": gauge("dpuchain_repairs_total", f'{AGENT},kind="flow-deleted"', 15, "0+2x60", "0 3x60"),
    "DpuchainReleasesChanged": gauge("dpuchain_release_repairs_total", 'job="j"', 55, "0+1x60", "0 1x60"),
    "DpuchainFramesDropped": gauge(
        "dpuchain_switch_dropped_packets_total", f'{AGENT},chain="n/c",switch="0",by="device"', 30, "0+6000x60", "0+60x60"
    ),
    "DpuchainPodsNotWired": gauge("dpuchain_cni_seconds_count", f'{AGENT},command="ADD",result="refused"', 12, "0+1x60", "0 1x60"),
    "DpuchainWiringSlow": slow("dpuchain_cni_seconds", f'{AGENT},command="ADD",result="ok"'),
    "DpuchainAdmissionSlow": slow("dpuchain_admission_seconds", 'job="j"'),
}


async def rules_of(helm: Helm, chart: str) -> dict[str, Any]:
    """The groups of the PrometheusRule of a chart."""
    items = await helm.rendered(chart, "--set=crds.install=false,monitoring.enabled=true", f"--set=monitoring.runbooks={RUNBOOKS}")
    (rule,) = (item for item in items if item["kind"] == "PrometheusRule")
    spec: dict[str, Any] = rule["spec"]
    return spec


@pytest.fixture
async def rules(helm: Helm) -> dict[str, Any]:
    """The rules; both charts bring the same."""
    first, second = [await rules_of(helm, chart) for chart in CHARTS]
    assert first == second
    return first


def each(rules: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"]}


def case_of(name: str, case: Case, *, fires: bool) -> dict[str, Any]:
    series = case.fires if fires else case.quiet
    return {
        "name": f"{name} {'fires' if fires else 'is quiet'}",
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
                "eval_time": f"{case.minutes}m",
                "exp_samples": [{"labels": "{}", "value": 1 if fires else 0}],
            }
        ],
    }


async def test_each_alert_fires_when_it_should_and_at_no_other_time(rules: dict[str, Any], tmp_path: Path) -> None:
    assert each(rules).keys() == CASES.keys()
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    assert f"SUCCESS: {len(CASES)} rules found" in await run("promtool", "check", "rules", str(tmp_path / "rules.yaml"))
    tests = [case_of(name, case, fires=fires) for name, case in CASES.items() for fires in (True, False)]
    content = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(content))
    await run("promtool", "test", "rules", str(tmp_path / "tests.yaml"))


async def test_each_alert_says_what_is_the_matter_and_links_to_what_to_do(rules: dict[str, Any], pytestconfig: pytest.Config) -> None:
    sections = re.findall(r"^## (\w+)$", (pytestconfig.rootpath / "docs/runbooks.md").read_text(), re.MULTILINE)
    found = each(rules)
    assert sections == list(found), "a section for each alert, in the same order"
    for name, rule in found.items():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook_url"] == f"{RUNBOOKS}#{name.lower()}"


async def test_alerts_ask_for_metrics_that_there_are(rules: dict[str, Any]) -> None:
    there = {measure.name for measure in CATALOGUE} | OF_PROMETHEUS
    there |= {f"{measure.name}_{part}" for measure in CATALOGUE if measure.kind == "histogram" for part in ("bucket", "count")}
    for rule in each(rules).values():
        asked = set(re.findall(r"\b(?:dpuchain_\w+|up|process_\w+)\b", re.sub(r"\bdpuchain-", "", rule["expr"])))
        assert asked
        assert asked <= there, rule["alert"]
