"""What cannot be read is neither gone nor done."""

from __future__ import annotations

import json
from typing import Any

from dpuchain.api.kinds import DPU_CLUSTER
from dpuchain.api.meta import ObjectKey
from dpuchain.api.names import HOST_LABEL
from dpuchain.host.members import Member, Members
from dpuchain.host.turns import Turns
from dpuchain.kube.cache import Cache
from dpuchain.kube.client import Client
from dpuchain.runtime.clock import SystemClock

NORTH, SOUTH = ObjectKey("dpf", "north"), ObjectKey("dpf", "south")
KUBECONFIG: dict[str, Any] = {
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443"}}],
    "users": [{"name": "u", "user": {"token": "t"}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "x",
}
SPEC = {"template": {"spec": {"switches": [{"ports": [{"serviceInterface": {"matchLabels": {"a": "b"}}}]}]}}}


def event(key: ObjectKey, spec: Any, **labels: str) -> bytes:
    """The line of a watch that tells of an object."""
    metadata = {"namespace": key.namespace, "name": key.name, "resourceVersion": "1", "labels": labels}
    return json.dumps({"type": "ADDED", "object": {"metadata": metadata, "spec": spec}}).encode()


def test_what_cannot_be_read_is_neither_gone_nor_done() -> None:
    client = Client.from_kubeconfig(KUBECONFIG, user_agent="test")
    clusters = Cache(client, DPU_CLUSTER)
    members = Members(client, clusters)
    clusters.take(event(NORTH, {"type": "static", "version": "v1"}))
    clusters.take(event(SOUTH, "nothing of the kind"))
    north = Member.of(NORTH, json.dumps(KUBECONFIG).encode())
    for cache in north.caches:
        cache._synced.set()
    members._members[NORTH] = north
    label = {HOST_LABEL: "host"}
    north.chain_sets.take(event(ObjectKey("ns", "chain"), SPEC, **label))
    north.chain_sets.take(event(ObjectKey("ns", "others"), SPEC, **{HOST_LABEL: "other"}))
    loop = Turns(client, members, "host", SystemClock())

    found = {cluster.key: cluster for cluster in loop._clusters(NORTH)}
    assert found[NORTH].trouble is None
    assert [item.metadata.name for item in found[NORTH].sets] == ["chain"], "another host cluster's sets are its own matter"
    assert (found[SOUTH].trouble or "").startswith("cannot be read: DPUCluster dpf/south")

    north.chain_sets.take(event(ObjectKey("ns", "odd"), {"template": 5}, **label))
    found = {cluster.key: cluster for cluster in loop._clusters(NORTH)}
    assert (found[NORTH].trouble or "").startswith("has a set that cannot be read: ServiceChainSet ns/odd")
    assert {cluster.key: cluster.trouble for cluster in loop._clusters(SOUTH)}[NORTH] is None, "it may have its turn all the same"
