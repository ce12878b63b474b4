"""The control planes and switches that the other tests stand on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import aiohttp
import pytest

from dpuchain.lab.errors import LabError, ProcessDied
from dpuchain.lab.process import Command, Process, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dpuchain.lab.cluster import Cluster
    from dpuchain.lab.openvswitch import OpenVSwitch
    from dpuchain.lab.toolchain import Toolchain


async def test_administrator_may_list_and_a_stranger_may_not(control_plane: Cluster) -> None:
    for connection, status in ((control_plane.admin, 200), (control_plane.connection("stranger"), 403)):
        connector = aiohttp.TCPConnector(ssl=connection.ssl_context())
        async with aiohttp.ClientSession(connector=connector) as session, session.get(f"{connection.server}/api/v1/namespaces") as response:
            assert response.status == status


async def test_kubeconfig_serves_kubectl(control_plane: Cluster, toolchain: Toolchain) -> None:
    await toolchain.provide("kubectl")
    out = await run(toolchain.path("kubectl"), f"--kubeconfig={control_plane.kubeconfig}", "get", "namespaces", "-o", "name")
    assert "namespace/default" in out.split()


async def test_two_clusters_side_by_side_end_with_their_module(make_cluster: Callable[..., Cluster], toolchain: Toolchain) -> None:
    first, second = make_cluster("first", controller_manager=True), make_cluster("second")
    assert first.server != second.server
    await toolchain.provide("kubectl")
    await run(toolchain.path("kubectl"), f"--kubeconfig={first.kubeconfig}", "create", "namespace", "one")
    await run(toolchain.path("kubectl"), f"--kubeconfig={first.kubeconfig}", "delete", "namespace", "one", timeout=30)
    with pytest.raises(LabError, match="NotFound"):
        await run(toolchain.path("kubectl"), f"--kubeconfig={second.kubeconfig}", "get", "namespace", "one")


async def test_switch_has_the_bridge_of_a_dpu(ovs: OpenVSwitch) -> None:
    assert (await ovs.vsctl("get", "bridge", "br-sfc", "fail_mode", "datapath_type")).split() == ["secure", "netdev"]
    assert "cookie" not in await ovs.ofctl("dump-flows")
    await ovs.vsctl("add-port", "br-sfc", "p0", "--", "set", "interface", "p0", "type=dummy", "ofport_request=7")
    assert (await ovs.vsctl("get", "interface", "p0", "ofport")).strip() == "7"


async def test_flows_are_gone_after_a_restart_of_the_daemon_and_ports_are_not(ovs: OpenVSwitch) -> None:
    await ovs.vsctl("add-port", "br-sfc", "p0", "--", "set", "interface", "p0", "type=dummy")
    await ovs.ofctl("add-flow", "actions=normal")
    await ovs.stop_daemon()
    await ovs.start_daemon()
    assert "NORMAL" not in await ovs.ofctl("dump-flows")
    assert "p0" in await ovs.vsctl("list-ports", "br-sfc")


async def test_process_that_dies_is_reported_with_its_log(tmp_path: Path) -> None:
    process = Process.start(Command("broken", ["sh", "-c", "echo the reason; exit 3"]), tmp_path / "broken.log")

    async def never() -> bool:
        return False

    with pytest.raises(ProcessDied, match=r"broken exited with status 3(?s:.*)the reason"):
        await process.until(never, "ready", 30)


async def test_process_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    process = Process.start(Command("stubborn", ["sh", "-c", "trap '' TERM; echo on; while :; do sleep 1; done"]), tmp_path / "log")

    async def started() -> bool:
        return "on" in process.log.read_text()

    await process.until(started, "started", 30)
    await process.stop(grace=0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
