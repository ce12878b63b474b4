"""ADD: what is on the node and in the pod afterwards, and whether frames pass."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest

from dpuchain.api.kinds import POD
from dpuchain.lab.process import run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.cni.conftest import Pods
    from tests.integration.cni.node import Node, Sandbox

    from dpuchain.kube.client import Client

LISTENER = """
import socket, sys
with socket.create_server(("192.0.2.1", 7000)) as server:
    print("listening", flush=True)
    connection, _ = server.accept()
    with connection:
        received = 0
        while chunk := connection.recv(65536):
            received += len(chunk)
        print(received, flush=True)
"""
SENDER = """
import socket
with socket.create_connection(("192.0.2.1", 7000), timeout=20) as connection:
    connection.sendall(bytes(1_000_000))
"""


@pytest.fixture
async def pair(node: Node, pods: Pods) -> tuple[Sandbox, Sandbox]:
    """Two pods on one switch, wired, with addresses 192.0.2.1 and 192.0.2.2."""
    left, right = await pods.pair()
    await asyncio.gather(left.add(), right.add())
    await left.address("192.0.2.1")
    await right.address("192.0.2.2")
    await node.until(lambda: left.reaches("192.0.2.2"), "joined by the chain")
    return left, right


@pytest.fixture
async def stopped_daemon(node: Node) -> AsyncIterator[None]:
    """A switch whose database takes ports that nobody gives a number."""
    await node.switch.stop_daemon()
    yield
    if len(node.switch.processes) == 1:
        await node.switch.start_daemon()


def ends(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {interface["name"]: interface for interface in result["interfaces"]}


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
async def test_result_says_what_is_there_in_the_form_of_its_version(node: Node, pods: Pods, version: str) -> None:
    pod = await pods.make()
    result = await pod.add(cniVersion=version)
    assert result["cniVersion"] == version
    here, there = ends(result)[await pod.port()], ends(result)["eth1"]
    link = await pod.link()
    assert link is not None
    assert there["mac"] == link["address"]
    assert there["sandbox"] == pod.path
    assert "sandbox" not in here
    assert ("mtu" in there) == ("mtu" in here) == (version == "1.1.0")
    assert set(here) | set(there) <= {"name", "mac", "mtu", "sandbox"}
    assert await pod.wired()


async def test_port_is_marked_and_both_ends_are_up_without_checksum_offload(node: Node, pods: Pods) -> None:
    pod = await pods.make()
    await pod.add()
    device = await pod.port()
    assert await node.column("interface", device, "external_ids:dpf-id") == f"{pod.pod}/eth1"
    assert await node.column("port", device, "external_ids:owner") == "ovs-cni.network.kubevirt.io"
    assert await node.column("port", device, "external_ids:contID") == pod.container
    assert await node.column("port", device, "external_ids:contIface") == "eth1"
    assert await node.column("port", device, "external_ids:contNetns") == pod.path
    offloads = await run("nsenter", f"--net=/run/netns/{node.name}", "ethtool", "-k", device) + await pod.inside("ethtool", "-k", "eth1")
    assert offloads.count("tx-checksumming: off") == 2
    assert offloads.count("rx-checksumming: on") == 2, "a pair is asked for, whose other features stay"
    link = await pod.link()
    assert link is not None
    assert {"UP", "LOWER_UP"} <= set(link["flags"])
    assert await node.column("interface", device, "link_state") == "up"


async def test_mtu_is_that_of_the_pods_chain(node: Node, pods: Pods) -> None:
    left, right = await pods.pair(mtu=2000)
    other = await pods.make("other")
    results = [await left.add(), await right.add(), await other.add(), await left.add("eth2")]
    assert [ends(result)["eth1" if "eth1" in ends(result) else "eth2"]["mtu"] for result in results] == [2000, 2000, 1500, 1500]
    for pod, interface, mtu in ((left, "eth1", 2000), (right, "eth1", 2000), (other, "eth1", 1500), (left, "eth2", 1500)):
        link = await pod.link(interface)
        assert link is not None
        assert link["mtu"] == mtu
    assert await node.column("interface", await left.port(), "mtu") == "2000"


async def test_large_frames_of_the_chains_mtu_pass(node: Node, pods: Pods) -> None:
    left, right = await pods.pair(mtu=9000)
    await asyncio.gather(left.add(), right.add())
    await left.address("192.0.2.1")
    await right.address("192.0.2.2")
    await node.until(lambda: left.reaches("192.0.2.2"), "joined by the chain")
    assert "1 packets received" in await left.inside("busybox", "ping", "-c", "1", "-W", "5", "-s", "8900", "192.0.2.2")


async def test_add_does_not_wait_for_a_chain_that_comes_later(node: Node, pods: Pods) -> None:
    left, right = await pods.make("left"), await pods.make("right")
    for pod, address in ((left, "192.0.2.1"), (right, "192.0.2.2")):
        assert ends(await pod.add())["eth1"]["mtu"] == 1500
        await pod.address(address)
    assert not await left.reaches("192.0.2.2")
    await pods.chain("left", "right")
    await node.until(lambda: left.reaches("192.0.2.2"), "joined by the chain")


async def test_tcp_passes(pair: tuple[Sandbox, Sandbox]) -> None:
    left, right = pair
    server = await asyncio.create_subprocess_exec(
        "nsenter", f"--net={left.path}", sys.executable, "-c", LISTENER, stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout is not None
    try:
        assert await server.stdout.readline() == b"listening\n"
        await right.inside(sys.executable, "-c", SENDER)
        assert await asyncio.wait_for(server.stdout.readline(), 20) == b"1000000\n"
    finally:
        if server.returncode is None:
            server.kill()
        await server.wait()


async def test_repeated_add_leaves_one_working_pair(node: Node, pair: tuple[Sandbox, Sandbox]) -> None:
    left, right = pair
    result = await left.add()
    link = await left.link()
    assert link is not None
    assert ends(result)["eth1"]["mac"] == link["address"]
    assert await node.ports() == {await left.port(), await right.port()}
    await run("ip", "-netns", left.netns, "address", "replace", "192.0.2.1/24", "dev", "eth1")
    await node.until(lambda: left.reaches("192.0.2.2"), "joined again")


async def test_new_sandbox_of_a_pod_takes_the_place_of_the_earlier_one(node: Node, pods: Pods, pair: tuple[Sandbox, Sandbox]) -> None:
    left, right = pair
    anew = await pods.again(left)
    await anew.add()
    assert await node.ports() == {await anew.port(), await right.port()}
    await anew.address("192.0.2.1")
    await node.until(lambda: anew.reaches("192.0.2.2"), "joined")
    assert (await left.call("DEL")).done
    assert await left.bare()
    assert await anew.wired()
    assert await anew.reaches("192.0.2.2")


async def test_two_at_once(node: Node, pods: Pods) -> None:
    several = [await pods.make() for _ in range(4)]
    await asyncio.gather(*(pod.add(interface) for pod in several for interface in ("eth1", "eth2")))
    for pod in several:
        assert await pod.wired("eth1")
        assert await pod.wired("eth2")
    assert len(await node.ports()) == 8


async def test_device_left_without_a_port_is_replaced(node: Node, pods: Pods) -> None:
    """What an agent leaves that is killed between the two."""
    pod = await pods.make()
    await run("ip", "-netns", node.name, "link", "add", f"{pod.prefix()}-0", "type", "veth", "peer", "name", "eth1", "netns", pod.netns)
    await pod.add()
    assert await pod.wired()


async def test_agent_killed_in_the_middle(node: Node, pods: Pods, stopped_daemon: None) -> None:
    left, right = await pods.pair()
    call = asyncio.create_task(left.call("ADD"))

    async def has_port() -> bool:
        return bool(await node.ports())

    await node.until(has_port, "in the database")
    await node.kill_agent()
    assert (await call).refused(11, "hung up")
    await node.switch.start_daemon()
    await node.start_agent()
    await asyncio.gather(left.add(), right.add())
    await left.address("192.0.2.1")
    await right.address("192.0.2.2")
    await node.until(lambda: left.reaches("192.0.2.2"), "joined by the chain")
    assert await node.ports() == {await left.port(), await right.port()}


async def test_without_ovs_vswitchd_the_runtime_is_to_try_again(node: Node, pods: Pods, stopped_daemon: None) -> None:
    pod = await pods.make()
    assert (await pod.call("ADD")).refused(11, pod.prefix(), "ovs-vswitchd")
    assert await pod.bare()
    assert await pod.link() is None
    await node.switch.start_daemon()
    await pod.add()
    assert await pod.wired()


async def test_del_that_overtakes_add_leaves_nothing(node: Node, pods: Pods, stopped_daemon: None) -> None:
    """A runtime gives an ADD up and calls DEL, while the agent still waits for the port's number."""
    pod = await pods.make()
    add = asyncio.create_task(pod.call("ADD"))

    async def has_port() -> bool:
        return bool(await node.ports())

    await node.until(has_port, "in the database")
    delete = asyncio.create_task(pod.call("DEL"))
    await node.switch.start_daemon()
    await add
    assert (await delete).done
    assert await pod.bare()


