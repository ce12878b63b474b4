"""Which sets an event is about: a heartbeat is about none, a label about those that it moves the node into or out of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from dpuchain.api.kinds import NODE, SERVICE_CHAIN, SERVICE_CHAIN_SET
from dpuchain.api.meta import ObjectKey
from dpuchain.chain.expand import child_name
from dpuchain.dpu.kinds import CHAINS
from dpuchain.dpu.sets import SetLoop
from dpuchain.dpu.world import ClusterObjects
from dpuchain.kube.client import Client
from dpuchain.runtime.clock import SystemClock
from dpuchain.runtime.fanout import FanOut

if TYPE_CHECKING:
    from dpuchain.api.resource import Resource
    from dpuchain.kube.cache import Cache

KUBECONFIG = {
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
    "contexts": [{"name": "x", "context": {"cluster": "c"}}],
    "current-context": "x",
}
ALL, BLUE = ObjectKey("ns", "all"), ObjectKey("ns", "blue")
SWITCH = {"ports": [{"serviceInterface": {"matchLabels": {"port": "p0"}}}]}


class Events:
    """What a watch tells, and what the loop wants to look at after it."""

    def __init__(self) -> None:
        client = Client.from_kubeconfig(KUBECONFIG, user_agent="tests")
        self.objects = ClusterObjects.of(client)
        self.looks: list[ObjectKey] = []
        self._version = 0
        clock = SystemClock()
        SetLoop(CHAINS, client, self.objects, FanOut(clock), clock).subscribe(self.looks.append)

    def tell(self, cache: Cache[Any], resource: Resource[Any], kind: str, metadata: dict[str, Any], **content: Any) -> list[ObjectKey]:
        """One event; returns the sets that are to be looked at."""
        self._version += 1
        metadata = {"uid": metadata["name"], "generation": 1, "resourceVersion": str(self._version), **metadata}
        item = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **content}
        self.looks.clear()
        cache.take(msgspec.json.encode({"type": kind, "object": item}))
        return sorted(self.looks)

    def node(self, kind: str, **labels: str) -> list[ObjectKey]:
        return self.tell(self.objects.nodes, NODE, kind, {"name": "dpu-1", "labels": labels})


@pytest.fixture
def events() -> Events:
    events = Events()
    for key, selector in ((ALL, {}), (BLUE, {"matchLabels": {"colour": "blue"}})):
        spec = {"nodeSelector": selector, "template": {"spec": {"switches": [SWITCH]}}}
        events.tell(events.objects.chain_sets, SERVICE_CHAIN_SET, "ADDED", {"name": key.name, "namespace": "ns"}, spec=spec)
    return events


def test_a_node_that_comes_and_goes_is_about_the_sets_that_select_it(events: Events) -> None:
    assert events.node("ADDED", colour="red") == [ALL]
    assert events.node("DELETED", colour="red") == [ALL]
    assert events.node("ADDED", colour="blue") == [ALL, BLUE]


def test_a_heartbeat_is_about_none(events: Events) -> None:
    events.node("ADDED", colour="blue")
    assert events.node("MODIFIED", colour="blue") == []


def test_a_label_is_about_the_sets_that_it_moves_the_node_into_or_out_of(events: Events) -> None:
    events.node("ADDED")
    assert events.node("MODIFIED", size="large") == []
    assert events.node("MODIFIED", colour="blue") == [BLUE]
    assert events.node("MODIFIED", colour="blue", size="large") == []
    assert events.node("MODIFIED", size="large") == [BLUE]


def test_a_status_is_about_its_set_alone(events: Events) -> None:
    labels = {"svc.dpu.nvidia.com/servicechainset-name": "all", "svc.dpu.nvidia.com/servicechainset-namespace": "ns"}
    metadata = {"name": child_name("all", "dpu-1"), "namespace": "ns", "labels": labels}
    for kind in ("ADDED", "MODIFIED", "DELETED"):
        looked = events.tell(events.objects.chains, SERVICE_CHAIN, kind, metadata, spec={"node": "dpu-1", "switches": [SWITCH]})
        assert set(looked) == {ALL}
