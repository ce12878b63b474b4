"""Invariant: whatever is in a question to admission, or in a manifest, it is answered, or said to be what it is not; nothing is raised."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.worlds import chain, interface

from dpuchain.admission.messages import Malformed, Request, answer, read
from dpuchain.admission.server import Reviewer
from dpuchain.admission.world import HostWorld
from dpuchain.cli import manifests
from dpuchain.kube.client import Client
from dpuchain.kube.kubeconfig import Endpoint

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


def reviewer() -> Reviewer:
    return Reviewer(HostWorld(Client(Endpoint("https://127.0.0.1:1", None, lambda: None), user_agent="tests")))


def spoiled(content: Any, path: list[int], value: Any) -> Any:
    """`content` with `value` somewhere inside, where `path` leads."""
    if not path or not isinstance(content, dict | list) or not content:
        return value
    if isinstance(content, list):
        place = path[0] % len(content)
        return [spoiled(item, path[1:], value) if number == place else item for number, item in enumerate(content)]
    key = sorted(content)[path[0] % len(content)]
    return {**content, key: spoiled(content[key], path[1:], value)}


def content(item: Any) -> dict[str, Any]:
    kind = type(item).__name__
    return {"apiVersion": "svc.dpu.nvidia.com/v1alpha1", "kind": kind, **msgspec.to_builtins(item)}


ITEMS = [content(interface("p0")), content(chain("wire", ("p0", "p1")))]
paths = st.lists(st.integers(0, 9), max_size=9)


def question(old: Any, new: Any, kind: str) -> dict[str, Any]:
    group = {"group": "svc.dpu.nvidia.com", "version": "v1alpha1", "kind": kind}
    request = {"uid": "1", "kind": group, "operation": "UPDATE", "object": new, "oldObject": old}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


@settings(max_examples=300)
@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_bytes_are_a_question_or_malformed(body: bytes) -> None:
    with contextlib.suppress(Malformed):
        assert isinstance(read(body), Request)


@settings(max_examples=300, deadline=None)
@given(which=st.sampled_from(ITEMS), path=paths, value=json_values, outside=st.booleans())
def test_spoiled_questions_are_answered_or_malformed(which: dict[str, Any], path: list[int], value: Any, outside: bool) -> None:
    asked = question(which, which if outside else spoiled(which, path, value), which["kind"])
    body = json.dumps(spoiled(asked, path, value) if outside else asked).encode()
    try:
        found = msgspec.json.decode(reviewer()._answer(read(body)))
    except Malformed:
        return
    assert isinstance(found["response"]["allowed"], bool)


def test_an_answer_has_each_warning_in_one_line() -> None:
    from dpuchain.chain.review import Verdict

    found = msgspec.json.decode(answer("1", Verdict((), ("a\nb\r\nc",))))
    assert found["response"]["warnings"] == ["a b c"]


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=80) | st.builds(spoiled, st.sampled_from(ITEMS), paths, json_values).map(yaml.safe_dump))
def test_manifests_are_read_or_named(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path: Path = tmp_path_factory.mktemp("manifests") / "x.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    reading = manifests.read([path], "default")
    assert all(str(path) in fault for fault in reading.faults)
