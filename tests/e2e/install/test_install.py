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
from typing import TYPE_CHECKING, Any

import pytest

from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.lab import charts, remains
from dpuchain.lab.errors import LabError
from dpuchain.lab.layout import Layout, Shape
from dpuchain.lab.operators import Operators
from dpuchain.lab.process import run
from dpuchain.lab.rack import Rack
from dpuchain.lab.toolchain import Toolchain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

EXAMPLE = "examples/01-bump-in-the-wire/chain.yaml"
CLUSTER = "cluster-1"
VALUES = {
    "image.pullPolicy": "Never",
    "controller.replicas": "1",
    "agent.cniBinaries": "/run/cni",
    "agent.python": sys.executable,
}


class Installation:
    """A rack, and Helm and kubectl for its DPU cluster."""

    def __init__(self, rack: Rack, directory: Path) -> None:
        self.rack = rack
        self.directory = directory
        self.kubectl = rack.kubectl(CLUSTER)
        self.host = rack.kubectl("host")

    async def helm(self, *arguments: str) -> str:
        """Helm in the DPU cluster."""
        environment = charts.helm_environment(self.directory / "helm")
        kubeconfig = f"--kubeconfig={self.rack.clusters[CLUSTER].kubeconfig}"
        program = str(self.rack.layout.tools / "helm")
        return await run(program, *arguments, kubeconfig, f"--namespace={OPERATOR_NAMESPACE}", environment=environment, timeout=180)

    async def deploy(self, chart: str, *values: str) -> None:
        """Install or upgrade, and wait until every pod is ready."""
        options = [f"--set={name}={value}" for name, value in VALUES.items()] + [f"--set={value}" for value in values]
        await self.helm("upgrade", "--install", "dpuchain-dpu", chart, "--wait", "--timeout=120s", *options)

    async def log(self) -> str:
        """What a failure is explained by."""
        parts = []
        for question in (
            ("get", "pods", "--all-namespaces", "--output=wide"),
            ("get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"),
            (
                "logs",
                f"--namespace={OPERATOR_NAMESPACE}",
                "--selector=app.kubernetes.io/name=dpuchain-dpu",
                "--all-containers",
                "--tail=40",
            ),
            ("get", "serviceinterfaces,servicechains", "--all-namespaces", "--output=yaml"),
        ):
            try:
                parts.append(await self.kubectl(*question))
            except LabError as error:
                parts.append(str(error))
        return "\n".join(parts)


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """The image, built as `make image` does."""
    with tempfile.TemporaryDirectory(prefix="dpuchain-image-") as folder:
        subprocess.run([sys.executable, "-m", "tools.build_image", folder], check=True)
        (archive,) = Path(folder).glob("*.tar")
        yield archive


@pytest.fixture
async def installation(image: Path) -> AsyncIterator[Installation]:
    with tempfile.TemporaryDirectory(prefix="dpuchain-install-") as folder:
        layout = Layout(Path(folder) / "rack")
        layout.create(Shape(dpus=2, clusters=1))
        rack = Rack(layout, Shape(dpus=2, clusters=1), Toolchain(), bare=True)
        rack.operators = Operators(rack)
        try:
            await rack.build()
            await rack.until_ready()
            for dpu in rack.dpus:
                await dpu.load(image)
            yield Installation(rack, Path(folder))
        finally:
            await rack.operators.close()
            for process in reversed(rack.processes):  # they are of this process's control group, not of the rack's
                await process.stop()
            await remains.remove(layout)


async def test_chart_makes_a_chain_work_and_leaves_nothing(installation: Installation, tmp_path: Path) -> None:
    try:
        await lives(installation, tmp_path)
    except BaseException:
        sys.stdout.write(await installation.log())
        raise


async def lives(installation: Installation, tmp_path: Path) -> None:
    rack, kubectl = installation.rack, installation.kubectl
    await kubectl("create", "namespace", OPERATOR_NAMESPACE)
    await kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={OPERATOR_NAMESPACE}", "--timeout=30s")
    before = await owned(installation)
    await installation.helm("package", str(charts.OURS / "dpuchain-dpu"), f"--destination={tmp_path}")
    (chart,) = (str(path) for path in tmp_path.glob("*.tgz"))
    await installation.deploy(chart)
    assert rack.operators is not None
    await rack.operators.start_host(rack.layout.root / "charts")
    await installation.host("apply", "--filename", EXAMPLE)
    await installation.host(
        "wait", "--for=condition=Ready", "dpuservicechain", "--all", f"--namespace={OPERATOR_NAMESPACE}", "--timeout=120s"
    )

    async with pinged(rack.layout.identity.namespace("host-1")) as counted:
        await installation.deploy(chart, "agent.logLevel=debug", "controller.logLevel=debug")  # other pods of everything
        await installation.helm("rollback", "dpuchain-dpu", "1", "--wait", "--timeout=120s")
    sent, received = counted
    assert sent > 0
    assert sent - received <= 1, "the last may have been under way when the ping was ended"

    await installation.host(
        "delete", "dpuservicechain,dpuservice,dpuserviceinterface", "--all", f"--namespace={OPERATOR_NAMESPACE}", "--timeout=90s"
    )
    await installation.helm("uninstall", "dpuchain-dpu", "--wait", "--timeout=120s")
    await kubectl("wait", "--for=delete", "pod", "--all", f"--namespace={OPERATOR_NAMESPACE}", "--timeout=60s")
    assert await owned(installation) == before


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
    numbers = re.search(r"(\d+) packets transmitted, (\d+) packets received", text)
    assert numbers is not None, text[-500:]
    found += map(int, numbers.groups())
    print(f"{found[1]} of {found[0]} pings answered")  # noqa: T201


async def owned(installation: Installation) -> dict[str, Any]:
    """Everything in the DPU cluster that Helm or we could have left, the definitions aside."""
    kinds = "deployments,daemonsets,pods,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,poddisruptionbudgets"
    more = "validatingadmissionpolicies,validatingadmissionpolicybindings,secrets,network-attachment-definitions"
    listing = json.loads(await installation.kubectl("get", f"{kinds},{more}", "--all-namespaces", "--output=json"))
    return {f"{item['kind']} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}": True for item in listing["items"]}
