"""Traces of changes: from an object of the host cluster to the flows of a switch, through three processes.

A change is a generation of an object that its status does not speak of yet. The process that sees it first, the host controller, begins a
trace; whoever writes an object for it writes the span's W3C traceparent along, as an annotation, and who carries that object out goes on
from there. The annotation never causes a write. Without an endpoint to send to (`on`) no span is ever made and nothing of OpenTelemetry is
imported; every function here then costs one comparison.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, TypeAlias, TypeVar
from urllib.parse import urlsplit

import structlog
from msgspec.structs import replace
from structlog.contextvars import bound_contextvars

from dpuchain.api.meta import Object, key_of
from dpuchain.api.names import TRACEPARENT_ANNOTATION
from dpuchain.kube.errors import Conflict

T = TypeVar("T", bound=Object)

Attributes: TypeAlias = Mapping[str, str | int | bool]

CLUSTER, NODE, NAMESPACE = "k8s.cluster.name", "k8s.node.name", "k8s.namespace.name"
READY = "dpuchain.ready"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

_log = structlog.get_logger(__name__)


class Span(Protocol):
    """One piece of work on a change, whose trace was chosen to be sent."""

    carried: dict[tuple[Any, ...], str]
    """What the objects that the work has written say of it, by what and where they are."""

    @property
    def trace_id(self) -> str:
        """Identity of the trace, in hexadecimal digits."""

    @property
    def traceparent(self) -> str:
        """How another process names the span (W3C Trace Context)."""

    def below(self, name: str, attributes: Attributes) -> Span:
        """A span for a part of the work, be the work over or not."""

    def set(self, attributes: Attributes) -> None:
        """Say more of the work."""

    def end(self, error: BaseException | None = None) -> None:
        """The work is over. Only the first end counts."""

    def drop(self) -> None:
        """There was no work: nothing is sent of it."""


class Backend(Protocol):
    """What makes spans and sends them."""

    def root(self, name: str, attributes: Attributes) -> Span | None:
        """The beginning of a trace; None if it is not to be sent."""

    def continued(self, traceparent: str, name: str, attributes: Attributes) -> Span | None:
        """What another process has begun goes on here; None if that is not sent, or if it is no traceparent."""

    def stop(self) -> None:
        """Send what was not sent yet, and return soon, whatever becomes of it."""


@dataclass
class _State:
    backend: Backend | None = None


_state = _State()


def endpoint_of(environment: Mapping[str, str]) -> str:
    """Where traces go, by OpenTelemetry's environment variables; empty if nowhere. ValueError if they ask for what there is not."""
    endpoint = next(filter(None, map(environment.get, ENDPOINTS)), "")
    exporter = environment.get("OTEL_TRACES_EXPORTER") or "otlp"
    if not endpoint or exporter == "none" or environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ""
    if exporter != "otlp":
        raise ValueError(f"OTEL_TRACES_EXPORTER={exporter}: traces are sent by otlp alone; leave the variable out, or say none")
    protocol = next(filter(None, map(environment.get, PROTOCOLS)), "http/protobuf")
    if protocol != "http/protobuf":
        raise ValueError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol} is not spoken: say http/protobuf, and name the collector's port for it (4318)"
        )
    if urlsplit(endpoint).scheme not in ("http", "https") or not urlsplit(endpoint).hostname:
        raise ValueError("the endpoint for traces is no URL such as http://collector.example:4318")
    return endpoint


@contextlib.contextmanager
def on(identity: Mapping[str, str], environment: Mapping[str, str]) -> Iterator[None]:
    """Send traces while the context lasts, if the environment names an endpoint. `identity` is what is said of this process.

    ValueError if that is asked for and cannot be done.
    """
    endpoint = endpoint_of(environment)
    if not endpoint:
        yield
        return
    try:
        telemetry = import_module("dpuchain.runtime.telemetry")
    except ModuleNotFoundError as error:
        raise ValueError(f"an endpoint for traces is set, but {error.name} is not installed: pip install 'dpuchain[tracing]'") from error
    _log.info("traces are sent", to=urlsplit(endpoint).hostname, **identity)
    with use(telemetry.OpenTelemetry(identity)):
        yield


@contextlib.contextmanager
def use(backend: Backend) -> Iterator[None]:
    """Have spans made by `backend` while the context lasts."""
    _state.backend = backend
    try:
        yield
    finally:
        _state.backend = None
        backend.stop()


def about(item: Object) -> Attributes:
    """What is said of an object."""
    meta = item.metadata
    found = {NAMESPACE: meta.namespace, "k8s.object.kind": type(item).__name__, "k8s.object.name": meta.name}
    return {**found, "k8s.object.uid": meta.uid, "k8s.object.generation": meta.generation} if meta.uid else found


