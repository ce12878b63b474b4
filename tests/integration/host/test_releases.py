"""What becomes of releases: in the host cluster, from OCI registries, under the hands of others, and what is told of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from dpuchain.api import kinds, names
from dpuchain.api.meta import key_of
from dpuchain.host import repairs
from dpuchain.lab.certificates import Authority
from dpuchain.runtime.metrics import RELEASE_REPAIRS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.host.conftest import World

    from dpuchain.api.kubernetes import DaemonSet

RECONCILED, READY = names.APPLICATIONS_RECONCILED, names.APPLICATIONS_READY
FIRST = [("service", "1", "deployed")]


async def installed(world: World, **service: Any) -> DaemonSet:
    """A service in one DPU cluster; gives its DaemonSet there."""
    await world.add_cluster("north")
    await world.add_service(**service)
    await world.told(world.services, "service", RECONCILED, "True")
    return await world.north.client.get(kinds.DAEMON_SET, world.key("service"))


@pytest.mark.usefixtures("controller")
async def test_service_of_the_host_cluster_needs_no_dpu_cluster_and_ends_there(world: World) -> None:
    await world.add_service(deployInCluster=True, source={"releaseName": "inside"})
    await world.told(world.services, "service", RECONCILED, "True")
    await world.told(world.services, "service", READY, "False", f"* Cluster: (the host cluster)\n  DaemonSet: {world.key('inside')}")
    made = await world.client.get(kinds.DAEMON_SET, world.key("inside"))
    raw = json.loads(await world.client.request("GET", kinds.DAEMON_SET.path(world.namespace, "inside")))
    assert raw["spec"]["template"]["metadata"]["labels"][names.SERVICE_LABEL] == "example"
    counters = {"desiredNumberScheduled": 0, "currentNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0}
    status = {"observedGeneration": made.metadata.generation, **counters}
    await world.client.patch(kinds.DAEMON_SET, key_of(made), {"status": status}, subresource="status")
    await world.told(world.services, "service", names.READY, "True")
    assert len(world.north.records) == len(world.south.records) == 0
    await world.client.delete(kinds.DPU_SERVICE, world.key("service"))
    await world.until(lambda: len(world.services) == 0, "gone")
    for resource in (kinds.DAEMON_SET, kinds.SECRET_METADATA):
        assert (await world.client.list(resource, namespace=world.namespace)).items == ()


@pytest.mark.usefixtures("controller")
async def test_service_moves_between_the_host_cluster_and_the_dpu_clusters(world: World) -> None:
    await installed(world)
    await world.client.patch(kinds.DPU_SERVICE, world.key("service"), {"spec": {"deployInCluster": True}})
    await world.until(lambda: len(world.north.records) == 0, "uninstalled")
    await world.told(world.services, "service", RECONCILED, "True")
    assert (await world.client.get(kinds.DAEMON_SET, world.key("service"))).metadata.name == "service"
    await world.client.patch(kinds.DPU_SERVICE, world.key("service"), {"spec": {"deployInCluster": False}})
    await world.until(lambda: world.north.revisions == FIRST, "installed")
    await world.told(world.services, "service", RECONCILED, "True")
    assert (await world.client.list(kinds.DAEMON_SET, namespace=world.namespace)).items == ()


@pytest.mark.usefixtures("controller")
async def test_daemon_set_that_somebody_deleted_is_made_again(world: World) -> None:
    made = await installed(world)
    counted = RELEASE_REPAIRS._value.get()
    await world.north.client.delete(kinds.DAEMON_SET, key_of(made), uid=made.metadata.uid)
    await world.until(lambda: any(item.metadata.uid != made.metadata.uid for item in world.north.daemon_sets), "there again")
    await world.until(lambda: ("service", "2", "deployed") in world.north.revisions, "one Helm run")
    await world.run_pods(world.north)
    await world.told(world.services, "service", names.READY, "True")
    assert len(world.north.revisions) == 2
    assert RELEASE_REPAIRS._value.get() == counted + 1


@pytest.mark.usefixtures("controller")
async def test_daemon_set_that_somebody_edited_is_put_right(world: World) -> None:
    made = await installed(world)
    labels = {names.SERVICE_LABEL: "forged"}
    await world.north.client.patch(kinds.DAEMON_SET, key_of(made), {"spec": {"template": {"metadata": {"labels": labels}}}})
    await world.until(lambda: ("service", "2", "deployed") in world.north.revisions, "one Helm run")
    await world.told(world.services, "service", RECONCILED, "True")
    path = kinds.DAEMON_SET.path(world.namespace, "service")
    template = json.loads(await world.north.client.request("GET", path))["spec"]["template"]
    assert template["metadata"]["labels"][names.SERVICE_LABEL] == "example"


@pytest.mark.usefixtures("controller")
async def test_somebody_who_deletes_again_and_again_is_told_of_and_slows_us_down(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repairs, "FIRST_PAUSE", 6.0)
    made = await installed(world)
    await world.north.client.delete(kinds.DAEMON_SET, key_of(made))
    await world.until(lambda: ("service", "2", "deployed") in world.north.revisions, "made again")
    await world.until(lambda: len(world.north.daemon_sets) == 1, "there again")
    await world.north.client.delete(kinds.DAEMON_SET, key_of(made))
    await world.told(
        world.services,
        "service",
        RECONCILED,
        "False",
        f"somebody else changes or deletes daemonsets {world.key('service')} again and again",
    )
    assert ("service", "3", "deployed") not in world.north.revisions
    await world.until(lambda: ("service", "3", "deployed") in world.north.revisions, "made again in its time")
    await world.told(world.services, "service", RECONCILED, "True")


@pytest.mark.usefixtures("controller")
async def test_password_of_a_repository_is_told_nowhere(world: World) -> None:
    await world.add_cluster("north")
    with capture_logs() as logs:
        await world.add_service(source={"repoURL": "https://user:s3cr3t@127.0.0.1:9/charts"})
        await world.told(world.services, "service", RECONCILED, "False", "cannot be had from https://***@127.0.0.1:9/charts")
        for _ in range(100):  # the log comes after the status, and no watch tells of it
            if any("failed" in entry["event"] for entry in logs):
                break
            await asyncio.sleep(0.1)
        else:
            pytest.fail("what failed was not logged")
    service = world.services.get(world.key("service"))
    assert service is not None
    events = (await world.client.list(kinds.EVENT, namespace=world.namespace)).items
    assert "s3cr3t" not in f"{service.status} {events} {logs}"


@contextlib.asynccontextmanager
async def registry(chart: Path, folder: Path) -> AsyncIterator[str]:
    """An OCI registry with one chart, on TLS; yields its address. `folder` has the certificate of its authority then."""
    authority = Authority(folder, "registry")
    pair = authority.server("registry", ["127.0.0.1"])
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pair.certificate, pair.key)
    config = json.dumps({"name": "example-service", "version": "1.0.1", "apiVersion": "v2"}).encode()
    blobs = {f"sha256:{sha256(blob).hexdigest()}": blob for blob in (config, chart.read_bytes())}
    types = ("application/vnd.cncf.helm.config.v1+json", "application/vnd.cncf.helm.chart.content.v1.tar+gzip")
    parts = [{"mediaType": kind, "digest": digest, "size": len(blob)} for kind, (digest, blob) in zip(types, blobs.items(), strict=True)]
    media = "application/vnd.oci.image.manifest.v1+json"
    manifest = json.dumps({"schemaVersion": 2, "mediaType": media, "config": parts[0], "layers": parts[1:]}).encode()
    digest = f"sha256:{sha256(manifest).hexdigest()}"

    async def give_manifest(request: web.Request) -> web.Response:
        if request.match_info["reference"] not in ("1.0.1", digest):
            raise web.HTTPNotFound
        return web.Response(body=manifest, content_type=media, headers={"Docker-Content-Digest": digest})

    async def give_blob(request: web.Request) -> web.Response:
        return web.Response(body=blobs[request.match_info["digest"]], content_type="application/octet-stream")

    application = web.Application()
    application.router.add_get("/v2/charts/example-service/manifests/{reference}", give_manifest)
    application.router.add_get("/v2/charts/example-service/blobs/{digest}", give_blob)
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
def authority_of_helm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder whose `ca.crt` Helm trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "registry" / "ca.crt"))
    return tmp_path / "registry"


@pytest.mark.usefixtures("controller")
async def test_chart_is_fetched_from_an_oci_registry(world: World, authority_of_helm: Path) -> None:
    (chart,) = (world.fleet.charts / "doca").glob("example-service-1.0.1.tgz")
    async with registry(chart, authority_of_helm) as address:
        await installed(world, source={"repoURL": f"oci://{address}/charts"})
        assert world.north.revisions == FIRST
        await world.client.patch(kinds.DPU_SERVICE, world.key("service"), {"spec": {"helmChart": {"source": {"version": "9.9.9"}}}})
        words = f"chart example-service 9.9.9 cannot be had from oci://{address}/charts"
        await world.told(world.services, "service", RECONCILED, "False", words)
