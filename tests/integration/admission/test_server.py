"""The endpoint under whatever is sent to it, and the registration under whatever is done to it."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from tests.integration.admission.conftest import NAMESPACE, Admission, Place, registered, started, until
from tests.worlds import interface, node, physical

from dpuchain.admission import server
from dpuchain.admission.server import LARGEST, PATH, Reviewer, serving
from dpuchain.admission.world import HostWorld
from dpuchain.kube.client import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.conftest import Background
    from tests.integration.admission.conftest import Clusters

REGISTRATION = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/dpuchain-admission"
QUESTION = {
    "apiVersion": "admission.k8s.io/v1",
    "kind": "AdmissionReview",
    "request": {
        "uid": "1",
        "kind": {"group": "svc.dpu.nvidia.com", "version": "v1alpha1", "kind": "DPUServiceInterface"},
        "operation": "CREATE",
        "object": {"metadata": {"name": "x", "namespace": "ns"}, "spec": {"template": {"spec": {"template": {"spec": physical("p0")}}}}},
        "oldObject": None,
        "dryRun": True,
    },
}


def question(**about: Any) -> bytes:
    return json.dumps({**QUESTION, "request": {**QUESTION["request"], **about}}).encode()  # type: ignore[dict-item]


@pytest.fixture(scope="module")
def admission(background: Background, clusters: Clusters) -> Iterator[Admission]:
    with started(background, clusters.host) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that believes anything: whom API servers believe is another test's concern."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as made:
        yield made


async def post(session: aiohttp.ClientSession, admission: Admission, body: bytes) -> tuple[int, str]:
    async with session.post(f"https://127.0.0.1:{admission.port}{PATH}", data=body) as response:
        return response.status, await response.text()


async def test_question_is_answered_with_its_uid(session: aiohttp.ClientSession, admission: Admission) -> None:
    status, text = await post(session, admission, question(uid="abc"))
    assert (status, json.loads(text)["response"]["uid"], json.loads(text)["response"]["allowed"]) == (200, "abc", True)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not an AdmissionReview"),
        (b"{", "not an AdmissionReview"),
        (b"\xff\xfe", "not an AdmissionReview"),
        (b"[" * 100_000, "not an AdmissionReview"),
        (b"{}", "not an AdmissionReview"),
        (json.dumps({**QUESTION, "request": None}).encode(), "not an AdmissionReview"),
        (json.dumps({**QUESTION, "kind": "Pod"}).encode(), "not an AdmissionReview"),
        (json.dumps({**QUESTION, "apiVersion": "admission.k8s.io/v1beta1"}).encode(), "is not admission.k8s.io/v1"),
        (question(uid=""), "request.uid is empty"),
        (question(operation="STEAL"), "not an AdmissionReview"),
        (question(kind={"group": "", "version": "v1", "kind": "Pod"}), "kind Pod of /v1 is not judged here"),
    ],
)
async def test_what_is_no_question_gets_400(body: bytes, words: str, session: aiohttp.ClientSession, admission: Admission) -> None:
    status, text = await post(session, admission, body)
    assert status == 400
    assert words in text


async def test_object_that_no_controller_could_read_is_refused(session: aiohttp.ClientSession, admission: Admission) -> None:
    status, text = await post(session, admission, question(object={"metadata": {"name": "x", "namespace": "ns"}, "spec": {"template": 5}}))
    response = json.loads(text)["response"]
    assert (status, response["allowed"]) == (200, False)
    assert "DPUServiceInterface ns/x: Expected `object`, got `int` - at `$.spec.template`" in response["status"]["message"]


async def test_huge_question_gets_413(session: aiohttp.ClientSession, admission: Admission) -> None:
    status, _ = await post(session, admission, b" " * (LARGEST + 1))
    assert status == 413
    assert (await post(session, admission, question()))[0] == 200


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    tls = ssl.create_default_context()
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    return await asyncio.open_connection("127.0.0.1", port, ssl=tls)


async def cut_off(reader: asyncio.StreamReader) -> bool:
    """Whether the other end closes, or breaks, the connection without an answer."""
    try:
        async with asyncio.timeout(10):
            return await reader.read() == b""
    except (ConnectionError, ssl.SSLError):
        return True


async def test_client_whose_body_does_not_come_is_cut_off(admission: Admission, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 0.2)
    reader, writer = await connect(admission.port)
    writer.write(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{{".encode())
    assert await cut_off(reader)
    writer.close()


async def test_client_whose_head_does_not_come_is_cut_off(
    background: Background, clusters: Clusters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.3)
    with started(background, clusters.host) as running:
        reader, writer = await connect(running.port)
        writer.write(b"POST / HTTP/1.1\r\nHo")
        assert await cut_off(reader)
        writer.close()


async def test_nothing_is_judged_before_the_world_is_known(clusters: Clusters, session: aiohttp.ClientSession) -> None:
    from dpuchain.admission import certificates
    from dpuchain.runtime.clock import SystemClock

    data = certificates.renewed(None, ["127.0.0.1"], SystemClock().now())
    tls = certificates.context()
    certificates.show(tls, certificates.shown(data))
    world = HostWorld(Client.from_kubeconfig(clusters.host.kubeconfig, user_agent="tests"))
    async with serving(Reviewer(world), "127.0.0.1:0", tls) as port:
        status, text = await post(session, Admission(world, port), question())
    assert (status, text) == (503, "dpuservicechains have not been read yet\n")


async def test_registration_is_put_right(admission: Admission, host: Place) -> None:
    await host.send("DELETE", REGISTRATION)
    await registered_with(host, admission.port, "Ignore")
    patch = [{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Fail"}]
    assert (await host.send("PATCH", REGISTRATION, patch, "application/json-patch+json")).status < 300
    await registered_with(host, admission.port, "Ignore")


async def registered_with(host: Place, port: int, policy: str) -> None:
    """Wait until the API server is told to ask there, with that failure policy."""
    wanted = {(f"https://127.0.0.1:{port}{PATH}", policy)}
    async with asyncio.timeout(20):
        while True:
            answer = await host.send("GET", REGISTRATION)
            if (
                answer.status == 200
                and {(hook["clientConfig"]["url"], hook["failurePolicy"]) for hook in answer.body["webhooks"]} == wanted
            ):
                return
            await asyncio.sleep(0.02)


async def test_cluster_that_cannot_be_reached_is_told(admission: Admission, host: Place) -> None:
    broken = registered().__class__(
        metadata=registered().metadata.__class__(name="south", namespace=NAMESPACE),
        spec=registered().spec.__class__(type="static", version="v1"),
    )
    await admission.saw([await host.apply(broken)])
    try:
        answer = await host.apply(interface("p0"), dryRun="All")
        assert "DPUCluster ns/south is not looked at: has no spec.kubeconfig yet" in answer.warnings
        assert answer.status < 300
    finally:
        await host.delete(broken)


async def test_cluster_that_goes_away_is_taken_as_it_was_last_seen(
    admission: Admission, clusters: Clusters, host: Place, north: Place, background: Background
) -> None:
    await admission.saw([await north.apply(node("dpu-1")), await host.apply(interface("p0"))])
    world = admission.world
    assert isinstance(world, HostWorld)
    background.run(clusters.north.processes[-1].stop())
    try:
        await until(lambda: any(problem is not None for _, _, problem in world.members))
        answer = await host.apply(interface("p1"), dryRun="All")
        assert any("DPUCluster ns/north is taken to be as it was last seen: cannot be reached since" in text for text in answer.warnings)
        answer = await host.apply(interface("two", physical("p0")), dryRun="All")
        assert answer.refused
        assert "in DPUCluster ns/north on node dpu-1" in answer.message
    finally:

        async def again() -> None:
            clusters.north.processes[-1].start_again()
            await clusters.north.until_ready()

        background.run(again())
        await until(lambda: all(problem is None for _, _, problem in world.members))
        await host.delete(interface("p0"))
        await north.delete(node("dpu-1"))