@contextlib.contextmanager
def step(parent: Span | None, name: str, item: Object, more: Attributes | None = None) -> Iterator[Span | None]:
    """Do a part of a span's work, which is about `item`; None without a span that it is a part of."""
    if parent is None:
        yield None
        return
    span = parent.below(f"{name} {type(item).__name__}", {**about(item), **(more or {})})
    with bound_contextvars(trace_id=span.trace_id), _ended([span]):
        yield span


@contextlib.contextmanager
def steps(parents: Sequence[Span], name: str, attributes: Attributes) -> Iterator[None]:
    """Do what is a part of the work of several spans at once."""
    with _ended([parent.below(name, attributes) for parent in parents]):
        yield


@contextlib.contextmanager
def _ended(spans: Sequence[Span], unless: tuple[type[BaseException], ...] = ()) -> Iterator[None]:
    """End spans with the context, and say by what error if by one; after some errors they go on."""
    try:
        yield
    except unless:
        raise
    except BaseException as error:
        for span in spans:
            span.end(error)
        raise
    for span in spans:
        span.end()


async def reported(parent: Span | None, item: Object, report: Awaitable[bool], *, ready: bool) -> bool:
    """Await the report of an object's status, which says whether anything was written: if so that is a part of the span."""
    with step(parent, "write status of", item, {READY: ready}) as span:
        written = await report
        if span is not None and not written:
            span.drop()
    return written


async def written(parent: Span | None, item: T, more: Attributes, write: Callable[[T], Awaitable[T]]) -> T:
    """What `write` answers, given `item`. As a part of a span's work the object names that part: who carries it out goes on from there."""
    with step(parent, "write", item, more) as span:
        if span is None or parent is None:
            return await write(item)
        # Written again, because a cache does not show yet that it was, an object must say the same: it would be changed by the trace alone.
        traceparent = parent.carried.setdefault((type(item), key_of(item), *more.values()), span.traceparent)
        found: Any = item
        annotations = {**item.metadata.annotations, TRACEPARENT_ANNOTATION: traceparent}
        answer = await write(replace(found, metadata=replace(item.metadata, annotations=annotations)))
        span.set(about(answer))
        return answer


@dataclass
class _Change:
    """The newest generation of an object that was seen, what its annotation said, and the span of the work on it while that goes on."""

    uid: str
    generation: int
    source: str
    span: Span | None


class Changes:
    """The changes that a process has under way, each with the span that all work on it is a part of.

    What the status of an object speaks of already is no change, so a restart traces nothing anew; and what an annotation named once
    belongs to the generation that it came with: whoever edits the object later is not a part of that trace.
    """

    def __init__(self, name: str, *, first: bool = False, passing: tuple[type[Exception], ...] = (Conflict,)) -> None:
        """`name` is that of the spans, before the kind; the first process of the way begins traces. A pass that ends by one of the errors
        that are `passing` has not failed: the next goes on.
        """
        self._passing = passing
        self._name = name
        self._first = first
        self._changes: dict[tuple[str, str, str], _Change] = {}

    def of(self, item: Any) -> Span | None:
        """The span of the work on the latest change of an object; None if there is none under way, or it is not traced."""
        if _state.backend is None or (item.metadata.deletion_timestamp is not None and not self._first):
            return None
        meta, key = item.metadata, _key_of(item)
        known = self._changes.get(key)
        if known is not None and known.uid == meta.uid and known.generation >= meta.generation:
            return known.span
        source = "" if self._first else meta.annotations.get(TRACEPARENT_ANNOTATION, "")
        span = None
        if item.status.observed_generation != meta.generation and (known is None or self._first or source != known.source):
            span = self._begin(_state.backend, item, source)
        self._changes[key] = _Change(meta.uid, meta.generation, source, span)
        return span

    @contextlib.contextmanager
    def work(self, items: Iterable[Any]) -> Iterator[Sequence[Span]]:
        """Make a pass over objects: the spans of their changes, which the first pass that gets through ends. Lines that are logged in it
        name the traces.
        """
        spans = [span for item in items if (span := self.of(item)) is not None] if _state.backend is not None else []
        if not spans:
            yield ()
            return
        with bound_contextvars(trace_id=",".join(sorted({span.trace_id for span in spans}))), _ended(spans, self._passing):
            yield spans

    def _begin(self, backend: Backend, item: Any, source: str) -> Span | None:
        name = f"{self._name} {type(item).__name__}"
        if not self._first:
            return backend.continued(source, name, about(item)) if source else None
        return backend.root(name, {**about(item), "dpuchain.deleting": item.metadata.deletion_timestamp is not None})

    def settled(self, item: Object) -> None:
        """The change is carried out: nothing that comes is a part of it."""
        change = self._changes.get(_key_of(item))
        if change is not None:
            change.span = None

    def forget(self, kind: str, namespace: str, name: str) -> None:
        """The object is gone."""
        self._changes.pop((kind, namespace, name), None)


def _key_of(item: Object) -> tuple[str, str, str]:
    return type(item).__name__, item.metadata.namespace, item.metadata.name
