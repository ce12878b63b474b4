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


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "MOST", 20)
    pool = Pool()
    items = [chain(f"c-{number}", f"dpu-{number}") for number in range(100)]
    assert [pool(item) for item in items] == items
    assert len(pool._parts) <= 30


def test_annotations_are_shared_whatever_trace_each_object_was_written_in() -> None:
    pool = Pool()
    items = [chain(name, "dpu-1") for name in "ab"]
    annotations = [{"k": "v", TRACEPARENT_ANNOTATION: f"00-{name * 32}-{name * 16}-01"} for name in "ab"]
    traced = [replace(item, metadata=replace(item.metadata, annotations=of)) for item, of in zip(items, annotations, strict=True)]
    first, second = map(pool, traced)
    assert first.metadata.annotations is second.metadata.annotations
    assert first.metadata.annotations == {"k": "v"}
