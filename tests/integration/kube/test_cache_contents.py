"""What a cache on a real API server holds and tells."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from dpuchain.api.kinds import NODE, POD, SECRET, SERVICE_CHAIN
from dpuchain.api.kubernetes import Metadata, Secret
from dpuchain.api.meta import Model, ObjectKey, ObjectMeta, key_of
from dpuchain.api.resource import Resource
from dpuchain.kube import client as kube_client
from dpuchain.kube.cache import Cache
from dpuchain.kube.client import Client
from dpuchain.kube.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.kube.conftest import Following, Journal
    from tests.integration.relay import Relay


class Choice(Model, frozen=True, kw_only=True):
    """A ConfigMap as a program reads it that knows two values only."""

    metadata: ObjectMeta = ObjectMeta()
    data: dict[str, Literal["yes", "no"]] = msgspec.field(default_factory=dict)


CHOICE = Resource("", "v1", "ConfigMap", "configmaps", Choice)
BARE_SECRET = Resource("", "v1", "Secret", "secrets", Metadata)


def secret(namespace: str, name: str, value: str = "eA==", **labels: str) -> Secret:
    return Secret(metadata=ObjectMeta(name=name, namespace=namespace, labels=labels), type="Opaque", data={"a": value})


async def label(client: Client, namespace: str, name: str, **labels: str | None) -> Secret:
    return await client.patch(SECRET, ObjectKey(namespace, name), {"metadata": {"labels": labels}})


async def test_a_cache_tells_what_is_there_and_what_happens(
    client: Client, namespace: str, following: Following, journal_of: Callable[[Cache[Any]], Journal[Any]]
) -> None:
    await client.create(SECRET, secret(namespace, "early"))
    async with following(client, SECRET, namespace) as journal:
        await client.create(SECRET, secret(namespace, "late"))
        await label(client, namespace, "early", a="1")
        await client.delete(SECRET, ObjectKey(namespace, "late"))
        await journal.until(lambda: len(journal.changes) == 4)
        assert journal.told() == [("early", "added"), ("late", "added"), ("early", "changed"), ("late", "deleted")]
        await journal.caught_up(client, SECRET, namespace)
        assert journal.cache.get(ObjectKey(namespace, "late")) is None
        later = journal_of(journal.cache)
        assert later.told() == [("early", "added")], "who comes later is told what is there"


async def test_metadata_alone(client: Client, namespace: str, following: Following) -> None:
    await client.create(SECRET, secret(namespace, "a"))
    async with following(client, BARE_SECRET, namespace, metadata_only=True) as journal:
        await label(client, namespace, "a", x="1")
        await journal.until(lambda: len(journal.changes) == 2)
        item = journal.cache.get(ObjectKey(namespace, "a"))
        assert item is not None
        assert item.metadata.labels == {"x": "1"}
        await client.delete(SECRET, key_of(item))
        await journal.until(lambda: len(journal.changes) == 3)
    assert journal.told() == [("a", "added"), ("a", "changed"), ("a", "deleted")]


async def test_what_comes_into_a_selection_is_added_and_what_leaves_it_deleted(
    client: Client, namespace: str, following: Following
) -> None:
    await client.create(SECRET, secret(namespace, "a"))
    async with following(client, SECRET, namespace, label_selector="zone=east") as journal:
        assert len(journal.cache) == 0
        for zone in ("east", "west", "east"):
            await label(client, namespace, "a", zone=zone)
        await journal.until(lambda: len(journal.changes) == 3)
    assert journal.told() == [("a", "added"), ("a", "deleted"), ("a", "added")]


async def test_the_objects_of_one_node(client: Client, namespace: str, following: Following) -> None:
    ports = [{"serviceInterface": {"matchLabels": {"uplink": "p0"}}}]

    def chain(name: str, node: str) -> Any:
        content = {"metadata": {"name": name, "namespace": namespace}, "spec": {"node": node, "switches": [{"ports": ports}]}}
        return msgspec.convert(content, SERVICE_CHAIN.type)

    await client.create(SERVICE_CHAIN, chain("theirs", "dpu-2"))
    async with following(client, SERVICE_CHAIN, namespace, field_selector="spec.node=dpu-1") as journal:
        await client.create(SERVICE_CHAIN, chain("late-theirs", "dpu-2"))
        await client.create(SERVICE_CHAIN, chain("ours", "dpu-1"))
        await journal.until(lambda: len(journal.changes) == 1)
        await client.patch(SERVICE_CHAIN, ObjectKey(namespace, "ours"), {"spec": {"node": "dpu-2"}})
        await journal.until(lambda: len(journal.changes) == 2)
    assert journal.told() == [("ours", "added"), ("ours", "deleted")]


async def test_a_kind_without_a_namespace(client: Client, namespace: str, following: Following) -> None:
    name = f"node-{namespace}"
    async with following(client, NODE, "", metadata_only=True, field_selector=f"metadata.name={name}") as journal:
        await client.create(NODE, Metadata(metadata=ObjectMeta(name=name, labels={"a": "1"})))
        await client.delete(NODE, ObjectKey("", name))
        await journal.until(lambda: journal.told()[-1:] == [(name, "deleted")])
    assert journal.told()[0] == (name, "added")


async def choose(client: Client, namespace: str, name: str, value: str, method: str = "PATCH") -> None:
    content = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": value}}
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    body = msgspec.json.encode(content)
    if method == "POST":
        await client.request("POST", path, body=body)
    else:
        await client.request("PATCH", f"{path}/{name}", body=body, content_type="application/merge-patch+json")


async def test_an_object_that_cannot_be_decoded_is_named_until_it_can(client: Client, namespace: str, following: Following) -> None:
    await choose(client, namespace, "odd-from-the-start", "maybe", "POST")
    await choose(client, namespace, "good", "yes", "POST")
    async with following(client, CHOICE, namespace) as journal:
        good, odd = ObjectKey(namespace, "good"), ObjectKey(namespace, "odd-from-the-start")
        assert set(journal.cache.invalid) == {odd}
        assert isinstance(journal.cache.invalid[odd], Invalid)
        await choose(client, namespace, "good", "maybe")
        await journal.until(lambda: set(journal.cache.invalid) == {odd, good})
        assert journal.told() == [("good", "added")], "it is not gone"
        await choose(client, namespace, "odd-from-the-start", "no")
        await journal.until(lambda: set(journal.cache.invalid) == {good})
        await client.delete(CHOICE, good)
        await journal.until(lambda: not journal.cache.invalid)
        assert journal.told() == [("good", "added"), ("odd-from-the-start", "added"), ("good", "deleted")]


async def test_what_cannot_be_decoded_in_a_new_list_is_not_gone_either(
    client: Client, relay: Relay, relayed: Client, namespace: str, following: Following
) -> None:
    for name in ("spoils", "goes"):
        await choose(client, namespace, name, "yes", "POST")
    async with following(relayed, CHOICE, namespace) as journal:
        relay.refuse()
        await journal.until(lambda: journal.cache.failing is not None)
        await choose(client, namespace, "spoils", "maybe")
        await client.delete(CHOICE, ObjectKey(namespace, "goes"))
        journal.cache._version = ""
        relay.resume()
        await journal.until(lambda: bool(journal.cache.invalid) and len(journal.changes) == 3)
        assert journal.told()[2:] == [("goes", "deleted")]
        assert [item.metadata.name for item in journal.cache] == ["spoils"]


async def test_an_index_is_kept_through_every_change(
    client: Client, namespace: str, journal_of: Callable[[Cache[Any]], Journal[Any]]
) -> None:
    cache = Cache(client, SECRET, namespace=namespace)
    journal = journal_of(cache)
    cache.index("zone", lambda item: item.metadata.labels.values())
    task = asyncio.create_task(cache.run())

    def found(zone: str) -> list[str]:
        return [item.metadata.name for item in cache.by_index("zone", zone)]

    for name in "ba":
        await client.create(SECRET, secret(namespace, name, zone="east"))
    await journal.until(lambda: found("east") == ["a", "b"])
    await label(client, namespace, "a", zone="west", second="east")
    await journal.until(lambda: found("west") == ["a"])
    assert found("east") == ["a", "b"]
    await label(client, namespace, "a", second=None)
    await journal.until(lambda: found("east") == ["b"])
    await client.delete(SECRET, ObjectKey(namespace, "b"))
    await journal.until(lambda: found("east") == [])
    cache.index("late", lambda item: [item.metadata.name])
    assert [item.metadata.name for item in cache.by_index("late", "a")] == ["a"]
    task.cancel()
    await asyncio.wait([task])


async def test_what_is_not_used_of_an_object_is_not_kept(client: Client, namespace: str, following: Following) -> None:
    """Of twenty pods of 40 kB each no more is kept than three of them are."""
    await client.request("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", body=b'{"metadata": {"name": "default"}}')
    environment = [{"name": f"NAME_{number}", "value": "x" * 2000} for number in range(20)]
    for number in range(20):
        spec = {"nodeName": "nowhere", "containers": [{"name": "c", "image": "i", "env": environment}]}
        body = json.dumps({"metadata": {"name": f"pod-{number}"}, "spec": spec}).encode()
        await client.request("POST", POD.path(namespace), body=body)
    async with following(client, POD, namespace) as warm:
        assert len(warm.cache) == 20
    tracemalloc.start()
    async with following(client, POD, namespace) as journal:
        await client.patch(POD, ObjectKey(namespace, "pod-0"), {"metadata": {"labels": {"told": "yes"}}})
        await journal.until(lambda: journal.believed[ObjectKey(namespace, "pod-0")].metadata.labels == {"told": "yes"})
        journal.changes.clear()
        gc.collect()
        ours = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(inclusive=True, filename_pattern=kube_client.__file__)])
        assert len(journal.cache) == 20
    tracemalloc.stop()
    assert 0 < sum(trace.size for trace in ours.traces) < 120_000
    for number in range(20):
        await client.request("DELETE", POD.path(namespace, f"pod-{number}"), body=b'{"gracePeriodSeconds": 0}')
