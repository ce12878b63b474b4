"""The difference of two objects as a patch, and whether an apply would change anything."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpuchain.api.chain import ServiceChain
from dpuchain.api.names import TRACEPARENT_ANNOTATION
from dpuchain.kube.patches import merge_patch, needs_apply

trees = st.recursive(
    st.integers() | st.text("ab", max_size=2) | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from("abc"), trees)


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2, word by word."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


@given(objects, objects)
def test_a_patch_leads_from_one_to_the_other(old: dict[str, Any], new: dict[str, Any]) -> None:
    before = copy.deepcopy((old, new))
    assert merged(old, merge_patch(old, new)) == new
    assert (old, new) == before


@given(objects)
def test_there_is_no_patch_between_equals(one: dict[str, Any]) -> None:
    assert merge_patch(one, copy.deepcopy(one)) == {}


def test_a_patch_names_only_what_differs() -> None:
    assert merge_patch({"a": {"b": 1, "c": 2, "d": [1]}, "e": 0}, {"a": {"b": 1, "c": 3, "d": [1, 2]}}) == {
        "a": {"c": 3, "d": [1, 2]},
        "e": None,
    }


OWNER = {"apiVersion": "v1", "kind": "Set", "name": "s", "uid": "u"}
PORTS = b'[{"serviceInterface": {"matchLabels": {"uplink": "p0"}}}]'
META: dict[str, Any] = {
    "name": "x",
    "namespace": "ns",
    "labels": {"a": "1"},
    "annotations": {"b": "2"},
    "finalizers": ["f"],
    "ownerReferences": [OWNER],
}


def chain(mtu: int = 1500, **metadata: Any) -> ServiceChain:
    ports = [{"serviceInterface": {"matchLabels": {"uplink": "p0"}}}]
    return msgspec.convert(
        {"metadata": META | metadata, "spec": {"node": "n", "switches": [{"ports": ports, "serviceMTU": mtu}]}}, ServiceChain
    )


def test_nothing_is_to_be_applied_where_all_is_there_next_to_what_others_added() -> None:
    live = chain(
        uid="u-1",
        resourceVersion="5",
        generation=3,
        labels={"a": "1", "other": "x"},
        annotations={"b": "2", "other": "x"},
        finalizers=["theirs", "f"],
        ownerReferences=[OWNER | {"uid": "v"}, OWNER],
    )
    assert not needs_apply(chain(), live)


def test_a_default_that_the_server_has_written_out_is_no_difference() -> None:
    ports = [{"serviceInterface": {"matchLabels": {"uplink": "p0"}}}]
    silent = msgspec.convert({"metadata": META, "spec": {"node": "n", "switches": [{"ports": ports}]}}, ServiceChain)
    read = msgspec.json.decode(
        b'{"metadata": {}, "spec": {"switches": [{"ports": [], "serviceMTU": 1500}]}}'.replace(b"[]", PORTS), type=ServiceChain
    )
    written_out = msgspec.structs.replace(silent, spec=msgspec.structs.replace(read.spec, node="n"))
    assert not needs_apply(silent, written_out)


@pytest.mark.parametrize(
    "live",
    [
        None,
        chain(mtu=2000),
        chain(labels={}),
        chain(labels={"a": "other"}),
        chain(annotations={"b": "other"}),
        chain(finalizers=[]),
        chain(ownerReferences=[OWNER | {"uid": "v"}]),
    ],
)
def test_what_is_missing_or_different_is_to_be_applied(live: ServiceChain | None) -> None:
    assert needs_apply(chain(), live)


TRACE = st.sampled_from(["00-" + "a" * 32 + "-" + "b" * 16 + "-01", "00-" + "c" * 32 + "-" + "d" * 16 + "-03", "nonsense", None])


def traced(item: ServiceChain, trace: str | None) -> ServiceChain:
    annotations = {**item.metadata.annotations, **({TRACEPARENT_ANNOTATION: trace} if trace is not None else {})}
    return msgspec.structs.replace(item, metadata=msgspec.structs.replace(item.metadata, annotations=annotations))


@given(TRACE, TRACE, st.sampled_from([1500, 2000]), st.sampled_from([{"b": "2"}, {"b": "2", "x": "y"}, {"b": "3"}, {}]))
def test_what_is_said_of_a_trace_makes_no_difference(one: str | None, other: str | None, mtu: int, annotations: dict[str, str]) -> None:
    wanted, live = chain(), chain(mtu, annotations=annotations)
    assert needs_apply(traced(wanted, one), traced(live, other)) == needs_apply(wanted, live)
