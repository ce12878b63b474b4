"""Requests, writes and events on a real API server."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import pytest

from dpuchain.api.conditions import Finding
from dpuchain.api.kinds import EVENT, LEASE, NAMESPACE, SECRET, SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.api.kubernetes import Metadata, Secret
from dpuchain.api.meta import Model, ObjectKey, ObjectMeta, key_of
from dpuchain.api.resource import Resource
from dpuchain.chain import status
from dpuchain.kube import client as kube_client
from dpuchain.kube.cache import Cache
from dpuchain.kube.client import Client
from dpuchain.kube.errors import AlreadyExists, Conflict, Denied, Fenced, Invalid, NotFound, Unreachable
from dpuchain.kube.events import BURST, EventRecorder
from dpuchain.kube.patches import needs_apply
from dpuchain.kube.writes import StatusReporter, add_finalizer, remove_finalizer, write_status

if TYPE_CHECKING:
    from pathlib import Path

    from dpuchain.api.chain import ServiceChain
    from dpuchain.lab.cluster import Cluster

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FINALIZER = "tests.dpuchain.dev/held"


class Choice(Model, frozen=True, kw_only=True):
    """A ConfigMap as a program reads it that knows two values only."""

    metadata: ObjectMeta = ObjectMeta()
    data: dict[str, Literal["yes", "no"]] = msgspec.field(default_factory=dict)


CHOICE = Resource("", "v1", "ConfigMap", "configmaps", Choice)


def secret(namespace: str, name: str, value: str = "eA==", **labels: str) -> Secret:
    return Secret(metadata=ObjectMeta(name=name, namespace=namespace, labels=labels), type="Opaque", data={"a": value})


def chain(namespace: str, name: str = "chain", *uplinks: str, **metadata: Any) -> ServiceChain:
    ports = [{"serviceInterface": {"matchLabels": {"uplink": uplink}}} for uplink in uplinks or ("p0", "p1")]
    content = {"metadata": {"name": name, "namespace": namespace, **metadata}, "spec": {"node": "n", "switches": [{"ports": ports}]}}
    return msgspec.convert(content, SERVICE_CHAIN.type)


async def put(client: Client, namespace: str, name: str, value: str) -> None:
    content = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": value}}
    await client.request("POST", f"/api/v1/namespaces/{namespace}/configmaps", body=msgspec.json.encode(content))


async def test_an_object_from_its_making_to_its_end(client: Client, namespace: str) -> None:
    made = await client.create(SECRET, secret(namespace, "a"))
    key = key_of(made)
    assert key == ObjectKey(namespace, "a")
    assert await client.get(SECRET, key) == made
    with pytest.raises(AlreadyExists, match="already exists"):
        await client.create(SECRET, secret(namespace, "a"))
    changed = await client.patch(SECRET, key, {"data": {"a": None, "b": "eQ=="}})
    assert changed.data == {"b": "eQ=="}
    with pytest.raises(Conflict, match="modified"):
        await client.patch(SECRET, key, {"metadata": {"resourceVersion": made.metadata.resource_version}, "data": {"c": "eg=="}})
    with pytest.raises(Conflict):
        await client.delete(SECRET, key, uid="3d2b2c0e-0000-0000-0000-000000000000")
    assert await client.get(SECRET, key) == changed
    await client.delete(SECRET, key, uid=made.metadata.uid)
    for gone in (client.get(SECRET, key), client.delete(SECRET, key), client.patch(SECRET, key, {"data": {}})):
        with pytest.raises(NotFound, match="not found"):
            await gone


async def test_a_list_is_read_page_by_page_and_by_labels(client: Client, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_client, "PAGE", 3)
    for number in range(8):
        await client.create(SECRET, secret(namespace, f"s{number}", parity=str(number % 2)))
    listing = await client.list(SECRET, namespace=namespace)
    assert [item.metadata.name for item in listing.items] == [f"s{number}" for number in range(8)]
    assert not listing.invalid
    odd = await client.list(SECRET, namespace=namespace, label_selector="parity=1")
    assert [item.metadata.name for item in odd.items] == ["s1", "s3", "s5", "s7"]
    one = await client.list(SECRET, namespace=namespace, field_selector="metadata.name=s2")
    assert [item.metadata.name for item in one.items] == ["s2"]
    assert {s.metadata.name for s in (await client.list(SECRET)).items if s.metadata.namespace == namespace} == {f"s{n}" for n in range(8)}


async def test_a_list_of_metadata_alone(client: Client, namespace: str) -> None:
    await client.create(SECRET, secret(namespace, "a", label="x"))
    bare = Resource("", "v1", "Secret", "secrets", Metadata)
    (item,) = (await client.list(bare, namespace=namespace, metadata_only=True)).items
    assert item.metadata.labels == {"label": "x"}


async def test_an_item_that_cannot_be_decoded_does_not_spoil_the_list(client: Client, namespace: str) -> None:
    for name, value in (("good", "yes"), ("odd", "maybe"), ("other", "no")):
        await put(client, namespace, name, value)
    listing = await client.list(CHOICE, namespace=namespace)
    assert [item.metadata.name for item in listing.items] == ["good", "other"]
    assert list(listing.invalid) == [ObjectKey(namespace, "odd")]
    with pytest.raises(Invalid, match=rf"ConfigMap {namespace}/odd: Invalid enum value 'maybe' - at `\$\.data"):
        await client.get(CHOICE, ObjectKey(namespace, "odd"))


async def test_apply_owns_what_it_names(client: Client, namespace: str) -> None:
    first = await client.apply(SECRET, secret(namespace, "a", "eA==", one="1"), field_owner="first")
    with pytest.raises(Conflict, match="conflict"):
        await client.apply(SECRET, secret(namespace, "a", "eQ==", two="2"), field_owner="second", force=False)
    assert (await client.get(SECRET, key_of(first))).data == {"a": "eA=="}
    await client.apply(SECRET, secret(namespace, "a", "eQ==", two="2"), field_owner="second")
    last = await client.apply(SECRET, secret(namespace, "a", "eQ=="), field_owner="first")
    assert (last.data, last.metadata.labels) == ({"a": "eQ=="}, {"two": "2"})


async def test_what_was_applied_needs_no_apply(client: Client, namespace: str) -> None:
    """Not even after the server has filled in its defaults, and others have added theirs."""
    wanted = chain(namespace, labels={"a": "1"}, finalizers=[FINALIZER])
    assert needs_apply(wanted, None)
    live = await client.apply(SERVICE_CHAIN, wanted, field_owner="tests")
    assert not needs_apply(wanted, live)
    live = await client.patch(SERVICE_CHAIN, key_of(live), {"metadata": {"labels": {"b": "2"}, "finalizers": [FINALIZER, "a.b/c"]}})
    assert not needs_apply(wanted, live)
    assert needs_apply(chain(namespace, "chain", "p0", "p2"), live)
    live = await client.apply(SERVICE_CHAIN, chain(namespace, "chain", "p0", "p2"), field_owner="tests")
    assert needs_apply(wanted, live)
    await client.patch(SERVICE_CHAIN, key_of(live), {"metadata": {"finalizers": None}})


async def test_a_refusal_names_the_field(client: Client, namespace: str) -> None:
    spec = {"node": "n", "interfaceType": "physical"}
    with pytest.raises(Invalid, match="for interfaceType=physical, physical must be set") as caught:
        await client.create(
            SERVICE_INTERFACE, msgspec.convert({"metadata": {"name": "x", "namespace": namespace}, "spec": spec}, SERVICE_INTERFACE.type)
        )
    assert [field for field, _ in caught.value.causes] == ["spec"]
    with pytest.raises(Invalid):
        await client.create(SECRET, secret(namespace, "Not_a_Name"))


async def test_a_kind_that_is_not_there(client: Client, namespace: str) -> None:
    with pytest.raises(NotFound):
        await client.list(Resource("none.example.org", "v1", "None", "nones", Metadata), namespace=namespace)


async def test_a_stranger_is_denied(api_server: Cluster, tmp_path: Path) -> None:
    kubeconfig = api_server.write_kubeconfig(tmp_path / "stranger", "stranger")
    async with Client.from_kubeconfig(kubeconfig, user_agent="tests") as stranger:
        with pytest.raises(Denied, match="stranger"):
            await stranger.list(SECRET)
    anonymous = {
        "clusters": [{"name": "c", "cluster": {"server": api_server.server, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "u", "user": {"token": "invalid"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    async with Client.from_kubeconfig(anonymous, user_agent="tests") as nobody:
        with pytest.raises(Denied):
            await nobody.list(SECRET)


async def test_a_server_that_cannot_be_trusted_or_reached(api_server: Cluster) -> None:
    content = msgspec.json.decode(api_server.kubeconfig.read_bytes())
    del content["clusters"][0]["cluster"]["certificate-authority-data"]
    async with Client.from_kubeconfig(content, user_agent="tests") as client:
        with pytest.raises(Unreachable, match="certificate"):
            await client.list(NAMESPACE)
    content["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    async with Client.from_kubeconfig(content, user_agent="tests") as client:
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"):
            await client.list(NAMESPACE)


async def test_status_is_written_once(client: Client, namespace: str) -> None:
    made = await client.create(SERVICE_CHAIN, chain(namespace))
    wanted = msgspec.convert({"observedGeneration": 1, "conditions": [condition("True")]}, type(made.status))
    written = await write_status(client, SERVICE_CHAIN, made, wanted)
    assert written is not None
    assert written.status == wanted
    assert await client.get(SERVICE_CHAIN, key_of(made)) == written
    unopened = Client.from_kubeconfig(KUBECONFIG, user_agent="tests")  # any request of it is an error
    assert await write_status(unopened, SERVICE_CHAIN, written, wanted) is None
    emptied = await write_status(client, SERVICE_CHAIN, written, type(made.status)())
    assert emptied is not None
    assert emptied.status == type(made.status)()


KUBECONFIG: dict[str, Any] = {
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
    "contexts": [{"name": "x", "context": {"cluster": "c"}}],
    "current-context": "x",
}


def condition(state: str) -> dict[str, Any]:
    return {"type": "Ready", "status": state, "reason": "R", "message": "m", "observedGeneration": 1, "lastTransitionTime": NOW}


async def test_the_status_of_an_object_made_anew_is_not_written(client: Client, namespace: str) -> None:
    old = await client.create(SERVICE_CHAIN, chain(namespace))
    await client.delete(SERVICE_CHAIN, key_of(old))
    new = await client.create(SERVICE_CHAIN, chain(namespace))
    wanted = msgspec.convert({"conditions": [condition("True")]}, type(old.status))
    with pytest.raises(Conflict):
        await write_status(client, SERVICE_CHAIN, old, wanted)
    assert await client.get(SERVICE_CHAIN, key_of(new)) == new


def said(problem: str | None) -> tuple[Finding, ...]:
    return status.chain_findings([] if problem is None else [problem], None)


async def events_of(client: Client, namespace: str) -> list[tuple[str, str, int]]:
    return sorted((e.type, e.reason, e.count) for e in (await client.list(EVENT, namespace=namespace)).items)


async def test_reports_are_written_once_though_the_cache_is_behind(client: Client, api_server: Cluster, namespace: str) -> None:
    seen = await client.create(SERVICE_CHAIN, chain(namespace))
    async with Client.from_kubeconfig(api_server.kubeconfig, user_agent="tests") as own:
        reporter = StatusReporter(own, SERVICE_CHAIN, "tests")
        await reporter.report(seen, said("no port"), NOW)
        between = await client.get(SERVICE_CHAIN, key_of(seen))
        await reporter.report(seen, said(None), NOW)
    newest = await client.get(SERVICE_CHAIN, key_of(seen))
    assert [(c.type, c.status, c.observed_generation) for c in newest.status.conditions] == [
        ("Ready", "True", 1),
        ("ServiceChainReconciled", "True", 1),
    ]
    for behind in (seen, between, newest):
        await reporter.report(behind, said(None), NOW + timedelta(hours=1))  # its client is closed: a request would be an error
    assert await client.get(SERVICE_CHAIN, key_of(seen)) == newest


async def test_a_report_after_somebody_elses_change_starts_from_there(client: Client, namespace: str) -> None:
    seen = await client.create(SERVICE_CHAIN, chain(namespace))
    reporter = StatusReporter(client, SERVICE_CHAIN, "tests")
    await reporter.report(seen, said(None), NOW)
    changed = await client.patch(SERVICE_CHAIN, key_of(seen), {"status": {"conditions": []}}, subresource="status")
    assert changed.status.conditions == ()
    await reporter.report(changed, said(None), NOW)
    assert len((await client.get(SERVICE_CHAIN, key_of(seen))).status.conditions) == 2


async def test_an_event_tells_each_turn_of_ready_but_not_how_it_is_at_first(client: Client, namespace: str) -> None:
    item = await client.create(SERVICE_CHAIN, chain(namespace))
    reporter = StatusReporter(client, SERVICE_CHAIN, "tests")
    for problem in (None, "no port", "no port", "no link", None):
        await reporter.report(item, said(problem), NOW)
        item = await client.get(SERVICE_CHAIN, key_of(item))
    assert await events_of(client, namespace) == [("Normal", "Ready", 1), ("Warning", "NotReady", 1)]


@pytest.mark.parametrize("name", ["chain", "x" * 199 + "-" + "y" * 20, "x" * 199 + "." + "y" * 20])
async def test_the_same_event_again_is_counted_and_one_that_is_gone_is_made_again(client: Client, namespace: str, name: str) -> None:
    item = await client.create(SECRET, secret(namespace, name))
    recorder = EventRecorder(client, "tests")
    for _ in range(3):
        await recorder.record(SECRET, item, "Warning", "Repaired", "m" * 2000, NOW)
    (found,) = (await client.list(EVENT, namespace=namespace)).items
    assert (found.count, found.involved_object.uid, found.source.component) == (3, item.metadata.uid, "tests")
    await client.delete(EVENT, key_of(found))
    await recorder.record(SECRET, item, "Warning", "Repaired", "m" * 2000, NOW)
    assert await events_of(client, namespace) == [("Warning", "Repaired", 4)]


async def test_an_object_that_turns_all_the_time_is_no_event_each_time(client: Client, namespace: str) -> None:
    items = [await client.create(SECRET, secret(namespace, name)) for name in ("restless", "quiet")]
    recorder = EventRecorder(client, "tests")
    for number in range(BURST + 5):
        await recorder.record(SECRET, items[0], "Warning", "NotReady", f"cause {number % 3}", NOW)
    await recorder.record(SECRET, items[1], "Warning", "NotReady", "cause", NOW)
    events = (await client.list(EVENT, namespace=namespace)).items
    counts = {item.metadata.name: sum(e.count for e in events if e.involved_object.uid == item.metadata.uid) for item in items}
    assert counts == {"restless": BURST, "quiet": 1}


async def test_an_event_that_cannot_be_written_hinders_nothing() -> None:
    async with Client.from_kubeconfig(KUBECONFIG, user_agent="tests") as client:
        await EventRecorder(client, "tests").record(SECRET, secret("ns", "a"), "Normal", "Repaired", "m", NOW)


async def test_a_finalizer_holds_an_object_until_it_is_removed(client: Client, namespace: str) -> None:
    bare = await client.create(LEASE, LEASE.type(metadata=ObjectMeta(name="x", namespace=namespace, finalizers=("other.io/x",))))
    held = await add_finalizer(client, LEASE, bare, FINALIZER)
    assert held.metadata.finalizers == ("other.io/x", FINALIZER)
    assert await add_finalizer(client, LEASE, held, FINALIZER) is held
    with pytest.raises(Conflict):
        await add_finalizer(client, LEASE, bare, FINALIZER)
    with pytest.raises(Conflict):
        await remove_finalizer(
            client, LEASE, msgspec.structs.replace(held, metadata=msgspec.structs.replace(held.metadata, uid="x")), FINALIZER
        )
    await client.delete(LEASE, key_of(held))
    leaving = await client.get(LEASE, key_of(held))
    assert leaving.metadata.deletion_timestamp is not None
    left = await remove_finalizer(client, LEASE, leaving, FINALIZER)
    assert await remove_finalizer(client, LEASE, left, FINALIZER) is left
    await remove_finalizer(client, LEASE, left, "other.io/x")
    with pytest.raises(NotFound):
        await client.get(LEASE, key_of(held))


async def test_requests_side_by_side(client: Client, namespace: str) -> None:
    names = {f"s{number}" for number in range(100)}
    await asyncio.gather(*(client.create(SECRET, secret(namespace, name)) for name in names))
    assert {item.metadata.name for item in (await client.list(SECRET, namespace=namespace)).items} == names


async def test_watches_leave_requests_their_connections(api_server: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_client, "REQUESTS", 2)
    monkeypatch.setattr(kube_client, "TIMEOUT", 5.0)
    async with Client.from_kubeconfig(api_server.kubeconfig, user_agent="tests") as client:
        caches = [Cache(client, SECRET, namespace=namespace, field_selector=f"metadata.name=s{number}") for number in range(6)]
        told: asyncio.Queue[ObjectKey] = asyncio.Queue()
        for cache in caches:
            cache.subscribe(lambda change: told.put_nowait(change.key))
        watches = [asyncio.ensure_future(cache.run()) for cache in caches]
        async with asyncio.timeout(30):
            await asyncio.gather(*(cache.synced() for cache in caches))
            await asyncio.gather(*(client.create(SECRET, secret(namespace, f"s{number}")) for number in range(6)))
            assert {await told.get() for _ in range(6)} == {ObjectKey(namespace, f"s{number}") for number in range(6)}
        for watch in watches:
            watch.cancel()
        await asyncio.wait(watches)
    assert [cache.failing for cache in caches] == [None] * 6


async def test_a_write_that_must_not_be_sent_any_more_when_it_is_written_does_not_arrive(
    api_server: Cluster, client: Client, namespace: str
) -> None:
    left = 0

    def fence() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Fenced("another leads")

    async with Client.from_kubeconfig(api_server.kubeconfig, user_agent="tests", fence=fence) as own:
        for name in ("by-a-new-connection", "by-one-that-is-there"):
            left = 1  # it is asked at the write's turn, and again when the bytes go
            with pytest.raises(Fenced, match="another leads"):
                await own.create(SECRET, secret(namespace, name))
            await own.list(SECRET, namespace=namespace)
            with pytest.raises(NotFound):
                await client.get(SECRET, ObjectKey(namespace, name))
        left = 2
        await own.create(SECRET, secret(namespace, "by-a-new-connection"))
    assert (await client.get(SECRET, ObjectKey(namespace, "by-a-new-connection"))).metadata.name
