"""CHECK and STATUS: good, and each kind of damage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dpuchain.lab.process import run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.cni.conftest import Pods
    from tests.integration.cni.node import Answer, Node, Sandbox


class Wired:
    """A pod with eth1, and the result that ADD gave."""

    def __init__(self, pod: Sandbox, result: dict[str, Any]) -> None:
        self.pod = pod
        self.result = result

    async def check(self, **changes: Any) -> Answer:
        return await self.pod.call("CHECK", **{"prevResult": self.result, **changes})


@pytest.fixture
async def wired(pods: Pods) -> AsyncIterator[Wired]:
    pod = await pods.make()
    wired = Wired(pod, await pod.add())
    yield wired
    assert (await pod.call("DEL")).done, "damage keeps no pod from going"
    assert await pod.bare()


async def test_good(wired: Wired) -> None:
    assert (await wired.check()).done
    assert (await wired.check(prevResult=None)).done


async def test_device_and_port_that_are_gone(node: Node, wired: Wired) -> None:
    port = await wired.pod.port()
    await run("ip", "-netns", node.name, "link", "delete", port)
    assert (await wired.check()).refused(5)
    await node.switch.vsctl("--if-exists", "del-port", port)
    assert (await wired.check()).refused(5, f"no port for {wired.pod.pod}/eth1")


async def test_port_that_is_marked_for_another_pod(node: Node, pods: Pods) -> None:
    pod = await pods.make()
    port = f"{pod.prefix()}xyz"
    mark = ("--", "set", "interface", port, "type=internal", "external_ids:dpf-id=somebody/else/eth1")
    await node.switch.vsctl("add-port", "br-sfc", port, *mark, "--", "set", "port", port, "external_ids:owner=ovs-cni.network.kubevirt.io")
    assert (await pod.call("CHECK")).refused(5, "somebody/else", str(pod.pod))


async def test_port_without_a_number(node: Node, wired: Wired) -> None:
    port = await wired.pod.port()
    await node.switch.vsctl("--no-wait", "set", "interface", port, "type=nonsense")

    async def broken() -> bool:
        return await node.column("interface", port, "ofport") == "-1"

    await node.until(broken, "refused by Open vSwitch")
    assert (await wired.check()).refused(5, f"port {port} does not work", "could not open")


async def test_interface_that_is_gone(wired: Wired) -> None:
    await run("ip", "-netns", wired.pod.netns, "link", "set", "eth1", "down")
    await run("ip", "-netns", wired.pod.netns, "link", "set", "eth1", "name", "eth7")
    assert (await wired.check()).refused(5, "interface eth1", "gone")


async def test_interface_that_is_down(wired: Wired) -> None:
    await run("ip", "-netns", wired.pod.netns, "link", "set", "eth1", "down")
    assert (await wired.check()).refused(5, "interface eth1", "down")


async def test_other_end_that_is_down(node: Node, wired: Wired) -> None:
    port = await wired.pod.port()
    await run("ip", "-netns", node.name, "link", "set", port, "down")
    assert (await wired.check()).refused(5, "interface eth1", "carrier", port)


async def test_address_that_was_changed(wired: Wired) -> None:
    await run("ip", "-netns", wired.pod.netns, "link", "set", "eth1", "address", "02:00:00:00:00:07")
    assert (await wired.check()).refused(5, "02:00:00:00:00:07")
    assert (await wired.check(prevResult=None)).done


async def test_namespace_that_is_gone(wired: Wired) -> None:
    await run("ip", "netns", "delete", wired.pod.netns)
    assert (await wired.check()).refused(5)


async def test_pod_that_was_never_wired(pods: Pods) -> None:
    pod = await pods.make()
    assert (await pod.call("CHECK")).refused(5, f"no port for {pod.pod}/eth1")


async def test_status_without_the_agent(node: Node) -> None:
    assert (await node.call("STATUS", node.config())).done
    await node.kill_agent()
    assert (await node.call("STATUS", node.config())).refused(50, "agent")
    await node.start_agent()
    assert (await node.call("STATUS", node.config())).done


async def test_status_without_the_api_server(node: Node) -> None:
    async def away() -> bool:
        return (await node.call("STATUS", node.config())).refused(50, "cannot be read since")

    node.api.cut()
    try:
        await node.until(away, "known to be away")
    finally:
        node.api.open()
    await node.until(node.works, "back")


async def test_status_of_a_network_that_add_would_refuse(node: Node) -> None:
    assert (await node.call("STATUS", node.config(bridge="br-other"))).refused(7, "br-other", "br-sfc")
