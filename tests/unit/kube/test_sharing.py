"""Equal parts of objects are kept once, and nothing else changes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from dpuchain.api.chain import ServiceChain
from dpuchain.api.names import TRACEPARENT_ANNOTATION
from dpuchain.kube import sharing
from dpuchain.kube.sharing import Pool


def chain(name: str, node: str, **labels: str) -> ServiceChain:
    switch = {"ports": [{"serviceInterface": {"matchLabels": {"uplink": "p0"}}}], "serviceMTU": 2000}
    ready = {"type": "Ready", "status": "True", "reason": "Success", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    content: dict[str, Any] = {
        "metadata": {"name": name, "namespace": "ns", "uid": f"uid-{name}", "labels": {"of": "set", **labels}, "finalizers": ["f"]},
        "spec": {"node": node, "switches": [switch]},
        "status": {"conditions": [ready]},
    }
    return msgspec.json.decode(msgspec.json.encode(content), type=ServiceChain)


def test_objects_stay_what_they_are_and_share_what_is_equal() -> None:
    pool = Pool()
    before = [chain("a", "dpu-1"), chain("b", "dpu-2"), chain("c", "dpu-2", other="x")]
    first, second, third = (pool(item) for item in before)
    assert [first, second, third] == before
    assert first.metadata.labels is second.metadata.labels
    assert first.spec.switches is second.spec.switches is third.spec.switches
    assert first.metadata.finalizers is third.metadata.finalizers
    assert first.metadata.labels is not third.metadata.labels
    assert second.spec.node is third.spec.node
    assert first.status.conditions[0].type is second.status.conditions[0].type


def test_parts_that_no_object_has_any_more_are_forgotten_and_the_others_are_shared_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "FEWEST", 20)
    pool = Pool()
    first = pool(chain("first", "dpu-first", other="kept"))
    for number in range(1_000):
        pool(chain(f"c-{number}", f"dpu-{number}", other=f"value-{number}"))
    assert len(pool._parts) <= 2 * 20
    assert pool(chain("second", "dpu-first", other="kept")).metadata.labels is first.metadata.labels
    many = [pool(chain(f"c-{number}", f"dpu-{number}")) for number in range(100)]
    assert {pool(chain("again", item.spec.node or "")).spec.node is item.spec.node for item in many} == {True}


def test_annotations_are_shared_whatever_trace_each_object_was_written_in() -> None:
    pool = Pool()
    items = [chain(name, "dpu-1") for name in "ab"]
    annotations = [{"k": "v", TRACEPARENT_ANNOTATION: f"00-{name * 32}-{name * 16}-01"} for name in "ab"]
    traced = [replace(item, metadata=replace(item.metadata, annotations=of)) for item, of in zip(items, annotations, strict=True)]
    first, second = map(pool, traced)
    assert first.metadata.annotations is second.metadata.annotations
    assert first.metadata.annotations == {"k": "v"}
