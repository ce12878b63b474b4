"""Our charts and our image on a rack that has nothing of ours: installed by Helm, run by kubelets, upgraded under traffic, removed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.lab import charts, manifests, remains
from dpuchain.lab.errors import LabError
from dpuchain.lab.layout import HOST, Layout, Shape
from dpuchain.lab.process import run
from dpuchain.lab.rack import Rack
from dpuchain.lab.toolchain import Toolchain
from tests.e2e.conftest import EXAMPLE
from tests.e2e.install.later import VERSION, write_images

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

CLUSTER = "cluster-1"
IMAGE = "docker.io/dpuchain/dpuchain"
NAMESPACE = f"--namespace={OPERATOR_NAMESPACE}"
OWNED = (
    *("deployments", "daemonsets", "replicasets", "pods", "jobs", "services", "configmaps", "secrets", "serviceaccounts", "leases"),
    *("roles", "rolebindings", "clusterroles", "clusterrolebindings", "poddisruptionbudgets", "networkpolicies"),
    *("flowschemas", "prioritylevelconfigurations", "validatingwebhookconfigurations"),
    *("validatingadmissionpolicies", "validatingadmissionpolicybindings"),
)
"""The kinds of all that Helm or we could leave, the definitions aside."""
KUBECONFIG = f"Secret {OPERATOR_NAMESPACE}/{CLUSTER}-admin-kubeconfig"
"""The rack's, of its DPU cluster."""


class Installation:
    """A rack, and Helm and kubectl for its clusters."""

    def __init__(self, rack: Rack, directory: Path, mirror: str) -> None:
        self.rack = rack
        self.directory = directory
        self.dpus = rack.kubectl(CLUSTER)
        self.host = rack.kubectl(HOST)
        values = {
            "image": {"pullPolicy": "Never"},
            "host": {"replicas": 1, "chartMirrors": {charts.REPOSITORY: mirror}},
            "admission": {"replicas": 1},
            "dpu": {"values": {"controller": {"replicas": 1}, "agent": {"cniBinaries": "/run/cni", "python": sys.executable}}},
        }
        self.values = directory / "values.json"
        self.values.write_text(json.dumps(values))

    async def helm(self, *arguments: str) -> str:
        """Helm in the host cluster."""
        environment = charts.helm_environment(self.directory / "helm")
        kubeconfig = f"--kubeconfig={self.rack.host.kubeconfig}"
        return await run(str(self.rack.layout.tools / "helm"), *arguments, kubeconfig, NAMESPACE, environment=environment, timeout=300)

    async def package(self, *version: str) -> str:
        """The chart of the host cluster, as an artifact."""
        folder = self.directory / f"chart{len(version)}"
        await self.helm("package", str(charts.OURS / "dpuchain"), f"--destination={folder}", *version)
        (chart,) = folder.glob("*.tgz")
        return str(chart)

    async def deploy(self, chart: str) -> None:
        """Install or upgrade, and wait until every pod of the host cluster is ready."""
        await self.helm("upgrade", "--install", "dpuchain", chart, f"--values={self.values}", "--wait", "--timeout=280s")

    async def rolled_out(self, version: str) -> None:
        """Wait until the DPU cluster has our chart in a version, and all its pods are of it."""
        labelled = f"--for=jsonpath={{.metadata.labels.app\\.kubernetes\\.io/version}}={version}"
        for what in ("deployment/dpuchain-dpu", "daemonset/dpuchain-agent"):
            await self.dpus("wait", "--for=create", what, NAMESPACE, "--timeout=280s", timeout=300)
            await self.dpus("wait", labelled, what, NAMESPACE, "--timeout=280s", timeout=300)
            await self.dpus("rollout", "status", what, NAMESPACE, "--timeout=280s", timeout=300)

    async def told(self) -> list[str]:
        """The reasons of the Events about the DPU cluster, in the order in which they were written first."""
        events = await self.host.items("events", namespace=OPERATOR_NAMESPACE)
        mine = [event for event in events if event["involvedObject"]["kind"] == "DPUCluster"]
        return [event["reason"] for event in sorted(mine, key=lambda event: event["metadata"]["creationTimestamp"])]

    async def turned(self) -> list[str]:
        """What Events say of objects of ours that were Ready and are not any more."""
        found = []
        for kubectl in (self.host, self.dpus):
            events = await kubectl.items("events")
            found += [
                f"{event['involvedObject']['kind']} {event['involvedObject']['name']} {event['count']}: {event['message']}"
                for event in events
                if event["reason"] == "NotReady" and event["source"].get("component", "").startswith("dpuchain")
            ]
        return sorted(found)

    async def owned(self) -> set[str]:
        """Everything in the clusters that Helm or we could have left."""
        found = set()
        for name, kubectl in (("host", self.host), ("DPU", self.dpus)):
            listing = json.loads(await kubectl("get", ",".join(OWNED), "--all-namespaces", "--output=json"))
            for item in listing["items"]:
                meta = item["metadata"]
                found.add(f"{name} cluster: {item['kind']} {meta.get('namespace', '')}/{meta['name']}")
        return found

    async def log(self) -> str:
        """What a failure is explained by."""
        parts = []
        questions = (
            ("get", "pods", "--all-namespaces", "--output=wide"),
            ("get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"),
            ("get", "dpuservicechains,dpuservices,dpuserviceinterfaces", "--all-namespaces", "--output=yaml"),
            ("get", "serviceinterfaces,servicechains", "--all-namespaces", "--output=yaml"),
            *(
                ("logs", NAMESPACE, f"--selector=app.kubernetes.io/name={name}", "--all-containers", "--tail=60")
                for name in ("dpuchain", "dpuchain-dpu")
            ),
        )
        for kubectl in (self.host, self.dpus):
            for question in questions:
                try:
                    parts.append(await kubectl(*question))
                except LabError as error:
                    parts.append(str(error))
        return "\n".join(parts)


