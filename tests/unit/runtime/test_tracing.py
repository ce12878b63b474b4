"""Which work is a part of which trace, and what becomes of it where nobody listens."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from msgspec.structs import replace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.contextvars import get_contextvars, merge_contextvars

from dpuchain.api.chain import ServiceChain, ServiceChainSpec, ServiceChainStatus
from dpuchain.api.meta import ObjectMeta
from dpuchain.api.names import TRACEPARENT_ANNOTATION
from dpuchain.kube.errors import Conflict, Invalid
from dpuchain.runtime import telemetry, tracing
from dpuchain.runtime.tracing import Changes, endpoint_of

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACE, SPAN = "a" * 32, "b" * 16
SENT = f"00-{TRACE}-{SPAN}-01"


class Sent:
    """What has been sent."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    @property
    def spans(self) -> list[Any]:
        return list(self._exporter.get_finished_spans())

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]


@pytest.fixture
def sent() -> Iterator[Sent]:
    """Traces are on, and what is sent comes here at once."""
    exporter = InMemorySpanExporter()
    backend = telemetry.OpenTelemetry({"service.name": "test"}, SimpleSpanProcessor(exporter))
    with tracing.use(backend):
        yield Sent(exporter)


def chain(generation: int = 1, observed: int = 0, traceparent: str = SENT, uid: str = "u", **meta: Any) -> ServiceChain:
    annotations = {"other": "x"} | ({TRACEPARENT_ANNOTATION: traceparent} if traceparent else {})
    metadata = ObjectMeta(name="c", namespace="ns", uid=uid, generation=generation, annotations=annotations, **meta)
    return ServiceChain(metadata=metadata, spec=ServiceChainSpec(switches=()), status=ServiceChainStatus(observed_generation=observed))


def test_what_another_process_began_goes_on_below_it(sent: Sent) -> None:
    changes = Changes("carry out")
    with changes.work([chain()]) as spans:
        assert len(spans) == 1
        assert get_contextvars()["trace_id"] == TRACE
    (span,) = sent.spans
    assert span.name == "carry out ServiceChain"
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, SPAN)
    assert span.attributes["k8s.object.name"] == "c"
    assert "trace_id" not in get_contextvars()


@pytest.mark.parametrize("traceparent", ["", "nonsense", f"00-{TRACE}-{SPAN}-00", f"00-{'0' * 32}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01"])
def test_nothing_is_made_of_a_trace_that_is_not_sent_or_is_none(sent: Sent, traceparent: str) -> None:
    assert Changes("carry out").of(chain(traceparent=traceparent)) is None


def test_what_was_told_of_before_is_no_change(sent: Sent) -> None:
    assert Changes("carry out").of(chain(observed=1)) is None
    assert Changes("change of", first=True).of(chain(observed=1)) is None


def test_who_edits_an_object_later_is_no_part_of_the_trace_that_it_names(sent: Sent) -> None:
    changes = Changes("carry out")
    assert changes.of(chain()) is not None
    changes.settled(chain())
    assert changes.of(chain(observed=1)) is None
    assert changes.of(chain(generation=2, observed=1)) is None
    written = chain(generation=3, observed=2, traceparent=f"00-{'c' * 32}-{SPAN}-01")
    span = changes.of(written)
    assert span is not None
    assert span.trace_id == "c" * 32


def test_a_change_lasts_until_it_has_settled_and_an_old_copy_of_the_object_ends_nothing(sent: Sent) -> None:
    changes = Changes("change of", first=True)
    first = changes.of(chain())
    assert changes.of(chain(observed=1)) is first
    second = changes.of(chain(generation=2, observed=1))
    assert second is not None
    assert second is not first
    assert changes.of(chain()) is second
    changes.forget("ServiceChain", "ns", "c")
    assert changes.of(chain(uid="another")) not in (None, first, second)


def test_only_who_comes_first_traces_a_deletion(sent: Sent) -> None:
    leaving = replace(chain(), metadata=replace(chain().metadata, deletion_timestamp="2026-01-01T00:00:00Z"))
    assert Changes("carry out").of(leaving) is None
    span = Changes("change of", first=True).of(leaving)
    assert span is not None
    span.end()
    assert sent.spans[0].attributes["dpuchain.deleting"] is True


def test_a_pass_that_is_to_be_made_again_goes_on_and_one_that_fails_says_so(sent: Sent) -> None:
    changes = Changes("expand")
    for _ in range(2):
        with contextlib.suppress(Conflict), changes.work([chain()]):
            raise Conflict("somebody was faster")
    assert sent.names == []
    with contextlib.suppress(Invalid), changes.work([chain()]):
        raise Invalid("no such field")
    with changes.work([chain(observed=1)]):
        pass
    (span,) = sent.spans
    assert (span.status.is_ok, span.status.description) == (False, "no such field")


