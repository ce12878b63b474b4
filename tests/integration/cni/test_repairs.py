"""What others do to the ports of pods is undone, and what the CNI does itself is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dpuchain.api.kinds import EVENT
from dpuchain.lab.process import run

if TYPE_CHECKING:
    from tests.integration.cni.conftest import Pods
    from tests.integration.cni.node import Node, Sandbox

    from dpuchain.kube.client import Client

BRIDGE = ("add-br", "br-sfc", "--", "set", "bridge", "br-sfc", "datapath_type=netdev", "fail_mode=secure")


@pytest.fixture
async def pair(pods: Pods) -> tuple[Sandbox, Sandbox]:
    """Two pods that reach each other through a chain."""
    left, right = await pods.pair()
    for pod, address in ((left, "10.1.0.1"), (right, "10.1.0.2")):
        await pod.add()
        await pod.address(address)
    await pods.node.until(lambda: left.reaches("10.1.0.2"), "connected")
    return left, right


async def marks(node: Node, port: str) -> list[str]:
    """The marks of a port; one that is not there is empty."""
    of_port = ("external_ids:owner", "external_ids:contID", "external_ids:contIface", "external_ids:contNetns", "external_ids:contNetwork")
    return [
        await node.switch.vsctl("--if-exists", "get", "port", port, *of_port),
        await node.switch.vsctl("--if-exists", "get", "interface", port, "external_ids:dpf-id"),
    ]


async def row(node: Node, port: str) -> list[str]:
    """The marks and the number of a port."""
    return [*await marks(node, port), await node.switch.vsctl("--if-exists", "get", "interface", port, "ofport")]


@pytest.mark.parametrize(
    "harm",
    [
        ("del-port", "br-sfc", "{}"),
        ("remove", "interface", "{}", "external_ids", "dpf-id"),
        ("set", "interface", "{}", "external_ids:dpf-id=somebody/else"),
        ("clear", "port", "{}", "external_ids"),
        ("del-port", "br-sfc", "{}", "--", "add-port", "br-sfc", "{}"),
        ("del-br", "br-sfc", "--", *BRIDGE),
    ],
)
async def test_port_is_as_it_was_and_frames_pass(node: Node, client: Client, pair: tuple[Sandbox, Sandbox], harm: tuple[str, ...]) -> None:
    left, _ = pair
    port = await left.port()
    await node.kill_agent()  # one that has mended a lot of late, for the tests before this one, takes more of it for a fight
    await node.start_agent()
    before = await row(node, port)
    await node.switch.vsctl(*(word.format(port) for word in harm))

    async def mended() -> bool:
        return port in await node.ports() and await row(node, port) == before

    await node.until(mended, "as it was")
    await node.until(lambda: left.reaches("10.1.0.2"), "connected again")

    seen: list[tuple[str, int | None, str]] = []

    async def told() -> bool:
        events = (await client.list(EVENT, namespace=left.pod.namespace)).items
        seen[:] = [(event.reason, event.count, event.message) for event in events if event.involved_object.name == left.pod.name]
        return [(reason, count) for reason, count, _ in seen] == [("Repaired", 1)]

    await node.until(told, lambda: f"told of once, but of {seen}")


async def test_port_that_was_put_right_can_be_removed_as_any(node: Node, pair: tuple[Sandbox, Sandbox]) -> None:
    left, _ = pair
    port = await left.port()
    for _ in range(3):
        await node.switch.vsctl("del-port", port)

        async def there() -> bool:
            return port in await node.ports()

        await node.until(there, "put back")
    assert (await left.call("DEL")).done
    assert await left.bare()
    await left.add()
    assert await left.port() != port


@pytest.mark.parametrize(
    "harm", [("del-port", "br-sfc", "{}"), ("clear", "interface", "{}", "external_ids"), ("del-br", "br-sfc", "--", *BRIDGE)]
)
async def test_port_is_as_it_was_though_the_agent_was_away(node: Node, pair: tuple[Sandbox, Sandbox], harm: tuple[str, ...]) -> None:
    left, _ = pair
    port = await left.port()
    before = await marks(node, port)
    await node.kill_agent()
    await node.switch.vsctl(*(word.format(port) for word in harm))
    await node.start_agent()

    async def mended() -> bool:
        return port in await node.ports() and await marks(node, port) == before

    await node.until(mended, "as it was")
    await node.until(lambda: left.reaches("10.1.0.2"), "connected again")


@pytest.mark.parametrize("agent", ["runs", "was-away"])
async def test_port_whose_device_is_gone_is_removed(node: Node, pair: tuple[Sandbox, Sandbox], agent: str) -> None:
    """After a reboot nobody calls DEL for a pod that is gone, nor does the device ever come back."""
    port, others = await pair[0].port(), await node.ports()
    await node.switch.vsctl("add-port", "br-sfc", "theirs", "--", "set", "interface", "theirs", "type=internal")
    if agent == "was-away":
        await node.kill_agent()
    await run("ip", "-netns", node.name, "link", "delete", port)
    if agent == "was-away":
        await node.start_agent()

    async def removed() -> bool:
        return await node.ports() == {*others, "theirs"} - {port}

    await node.until(removed, "removed, and nothing else with it")


async def test_port_that_does_not_work_though_its_device_is_there_stays(node: Node, pods: Pods) -> None:
    """One that another CNI made, whose device says nothing of itself."""
    pod, another = await pods.make(), await pods.make()
    port = f"{pod.prefix()}xyz"
    await run("ip", "-netns", node.name, "link", "add", port, "type", "veth", "peer", "name", f"{pod.prefix()}end")
    owner = ("--", "set", "port", port, "external_ids:owner=ovs-cni.network.kubevirt.io")
    await node.switch.vsctl("--no-wait", "add-port", "br-sfc", port, *owner, "--", "set", "interface", port, "type=nonsense")
    await another.add()  # the agent has seen the switch since
    assert {port, await another.port()} <= await node.ports()
    assert (await pod.call("DEL")).done