async def test_what_is_in_the_way_is_named_and_nothing_is_left(node: Node, pods: Pods) -> None:
    pod = await pods.make()
    await run("ip", "-netns", pod.netns, "link", "add", "eth1", "type", "veth", "peer", "name", "other")
    assert (await pod.call("ADD")).refused(5, "eth1", "File exists")
    assert await pod.bare()
    assert await pod.link("other") is not None, "what was there is not ours to remove"


async def test_namespace_that_is_gone_is_named(node: Node, pods: Pods) -> None:
    pod = await pods.make()
    await run("ip", "netns", "delete", pod.netns)
    assert (await pod.call("ADD")).refused(5, pod.path, "not there")
    assert await pod.bare()


async def test_namespace_that_is_none_is_named(node: Node, pods: Pods) -> None:
    pod = await pods.make()
    answer = await node.call("ADD", node.config(), {**pod.environment(), "CNI_NETNS": "/etc/hostname"})
    assert answer.refused(5, "/etc/hostname")
    assert await pod.bare()


async def test_pod_that_is_gone_or_another_one_is_named(node: Node, pods: Pods, client: Client) -> None:
    pod = await pods.make()
    other = {**pod.environment(), "CNI_ARGS": pod.environment()["CNI_ARGS"].replace(pod.uid, "0-0")}
    assert (await node.call("ADD", node.config(), other)).refused(5, str(pod.pod), pod.uid)
    await client.request("DELETE", POD.path(*pod.pod), query={"gracePeriodSeconds": "0"})

    async def forgotten() -> bool:
        return (await pod.call("ADD")).refused(5, str(pod.pod), "not there")

    await node.until(forgotten, "known to be gone")
    assert await pod.bare()
