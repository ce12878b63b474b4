"""Each error that the document names, on the rack: made, told to the letter on every level up to the host cluster, and mended.

Two uplinks and no service: p0 and pf0hpf of each DPU on one switch carry the ping, where nothing is wrong.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.conftest import HOST_KINDS, OUR_CLUSTER_KINDS
from tests.e2e.manifests import NAMESPACE, apply, chain, interface

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Rack

DPUS = ("dpu-1", "dpu-2")
P0: dict[str, Any] = {"interfaceType": "physical", "physical": {"interfaceName": "p0"}}
PF0HPF: dict[str, Any] = {"interfaceType": "pf", "pf": {"pfID": 0}}
ABSENT: dict[str, Any] = {"interfaceType": "physical", "physical": {"interfaceName": "p9"}}
CHAIN = "dpuservicechain/chain"


@pytest.fixture(autouse=True)
def nothing_left(rack: Rack) -> Iterator[None]:
    """Each test ends with the rack as it began."""
    before = rack.snapshot()
    yield
    rack.ok("host", "delete", "dpuservicechains,dpuserviceinterfaces", "--all", "--timeout=60s")
    assert rack.snapshot() == before


def message(item: dict[str, Any], kind: str) -> str:
    """What a condition that is False says of the generation in force; empty otherwise."""
    generation = item["metadata"]["generation"]
    found = [c for c in item.get("status", {}).get("conditions", []) if c["type"] == kind and c["observedGeneration"] == generation]
    return str(found[0]["message"]) if found and found[0]["status"] == "False" else ""


def indented(text: str, by: int) -> str:
    return "\n".join(" " * by + line for line in text.splitlines())


def node_object(rack: Rack, kind: str, of: str, node: str) -> dict[str, Any]:
    """The object that a set has on a node."""
    label = f"svc.dpu.nvidia.com/{kind}set-name"
    (found,) = [
        item for item in rack.items("cluster-1", f"{kind}s") if item["metadata"]["labels"].get(label) == of and item["spec"]["node"] == node
    ]
    return found


def one(rack: Rack, cluster: str, kind: str, name: str) -> dict[str, Any]:
    (found,) = [item for item in rack.items(cluster, kind) if item["metadata"]["name"] == name]
    return found


def levels(rack: Rack, errors: dict[str, str], name: str = "chain") -> list[tuple[str, str]]:
    """What is said on each level, and what is to be said of these errors of its nodes."""
    own = {node: node_object(rack, "servicechain", name, node) for node in errors}
    found = [(message(own[node], "ServiceChainReconciled"), f"Error occurred: {error}") for node, error in errors.items()]
    entries = sorted((f"Object: {NAMESPACE}/{own[node]['metadata']['name']}", f"Node: {node}\n{error}") for node, error in errors.items())
    listed = "\n".join(f"* {head}\n{indented(rest, 2)}" for head, rest in entries)
    chain_set = one(rack, "cluster-1", "servicechainsets", name)
    found.append((message(chain_set, "ServiceChainsReady"), f"Objects are not ready:\n{listed}"))
    top = f"* Cluster: {NAMESPACE}/cluster-1\n  Object: {NAMESPACE}/{name}\n{indented(listed, 2)}"
    found.append((message(one(rack, "host", "dpuservicechains", name), "ServiceChainSetReady"), f"Objects are not ready:\n{top}"))
    return found


def told(rack: Rack, errors: dict[str, str], name: str = "chain") -> None:
    """Wait until all three levels say exactly this, and nothing says Ready."""
    rack.until(lambda: message(one(rack, "host", "dpuservicechains", name), "ServiceChainSetReady") != "", "told", 60)
    rack.until(lambda: all(said == expected for said, expected in levels(rack, errors, name)), f"told to the letter: {errors}", 60)
    assert message(one(rack, "host", "dpuservicechains", name), "Ready") != ""


def mended(rack: Rack, *names: str) -> None:
    rack.ok("host", "wait", "--for=condition=Ready", *(names or (CHAIN,)), "--timeout=60s")


def labelled(item: dict[str, Any], **labels: str) -> dict[str, Any]:
    """A DPUServiceInterface whose ServiceInterfaces have further labels."""
    item["spec"]["template"]["spec"]["template"]["metadata"]["labels"].update(labels)
    return item


def selecting(item: dict[str, Any], **labels: str) -> dict[str, Any]:
    """A DPUServiceChain whose first port selects these labels instead."""
    item["spec"]["template"]["spec"]["template"]["spec"]["switches"][0]["ports"][0]["serviceInterface"]["matchLabels"] = labels
    return item


def test_no_interface_matches(rack: Rack) -> None:
    apply(rack, interface("p0", P0), chain("chain", ("p0", "hpf")))
    text = f"no serviceInterface in namespace({NAMESPACE}) matching labels(map[port:hpf]) on node({{}}) found"
    told(rack, {node: text.format(node) for node in DPUS})
    apply(rack, interface("hpf", PF0HPF))
    mended(rack)
    assert rack.reached()


def test_no_interface_matches_on_one_node_only(rack: Rack) -> None:
    first = {"nodeSelector": {"matchLabels": {"kubernetes.io/hostname": "dpu-1"}}}
    apply(rack, interface("p0", P0), interface("hpf", PF0HPF, **first), chain("chain", ("p0", "hpf")))
    told(rack, {"dpu-2": f"no serviceInterface in namespace({NAMESPACE}) matching labels(map[port:hpf]) on node(dpu-2) found"})
    assert message(node_object(rack, "servicechain", "chain", "dpu-1"), "Ready") == ""
    apply(rack, interface("hpf", PF0HPF))
    mended(rack)


def test_several_interfaces_match(rack: Rack) -> None:
    same = {"role": "up", "a": "1"}
    apply(rack, labelled(interface("p0", P0), **same), labelled(interface("p9", ABSENT), **same), interface("hpf", PF0HPF))
    apply(rack, selecting(chain("chain", ("p0", "hpf")), **same))
    rack.until(lambda: len(rack.items("cluster-1", "serviceinterfaces")) == 6, "made", 60)
    text = (
        "expected only one serviceInterface in namespace({}) to match labels(map[a:1 role:up]) on node({}). found 2\n"
        "candidates: {}; delete the stale ones, or add a label that only one has"
    )
    errors = {}
    for node in DPUS:
        candidates = sorted(f"{NAMESPACE}/{node_object(rack, 'serviceinterface', name, node)['metadata']['name']}" for name in ("p0", "p9"))
        errors[node] = text.format(NAMESPACE, node, ", ".join(candidates))
    told(rack, errors)
    rack.ok("host", "delete", "dpuserviceinterface/p9", "--timeout=60s")
    mended(rack)
    assert rack.reached()


def test_interface_of_an_earlier_deployment_matches_too(rack: Rack) -> None:
    apply(rack, interface("p0", P0), interface("hpf", PF0HPF), chain("chain", ("p0", "hpf")))
    mended(rack)
    stale = {
        "apiVersion": "svc.dpu.nvidia.com/v1alpha1",
        "kind": "ServiceInterface",
        "metadata": {"name": "stale", "namespace": NAMESPACE, "labels": {"port": "p0"}},
        "spec": {"node": "dpu-2", **ABSENT},
    }
    path = rack.directory / "stale.json"
    path.write_text(json.dumps(stale))
    rack.ok("cluster-1", "apply", "--filename", str(path))
    candidates = sorted([f"{NAMESPACE}/stale", f"{NAMESPACE}/{node_object(rack, 'serviceinterface', 'p0', 'dpu-2')['metadata']['name']}"])
    text = f"expected only one serviceInterface in namespace({NAMESPACE}) to match labels(map[port:p0]) on node(dpu-2). found 2"
    told(rack, {"dpu-2": f"{text}\ncandidates: {', '.join(candidates)}; delete the stale ones, or add a label that only one has"})
    rack.ok("cluster-1", "delete", "serviceinterface/stale", "--timeout=60s")
    mended(rack)
    assert rack.reached()


def versions(rack: Rack) -> dict[str, str]:
    """What each object of ours was written as last, in both clusters: any write changes it."""
    found = {}
    for cluster, kinds in (("host", HOST_KINDS), ("cluster-1", OUR_CLUSTER_KINDS)):
        for kind in kinds:
            found.update({f"{kind}/{i['metadata']['uid']}": i["metadata"]["resourceVersion"] for i in rack.items(cluster, kind)})
    return found


def test_second_claim_to_a_port_changes_nothing_until_the_first_goes(rack: Rack) -> None:
    apply(rack, interface("first", P0), interface("hpf", PF0HPF), chain("chain", ("first", "hpf")))
    mended(rack)
    apply(rack, interface("second", P0), chain("other", ("second", "spare")), interface("spare", ABSENT))
    rack.until(lambda: len(rack.items("cluster-1", "serviceinterfaces")) == 8, "made", 60)
    text = (
        "failed to find matching interface with external_ids: map[dpf-id:{}/{}]\n"
        "port p0 is owned by ServiceInterface {}/{}; a port has one owner: delete one of the two, or give this one another port\n"
        "interface p9: could not open network device p9 (No such device); give the DPU such a device, or name another one"
    )
    errors = {}
    for node in DPUS:
        claimant, owner = (node_object(rack, "serviceinterface", name, node)["metadata"]["name"] for name in ("second", "first"))
        errors[node] = text.format(NAMESPACE, claimant, NAMESPACE, owner)
    told(rack, errors, "other")
    owner = node_object(rack, "serviceinterface", "first", "dpu-1")["metadata"]["name"]
    own = message(node_object(rack, "serviceinterface", "second", "dpu-1"), "ServiceInterfaceReconciled")
    assert own.startswith(f"Error occurred: port p0 is owned by ServiceInterface {NAMESPACE}/{owner}")
    mended(rack, CHAIN, "dpuserviceinterface/first")

    rack.until(lambda: versions(rack) == versions(rack), "at rest")
    before = versions(rack)
    minute = rack.at("host-1", "busybox", "ping", "-c", "600", "-i", "0.1", "-W", "1", "198.51.100.2", timeout=150)
    assert "600 packets received" in minute.output, "what is right goes on working while the conflict stands"
    assert versions(rack) == before

    rack.ok("host", "delete", "dpuserviceinterface/first", CHAIN, "--timeout=60s")
    mended(rack, "dpuserviceinterface/second")
    apply(rack, chain("chain", ("second", "hpf")))
    rack.ok("host", "delete", "dpuservicechain/other", "--timeout=60s")
    mended(rack)
    assert rack.reached()


def test_switch_that_resolves_passes_packets_though_another_does_not(rack: Rack) -> None:
    apply(rack, interface("p0", P0), interface("hpf", PF0HPF), chain("chain", ("nowhere", "nothing"), ("p0", "hpf")))
    text = "\n".join(
        f"no serviceInterface in namespace({NAMESPACE}) matching labels(map[port:{name}]) on node({{0}}) found"
        for name in ("nowhere", "nothing")
    )
    told(rack, {node: text.format(node) for node in DPUS})
    assert rack.ping(count=20)


def test_service_mtu_above_the_high_speed_mtu_is_refused_and_changes_nothing(rack: Rack) -> None:
    apply(rack, interface("p0", P0), interface("hpf", PF0HPF), chain("chain", ("p0", "hpf")))
    mended(rack)
    below = one(rack, "cluster-1", "servicechainsets", "chain")
    high_speed = one(rack, "host", "dpfoperatorconfigs", "dpfoperatorconfig")["spec"]["networking"]["highSpeedMTU"]
    set_high_speed(rack, 6000)
    try:
        set_service_mtu(rack, 7000)
        text = "Error occurred: MTU 7000 can't be bigger than the high speed MTU 6000"
        rack.until(lambda: message(one(rack, "host", "dpuservicechains", "chain"), "ServiceChainSetReconciled") == text, "refused", 60)
        assert one(rack, "cluster-1", "servicechainsets", "chain")["spec"] == below["spec"]
        assert rack.ping()
        set_high_speed(rack, 8000)
        mended(rack)
        assert rack.ping()
        set_high_speed(rack, 6500)
        text = "Error occurred: MTU 7000 can't be bigger than the high speed MTU 6500"
        rack.until(lambda: message(one(rack, "host", "dpuservicechains", "chain"), "ServiceChainSetReconciled") == text, "judged again", 60)
        set_service_mtu(rack, 6500)
        mended(rack)
    finally:
        set_high_speed(rack, high_speed)


def set_high_speed(rack: Rack, mtu: int) -> None:
    patch = {"spec": {"networking": {"highSpeedMTU": mtu}}}
    rack.ok("host", "patch", "dpfoperatorconfig/dpfoperatorconfig", "--type=merge", f"--patch={json.dumps(patch)}")


def set_service_mtu(rack: Rack, mtu: int) -> None:
    switch = {"op": "add", "path": "/spec/template/spec/template/spec/switches/0/serviceMTU", "value": mtu}
    rack.ok("host", "patch", CHAIN, "--type=json", f"--patch={json.dumps([switch])}")
