"""The page of the metrics, from their catalogue."""

from __future__ import annotations

from tools.reference.text import code, page, table

from dpuchain.runtime.metrics import CATALOGUE, Measure

_INTRODUCTION = """
Every process answers at `/metrics` of its `--metrics-address`. The values of each label are bounded by what is said of it. A histogram
has `_bucket`, `_sum` and `_count`; besides these there are the `process_*` metrics of the Prometheus client (memory, processor time,
open files). What is read when somebody asks costs nothing in between.
"""


def metrics() -> str:
    """The page."""
    return page("Metrics", _INTRODUCTION.strip() + "\n", table(("metric", "type", "unit", "labels", "processes", ""), map(_row, CATALOGUE)))


def _row(measure: Measure) -> tuple[str, ...]:
    labels = "; ".join(f"{code(name)}: {bound}" for name, bound in measure.labels.items())
    return code(measure.name), measure.kind, measure.unit, labels, measure.processes, measure.help
