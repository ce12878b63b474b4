"""A change of serviceMTU on the rack: pods restart a node at a time, with the new MTU at every end, while other DPUs carry traffic."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from dpuchain.lab.layout import Layout
from dpuchain.lab.network import FABRIC
from dpuchain.lab.traffic import End, Stream

if TYPE_CHECKING:
    from tests.e2e.conftest import Rack

DPUS = ("dpu-1", "dpu-2")
LIMIT = "dpuchain.dpu.nvidia.com/max-unavailable"
SINCE = "dpuchain.dpu.nvidia.com/restarting-since"
pytestmark = pytest.mark.usefixtures("ready_example")


def pods(rack: Rack) -> dict[str, dict[str, Any]]:
    """The pod of each DPU; the one that stays, where there are two. One that has no node yet is on none."""
    found = sorted(rack.items("cluster-1", "pods"), key=lambda pod: "deletionTimestamp" not in pod["metadata"])
    return {pod["spec"]["nodeName"]: pod for pod in found if "nodeName" in pod["spec"]}


def names(rack: Rack) -> dict[str, str]:
    return {dpu: pod["metadata"]["name"] for dpu, pod in pods(rack).items()}


def change(rack: Rack, mtu: int, limit: str | None = None) -> None:
    switch = {"op": "replace", "path": "/spec/template/spec/template/spec/switches/1/serviceMTU", "value": mtu}
    allow(rack, limit)
    rack.ok("host", "patch", "dpuservicechain/example-chain", "--type=json", f"--patch={json.dumps([switch])}")


def allow(rack: Rack, limit: str | None) -> None:
    patch = {"spec": {"template": {"metadata": {"annotations": {LIMIT: limit}}}}}
    rack.ok("host", "patch", "dpuservicechain/example-chain", "--type=merge", f"--patch={json.dumps(patch)}")


def high_speed(rack: Rack, mtu: int) -> None:
    patch = {"spec": {"networking": {"highSpeedMTU": mtu}}}
    rack.ok("host", "patch", "dpfoperatorconfig/dpfoperatorconfig", "--type=merge", f"--patch={json.dumps(patch)}")


def applied(rack: Rack) -> dict[str, Any]:
    """The condition of the ServiceChainSet that tells of the MTU."""
    (chain_set,) = rack.items("cluster-1", "servicechainsets")
    found: dict[str, Any] = next((c for c in chain_set["status"]["conditions"] if c["type"] == "ServiceMTUApplied"), {})
    return found if found.get("observedGeneration") == chain_set["metadata"]["generation"] else {}


def done(rack: Rack, before: dict[str, str], dpus: tuple[str, ...] = DPUS) -> None:
    """Wait until each of these DPUs has another pod than before, and all is Ready."""
    rack.until(lambda: all(names(rack).get(dpu, before[dpu]) != before[dpu] for dpu in dpus), "replaced", 60)
    rack.ok("cluster-1", "rollout", "status", "daemonset/example-service", "--timeout=60s")


def assert_mtu(rack: Rack, dpu: str, eth1: int, eth2: int) -> None:
    """The pod's interfaces, their peers on the DPU, and what Open vSwitch sees all have it."""
    name = names(rack)[dpu]
    for interface, mtu in (("eth1", eth1), ("eth2", eth2)):
        inside = rack.ok("cluster-1", "exec", name, "--", "cat", f"/sys/class/net/{interface}/mtu")
        assert inside.strip() == str(mtu)
        mark = f'external_ids:dpf-id="dpf-operator-system/{name}/{interface}"'
        found = rack.at(dpu, "ovs-vsctl", "--bare", "--columns=name,mtu", "find", "interface", mark)
        device, seen = found.output.split()
        assert seen == str(mtu)
        assert json.loads(rack.at(dpu, "ip", "-json", "link", "show", device).output)[0]["mtu"] == mtu


def test_pods_restart_one_node_after_the_other_and_have_the_new_mtu(rack: Rack) -> None:
    before = names(rack)
    change(rack, 3000)
    done(rack, before)
    rack.ok("host", "wait", "--for=condition=Ready", "dpuservicechain/example-chain", "--timeout=60s")
    assert applied(rack)["status"] == "True"
    for dpu in DPUS:
        assert_mtu(rack, dpu, 1500, 3000)
    first, second = sorted(pods(rack).values(), key=lambda pod: pod["metadata"]["creationTimestamp"])
    served = next(c["lastTransitionTime"] for c in first["status"]["conditions"] if c["type"] == "Ready")
    assert served <= second["metadata"]["creationTimestamp"], "the second was restarted before the first served"
    assert rack.ping()


def test_a_dpu_carries_traffic_until_its_own_pod_restarts(rack: Rack) -> None:
    before = names(rack)
    identity = Layout.at(rack.directory).identity
    with Stream(End(identity.namespace(FABRIC), "fabric"), End(identity.namespace("host-2"), "pf0"), rate=1000) as stream:
        change(rack, 4000, limit="0")
        rack.until(lambda: "maxUnavailable is 0" in applied(rack).get("message", ""), "paused")
        assert names(rack) == before
        (chain,) = (item for item in rack.items("cluster-1", "servicechains") if item["spec"]["node"] == "dpu-1")
        rack.ok("cluster-1", "annotate", f"servicechain/{chain['metadata']['name']}", f"{SINCE}=2026-01-01T00:00:00Z")
        done(rack, before, ("dpu-1",))
    assert stream.outcome is not None
    assert stream.outcome.sent > 1000
    assert stream.outcome.lost == 0
    assert names(rack)["dpu-2"] == before["dpu-2"]
    assert_mtu(rack, "dpu-1", 1500, 4000)
    assert_mtu(rack, "dpu-2", 1500, 3000)
    allow(rack, None)
    done(rack, before)
    rack.ok("host", "wait", "--for=condition=Ready", "dpuservicechain/example-chain", "--timeout=60s")
    assert_mtu(rack, "dpu-2", 1500, 4000)


def test_a_disruption_budget_holds_the_restart_up_and_is_named(rack: Rack) -> None:
    before = names(rack)
    selector = "--selector=svc.dpu.nvidia.com/service=example-service"
    rack.ok("cluster-1", "create", "poddisruptionbudget", "fw", selector, "--max-unavailable=0")
    change(rack, 5000)
    rack.until(lambda: "its PodDisruptionBudget must allow it" in applied(rack).get("message", ""), "refused")
    assert names(rack) == before
    rack.ok("cluster-1", "delete", "poddisruptionbudget/fw")
    done(rack, before)
    rack.ok("host", "wait", "--for=condition=Ready", "dpuservicechain/example-chain", "--timeout=60s")
    for dpu in DPUS:
        assert_mtu(rack, dpu, 1500, 5000)


def test_an_mtu_beyond_the_high_speed_networks_restarts_nothing(rack: Rack) -> None:
    high_speed(rack, 6000)
    before = names(rack)
    change(rack, 7000)
    rack.until(lambda: "MTU 7000 can't be bigger than the high speed MTU 6000" in str(rack.items("host", "dpuservicechains")), "refused")
    change(rack, 5000)
    rack.ok("host", "wait", "--for=condition=Ready", "dpuservicechain/example-chain", "--timeout=60s")
    assert names(rack) == before
    high_speed(rack, 9216)
