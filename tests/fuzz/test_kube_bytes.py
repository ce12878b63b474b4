"""Invariant: whatever bytes come from an API server, reading them ends with a value or with a `KubeError`, and a cache that was fed them
holds what it has told, no more and no less.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dpuchain.api.kinds import POD, SECRET, SERVICE_CHAIN
from dpuchain.api.kubernetes import Secret
from dpuchain.api.meta import Object, ObjectKey, key_of
from dpuchain.api.resource import Resource
from dpuchain.kube.cache import Cache, Change
from dpuchain.kube.client import Client, decode, key_in
from dpuchain.kube.errors import Expired, Invalid, KubeError, from_response
from dpuchain.kube.kubeconfig import Endpoint

JSON = st.recursive(
    st.none() | st.booleans() | st.text(max_size=5) | st.integers(-9, 9), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)
DEEP = b"[" * 100_000
NAMES = ("a", "b", "c")


class Answering(Client):
    """A client whose server answers every request with the same bytes."""

    def __init__(self, answer: bytes = b"") -> None:
        super().__init__(Endpoint("https://host", None, lambda: None), user_agent="fuzz")
        self.answer = answer

    async def request(self, method: str, path: str, **_: Any) -> bytes:
        return self.answer


class Told:
    """A cache, and what those who listen to it must believe."""

    def __init__(self) -> None:
        self.cache: Cache[Secret] = Cache(Answering(), SECRET)
        self.cache.index("label", lambda item: item.metadata.labels.values())
        self.believed: dict[ObjectKey, Secret] = {}
        self.cache.subscribe(self.note)

    def note(self, change: Change[Secret]) -> None:
        before = self.believed.pop(change.key, None)
        if change.new is None:
            assert before is not None, "deleted what never was"
        else:
            assert change.old == before
            assert change.new != before, "told twice"
            self.believed[change.key] = change.new

    def take(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            with suppress(KubeError):
                self.cache.take(line)
        assert {key_of(item): item for item in self.cache} == self.believed
        values = {value for item in self.cache for value in item.metadata.labels.values()}
        for value in values:
            assert self.cache.by_index("label", value) == [
                item for key, item in sorted(self.believed.items()) if value in item.metadata.labels.values()
            ]


def event(kind: str, name: str, version: int, uid: str = "u", label: str = "x") -> bytes:
    metadata = {"name": name, "namespace": "ns", "uid": uid, "resourceVersion": str(version), "labels": {"k": label}}
    content = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": {"a": "eA=="}}
    return msgspec.json.encode({"type": kind, "object": content})


events = st.builds(
    event,
    st.sampled_from(["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR", "OTHER"]),
    st.sampled_from(NAMES),
    st.integers(1, 6),
    st.sampled_from("uv"),
    st.sampled_from("xy"),
)


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """An event that was cut off, or of which some bytes are others."""
    line = bytearray(draw(events))
    for position, value in draw(st.lists(st.tuples(st.integers(0, len(line) - 1), st.integers(0, 255)), max_size=3)):
        line[position] = value
    return bytes(line[: draw(st.integers(0, len(line)))]) if draw(st.booleans()) else bytes(line)


@given(st.lists(st.binary(max_size=40) | JSON.map(msgspec.json.encode) | events | spoiled(), max_size=12))
@example([b'{"type":"ADDED","object":' + DEEP])
@example([b'{"type":"ADDED","object":{"metadata":' + DEEP])
@example([b'{"type":"ERROR","object":"\xff"}', b'{"type":"\xff","object":{}}', b'{"type":"BOOKMARK","object":"\xff"}'])
@example([b'{"type":"ADDED","object":{"metadata":{"name":"\xff"}}}', b'{"type":"ADDED","object":null}', b'{"type":"ADDED"}'])
def test_a_watch_that_brings_anything(lines: list[bytes]) -> None:
    Told().take(lines)


@given(st.lists(events, max_size=20))
def test_a_cache_holds_what_the_events_add_up_to(lines: list[bytes]) -> None:
    told = Told()
    told.take(lines)
    expected: dict[str, str] = {}
    for line in lines:
        read = msgspec.json.decode(line)
        metadata = read["object"]["metadata"]
        if read["type"] in ("ADDED", "MODIFIED") and metadata["resourceVersion"] != expected.get(metadata["name"]):
            expected[metadata["name"]] = metadata["resourceVersion"]
        elif read["type"] == "DELETED":
            expected.pop(metadata["name"], None)
    assert {item.metadata.name: item.metadata.resource_version for item in told.cache} == expected


@given(st.sampled_from(["ADDED", "MODIFIED"]), st.binary(max_size=20) | JSON.map(msgspec.json.encode))
def test_what_cannot_be_decoded_is_named_and_leaves_what_was_known(kind: str, data: bytes) -> None:
    told = Told()
    told.take([event("ADDED", "a", 1)])
    bad = b'{"metadata":{"namespace":"ns","name":"a","resourceVersion":"2"},"data":5}'
    told.take([b'{"type":"%s","object":%s}' % (kind.encode(), bad)])
    assert list(told.cache.invalid) == [ObjectKey("ns", "a")]
    assert [item.metadata.resource_version for item in told.cache] == ["1"]
    told.take([data])
    told.take([b'{"type":"DELETED","object":%s}' % bad])
    assert not told.cache.invalid
    assert len(told.cache) == 0


def test_an_error_event_that_says_410_asks_for_a_new_list() -> None:
    line = b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old resource version"}}'
    with pytest.raises(Expired, match="too old resource version"):
        Told().cache.take(line)


@pytest.mark.parametrize("resource", [SECRET, POD, SERVICE_CHAIN], ids=lambda resource: str(resource.kind))
@given(data=st.binary(max_size=60) | JSON.map(msgspec.json.encode))
@example(data=DEEP)
@example(data=b'{"a":' * 50_000)
@example(data=b'{"metadata":{"name":"\xff"}}')
@example(data=b'{"metadata":{"creationTimestamp":"9999-99-99T99:99:99Z"}}')
@example(data=b'{"metadata":{"generation":99999999999999999999999999}}')
def test_an_object(resource: Resource[Object], data: bytes) -> None:
    with suppress(Invalid):
        decode(resource, data)
    assert isinstance(key_in(data), ObjectKey)


ITEMS = st.lists(JSON | st.builds(lambda n: {"metadata": {"name": n}}, st.sampled_from(NAMES)), max_size=4)
PAGES = st.builds(lambda items, version: {"items": items, "metadata": {"resourceVersion": version}}, ITEMS | JSON, st.text() | JSON)


@given(st.binary(max_size=60) | PAGES.map(msgspec.json.encode))
@example(DEEP)
@example(b'{"items":[' + DEEP)
@example(b'{"items":[{"metadata":{"name":"\xff"}}]}')
async def test_a_page_of_a_list(data: bytes) -> None:
    """One bad item does not spoil the others."""
    try:
        listing = await Answering(data).list(SECRET)
    except Invalid:
        return
    try:
        items = msgspec.json.decode(data, type=dict).get("items") or ()
    except UnicodeDecodeError:
        items = ()
    good = [item["metadata"]["name"] for item in items if item in [{"metadata": {"name": name}} for name in NAMES]]
    assert [item.metadata.name for item in listing.items if item.metadata.name in NAMES] == good
    assert len(listing.items) <= len(items)


@given(
    st.integers(400, 599), st.binary(max_size=60) | JSON.map(lambda details: msgspec.json.encode({"kind": "Status", "details": details}))
)
@example(500, DEEP)
def test_an_answer_that_is_an_error(status: int, body: bytes) -> None:
    assert isinstance(from_response(status, body, "GET /"), KubeError)
