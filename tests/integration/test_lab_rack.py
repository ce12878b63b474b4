"""A whole rack: what it offers, how it is mended, and that nothing is left of it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import select
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dpuchain.api.kinds import NODE
from dpuchain.kube.client import Client
from dpuchain.lab import containers, control, example, remains
from dpuchain.lab.cgroups import ControlGroup, hierarchies
from dpuchain.lab.errors import LabError
from dpuchain.lab.images import IMAGE
from dpuchain.lab.layout import HOST, Layout, Shape
from dpuchain.lab.network import host_address
from dpuchain.lab.process import run
from dpuchain.lab.rack import TOOLS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Background

    from dpuchain.lab.toolchain import Toolchain

SHAPE = Shape(dpus=2, clusters=2)
DAEMON_SET = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"name": "busybox", "namespace": "default"},
    "spec": {
        "selector": {"matchLabels": {"app": "busybox"}},
        "template": {
            "metadata": {"labels": {"app": "busybox"}},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "busybox", "image": IMAGE, "command": ["sh", "-c", "echo on; sleep 1000"]}],
            },
        },
    },
}


def nothing(text: str) -> None:
    """Report to nobody."""


def left_by(layout: Layout) -> list[str]:
    """Return whatever there is of a rack on the machine: processes, namespaces, links, mounts, control groups, files."""
    name = layout.identity.cgroup
    processes = [path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if os.fsencode(layout.root) in _content(path)]
    # A container's process is known by nothing but where its files are.
    processes += [path.parent.name for path in Path("/proc").glob("[0-9]*/mountinfo") if os.fsencode(layout.directory) in _content(path)]
    places = (*Path("/run/netns").iterdir(), *Path("/sys/class/net").iterdir())
    named = [str(path) for path in places if layout.identity.digits in path.name]
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if name in line or str(layout.directory) in line]
    groups = [str(hierarchy / name) for hierarchy in hierarchies() if (hierarchy / name).exists()]
    files = [str(path) for path in (layout.directory, layout.alias) if path.exists() or path.is_symlink()]
    return [*processes, *named, *mounts, *groups, *files]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process has ended, or ends
        return b""


@pytest.fixture(scope="module")
def tools(background: Background, toolchain: Toolchain) -> None:
    background.run(toolchain.provide(*TOOLS))


@pytest.fixture(scope="module")
def rack(background: Background, tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """A rack in a directory whose name is too long for the sockets in it."""
    layout = Layout.at(tmp_path_factory.mktemp("rack") / "a-directory-with-a-name-that-does-not-fit-into-a-socket-address")
    assert layout.root == layout.alias
    background.run(control.up(layout, SHAPE, nothing))
    yield layout
    background.run(remains.remove(layout))
    assert left_by(layout) == []


async def test_pods_run_on_every_dpu_and_kubectl_reaches_into_them(rack: Layout) -> None:
    for cluster in SHAPE.cluster_names:
        kubectl = example.kubectl(rack, cluster)
        await kubectl.apply([DAEMON_SET])
        await kubectl("rollout", "status", "daemonset/busybox", "--timeout=60s", timeout=70)
        assert (await kubectl("logs", "daemonset/busybox")).strip() == "on"
        assert (await kubectl("exec", "daemonset/busybox", "--", "cat", "/sys/class/net/eth0/operstate")).strip() == "up"
        await kubectl("delete", "daemonset/busybox", "--wait=false")


async def test_host_cluster_knows_each_dpu_cluster_by_a_kubeconfig_that_works(rack: Layout) -> None:
    kubectl = example.kubectl(rack, HOST)
    clusters = await kubectl.items("dpuclusters.provisioning.dpu.nvidia.com")
    assert [item["metadata"]["name"] for item in clusters] == SHAPE.cluster_names
    for number, item in enumerate(clusters, start=1):
        where = f"--namespace={item['metadata']['namespace']}"
        secret = json.loads(await kubectl("get", "secret", item["spec"]["kubeconfig"], where, "--output=json"))
        kubeconfig = json.loads(base64.b64decode(secret["data"]["admin.conf"]))
        async with Client.from_kubeconfig(kubeconfig, user_agent="test") as client:
            nodes = await client.list(NODE)
        assert [node.metadata.name for node in nodes.items] == [f"dpu-{number}"]


async def test_commands_for_people_run_where_they_say(rack: Layout) -> None:
    assert (await run(str(rack.tools / "dpu-2"), "ovs-vsctl", "list-br")).split() == ["br-sfc"]
    assert "ovs-vswitchd" in await run(str(rack.tools / "dpu-2"), "ovs-appctl", "version")
    assert f"{host_address(2)}/" in await run(str(rack.tools / "host-2"), "ip", "address", "show", "pf0")
    with pytest.raises(LabError, match="usage: host-2 COMMAND"):
        await run(str(rack.tools / "host-2"))


async def test_what_has_died_is_brought_back(rack: Layout) -> None:
    before = {event.text: event.pid for event in await control.status(rack)}
    victims = ("dpu-1/dpuchain-agent", "dpu-1/containerd", "dpu-1/kubelet", "cluster-2/kube-apiserver", "dpu-2/ovs-vswitchd")
    for name in victims:
        await kill(before[name])
    assert {event.text for event in await control.status(rack) if event.kind == "dead"} == set(victims)
    assert await control.up(rack, SHAPE, nothing) is False
    after = await control.status(rack)
    assert {event.kind for event in after} == {"running"}
    assert {event.text for event in after if event.pid != before[event.text]} == set(victims)
    await example.kubectl(rack, "cluster-2")("get", "nodes")


@pytest.mark.parametrize("keep_database", [True, False], ids=["database-kept", "database-lost"])
async def test_rebooted_dpu_has_its_disk_its_devices_and_nothing_else(rack: Layout, keep_database: bool) -> None:
    kubectl, dpu = example.kubectl(rack, "cluster-2"), str(rack.tools / "dpu-2")
    await kubectl.apply([DAEMON_SET])
    await kubectl("rollout", "status", "daemonset/busybox", "--timeout=60s", timeout=70)
    await run(dpu, "ip", "link", "add", "made", "type", "veth", "peer", "name", "made-too")
    await run(dpu, "ovs-vsctl", "--may-exist", "add-port", "br-sfc", "made")
    outside, before = await devices_of(rack, "host-2"), await control.status(rack)
    pods = processes_of_pods()
    await control.reboot(rack, "dpu-2", keep_database=keep_database, report=nothing)
    after = {event.text: event for event in await control.status(rack)}
    assert {event.kind for event in after.values()} == {"running"}
    assert {event.text for event in before if after[event.text].pid != event.pid} == {name for name in after if name.startswith("dpu-2/")}
    assert len(pods - processes_of_pods()) > 1, "what ran in the pod runs on"
    assert await devices_of(rack, "host-2") == outside
    assert not {"made", "made-too"} & (await devices_of(rack, "dpu-2")).keys()
    assert (await run(dpu, "ovs-vsctl", "list-ports", "br-sfc")).split() == (["made"] if keep_database else [])
    await kubectl("rollout", "status", "daemonset/busybox", "--timeout=60s", timeout=70)
    assert (await kubectl("exec", "daemonset/busybox", "--", "cat", "/sys/class/net/eth0/operstate")).strip() == "up"
    # The pod stays: taking the rack down must end it too.


async def test_only_what_the_rack_has_is_rebooted(rack: Layout) -> None:
    with pytest.raises(LabError, match="the rack has no dpu-3"):
        await control.reboot(rack, "dpu-3", keep_database=True, report=nothing)
    with pytest.raises(LabError, match="no rack is up"):
        await control.reboot(Layout.at(rack.directory / "other"), "dpu-1", keep_database=True, report=nothing)


def processes_of_pods() -> set[int]:
    """All processes in containers, of any rack: the groups of containers are named for nothing else."""
    return ControlGroup(containers.NAMESPACE).members()


async def devices_of(rack: Layout, place: str) -> dict[str, str]:
    """The devices of a DPU or host and their addresses of Ethernet."""
    listed = json.loads(await run(str(rack.tools / place), "ip", "-json", "link", "show"))
    return {f"{link['ifname']}": link["address"] for link in listed}


async def test_second_rack_comes_and_is_killed_without_disturbing_the_first(rack: Layout, tools: None, tmp_path: Path) -> None:
    before = await control.status(rack)
    second = Layout.at(tmp_path / "second")
    try:
        assert await control.up(second, Shape(dpus=1), nothing) is True
        supervisors = [pid for pid in ControlGroup(second.identity.cgroup).members() if b"dpuchain.lab.supervisor" in _command_line(pid)]
        assert len(supervisors) == 1
        await kill(supervisors[0])
    finally:
        assert await control.down(second) is True
    assert left_by(second) == []
    assert await control.down(second) is False
    assert await control.status(rack) == before


async def test_only_one_command_works_on_a_rack_at_a_time(rack: Layout) -> None:
    with control.alone(rack):
        with pytest.raises(LabError, match="another `dpuchain lab` is at work"), control.alone(rack):
            pass
        with control.alone(Layout.at(rack.directory / "other")):
            pass
    with control.alone(rack):
        pass


@pytest.mark.parametrize(
    ("moment", "number"), [("network", signal.SIGINT), ("API server is ready", signal.SIGTERM), ("applied", signal.SIGINT)]
)
async def test_interrupted_command_leaves_nothing(moment: str, number: signal.Signals, tools: None, tmp_path: Path) -> None:
    layout = Layout.at(tmp_path / "rack")
    command = [sys.executable, "-m", "dpuchain", "lab", "up", f"--directory={layout.directory}"]
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None
    seen = ""
    while moment not in seen:
        line = (await child.stdout.readline()).decode()
        assert line, f"the command ended before it said {moment!r}:\n{seen}"
        seen += line
    child.send_signal(number)
    child.send_signal(number)  # an impatient person must not spoil the tidying
    rest, _ = await child.communicate()
    assert child.returncode == 130, seen + rest.decode()
    assert left_by(layout) == []


async def test_rack_that_cannot_be_raised_leaves_its_logs_only(tools: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout.at(tmp_path / "rack")
    broken = tmp_path / "bin"
    broken.mkdir()
    (broken / "containerd").write_text("#!/bin/sh\necho out of order; exit 3\n")
    (broken / "containerd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken}:{os.environ['PATH']}")
    try:
        with pytest.raises(LabError, match=r"containerd exited with status 3(?s:.*)out of order"):
            await control.up(layout, Shape(dpus=1), nothing)
        assert set(left_by(layout)) == {str(layout.directory), str(layout.root)}
        assert "out of order" in (layout.directory / "dpu-1" / "containerd.log").read_text()
    finally:
        await control.down(layout)
    assert left_by(layout) == []


def _command_line(pid: int) -> bytes:
    return _content(Path(f"/proc/{pid}/cmdline"))


async def kill(pid: int) -> None:
    """Kill a process and wait until it is dead."""
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(select.select, [descriptor], [], [])
    os.close(descriptor)
