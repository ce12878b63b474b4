"""Write the Grafana dashboard to deploy/dashboards, or with --check say that what is there is not what would be written."""

from __future__ import annotations

import json
import sys
from typing import NamedTuple

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model
from tools.generated import ROOT, Generated

SOURCE = model.DataSourceRef("prometheus", "${datasource}")
WIDTH, HEIGHT = 8, 7
"""Of a panel: three of them beside each other fill the 24 columns of Grafana."""


class Panel(NamedTuple):
    """A picture: what it shows, in Grafana's name of the unit, by which queries, each with what its lines are called."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]


def _one(title: str, unit: str, query: str, legend: str) -> Panel:
    return Panel(title, unit, ((query, legend),))


def _quantiles(title: str, metric: str, by: str, legend: str, where: str = "") -> Panel:
    rate = f"rate({metric}_bucket{{{where}}}[$__rate_interval])"
    return Panel(
        title,
        "s",
        tuple((f"histogram_quantile({q}, sum by ({by}, le) ({rate}))", f"{legend} p{round(100 * q)}") for q in (0.5, 0.95)),
    )


NODE = 'node=~"$node"'
ROWS: dict[str, tuple[Panel, ...]] = {
    "Is it as it was written?": (
        _one("Not Ready", "short", 'sum by (job, kind) (dpuchain_objects{state="unready"})', "{{kind}} ({{job}})"),
        _one("Ready", "short", 'sum by (job, kind) (dpuchain_objects{state="ready"})', "{{kind}} ({{job}})"),
        _one("On their way out", "short", 'sum by (job, kind) (dpuchain_objects{state="deleting"})', "{{kind}} ({{job}})"),
        _quantiles("From a change until it works", "dpuchain_convergence_seconds", "kind", "{{kind}}"),
        _one("DPU clusters", "bool_on_off", "max by (dpu_cluster) (dpuchain_cluster_up)", "{{dpu_cluster}}"),
        _one("Conflicts", "short", f"sum by (node, kind) (dpuchain_conflicts{{{NODE}}})", "{{node}} {{kind}}"),
    ),
    "Switches": (
        _one(
            "Frames", "pps", f"sum by (node, chain, switch) (rate(dpuchain_switch_packets_total{{{NODE}}}[$__rate_interval]))",
            "{{node}} {{chain}} {{switch}}",
        ),
        _one(
            "Bits", "bps", f"8 * sum by (node, chain, switch) (rate(dpuchain_switch_bytes_total{{{NODE}}}[$__rate_interval]))",
            "{{node}} {{chain}} {{switch}}",
        ),
        _one(
            "Dropped", "pps", f"sum by (node, chain, by) (rate(dpuchain_switch_dropped_packets_total{{{NODE}}}[$__rate_interval]))",
            "{{node}} {{chain}} by {{by}}",
        ),
        Panel(
            "Flows", "short",
            (
                (f"sum by (node, kind) (dpuchain_flows{{{NODE}}})", "{{node}} {{kind}}"),
                (f"sum by (node) (dpuchain_flows_missing{{{NODE}}})", "{{node}} missing"),
            ),
        ),
        _one("Ports", "short", f"sum by (node, state) (dpuchain_ports{{{NODE}}})", "{{node}} {{state}}"),
        _one(
            "Undone changes of others", "short", f"sum by (node, kind) (increase(dpuchain_repairs_total{{{NODE}}}[$__rate_interval]))",
            "{{node}} {{kind}}",
        ),
        _quantiles("Calls of the CNI", "dpuchain_cni_seconds", "command", "{{command}}", NODE),
    ),
    "Work": (
        _one("Keys that wait", "short", "sum by (job, controller) (dpuchain_queue_length)", "{{job}} {{controller}}"),
        _one("Longest wait", "s", "max by (job, controller) (dpuchain_queue_oldest_seconds)", "{{job}} {{controller}}"),
        _quantiles("Work on a key", "dpuchain_reconcile_seconds", "job", "{{job}}"),
        _one(
            "Outcomes", "ops", "sum by (job, result) (rate(dpuchain_reconciles_total[$__rate_interval]))", "{{job}} {{result}}"
        ),
        _one("Retries", "ops", "sum by (job, controller) (rate(dpuchain_retries_total[$__rate_interval]))", "{{job}} {{controller}}"),
        _one("Who works", "bool_on_off", "max by (job, instance) (dpuchain_leading)", "{{job}} {{instance}}"),
    ),
    "API servers": (
        _one(
            "Requests", "reqps", 'sum by (job, verb) (rate(dpuchain_api_requests_total[$__rate_interval]))', "{{job}} {{verb}}"
        ),
        _one(
            "Requests that fail", "reqps", 'sum by (job, answer) (rate(dpuchain_api_requests_total{answer!="ok"}[$__rate_interval]))',
            "{{job}} {{answer}}",
        ),
        _quantiles("Time to an answer", "dpuchain_api_request_seconds", "job", "{{job}}", 'verb!="WATCH"'),
        Panel(
            "Writes", "short",
            (
                ("sum by (instance) (dpuchain_writes_in_flight)", "in flight"),
                ("sum by (instance) (dpuchain_writes_in_flight_limit)", "at most"),
                ("sum by (instance) (dpuchain_writes_waiting)", "waiting"),
            ),
        ),
        _quantiles("From a write until the watch tells", "dpuchain_watch_lag_seconds", "kind", "{{kind}}"),
        _one(
            "Admission", "reqps", "sum by (kind, answer) (rate(dpuchain_admission_reviews_total[$__rate_interval]))", "{{kind}} {{answer}}"
        ),
    ),
    "Processes": (
        _one("Processor", "percentunit", "sum by (job, instance) (rate(process_cpu_seconds_total{job=~\"dpuchain-.*\"}[$__rate_interval]))",
             "{{job}} {{instance}}"),
        _one("Memory", "bytes", 'process_resident_memory_bytes{job=~"dpuchain-.*"}', "{{job}} {{instance}}"),
        Panel(
            "Open files and tasks", "short",
            (
                ('process_open_fds{job=~"dpuchain-.*"}', "files of {{job}} {{instance}}"),
                ("dpuchain_tasks", "tasks of {{job}} {{instance}}"),
            ),
        ),
    ),
}  # fmt: skip


def _panel(panel: Panel) -> timeseries.Panel:
    made = timeseries.Panel().title(panel.title).unit(panel.unit).datasource(SOURCE).span(WIDTH).height(HEIGHT).min(0)
    for position, (query, legend) in enumerate(panel.queries):
        made = made.with_target(prometheus.Dataquery().expr(query).legend_format(legend).ref_id(chr(ord("A") + position)))
    return made


def content() -> str:
    """The dashboard, as Grafana imports it."""
    nodes = build.QueryVariable("node").query("label_values(dpuchain_flows, node)").datasource(SOURCE)
    made = (
        build.Dashboard("dpuchain")
        .uid("dpuchain")
        .description("Service function chaining for DPUs: generated by tools/dashboard.py")
        .tags(["dpuchain"])
        .refresh("30s")
        .time("now-1h", "now")
        .with_variable(build.DatasourceVariable("datasource").type("prometheus").label("Prometheus"))
        .with_variable(
            nodes.label("DPU").multi(True).include_all(True).all_value(".*").refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        )
    )
    for title, panels in ROWS.items():
        made = made.with_row(build.Row(title))
        for panel in panels:
            made = made.with_panel(_panel(panel))
    return json.dumps(json.loads(json.dumps(made.build(), cls=JSONEncoder)), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.exit(
        Generated(ROOT / "deploy" / "dashboards", "*.json", {"dpuchain.json": content()}, "python -m tools.dashboard").main(sys.argv[1:])
    )
