"""What every process counts. Names are `dpuchain_*`, units are in the name, labels are bounded: a controller, never an object."""

from __future__ import annotations

import asyncio
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

REGISTRY = CollectorRegistry()

RECONCILES = Counter("dpuchain_reconciles", "Times that a key was worked on.", ["controller", "result"], registry=REGISTRY)
RECONCILE_SECONDS = Histogram(
    "dpuchain_reconcile_seconds",
    "How long the work on a key took.",
    ["controller"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30),
    registry=REGISTRY,
)
QUEUE_LENGTH = Gauge("dpuchain_queue_length", "Keys that wait for a worker.", ["controller"], registry=REGISTRY)
QUEUE_OLDEST = Gauge(
    "dpuchain_queue_oldest_seconds", "For how long the key has waited that has waited longest.", ["controller"], registry=REGISTRY
)
QUEUE_SECONDS = Histogram(
    "dpuchain_queue_seconds",
    "How long a key waited for a worker.",
    ["controller"],
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 120),
    registry=REGISTRY,
)
RETRIES = Counter("dpuchain_retries", "Keys that are worked on again after a failure.", ["controller"], registry=REGISTRY)

TASKS = Gauge("dpuchain_tasks", "Tasks of the event loop that have not ended.", registry=REGISTRY)


class Backlog(Protocol):
    """A loop with keys that wait for it."""

    @property
    def name(self) -> str:
        """The loop's name."""

    @property
    def waiting(self) -> int:
        """How many keys wait."""

    @property
    def oldest(self) -> float:
        """For how many seconds one of them has waited at most; 0 if none waits."""


BACKLOGS: set[Backlog] = set()
"""The loops that are at work."""


def _read_backlogs() -> None:
    """Tell of the loops that are at work now, of those of one name as of one."""
    QUEUE_LENGTH.clear()
    QUEUE_OLDEST.clear()
    for name in {backlog.name for backlog in BACKLOGS}:
        same = [backlog for backlog in BACKLOGS if backlog.name == name]
        QUEUE_LENGTH.labels(name).set(sum(backlog.waiting for backlog in same))
        QUEUE_OLDEST.labels(name).set(max(backlog.oldest for backlog in same))


def exposition() -> bytes:
    """All metrics in Prometheus' text format, as an event loop answers who asks for them."""
    TASKS.set(len(asyncio.all_tasks()))
    _read_backlogs()
    return generate_latest(REGISTRY)
