"""Everything that the processes measure, in one catalogue: it is what is registered, what the reference is made from, and what tests hold.

Names are `dpuchain_*` and end with their unit; a counter's has `_total` after it. Each label says what bounds it. What happens is counted
where it happens. What is so at a moment (`_read`) is read when somebody asks, by whoever knows it, and nothing of it is kept: so many
agents in one process do not disturb each other, and what is gone is not told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from dpuchain.kube.client import observers
from dpuchain.runtime.version import VERSION

Kind = Literal["counter", "gauge", "histogram"]
Values = Mapping[tuple[str, ...], float]
"""Values by the values of the labels, in the order of the catalogue."""
Reading = Mapping["Measure", Values]
Read = Callable[[], Awaitable[Reading]]
"""Reads what is so now. To be called for each scrape, and at no other time."""


@dataclass(frozen=True, eq=False)
class Measure:
    """A metric: what it tells, in which unit, and by which labels."""

    name: str
    kind: Kind
    unit: str
    """`seconds`, `bytes`, or what is counted."""
    help: str
    labels: Mapping[str, str]
    """What bounds the values of each label."""
    processes: str
    """Which processes have it."""
    read: bool = False
    """Whether it is read when somebody asks."""


REGISTRY = CollectorRegistry()
CATALOGUE: list[Measure] = []

ALL, CONTROLLERS, HOST, DPU, AGENT, ADMISSION = "all", "host, dpu", "host", "dpu", "agent", "admission"
_LOOP = {"controller": "the loops of the code; two for each DPU cluster in the host controller"}
_KIND = {"kind": "the kinds of the API"}
_SWITCH = {"chain": "the chains of this node", "switch": "the switches of a chain, at most 50"}

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30)
_SLOW = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


def _declare(kind: Kind, name: str, unit: str, text: str, *, labels: Mapping[str, str], of: str, read: bool = False) -> Measure:
    measure = Measure(f"dpuchain_{name}", kind, unit, text, labels, of, read)
    CATALOGUE.append(measure)
    return measure


def _counter(name: str, unit: str, text: str, of: str = ALL, /, **labels: str) -> Counter:
    measure = _declare("counter", f"{name}_total", unit, text, labels=labels, of=of)
    return Counter(measure.name, text, list(labels), registry=REGISTRY)


def _gauge(name: str, unit: str, text: str, of: str = ALL, /, **labels: str) -> Gauge:
    measure = _declare("gauge", name, unit, text, labels=labels, of=of)
    return Gauge(measure.name, text, list(labels), registry=REGISTRY)


def _histogram(name: str, text: str, buckets: Iterable[float], of: str = ALL, /, **labels: str) -> Histogram:
    measure = _declare("histogram", f"{name}_seconds", "seconds", text, labels=labels, of=of)
    return Histogram(measure.name, text, list(labels), buckets=tuple(buckets), registry=REGISTRY)


def _read(kind: Kind, name: str, unit: str, text: str, of: str = ALL, /, **labels: str) -> Measure:
    return _declare(kind, f"{name}_total" if kind == "counter" else name, unit, text, labels=labels, of=of, read=True)


RESULTS = ("success", "conflict", "throttled", "error", "terminal", "bug")
"""How work on a key ends; only `terminal` is not tried again: it cannot be done as things are."""
REPAIRED = ("flow-deleted", "flow-altered", "flow-added", "port-deleted", "port-altered")
"""What others do to a switch."""

# The work
RECONCILES = _counter(
    "reconciles",
    "keys",
    "Times that a key was worked on.",
    **_LOOP,
    result=", ".join(RESULTS),
)
RECONCILE_SECONDS = _histogram("reconcile", "How long the work on a key took.", _FAST, **_LOOP)
RETRIES = _counter("retries", "keys", "Keys that are worked on again after a failure.", **_LOOP)
QUEUE_LENGTH = _read("gauge", "queue_length", "keys", "Keys that wait for a worker.", **_LOOP)
QUEUE_OLDEST = _read(
    "gauge", "queue_oldest_seconds", "seconds", "For how long the key has waited that has waited longest; 0 if none waits.", **_LOOP
)
QUEUE_SECONDS = _histogram("queue", "How long a key waited for a worker.", (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 120), **_LOOP)
TASKS = _gauge("tasks", "tasks", "Tasks of the event loop that have not ended.")
CONVERGENCE_SECONDS = _histogram(
    "convergence",
    "From the moment at which a change of an object was seen until everything below it was ready.",
    _SLOW,
    CONTROLLERS,
    **_KIND,
)

# API servers
API_REQUESTS = _counter(
    "api_requests",
    "requests",
    "Requests to API servers, by how they ended: ok, or the name of the error.",
    verb="GET, POST, PATCH, DELETE, and WATCH for the beginning of a watch",
    answer="ok and the errors of dpuchain.kube.errors",
)
API_SECONDS = _histogram(
    "api_request", "How long API servers took to answer.", (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30), verb="as above"
)
WATCH_LAG = _histogram(
    "watch_lag",
    "From the answer to a write of ours until the watch has brought what was written.",
    (0.0, 0.01, 0.05, 0.1, 0.5, 1, 5, 30),
    DPU,
    kind="ServiceChain, ServiceInterface",
)
WRITES_IN_FLIGHT = _gauge("writes_in_flight", "requests", "Writes that were sent and are not answered yet.", DPU)
WRITES_LIMIT = _gauge("writes_in_flight_limit", "requests", "Writes that may be in flight at once.", DPU)
WRITES_WAITING = _gauge("writes_waiting", "requests", "Writes that wait for their turn.", DPU)

# What others change
REPAIRS = _counter(
    "repairs",
    "changes",
    "Changes of others to our flows and ports that were undone.",
    AGENT,
    kind=", ".join(REPAIRED),
)
RELEASE_REPAIRS = _counter("release_repairs", "changes", "Changes of others to what our releases made that were undone.", HOST)

# Answers
CNI_SECONDS = _histogram(
    "cni",
    "How long a call of the CNI took.",
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 60),
    AGENT,
    command="ADD, DEL, CHECK, GC, STATUS, other",
    result="ok, refused",
)
ADMISSION_REVIEWS = _counter(
    "admission_reviews", "questions", "Questions that were answered.", ADMISSION, **_KIND, answer="allowed, warned, refused"
)
ADMISSION_SECONDS = _histogram(
    "admission",
    "How long an answer took, once the question was read.",
    (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1),
    ADMISSION,
)

# How things are
READY = _read("gauge", "ready", "1 or 0", "Whether a check of the process's own readiness passes.", check="the checks of /readyz")
LEADING = _read("gauge", "leading", "1 or 0", "Whether this replica works: it holds the Lease, or there is no election.", CONTROLLERS)
CLUSTER_UP = _read(
    "gauge",
    "cluster_up",
    "1 or 0",
    "Whether a DPU cluster can be used: reached and read.",
    HOST,
    dpu_cluster="the DPUClusters",
)
OBJECTS = _read(
    "gauge",
    "objects",
    "objects",
    "Objects that the process answers for, by what it says of them: an agent its node's, a DPU controller the sets, the host controller "
    "what operators write.",
    **_KIND,
    state="ready, unready, deleting",
)
CONFLICTS = _read(
    "gauge",
    "conflicts",
    "conflicts",
    "Claims of two objects of this node that exclude each other: on a port, a VLAN, a place in a switch.",
    AGENT,
    kind="port, vlan, switch, several",
)

# The switch of a DPU
FLOWS = _read("gauge", "flows", "flows", "Flows of the bridge, by whose they are.", AGENT, kind="compiled, learned, foreign")
FLOWS_MISSING = _read("gauge", "flows_missing", "flows", "Flows that chains need and that the bridge does not have.", AGENT)
PORTS = _read("gauge", "ports", "ports", "Interfaces of this node, by how their ports are.", AGENT, state="up, down, missing")
SWITCH_PACKETS = _read("counter", "switch_packets", "packets", "Frames that came in by the ports of a switch.", AGENT, **_SWITCH)
SWITCH_BYTES = _read("counter", "switch_bytes", "bytes", "Bytes of the frames that came in by the ports of a switch.", AGENT, **_SWITCH)
SWITCH_DROPS = _read(
    "counter",
    "switch_dropped_packets",
    "packets",
    "Frames that ended at a switch, by whom: a flow, as their tag is another interface's, or the ports' devices.",
    AGENT,
    **_SWITCH,
    by="flow, device",
)

BUILD = _gauge("build_info", "1", "Which version runs.", version="one")
BUILD.labels(VERSION).set(1)
ProcessCollector(registry=REGISTRY)


def _count_request(verb: str, answer: str, seconds: float) -> None:
    API_REQUESTS.labels(verb, answer).inc()
    API_SECONDS.labels(verb).observe(seconds)


observers.append(_count_request)


async def nothing() -> Reading:
    """What a process tells that has nothing to read."""
    return {}


@dataclass(frozen=True)
class _Snapshot:
    """The registry and a reading as one, in the form that the library takes."""

    reading: Reading

    def collect(self) -> Iterator[Metric]:
        yield from REGISTRY.collect()
        for measure, values in self.reading.items():
            family = (CounterMetricFamily if measure.kind == "counter" else GaugeMetricFamily)(
                measure.name, measure.help, labels=list(measure.labels)
            )
            for labels, value in values.items():
                family.add_metric(labels, value)
            yield family


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


def _backlogs() -> Reading:
    """What the loops have to do now; those of one name are told of as of one."""
    names: dict[str, list[Backlog]] = {}
    for backlog in BACKLOGS:
        names.setdefault(backlog.name, []).append(backlog)
    if not names:
        return {}
    return {
        QUEUE_LENGTH: {(name,): sum(backlog.waiting for backlog in same) for name, same in names.items()},
        QUEUE_OLDEST: {(name,): max(backlog.oldest for backlog in same) for name, same in names.items()},
    }


async def exposition(read: Read = nothing) -> bytes:
    """All metrics in Prometheus' text format, with what is so now."""
    now = reading(await read(), _backlogs())
    TASKS.set(len(asyncio.all_tasks()))
    return generate_latest(_Snapshot(now))


def reading(*parts: Reading) -> Reading:
    """Several readings as one."""
    found: dict[Measure, Values] = {}
    for part in parts:
        for measure, values in part.items():
            found[measure] = {**found.get(measure, {}), **values}
    return found


def states(kind: str, counts: Mapping[str, int]) -> Values:
    """How many objects of a kind are in each state, those included that none is in."""
    return {(kind, state): counts.get(state, 0) for state in ("ready", "unready", "deleting")}