def version() -> str:
    """That of the artifacts."""
    found: str = yaml.safe_load((charts.OURS / "dpuchain" / "Chart.yaml").read_text())["version"]
    return found


@pytest.fixture(scope="module")
def images() -> Iterator[list[Path]]:
    """The image, built as `make image` does, and that of a later version."""
    with tempfile.TemporaryDirectory(prefix="dpuchain-image-") as folder:
        subprocess.run([sys.executable, "-m", "tools.build_image", folder], check=True)
        (archive,) = Path(folder).glob("*.tar")
        image, later = Path(folder) / "image", Path(folder) / "later"
        write_images(archive, image, later)
        archive.unlink()
        yield [image, later]


@pytest.fixture
async def installation(images: list[Path]) -> AsyncIterator[Installation]:
    with tempfile.TemporaryDirectory(prefix="dpuchain-install-") as folder:
        layout = Layout(Path(folder) / "rack")
        layout.create(Shape(dpus=2, clusters=1))
        rack = Rack(layout, Shape(dpus=2, clusters=1), Toolchain(), bare=True)
        try:
            await rack.build()
            await rack.until_ready()
            await provide(rack, *images)
            async with charts.serve(layout.root / "charts", rack.network.management) as mirror:
                yield Installation(rack, Path(folder), mirror)
        finally:
            for process in reversed(rack.processes):  # they are of this process's control group, not of the rack's
                await process.stop()
            await remains.remove(layout)


async def provide(rack: Rack, image: Path, later: Path) -> None:
    """Give every machine both images. What differs between them is the host controller's, so on a DPU the later is the same."""
    assert rack.server is not None
    for archive in (image, later):
        await rack.server.load(archive)
    for dpu in rack.dpus:
        await dpu.load(image)
        await dpu.tag(f"{IMAGE}:{version()}", f"{IMAGE}:{VERSION}")


