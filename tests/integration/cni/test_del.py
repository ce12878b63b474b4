"""DEL and GC: what goes, what stays, and what is never taken for gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from dpuchain.api.conditions import find
from dpuchain.api.kinds import POD, SERVICE_CHAIN
from dpuchain.kube.cache import Cache
from dpuchain.lab.process import run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.cni.conftest import Pods
    from tests.integration.cni.node import Answer, Node, Sandbox

    from dpuchain.api.chain import ServiceChain
    from dpuchain.kube.cache import Change
    from dpuchain.kube.client import Client


@pytest.fixture
async def pod(pods: Pods) -> Sandbox:
    """A pod with a wired eth1."""
    pod = await pods.make()
    await pod.add()
    return pod


@pytest.fixture
async def without_api(node: Node) -> AsyncIterator[None]:
    """A node that its API server does not answer."""
    node.api.cut()
    yield
    node.api.open()


@pytest.fixture
async def without_switch(node: Node) -> AsyncIterator[None]:
    """A node whose Open vSwitch is down; a test may start it again."""
    await node.switch.stop()
    yield
    if not node.switch.processes:
        await node.switch.start()


def attachment(pod: Sandbox, interface: str = "eth1") -> dict[str, str]:
    return {"containerID": pod.container, "ifname": interface}


async def collect(node: Node, valid: Any) -> Answer:
    return await node.call("GC", node.config(**{"cni.dev/valid-attachments": valid, "cni.dev/attachments": valid}))


async def test_del_removes_port_and_pair_and_may_be_repeated(node: Node, pod: Sandbox, pods: Pods) -> None:
    other = await pods.make()
    await other.add()
    await pod.add("eth2")
    assert (await pod.call("DEL")).done
    assert await pod.bare()
    assert await pod.link() is None
    assert await pod.wired("eth2")
    assert await other.wired()
    assert (await pod.call("DEL")).done


async def test_del_of_what_never_was(node: Node, pods: Pods) -> None:
    assert (await (await pods.make()).call("DEL")).done


async def test_del_then_add_again(node: Node, pods: Pods) -> None:
    left, right = await pods.pair()
    for pod, address in ((left, "192.0.2.1"), (right, "192.0.2.2")):
        await pod.add()
        assert (await pod.call("DEL")).done
        await pod.add()
        await pod.address(address)
    await node.until(lambda: left.reaches("192.0.2.2"), "joined")


@pytest.mark.parametrize("netns", ["named", "empty"])
async def test_del_after_the_namespace_has_gone(node: Node, pod: Sandbox, netns: str) -> None:
    await run("ip", "netns", "delete", pod.netns)
    environment = pod.environment() | ({} if netns == "named" else {"CNI_NETNS": ""})
    assert (await node.call("DEL", node.config(), environment)).done
    assert await pod.bare()


async def test_del_after_the_pod_has_gone(node: Node, pod: Sandbox, client: Client) -> None:
    await client.request("DELETE", POD.path(*pod.pod), query={"gracePeriodSeconds": "0"})
    assert (await pod.call("DEL")).done
    assert await pod.bare()


async def test_del_after_the_device_has_gone(node: Node, pod: Sandbox) -> None:
    await run("ip", "-netns", node.name, "link", "delete", await pod.port())
    assert (await pod.call("DEL")).done
    assert await pod.bare()


async def test_del_without_the_pods_name_or_with_a_configuration_that_add_refuses(node: Node, pod: Sandbox) -> None:
    """What only ADD needs must not keep a pod from going."""
    await pod.add("eth2")
    changed = node.config(ipam={"type": "host-local"}, bridge="br-other", mtu=1500, prevResult={"cniVersion": "1.1.0"})
    assert (await node.call("DEL", changed, pod.environment())).done
    assert await pod.bare()
    nameless = {name: value for name, value in pod.environment("eth2").items() if name != "CNI_ARGS"}
    assert (await node.call("DEL", node.config(), nameless)).done
    assert await pod.bare("eth2")


async def test_del_needs_no_api_server(node: Node, pod: Sandbox, without_api: None) -> None:
    assert (await pod.call("DEL")).done
    assert await pod.bare()


async def test_del_while_the_agent_is_away_is_to_be_tried_again(node: Node, pod: Sandbox) -> None:
    await node.kill_agent()
    assert (await pod.call("DEL")).refused(11, str(node.socket), "is the agent running")
    assert await pod.wired()
    await node.start_agent()
    assert (await pod.call("DEL")).done
    assert await pod.bare()


async def test_del_while_the_database_is_away_is_to_be_tried_again(node: Node, pod: Sandbox, without_switch: None) -> None:
    async def known_to_be_away() -> bool:
        return (await node.call("STATUS", node.config())).refused(50, "Open vSwitch cannot be used")

    await node.until(known_to_be_away, "known to be away")
    assert (await pod.call("DEL")).refused(11, "Open vSwitch cannot be reached", "db.sock")
    assert len(await pod.devices()) == 1
    assert (await pod.call("ADD", "eth2")).refused(11, "Open vSwitch cannot be reached")
    assert not await pod.devices("eth2")
    await node.switch.start()
    await node.until(node.works, "connected")
    assert (await pod.call("DEL")).done
    assert await pod.bare()


async def test_del_after_the_bridge_has_gone(node: Node, pod: Sandbox) -> None:
    await node.switch.vsctl("del-br", "br-sfc")
    try:
        assert (await pod.call("DEL")).done
        assert not await pod.devices()
        assert (await pod.call("ADD")).refused(5, "br-sfc does not exist")
        assert not await pod.devices()
        assert (await node.call("STATUS", node.config())).refused(50, "br-sfc does not exist")
    finally:
        await node.switch.vsctl("add-br", "br-sfc", "--", "set", "bridge", "br-sfc", "datapath_type=netdev", "fail_mode=secure")
    await node.until(node.works, "there again")


async def test_port_of_another_maker_is_left_alone(node: Node, pod: Sandbox) -> None:
    theirs = f"{pod.prefix()}---"
    await node.switch.vsctl("add-port", "br-sfc", theirs, "--", "set", "interface", theirs, "type=internal")
    assert (await pod.call("DEL")).refused(5, theirs, "not made by this plugin")
    assert {theirs, *await pod.devices()} <= await node.ports()


async def test_gc_removes_what_the_runtime_no_longer_knows(node: Node, pod: Sandbox, pods: Pods) -> None:
    gone, other = await pods.make(), await pods.make()
    await gone.add()
    await pod.add("eth2")
    await other.add(name="another")
    await node.switch.vsctl("add-port", "br-sfc", "foreign", "--", "set", "interface", "foreign", "type=internal")
    assert (await collect(node, [attachment(pod), {"containerID": gone.container, "ifname": "eth9"}])).done
    assert await gone.bare()
    assert await pod.bare("eth2")
    assert await pod.wired()
    assert await other.wired(), "GC of one network removed another's"
    assert await node.ports() == {await pod.port(), await other.port(), "foreign"}


@pytest.mark.parametrize("valid", [[], None])
async def test_gc_without_a_valid_attachment_removes_all_of_the_network(node: Node, pod: Sandbox, pods: Pods, valid: Any) -> None:
    """A runtime in Go writes an empty list as null."""
    other = await pods.make()
    await other.add(name="another")
    text = node.config() | {"cni.dev/valid-attachments": valid}
    assert (await node.call("GC", text)).done
    assert await pod.bare()
    assert await other.wired()


@pytest.mark.parametrize("valid", ["all", [{"containerID": 1}], [{"ifname": "eth1"}]])
async def test_gc_without_a_readable_list_removes_nothing(node: Node, pod: Sandbox, valid: Any) -> None:
    assert (await collect(node, valid)).refused(7)
    assert await pod.wired()


async def test_gc_without_a_list_removes_nothing(node: Node, pod: Sandbox) -> None:
    assert (await node.call("GC", node.config())).refused(7, "cni.dev/valid-attachments", "nothing is removed")
    assert await pod.wired()


async def test_gc_while_the_database_is_away_fails(node: Node, pod: Sandbox, without_switch: None) -> None:
    async def fails() -> bool:
        return (await collect(node, [])).refused(11, "Open vSwitch cannot be reached")

    await node.until(fails, "known to be away")
    assert len(await pod.devices()) == 1


async def test_pods_that_come_and_go_turn_no_condition(node: Node, pods: Pods, client: Client) -> None:
    left, right = await pods.pair()
    for pod in (left, right):
        await pod.add()
        running = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        await client.patch(POD, pod.pod, {"status": running}, subresource="status")
    chains = Cache(client, SERVICE_CHAIN, namespace=pods.namespace)
    log = node.directory / "agent.log"
    seen: list[str] = []
    ready = asyncio.Event()

    def note(change: Change[ServiceChain]) -> None:
        condition = find(change.new.status.conditions, "Ready") if change.new else None
        seen.append(condition.status if condition else "")
        if seen[-1] == "True":
            ready.set()

    chains.subscribe(note)
    watch = asyncio.create_task(chains.run())
    try:
        await asyncio.wait_for(ready.wait(), 20)
        seen.clear()
        length = len(log.read_text())
        others = [await pods.make() for _ in range(3)]
        for _ in range(30):
            for command in ("ADD", "DEL"):
                answers = await asyncio.gather(*(node.ask(other.request(command)) for other in others))
                assert all("result" in answer for answer in answers), answers
        assert await left.link() is not None
        assert set(seen) <= {"True"}
        assert "does not exist" not in log.read_text()[length:]
    finally:
        watch.cancel()
