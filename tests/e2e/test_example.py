"""The document's example, unchanged, on a rack of real parts: from the manifest to the packet, and back to nothing.

The tests stand on each other in their order, as the hours of an operator do: apply, break, mend, delete.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.conftest import EXAMPLE

if TYPE_CHECKING:
    from tests.e2e.conftest import Rack

DPUS = ("dpu-1", "dpu-2")


@pytest.fixture(scope="module")
def before(rack: Rack) -> dict[str, Any]:
    """The rack before anybody applied anything."""
    return rack.snapshot()


@pytest.fixture(scope="module")
def example(rack: Rack, before: dict[str, Any], pytestconfig: pytest.Config) -> tuple[str, str]:
    """The example, applied and Ready; gives the arguments that name its manifest to kubectl."""
    manifest = ("--filename", str(pytestconfig.rootpath / EXAMPLE))
    assert all("p0" not in rack.ports(dpu) for dpu in DPUS), before
    rack.ok("host", "apply", *manifest)
    rack.ok("host", "wait", "--for=condition=Ready", *manifest, "--timeout=90s")
    return manifest


def condition(item: dict[str, Any], kind: str = "Ready") -> dict[str, Any]:
    found: dict[str, Any] = next((c for c in item.get("status", {}).get("conditions", []) if c["type"] == kind), {})
    return found


def service_pod(rack: Rack, dpu: str) -> str:
    pods = [pod for pod in rack.items("cluster-1", "pods") if pod["spec"]["nodeName"] == dpu and "deletionTimestamp" not in pod["metadata"]]
    assert len(pods) == 1, pods
    return str(pods[0]["metadata"]["name"])


def in_service(rack: Rack, dpu: str, *command: str) -> str:
    return rack.ok("cluster-1", "exec", service_pod(rack, dpu), "--", *command)


@pytest.mark.usefixtures("example")
def test_every_level_is_ready_and_says_so_of_its_present_generation(rack: Rack) -> None:
    for cluster, kinds in (
        ("host", ("dpuserviceinterfaces", "dpuservices", "dpuservicechains")),
        ("cluster-1", ("serviceinterfacesets", "servicechainsets", "serviceinterfaces", "servicechains")),
    ):
        for kind in kinds:
            items = rack.items(cluster, kind)
            assert items, kind
            for item in items:
                ready = condition(item)
                assert ready.get("status") == "True", item
                assert ready["observedGeneration"] == item["metadata"]["generation"], item
    (chain_set,) = rack.items("cluster-1", "servicechainsets")
    assert (chain_set["status"]["numberApplied"], chain_set["status"]["numberReady"]) == (2, 2)
    assert {item["spec"]["node"] for item in rack.items("cluster-1", "servicechains")} == set(DPUS)


@pytest.mark.usefixtures("example")
def test_packets_pass_from_host_to_host(rack: Rack) -> None:
    assert rack.ping(count=10)


@pytest.mark.usefixtures("example")
def test_mtu_of_the_services_interfaces_is_the_chains(rack: Rack) -> None:
    for dpu in DPUS:
        assert in_service(rack, dpu, "cat", "/sys/class/net/eth1/mtu").strip() == "1500"
        assert in_service(rack, dpu, "cat", "/sys/class/net/eth2/mtu").strip() == "2000"


@pytest.mark.usefixtures("example")
def test_packets_do_pass_through_the_service(rack: Rack) -> None:
    assert rack.ping()
    in_service(rack, "dpu-1", "ip", "link", "set", "wire", "down")
    assert not rack.ping()
    rack.ok("host", "wait", "--for=condition=Ready=false", "dpuservicechain/example-chain", "--timeout=60s")
    (chain,) = rack.items("host", "dpuservicechains")
    assert "is not ready" in condition(chain)["message"]
    in_service(rack, "dpu-1", "ip", "link", "set", "wire", "up")
    assert rack.ping()
    rack.ok("host", "wait", "--for=condition=Ready", "dpuservicechain/example-chain", "--timeout=60s")


@pytest.mark.usefixtures("example")
def test_service_pod_that_is_replaced_is_wired_again(rack: Rack) -> None:
    old = service_pod(rack, "dpu-1")
    rack.ok("cluster-1", "delete", "pod", old, "--wait=true", "--timeout=60s")
    rack.ok("cluster-1", "rollout", "status", "daemonset/example-service", "--timeout=60s")
    assert service_pod(rack, "dpu-1") != old
    assert rack.reached()
    rack.ok("host", "wait", "--for=condition=Ready", "dpuservicechain/example-chain", "--timeout=60s")
    assert len(rack.ports("dpu-1")) == 4, "a port of the old pod is left"


@pytest.mark.usefixtures("example")
def test_killed_agent_stops_nothing_and_comes_back(rack: Rack) -> None:
    flows = rack.flows("dpu-1")
    pid = agent_of(rack, "dpu-1")
    rack.at("dpu-1", "kill", "-9", str(pid))
    assert rack.ping()
    outcome = rack.lab("up", "--dpus=2", "--clusters=1", "--no-example")
    assert outcome.status == 0, outcome.output
    assert agent_of(rack, "dpu-1") != pid
    assert rack.flows("dpu-1") == flows
    assert rack.ping()


def agent_of(rack: Rack, dpu: str) -> int:
    outcome = rack.at(dpu, "pgrep", "-f", f"dpuchain agent --kubeconfig={rack.directory}/{dpu}/")
    assert outcome.status == 0, outcome.output
    return int(outcome.output.split()[0])


@pytest.mark.usefixtures("example")
def test_port_that_is_absent_is_named_until_it_comes(rack: Rack) -> None:
    manifest = interface("p7", {"interfaceType": "physical", "physical": {"interfaceName": "p7"}})
    apply(rack, manifest)
    rack.ok("host", "wait", "--for=condition=Ready=false", "dpuserviceinterface/p7", "--timeout=60s")
    until_message(rack, "p7", "interface p7: could not open network device p7")
    for dpu in DPUS:
        assert rack.at(dpu, "ip", "link", "add", "p7", "type", "veth", "peer", "name", "p7peer").status == 0
        for device in ("p7", "p7peer"):
            assert rack.at(dpu, "ip", "link", "set", device, "up").status == 0
    rack.ok("host", "wait", "--for=condition=Ready", "dpuserviceinterface/p7", "--timeout=60s")
    rack.ok("host", "delete", "dpuserviceinterface/p7", "--timeout=60s")
    assert all("p7" not in rack.ports(dpu) for dpu in DPUS)
    for dpu in DPUS:
        assert rack.at(dpu, "ip", "link", "delete", "p7").status == 0


@pytest.mark.usefixtures("example")
def test_network_that_is_absent_is_named_until_it_comes(rack: Rack) -> None:
    service = {"serviceID": "other", "network": "nowhere", "interfaceName": "eth9"}
    apply(rack, interface("eth9", {"interfaceType": "service", "service": service}))
    until_message(rack, "eth9", "NetworkAttachmentDefinition dpf-operator-system/nowhere does not exist")
    rack.ok("host", "delete", "dpuserviceinterface/eth9", "--timeout=60s")


@pytest.mark.usefixtures("example")
def test_chart_that_does_not_exist_is_named_and_mended_by_the_right_one(rack: Rack) -> None:
    source = {"repoURL": "https://helm.ngc.nvidia.com/nvidia/doca", "version": "9.9.9", "chart": "example-service"}
    manifest = {
        "apiVersion": "svc.dpu.nvidia.com/v1alpha1",
        "kind": "DPUService",
        "metadata": {"name": "other", "namespace": "dpf-operator-system"},
        "spec": {"helmChart": {"source": source}},
    }
    apply(rack, manifest)
    rack.ok(
        "host",
        "wait",
        "--for=jsonpath={.status.conditions[?(@.type=='ApplicationsReconciled')].reason}=Error",
        "dpuservice/other",
        "--timeout=60s",
    )
    (other,) = [item for item in rack.items("host", "dpuservices") if item["metadata"]["name"] == "other"]
    assert "chart example-service 9.9.9 cannot be had from https://helm.ngc.nvidia.com/nvidia/doca" in condition(other)["message"]
    source["version"] = "1.0.1"
    apply(rack, manifest)
    rack.ok("host", "wait", "--for=condition=ApplicationsReconciled", "dpuservice/other", "--timeout=60s")
    rack.ok("host", "delete", "dpuservice/other", "--timeout=60s")
    assert all(item["metadata"]["name"] == "example-service" for item in rack.items("cluster-1", "daemonsets"))


def test_deleted_chain_stops_the_traffic_and_leaves_no_flow(rack: Rack, example: tuple[str, str]) -> None:
    assert rack.ping()
    rack.ok("host", "delete", "dpuservicechain/example-chain", "--timeout=60s")
    assert not rack.ping()
    assert rack.items("cluster-1", "servicechains") == rack.items("cluster-1", "servicechainsets") == []
    assert [rack.flows(dpu) for dpu in DPUS] == [[], []]
    rack.ok("host", "apply", *example)
    rack.ok("host", "wait", "--for=condition=Ready", *example, "--timeout=60s")
    assert rack.ping()


def test_deleting_everything_leaves_everything_as_before(rack: Rack, example: tuple[str, str], before: dict[str, Any]) -> None:
    rack.ok("host", "delete", *example, "--timeout=120s")
    rack.ok("cluster-1", "wait", "--for=delete", "pod", "--all", "--timeout=60s")
    assert rack.snapshot() == before


def interface(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "svc.dpu.nvidia.com/v1alpha1",
        "kind": "DPUServiceInterface",
        "metadata": {"name": name, "namespace": "dpf-operator-system"},
        "spec": {"template": {"spec": {"template": {"spec": spec}}}},
    }


def apply(rack: Rack, manifest: dict[str, Any]) -> None:
    path = rack.directory / "manifest.json"
    path.write_text(json.dumps(manifest))
    rack.ok("host", "apply", "--filename", str(path))


def until_message(rack: Rack, name: str, words: str) -> None:
    """Wait until the message of the interface's Ready has these words."""

    def said() -> bool:
        return any(words in condition(item).get("message", "") for item in rack.items("host", "dpuserviceinterfaces") if _named(item, name))

    rack.until(said, f"said of {name}: {words}")


def _named(item: dict[str, Any], name: str) -> bool:
    return bool(item["metadata"]["name"] == name)
