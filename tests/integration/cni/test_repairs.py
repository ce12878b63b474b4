"""What others do to the ports of pods is undone, and what the CNI does itself is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dpuchain.api.kinds import EVENT

if TYPE_CHECKING:
    from tests.integration.cni.conftest import Pods
    from tests.integration.cni.node import Node, Sandbox

    from dpuchain.kube.client import Client


@pytest.fixture
async def pair(pods: Pods) -> tuple[Sandbox, Sandbox]:
    """Two pods that reach each other through a chain."""
    left, right = await pods.pair()
    for pod, address in ((left, "10.1.0.1"), (right, "10.1.0.2")):
        await pod.add()
        await pod.address(address)
    await pods.node.until(lambda: left.reaches("10.1.0.2"), "connected")
    return left, right


async def row(node: Node, port: str) -> list[str]:
    """The marks and the number of a port; a mark that is not there is empty."""
    marks = ("external_ids:owner", "external_ids:contID", "external_ids:contIface", "external_ids:contNetns", "external_ids:contNetwork")
    return [
        await node.switch.vsctl("--if-exists", "get", "port", port, *marks),
        await node.switch.vsctl("--if-exists", "get", "interface", port, "external_ids:dpf-id", "ofport"),
    ]


@pytest.mark.parametrize(
    "harm",
    [
        ("del-port", "br-sfc", "{}"),
        ("remove", "interface", "{}", "external_ids", "dpf-id"),
        ("set", "interface", "{}", "external_ids:dpf-id=somebody/else"),
        ("clear", "port", "{}", "external_ids"),
        ("del-port", "br-sfc", "{}", "--", "add-port", "br-sfc", "{}"),
        ("del-br", "br-sfc", "--", "add-br", "br-sfc", "--", "set", "bridge", "br-sfc", "datapath_type=netdev", "fail_mode=secure"),
    ],
)
async def test_port_is_as_it_was_and_frames_pass(node: Node, client: Client, pair: tuple[Sandbox, Sandbox], harm: tuple[str, ...]) -> None:
    left, _ = pair
    port = await left.port()
    before = await row(node, port)
    await node.switch.vsctl(*(word.format(port) for word in harm))

    async def mended() -> bool:
        return port in await node.ports() and await row(node, port) == before

    await node.until(mended, "as it was")
    await node.until(lambda: left.reaches("10.1.0.2"), "connected again")

    async def told() -> bool:
        events = (await client.list(EVENT, namespace=left.pod.namespace)).items
        return [(event.reason, event.count) for event in events if event.involved_object.name == left.pod.name] == [("Repaired", 1)]

    await node.until(told, "told of once")


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
