"""Spans by OpenTelemetry's SDK, sent by OTLP over HTTP: the only importer of it, and imported only where traces are asked for.

Sending is done by the SDK's own thread from a bounded queue, so a collector that is dead, or hangs, costs spans and nothing else.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from dpuchain.runtime.tracing import Attributes
from dpuchain.runtime.version import VERSION

STOP_SECONDS = 2.0
"""How long the end of a process waits for its last spans to be sent."""
COMPLAINT_SECONDS = 60.0
"""How often it is told, at most, that traces are lost."""
LIBRARY = "opentelemetry"
"""The loggers of the library."""

_log = structlog.get_logger(__name__)
_W3C = TraceContextTextMapPropagator()


class Complaints(logging.Handler):
    """Tells of what the library complains of, once in a while: a collector that is away would fill the log otherwise."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._since = -COMPLAINT_SECONDS
        self._untold = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Tell of a complaint, or count it."""
        now = time.monotonic()
        if now - self._since < COMPLAINT_SECONDS:
            self._untold += 1
            return
        _log.warning("traces are lost", reason=record.getMessage(), untold=self._untold)
        self._since, self._untold = now, 0


class OpenTelemetrySpan:
    """A span that is sent."""

    def __init__(self, tracer: trace.Tracer, span: trace.Span) -> None:
        self._tracer = tracer
        self._span = span
        self._over = False
        self.carried: dict[tuple[Any, ...], str] = {}

    @property
    def trace_id(self) -> str:
        """Identity of the trace, in hexadecimal digits."""
        return trace.format_trace_id(self._span.get_span_context().trace_id)

    @property
    def traceparent(self) -> str:
        """How another process names the span (W3C Trace Context)."""
        context = self._span.get_span_context()
        return f"00-{self.trace_id}-{trace.format_span_id(context.span_id)}-{context.trace_flags:02x}"

    def below(self, name: str, attributes: Attributes) -> OpenTelemetrySpan:
        """A span for a part of the work."""
        context = trace.set_span_in_context(self._span)
        return OpenTelemetrySpan(self._tracer, self._tracer.start_span(name, context, attributes=attributes))

    def set(self, attributes: Attributes) -> None:
        """Say more of the work."""
        self._span.set_attributes(attributes)

    def end(self, error: BaseException | None = None) -> None:
        """The work is over. Only the first end counts."""
        if self._over:
            return
        self._over = True
        if error is not None:
            self._span.set_status(trace.StatusCode.ERROR, str(error) or type(error).__name__)
        self._span.end()

    def drop(self) -> None:
        """There was no work: what does not end is not sent."""
        self._over = True


class OpenTelemetry:
    """Makes spans. Sampler, endpoint, headers, certificates and bounds are those of OpenTelemetry's environment variables."""

    def __init__(self, identity: Mapping[str, str], processor: SpanProcessor | None = None) -> None:
        """`processor` has the spans, instead of being sent by OTLP over HTTP."""
        library = logging.getLogger(LIBRARY)
        library.propagate = False
        library.handlers = [Complaints()]
        resource = Resource.create({"service.version": VERSION, **identity})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("dpuchain", VERSION)

    def root(self, name: str, attributes: Attributes) -> OpenTelemetrySpan | None:
        """The beginning of a trace; None if the sampler does not choose it."""
        return self._started(self._tracer.start_span(name, trace.set_span_in_context(trace.INVALID_SPAN), attributes=attributes))

    def continued(self, traceparent: str, name: str, attributes: Attributes) -> OpenTelemetrySpan | None:
        """What another process has begun goes on here; None if that is not sent, or if it is no traceparent."""
        context = _W3C.extract({"traceparent": traceparent})
        parent = trace.get_current_span(context).get_span_context()
        if not (parent.is_valid and parent.trace_flags.sampled):
            return None
        return self._started(self._tracer.start_span(name, context, attributes=attributes))

    def _started(self, span: trace.Span) -> OpenTelemetrySpan | None:
        return OpenTelemetrySpan(self._tracer, span) if span.is_recording() else None

    def stop(self) -> None:
        """Send what was not sent yet, and return soon, whatever becomes of it."""
        last = threading.Thread(target=self._provider.shutdown, daemon=True)
        last.start()
        last.join(STOP_SECONDS)
