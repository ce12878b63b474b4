"""Which clusters and which nodes have a chain, on a rack of two DPU clusters: labels change, flows come and go, packets follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.conftest import Rack, raised
from tests.e2e.manifests import apply, chain, interface

if TYPE_CHECKING:
    from collections.abc import Iterator

PLACES = {"cluster-1": "dpu-1", "cluster-2": "dpu-2"}
PRODUCTION = {"matchExpressions": [{"key": "environment", "operator": "In", "values": ["production"]}]}
NOT_SPARE = {"nodeSelector": {"matchExpressions": [{"key": "spare", "operator": "DoesNotExist"}]}}


@pytest.fixture(scope="module")
def two_clusters() -> Iterator[Rack]:
    """One DPU in each of two DPU clusters."""
    with raised(2) as rack:
        yield rack


def selected(item: dict[str, Any]) -> dict[str, Any]:
    """A host object for the clusters in production alone."""
    return {**item, "spec": {**item["spec"], "dpuClusterSelector": PRODUCTION}}


def test_chain_follows_the_labels_of_clusters_and_nodes(two_clusters: Rack) -> None:
    rack = two_clusters
    apply(
        rack,
        interface("p0", {"interfaceType": "physical", "physical": {"interfaceName": "p0"}}),
        interface("pf0hpf", {"interfaceType": "pf", "pf": {"pfID": 0}}),
        selected(chain("chain", ("p0", "pf0hpf"), **NOT_SPARE)),
    )

    def programmed() -> set[str]:
        return {dpu for dpu in PLACES.values() if rack.flows(dpu)}

    def has(cluster: str) -> bool:
        return any(item["metadata"]["name"] == "chain" for item in rack.items(cluster, "servicechainsets"))

    rack.ok("host", "label", "dpucluster/cluster-1", "environment=production")
    rack.until(lambda: programmed() == {"dpu-1"}, "on the DPU of the cluster in production alone")
    assert has("cluster-1")
    assert not has("cluster-2")
    assert not rack.ping()

    rack.ok("host", "label", "dpucluster/cluster-2", "environment=production")
    rack.until(lambda: programmed() == {"dpu-1", "dpu-2"}, "on both")
    rack.ok("host", "wait", "--for=condition=Ready", "dpuservicechain/chain", "--timeout=60s")
    assert rack.reached()

    rack.ok("cluster-2", "label", "node/dpu-2", "spare=yes")
    rack.until(lambda: programmed() == {"dpu-1"}, "gone from the spare node")
    assert has("cluster-2")
    rack.ok("cluster-2", "label", "node/dpu-2", "spare-")
    rack.until(lambda: programmed() == {"dpu-1", "dpu-2"}, "on both again")

    rack.ok("host", "label", "dpucluster/cluster-1", "environment=staging", "--overwrite")
    rack.until(lambda: programmed() == {"dpu-2"}, "gone from the cluster that left production")
    rack.until(lambda: not has("cluster-1"), "gone")
    assert "p0" in rack.ports("dpu-1"), "the interfaces are of all clusters"
