"""Certificates: shared by replicas, renewed, or kept by somebody else; and API servers believe them."""

from __future__ import annotations

import asyncio
import base64
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.admission.conftest import Admission, Place, started, until
from tests.worlds import interface, node, physical

from dpuchain.admission import certificates
from dpuchain.admission.certificates import CA, CERTIFICATE
from dpuchain.api.names import ADMISSION_CERTIFICATES_NAME as OWN_SECRET
from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.runtime.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import Background
    from tests.integration.admission.conftest import Clusters

SECRETS = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/secrets"
REGISTRATION = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/dpuchain-admission"


@pytest.fixture
async def taken(host: Place, north: Place) -> AsyncIterator[None]:
    """A port that has an owner."""
    await north.apply(node("dpu-1"))
    await host.apply(interface("p0"))
    yield
    await host.delete(interface("p0"))
    await north.delete(node("dpu-1"))


async def refuses(host: Place) -> bool:
    """Whether the API server asks, believes who answers, and does as it is told; 'Ignore' would let the object in."""
    return (await host.apply(interface("two", physical("p0")), dryRun="All")).refused


async def until_refused(host: Place) -> None:
    async with asyncio.timeout(20):
        while True:
            if await refuses(host):
                return
            await asyncio.sleep(0.05)


def leaf(port: int) -> str:
    """The certificate that is shown on a port."""
    return ssl.get_server_certificate(("127.0.0.1", port)).strip()


async def stored(host: Place, name: str = OWN_SECRET) -> dict[str, str]:
    answer = await host.send("GET", f"{SECRETS}/{name}")
    return {key: base64.b64decode(value).decode() for key, value in answer.body["data"].items()}


async def made_anew(host: Place) -> dict[str, str]:
    """The Secret, as soon as there is one again."""
    async with asyncio.timeout(20):
        while True:
            if (await host.send("GET", f"{SECRETS}/{OWN_SECRET}")).status == 200:
                return await stored(host)
            await asyncio.sleep(0.02)


async def shows(admission: Admission, certificate: str) -> None:
    async with asyncio.timeout(20):
        while True:
            if await asyncio.to_thread(leaf, admission.port) == certificate.strip():
                return
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("taken")
async def test_replicas_show_one_certificate_and_renew_it_together(background: Background, clusters: Clusters, host: Place) -> None:
    await host.send("DELETE", f"{SECRETS}/{OWN_SECRET}")
    with started(background, clusters.host) as first, started(background, clusters.host) as second:
        before = await stored(host)
        for replica in (first, second):
            await shows(replica, before[CERTIFICATE])
        await until_refused(host)
        await host.send("DELETE", f"{SECRETS}/{OWN_SECRET}")
        after = await made_anew(host)
        assert after[CERTIFICATE] != before[CERTIFICATE]
        for replica in (first, second):
            await shows(replica, after[CERTIFICATE])
        await until_refused(host)
        registration = (await host.send("GET", REGISTRATION)).body
        (bundle,) = {webhook["clientConfig"]["caBundle"] for webhook in registration["webhooks"]}
        assert base64.b64decode(bundle).decode() == after[CA]


@pytest.mark.usefixtures("taken")
async def test_replica_that_dies_is_not_missed(background: Background, clusters: Clusters, host: Place) -> None:
    with started(background, clusters.host):
        with started(background, clusters.host):
            await until_refused(host)
        await host.send("DELETE", REGISTRATION)
        await until_refused(host)


@pytest.mark.usefixtures("taken")
async def test_certificate_of_somebody_else_is_shown_and_followed(background: Background, clusters: Clusters, host: Place) -> None:
    name = "from-cert-manager"
    await host.send("POST", SECRETS, _secret(name))
    try:
        with started(background, clusters.host, secret=name) as running:
            await shows(running, (await stored(host, name))[CERTIFICATE])
            await until_refused(host)
            before = (await stored(host, name))[CERTIFICATE]
            await host.send("PUT", f"{SECRETS}/{name}", _secret(name))
            after = (await stored(host, name))[CERTIFICATE]
            assert after != before
            await shows(running, after)
            await until_refused(host)
            assert (await stored(host, name))[CERTIFICATE] == after, "it is not ours to renew"
    finally:
        await host.send("DELETE", f"{SECRETS}/{name}")


def _secret(name: str) -> dict[str, Any]:
    data = certificates.renewed(None, ["127.0.0.1"], SystemClock().now())
    return {"metadata": {"name": name}, "type": "kubernetes.io/tls", "data": data}


async def test_missing_certificate_of_somebody_else_is_told(background: Background, clusters: Clusters, host: Place) -> None:
    from dpuchain.admission.process import Keeper, Settings
    from dpuchain.admission.registration import Endpoint
    from dpuchain.api.meta import ObjectKey
    from dpuchain.kube.client import Client

    settings = Settings("host", "127.0.0.1:0", Endpoint("https://127.0.0.1:1/validate", ObjectKey("", "")), secret="absent")
    client = Client.from_kubeconfig(clusters.host.kubeconfig, user_agent="tests")
    keeper = Keeper(client, settings, SystemClock())
    async with client:
        task = asyncio.create_task(keeper.run())
        await until(lambda: keeper.problem is not None and "does not exist; have it made" in keeper.problem)
        assert not keeper.shown.is_set()
        task.cancel()
        await asyncio.wait([task])
