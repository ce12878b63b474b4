"""A change of serviceMTU on a real API server: which pods are evicted, when, and what the set says."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from tests.integration.played import NODES, PlayedCluster, played

from dpuchain.api.kinds import NODE, POD
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.names import MAX_UNAVAILABLE_ANNOTATION
from dpuchain.chain.restarts import Limit
from dpuchain.dpu.restarts import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dpuchain.kube.client import Client
    from dpuchain.lab.cluster import Cluster

LONG_AGO = "2020-01-01T00:00:00Z"


@pytest.fixture
async def fleet(client: Client, namespace: str, api_server: Cluster) -> AsyncIterator[PlayedCluster]:
    async with played(client, namespace, api_server.kubeconfig) as fleet:
        await fleet.build()
        yield fleet


async def test_one_node_after_the_other_is_restarted_and_no_pod_of_another_switch(fleet: PlayedCluster) -> None:
    others = {name: fleet.pod(name, "lb") for name in NODES}
    await fleet.change_mtu(2000)
    for done, name in enumerate(NODES):
        await fleet.until(lambda at=name: fleet.leaving() == fleet.marked == {at}, f"restarting {name}")  # type: ignore[misc]  # mypy infers no defaults
        await fleet.told("False", f"{3 + done} of 6 pods are Ready and have the MTU of their switch")
        await fleet.end(name)
        await fleet.told("False", "service fw has no pod there yet")
        await fleet.make_pod(name, 2000)
        await fleet.serve(name)
        await fleet.told("False", "is not Ready: told by the agent")
        assert fleet.leaving() == set()
        assert fleet.marked == {name}
        await fleet.report(name, ready=True)
    await fleet.told("True")
    await fleet.until(lambda: fleet.marked == set(), "done")
    assert {name: fleet.pod(name, "lb") for name in NODES} == others


async def test_a_change_that_leaves_the_mtu_restarts_nothing(fleet: PlayedCluster) -> None:
    before = {pod.metadata.uid for pod in fleet.pods}
    await fleet.set_mtu(1500, annotations={MAX_UNAVAILABLE_ANNOTATION: "everything"})
    await fleet.told("True", "'everything' is neither a number of nodes")
    assert {pod.metadata.uid for pod in fleet.pods if pod.metadata.deletion_timestamp is None} == before
    assert fleet.marked == set()


async def test_the_sets_annotation_says_how_many_nodes_at_a_time(fleet: PlayedCluster) -> None:
    await fleet.change_mtu(2000, annotations={MAX_UNAVAILABLE_ANNOTATION: "2"})
    await fleet.until(lambda: fleet.leaving() == {"a", "b"}, "two at a time")
    await fleet.bring_back("b", 2000)
    await fleet.until(lambda: fleet.leaving() == {"a", "c"}, "the third")


async def test_a_disruption_budget_holds_and_is_named(fleet: PlayedCluster) -> None:
    budget = {"metadata": {"name": "fw"}, "spec": {"minAvailable": 3, "selector": {"matchLabels": {"svc.dpu.nvidia.com/service": "fw"}}}}
    path = f"/apis/policy/v1/namespaces/{fleet.namespace}/poddisruptionbudgets"
    await fleet.client.request("POST", path, body=json.dumps(budget).encode())
    await fleet.change_mtu(2000)
    await fleet.told("False", "its PodDisruptionBudget must allow it")
    assert fleet.leaving() == set()
    assert fleet.marked == {"a"}
    await fleet.client.request("DELETE", f"{path}/fw")
    await fleet.serve("a", "lb")  # whatever happens to the node's pods brings the next attempt
    pod = fleet.pod("a")
    assert pod is not None
    await fleet.client.patch(POD, key_of(pod), {"metadata": {"annotations": {"any": "change"}}})
    await fleet.until(lambda: fleet.leaving() == {"a"}, "evicted")


async def test_it_stops_when_a_node_does_not_come_back_and_goes_on_when_it_is_mended(fleet: PlayedCluster) -> None:
    await fleet.stop()
    fleet.start(Settings(Limit(2), timedelta(minutes=7)))
    await fleet.change_mtu(2000)
    await fleet.until(lambda: fleet.leaving() == {"a", "b"}, "begun")
    await fleet.mark("a", LONG_AGO)
    await fleet.told("False", "stopped, as a node has not come back within 7 min")
    assert fleet.condition.reason == "Failure"
    await fleet.bring_back("b", 2000)
    await fleet.until(lambda: fleet.marked == {"a"}, "back")
    await fleet.told("False", f"* Node: {fleet.node('c')}\n  pod {fleet.namespace}/fw-c")
    assert fleet.leaving() == {"a"}
    await fleet.bring_back("a", 2000)
    await fleet.until(lambda: fleet.leaving() == {"c"}, "going on")


async def test_whoever_takes_over_goes_on_where_the_other_was_killed(fleet: PlayedCluster) -> None:
    await fleet.change_mtu(2000)
    for name in NODES:
        await fleet.until(lambda at=name: fleet.leaving() == {at}, f"restarting {name}")  # type: ignore[misc]
        await fleet.stop()
        fleet.start()
        await fleet.end(name)
        await fleet.stop()
        fleet.start()
        await fleet.make_pod(name, 2000)
        await fleet.serve(name)
        await fleet.stop()
        fleet.start()
        await fleet.told("False", "is not Ready: told by the agent")
        assert (fleet.leaving(), fleet.marked) == (set(), {name})
        await fleet.report(name, ready=True)
    await fleet.told("True")


async def test_a_mark_without_an_eviction_is_carried_on(fleet: PlayedCluster) -> None:
    await fleet.change_mtu(2000, annotations={MAX_UNAVAILABLE_ANNOTATION: "0"})
    await fleet.told("False", "nothing is restarted, as maxUnavailable is 0")
    await fleet.stop()
    await fleet.mark("b", LONG_AGO)
    await fleet.set_mtu(2000)
    fleet.start()
    await fleet.until(lambda: fleet.leaving() == {"b"}, "carried on")
    await fleet.told("False", f"restarting since {LONG_AGO}: pod")
    assert fleet.marked == {"b"}


async def test_a_daemonset_at_work_is_waited_for(fleet: PlayedCluster) -> None:
    pod = fleet.pod("b")
    assert pod is not None
    await fleet.client.delete(POD, key_of(pod))
    await fleet.until(lambda: fleet.leaving() == {"b"}, "being replaced")
    await fleet.change_mtu(2000)
    await fleet.told("False", f"waits for node {fleet.node('b')}")
    assert (fleet.leaving(), fleet.marked) == ({"b"}, set())
    await fleet.bring_back("b", 2000)
    await fleet.until(lambda: fleet.leaving() == {"a"}, "our turn")


async def test_a_node_that_leaves_holds_nobody_up(fleet: PlayedCluster) -> None:
    await fleet.change_mtu(2000)
    await fleet.until(lambda: fleet.leaving() == {"a"}, "begun")
    await fleet.client.delete(NODE, ObjectKey("", fleet.node("a")))
    await fleet.until(lambda: fleet.leaving() == {"a", "b"}, "going on")