@pytest.mark.timeout(1500)
async def test_charts_make_a_chain_work_and_leave_nothing(installation: Installation) -> None:
    try:
        await lives(installation)
    except BaseException:
        sys.stdout.write(await installation.log())
        raise


async def lives(installation: Installation) -> None:
    rack, host, dpus = installation.rack, installation.host, installation.dpus
    for kubectl in (host, dpus):
        await kubectl("create", "namespace", OPERATOR_NAMESPACE)
        await kubectl("wait", "--for=create", "serviceaccount/default", NAMESPACE, "--timeout=30s")
    before = await installation.owned()

    await installation.deploy(await installation.package())
    await host.apply([manifests.operator_configuration()])
    await rack.register()
    await installation.rolled_out(version())
    await host("apply", "--filename", EXAMPLE)
    await host("wait", "--for=condition=Ready", "dpuservicechain", "--all", NAMESPACE, "--timeout=280s", timeout=300)
    with pytest.raises(LabError, match=r"admission webhook .* denied the request"):
        await host("create", "--filename=-", stdin=json.dumps(OUT_OF_REACH).encode())

    turned = await installation.turned()
    async with pinged(rack.layout.identity.namespace("host-1")) as counted:
        await installation.deploy(await installation.package(f"--version={VERSION}", f"--app-version={VERSION}"))
        await installation.rolled_out(VERSION)
        await installation.helm("rollback", "dpuchain", "1", "--wait", "--timeout=280s")
        await installation.rolled_out(version())
    sent, received = counted
    assert sent > 0
    assert sent - received <= 1, "the last may have been under way when the ping was ended"
    assert await installation.turned() == turned, "nothing was lost, so nothing was not Ready"
    assert await installation.told() == ["Installed", "Upgraded", "RolledBack"]

    await host("delete", "dpuservicechain,dpuservice,dpuserviceinterface", "--all", NAMESPACE, "--timeout=90s", timeout=100)
    await installation.helm("uninstall", "dpuchain", "--wait", "--timeout=280s")
    for kubectl in (host, dpus):
        await kubectl("wait", "--for=delete", "pod", "--all", NAMESPACE, "--timeout=60s", timeout=70)
    assert {name for name in await installation.owned() if not name.endswith(KUBECONFIG)} == before
    assert [item["metadata"]["name"] for item in await host.items("dpuclusters")] == [CLUSTER], "data stays"


OUT_OF_REACH = {
    "apiVersion": "svc.dpu.nvidia.com/v1alpha1",
    "kind": "DPUServiceChain",
    "metadata": {"name": "out-of-reach", "namespace": OPERATOR_NAMESPACE},
    "spec": {
        "template": {
            "spec": {
                "template": {
                    "spec": {
                        "switches": [
                            {
                                "serviceMTU": 9216,
                                "ports": [{"serviceInterface": {"matchLabels": {"uplink": name}}} for name in ("p0", "p0")],
                            }
                        ]
                    }
                }
            }
        }
    },
}
"""A chain that names one port twice."""


@contextlib.asynccontextmanager
async def pinged(namespace: str) -> AsyncIterator[list[int]]:
    """A ping from host to host for as long as this lasts; then how many frames were sent, and how many answered."""
    command = ("nsenter", f"--net=/run/netns/{namespace}", "busybox", "ping", "-i", "0.05", "-W", "1", "198.51.100.2")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    found: list[int] = []
    assert process.stdout is not None
    await process.stdout.readline()
    await process.stdout.readline()  # the first answer
    output = asyncio.ensure_future(process.stdout.read())
    try:
        yield found
        assert process.returncode is None, "it must have lasted to the end"
    finally:
        process.send_signal(signal.SIGINT)
        text = (await output).decode()
        await process.wait()
        print(text[-200:])  # noqa: T201 - however it ended
    numbers = re.search(r"(\d+) packets transmitted, (\d+) packets received", text)
    assert numbers is not None, text[-500:]
    found += map(int, numbers.groups())