async def test_an_object_that_is_written_names_the_write_and_stays_what_it_was(sent: Sent) -> None:
    async def write(item: ServiceChain) -> ServiceChain:
        return replace(item, metadata=replace(item.metadata, uid="made", generation=7))

    item = chain(uid="", traceparent="")
    answer = await tracing.written(Changes("change of", first=True).of(chain()), item, {tracing.NODE: "n"}, write)
    (span,) = sent.spans
    context = span.context
    assert answer.metadata.annotations[TRACEPARENT_ANNOTATION].startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")
    assert answer.metadata.annotations["other"] == "x"
    assert TRACEPARENT_ANNOTATION not in item.metadata.annotations
    assert (span.attributes["k8s.object.generation"], span.attributes["k8s.node.name"]) == (7, "n")
    assert await tracing.written(None, item, {}, write) == replace(item, metadata=replace(item.metadata, uid="made", generation=7))


async def test_an_object_that_is_written_twice_for_one_change_says_the_same_both_times(sent: Sent) -> None:
    async def write(item: ServiceChain) -> ServiceChain:
        return item

    span = Changes("change of", first=True).of(chain())
    answers = [await tracing.written(span, chain(), {tracing.NODE: node}, write) for node in ("n", "n", "m")]
    first, second, elsewhere = (answer.metadata.annotations[TRACEPARENT_ANNOTATION] for answer in answers)
    assert first == second != elsewhere


async def test_a_status_that_says_so_already_is_no_span(sent: Sent) -> None:
    async def report(written: bool) -> bool:
        return written

    span = Changes("change of", first=True).of(chain())
    assert not await tracing.reported(span, chain(), report(written=False), ready=True)
    assert sent.names == []
    assert await tracing.reported(span, chain(), report(written=True), ready=True)
    assert sent.names == ["write status of ServiceChain"]


def test_where_a_change_is_not_sampled_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    with tracing.use(telemetry.OpenTelemetry({}, SimpleSpanProcessor(InMemorySpanExporter()))):
        assert Changes("change of", first=True).of(chain()) is None
        assert Changes("carry out").of(chain()) is not None, "the root decides"


async def test_without_traces_nothing_is_made() -> None:
    changes = Changes("change of", first=True)
    with changes.work([chain()]) as spans, tracing.steps(spans, "change flows", {}), tracing.step(None, "write", chain()) as span:
        assert not spans
        assert span is None
    assert changes.of(chain()) is None


ENDPOINT = "http://collector.example:4318"


@pytest.mark.parametrize(
    ("environment", "endpoint"),
    [
        ({}, ""),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT}, ENDPOINT),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://other", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": ENDPOINT}, ENDPOINT),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, "OTEL_SDK_DISABLED": "True"}, ""),
    ],
)
def test_traces_are_on_where_an_endpoint_is_set_and_nothing_forbids_it(environment: dict[str, str], endpoint: str) -> None:
    assert endpoint_of(environment) == endpoint


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "OTEL_TRACES_EXPORTER=zipkin: traces are sent by otlp alone"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "say http/protobuf"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "no URL such as http://"),
    ],
)
def test_what_there_is_not_is_refused_by_name(name: str, value: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        endpoint_of({"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, name: value})


def test_the_extra_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "dpuchain.runtime.telemetry")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with (
        pytest.raises(ValueError, match=r"opentelemetry is not installed: pip install 'dpuchain\[tracing\]'"),
        tracing.on({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT}),
    ):
        pass


def test_processes_import_nothing_of_opentelemetry_by_themselves() -> None:
    program = "import sys, dpuchain.cli.host, dpuchain.cli.dpu, dpuchain.cli.agent; sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_collector_that_hangs_holds_up_nothing_and_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes connections and never answers; the queue is small, and full at once."""
    for name, value in (("SCHEDULE_DELAY", "10"), ("MAX_QUEUE_SIZE", "8"), ("MAX_EXPORT_BATCH_SIZE", "4")):
        monkeypatch.setenv(f"OTEL_BSP_{name}", value)
    monkeypatch.setattr(telemetry, "STOP_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener, structlog.testing.capture_logs([merge_contextvars]) as logs:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{listener.getsockname()[1]}"}
        monkeypatch.setenv(*next(iter(environment.items())))
        accepted = threading.Thread(target=lambda: connections.append(listener.accept()[0]), daemon=True)
        connections: list[socket.socket] = []
        accepted.start()
        with tracing.on({"service.name": "test"}, environment):
            changes = Changes("change of", first=True)
            for generation in range(1, 200):
                with changes.work([chain(generation)]):
                    pass
            accepted.join()
            assert connections[0].recv(4) == b"POST"
        connections[0].close()
    complaints = [line for line in logs if line["event"] == "traces are lost"]
    assert len(complaints) == 1, complaints
    assert "Queue full" in complaints[0]["reason"]


def test_a_collector_that_is_dead_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    with structlog.testing.capture_logs() as logs, tracing.on({}, settings), Changes("change of", first=True).work([chain()]):
        pass
    assert [line for line in logs if line["event"] == "traces are lost"]
