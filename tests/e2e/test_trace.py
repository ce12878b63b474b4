"""What `trace`, `describe` and `check` say of a rack, held against the frames that are captured on it while paths are broken in every way
that the chaos run knows (tests/chaos/faults.py), and in some that it mends too soon to be seen there.

The very frame that is traced is put on the host's device, and looked for where the DPU's uplink ends; and its answer the other way.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from dpuchain.api.names import PASSES_PROBES_ANNOTATION
from dpuchain.lab.layout import Layout
from dpuchain.lab.process import run as command
from tests.e2e.bench import Bench, Path, hops
from tests.e2e.conftest import EXAMPLE, run
from tests.e2e.frames import Tap
from tests.e2e.manifests import NAMESPACE, ON_FIRST, apply, chain, interface
from tests.e2e.test_example import in_service, service_pod

if TYPE_CHECKING:
    from tests.e2e.conftest import Rack

PAIRS = (("x0", "x1"), ("x2", "x3"))


@pytest.fixture(scope="module")
def bench(rack: Rack, pytestconfig: pytest.Config) -> Iterator[Bench]:
    manifest = ("--filename", str(pytestconfig.rootpath / EXAMPLE))
    for first, second in PAIRS:
        rack.at("dpu-1", "ip", "link", "add", first, "type", "veth", "peer", "name", second)
        for device in (first, second):
            rack.at("dpu-1", "ip", "link", "set", device, "up")
    rack.ok("host", "apply", *manifest)
    apply(rack, *(physical(name) for name in ("x0", "x2")), chain("side", ("x0", "x2"), **ON_FIRST))
    rack.ok("host", "wait", "--for=condition=Ready", "dpuservicechain", "--all", "--timeout=90s")
    names = Layout.at(rack.directory).identity
    places = {"host": ("host-1", "pf0"), "uplink": ("fabric", "dpu-1"), "x1": ("dpu-1", "x1"), "x3": ("dpu-1", "x3")}
    taps = {name: Tap(names.namespace(place), device) for name, (place, device) in places.items()}
    yield Bench(rack, Path("pf0hpf", taps["host"], taps["uplink"]), Path("x0", taps["x1"], taps["x3"]))
    for tap in taps.values():
        tap.close()
    rack.ok("host", "delete", "dpuservicechain,dpuservice,dpuserviceinterface", "--all", "--timeout=120s")
    for first, _ in PAIRS:
        rack.at("dpu-1", "ip", "link", "delete", first)


def physical(name: str) -> dict[str, Any]:
    return interface(name, {"interfaceType": "physical", "physical": {"interfaceName": name}}, **ON_FIRST)


def test_intact_path_is_delivered_as_compiled(bench: Bench) -> None:
    for path in (bench.host, bench.side):
        found = bench.told(path, "delivered")
        assert not [hop for hop in hops(found) if hop.get("differs")]
    kinds = [hop["kind"] for hop in hops(bench.trace(bench.host))]
    assert kinds == ["switch", "service", "switch", "end"] * 2


def test_flow_of_somebody_else_that_drops(bench: Bench) -> None:
    bench.flow("add-flow", "br-sfc", f"cookie=0x99,priority=40000,in_port={bench.number('pf0hpf')},actions=drop")
    found = bench.told(bench.host, "dropped", "priority 40000, cookie 0x99")
    (lossy,) = [hop for hop in hops(found) if hop.get("differs")]
    assert lossy["differs"].endswith("the switch does not")
    bench.flow("del-flows", "br-sfc", "cookie=0x99/-1")
    bench.told(bench.host, "delivered")


def test_flow_of_somebody_else_that_drops_the_answer(bench: Bench) -> None:
    bench.flow("add-flow", "br-sfc", f"cookie=0x99,priority=40000,in_port={bench.number('p0')},actions=drop")
    assert "but the answer → lost" in bench.told(bench.host, "dropped", "cookie 0x99")["sentence"]
    bench.flow("del-flows", "br-sfc", "cookie=0x99/-1")


def test_flow_of_somebody_else_that_goes_round_the_service(bench: Bench) -> None:
    bench.flow("add-flow", "br-sfc", f"cookie=0x99,priority=40000,in_port={bench.number('pf0hpf')},actions=output:{bench.number('p0')}")
    found = bench.told(bench.host, "delivered", "not as compiled: the compiled flows send to eth2")
    assert [hop["kind"] for hop in hops({"forward": found["forward"]})] == ["switch", "end"]
    bench.flow("del-flows", "br-sfc", "cookie=0x99/-1")


@pytest.mark.parametrize(
    "words",
    [
        ("del-flows", "br-sfc"),
        ("del-flows", "br-sfc", "table=0"),
        ("mod-flows", "br-sfc", "table=0,actions=drop"),
        ("add-flow", "br-sfc", "cookie=0xd9c1100000010000,table=0,priority=77,actions=drop"),
        ("add-flow", "br-sfc", "cookie=0x99,table=9,priority=77,actions=drop"),
    ],
    ids=" ".join,
)
def test_flows_that_somebody_changes_are_put_right(bench: Bench, words: tuple[str, ...]) -> None:
    bench.flow(*words)
    bench.told(bench.host, "delivered")
    bench.flow("del-flows", "br-sfc", "cookie=0x99/-1")


@pytest.mark.parametrize(
    "words",
    [
        ("del-port", "br-sfc", "p0"),
        ("remove", "interface", "pf0hpf", "external_ids", "dpf-id"),
        ("clear", "port", "p0", "external_ids"),
        ("--", "del-port", "br-sfc", "p0", "--", "del-port", "br-sfc", "pf0hpf"),
    ],
    ids=" ".join,
)
def test_ports_that_somebody_changes_are_put_right(bench: Bench, words: tuple[str, ...]) -> None:
    assert bench.rack.at("dpu-1", "ovs-vsctl", *words).status == 0
    bench.told(bench.host, "delivered")


def test_flows_are_deleted_while_nobody_watches(bench: Bench) -> None:
    bench.signal("dpu-1/dpuchain-agent", signal.SIGKILL)
    try:
        bench.flow("del-flows", "br-sfc")
        bench.rack.until(lambda: not bench.captured(bench.host), "cut: what the datapath has cached of the flows goes a moment after them")
        found = bench.told(bench.host, "unknown", "the agent of dpu-1 does not answer")
        assert found["sentence"] == "unknown: pf0hpf → nobody on dpu-1 can say"
        described = bench.cli("describe", "chain", "example-chain")
        assert "the agent of dpu-1 does not answer" in described.output
    finally:
        bench.revive()
    bench.told(bench.host, "delivered")


def test_agent_that_hangs_is_not_waited_for_for_ever(bench: Bench) -> None:
    bench.signal("dpu-1/dpuchain-agent", signal.SIGSTOP)
    try:
        assert bench.trace(bench.host)["verdict"] == "unknown"
        assert bench.captured(bench.host), "the switch goes on without it"
    finally:
        bench.signal("dpu-1/dpuchain-agent", signal.SIGCONT)
    bench.told(bench.host, "delivered")


@pytest.mark.parametrize("process", ["dpu-1/ovs-vswitchd", "dpu-1/ovsdb-server"])
def test_switch_that_is_away_is_told(bench: Bench, process: str) -> None:
    bench.signal(process, signal.SIGKILL)
    try:
        bench.told(bench.host, "unknown", "dpu-1")
    finally:
        bench.revive()
    bench.told(bench.host, "delivered")


def test_switch_that_hangs_is_told(bench: Bench) -> None:
    bench.signal("dpu-1/ovs-vswitchd", signal.SIGSTOP)
    try:
        bench.told(bench.host, "unknown", "dpu-1")
    finally:
        bench.signal("dpu-1/ovs-vswitchd", signal.SIGCONT)
    bench.told(bench.host, "delivered")


def test_api_server_of_the_cluster_that_is_away_is_told(bench: Bench) -> None:
    bench.signal("cluster-1/kube-apiserver", signal.SIGKILL)
    try:
        outcome = bench.cli("trace", "--from=pf0hpf", "--node=dpu-1")
        assert outcome.status == 1
        assert "cluster-1 cannot be asked" in outcome.output
        assert bench.captured(bench.host)
    finally:
        bench.revive()
    bench.told(bench.host, "delivered")


def test_bridge_that_is_gone_is_told(bench: Bench) -> None:
    bench.rack.at("dpu-1", "ovs-vsctl", "del-br", "br-sfc")
    bench.told(bench.host, "unknown", "bridge br-sfc does not exist")
    assert not bench.captured(bench.host)
    settings = ("datapath_type=netdev", "fail_mode=secure", "protocols=OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15")
    bench.rack.at("dpu-1", "ovs-vsctl", "add-br", "br-sfc", "--", "set", "bridge", "br-sfc", *settings)
    bench.told(bench.host, "delivered")


def test_number_that_somebody_else_has_taken(bench: Bench) -> None:
    number = bench.number("p0")
    add = ("add-port", "br-sfc", "thief", "--", "set", "interface", "thief", "type=internal", f"ofport_request={number}")
    bench.rack.at("dpu-1", "ovs-vsctl", "del-port", "br-sfc", "p0", "--", *add)
    bench.told(bench.host, "delivered")
    bench.rack.at("dpu-1", "ovs-vsctl", "--if-exists", "del-port", "thief")
    bench.told(bench.host, "delivered")


def test_dpu_that_is_parted_from_its_api_server(bench: Bench) -> None:
    names = Layout.at(bench.rack.directory).identity
    asyncio.run(command("ip", "link", "set", names.management_link(1), "nomaster"))
    try:
        assert bench.trace(bench.host)["verdict"] == "unknown"
        assert bench.captured(bench.host), "the switch goes on without it"
    finally:
        asyncio.run(command("ip", "link", "set", names.management_link(1), "master", names.bridge))
    bench.told(bench.host, "delivered")


def test_pods_link_that_is_down(bench: Bench) -> None:
    (eth2,) = bench.trace(bench.host)["forward"]["theirs"]
    bench.rack.at("dpu-1", "ip", "link", "set", eth2["port"], "down")
    bench.told(bench.host, "dropped", f"interface {eth2['port']}: link is down")
    bench.rack.at("dpu-1", "ip", "link", "set", eth2["port"], "up")
    bench.told(bench.host, "delivered")


def test_pod_that_is_replaced(bench: Bench) -> None:
    (before,) = bench.trace(bench.host)["forward"]["theirs"]
    bench.rack.ok("cluster-1", "delete", "pod", service_pod(bench.rack, "dpu-1"), "--wait=true", "--timeout=60s")
    found = bench.told(bench.host, "delivered")
    assert found["forward"]["theirs"][0]["port"] != before["port"]


@pytest.mark.parametrize("device", ["x1", "x3"])
def test_link_that_is_down(bench: Bench, device: str) -> None:
    bench.rack.at("dpu-1", "ip", "link", "set", device, "down")
    near = {"x1": "x0", "x3": "x2"}[device]
    found = bench.trace(bench.side)
    bench.rack.until(lambda: bench.trace(bench.side)["verdict"] == "dropped", f"dropped, but {found}")
    assert f"interface {near}: link is down" in bench.trace(bench.side)["cause"]
    bench.rack.at("dpu-1", "ip", "link", "set", device, "up")
    bench.told(bench.side, "delivered")


def test_interface_that_a_chain_names_and_nobody_has(bench: Bench) -> None:
    apply(bench.rack, chain("side", ("x0", "absent"), **ON_FIRST))
    bench.told(bench.side, "dropped", "no serviceInterface in namespace(dpf-operator-system) matching labels(map[port:absent])")
    apply(bench.rack, chain("side", ("x0", "x2"), **ON_FIRST))
    bench.told(bench.side, "delivered")


def test_interface_that_another_chain_has(bench: Bench) -> None:
    apply(bench.rack, chain("late", ("x0", "x2"), **ON_FIRST))
    found = bench.told(bench.side, "delivered")
    assert found["forward"]["name"].startswith("switch 0 of ServiceChain dpf-operator-system/side")
    bench.rack.until(lambda: bench.trace(bench.side, "--chain=late")["verdict"] == "dropped", "dropped")
    assert "and none of chain late" in bench.trace(bench.side, "--chain=late")["cause"]
    bench.rack.ok("host", "delete", "dpuservicechain/late", "--timeout=60s")


def test_chain_that_is_deleted(bench: Bench) -> None:
    bench.rack.ok("host", "delete", "dpuservicechain/side", "--timeout=60s")
    bench.told(bench.side, "dropped", "no chain of node dpu-1 has it as a port")
    apply(bench.rack, chain("side", ("x0", "x2"), **ON_FIRST))
    bench.told(bench.side, "delivered")


@pytest.mark.parametrize(("cluster", "thing"), [("host", "dpucluster/cluster-1"), ("cluster-1", "node/dpu-1")])
def test_cluster_or_node_that_is_no_longer_selected(bench: Bench, cluster: str, thing: str) -> None:
    chosen = {"matchLabels": {"traced": "here"}}
    side = chain("side", ("x0", "x2"), **({"nodeSelector": chosen} if cluster != "host" else ON_FIRST))
    side["spec"] |= {"dpuClusterSelector": chosen} if cluster == "host" else {}
    apply(bench.rack, side)
    bench.told(bench.side, "dropped", "no chain of node dpu-1 has it as a port")
    bench.rack.ok(cluster, "label", thing, "traced=here")
    bench.told(bench.side, "delivered")
    bench.rack.ok(cluster, "label", thing, "traced-")
    bench.told(bench.side, "dropped", "no chain of node dpu-1 has it as a port")
    apply(bench.rack, chain("side", ("x0", "x2"), **ON_FIRST))
    bench.told(bench.side, "delivered")


def test_child_that_somebody_edits_is_put_right(bench: Bench) -> None:
    (name,) = [
        item["metadata"]["name"] for item in bench.rack.items("cluster-1", "serviceinterfaces") if item["metadata"]["name"].startswith("x0")
    ]
    bench.rack.ok("cluster-1", "label", f"serviceinterface/{name}", "port-")
    bench.told(bench.side, "delivered")


def test_live_trace_measures_the_service_and_finds_it_when_it_passes_nothing(bench: Bench) -> None:
    annotations = {"spec": {"serviceDaemonSet": {"annotations": {PASSES_PROBES_ANNOTATION: "true"}}}}
    bench.rack.ok("host", "patch", "dpuservice/example-service", "--type=merge", f"--patch={json.dumps(annotations)}")
    probes: dict[str, dict[str, Any]] = {}

    def willing() -> bool:
        found = bench.trace(bench.host, "--live")
        probes.clear()
        probes.update({probe["begins"]: probe for probe in found["probes"]})
        return found["verdict"] == "delivered" and all(probes.get(name, {}).get("received") == 10 for name in ("pf0hpf", "p0"))

    bench.rack.until(willing, "passing probe frames", 90)
    assert probes["pf0hpf"]["most"] < 200
    reasons = [probe["skipped"].partition(",")[0] for name, probe in sorted(probes.items()) if name.startswith("eth")]
    assert reasons == [f"a frame would leave the DPU by {port}" for port in ("p0", "pf0hpf")]
    in_service(bench.rack, "dpu-1", "ip", "link", "set", "wire", "down")
    lost = bench.trace(bench.host, "--live")
    assert not bench.captured(bench.host)
    assert lost["verdict"] != "delivered", lost
    bench.told(bench.host, "unknown", "is not ready: see `kubectl describe pod`")
    assert not bench.captured(bench.host)
    in_service(bench.rack, "dpu-1", "ip", "link", "set", "wire", "up")
    bench.told(bench.host, "delivered")


def test_tree_shows_the_ports_numbers_and_packets_that_there_are(bench: Bench) -> None:
    def ports() -> dict[str, dict[str, Any]]:
        (item,) = json.loads(bench.cli("describe", "chain", "example-chain", "--output=json").output)["items"]
        found, pending = {}, [item]
        while pending:
            here = pending.pop()
            pending += here.get("children", [])
            if here["kind"] == "Node" and here["name"] != "dpu-1":
                pending = [other for other in pending if other not in here["children"]]
            if here["kind"] == "Port":
                found[here["name"]] = here["facts"]
        return found

    before = ports()
    assert before.keys() == {"p0", "pf0hpf", "eth1", "eth2"}
    assert all(str(facts["ofport"]) == bench.number(facts["port"]) for facts in before.values())
    assert (before["p0"]["link"], before["eth2"]["mtu"]) == ("up", 2000)
    assert bench.captured(bench.host)
    bench.rack.until(lambda: ports()["pf0hpf"]["received"] > before["pf0hpf"]["received"], "counted")
    bench.rack.until(lambda: ports()["pf0hpf"]["flowPackets"] > before["pf0hpf"]["flowPackets"], "counted")


def test_check_finds_nothing_until_something_is_wrong_and_says_what(bench: Bench) -> None:
    bench.rack.ok("host", "wait", "--for=condition=Ready", "dpuservicechain", "--all", "--timeout=60s")
    outcome = bench.cli("check")
    assert outcome.status == 0, outcome.output
    assert "fault" not in outcome.output
    bench.rack.at("dpu-1", "ip", "link", "set", "x1", "down")
    bench.rack.until(lambda: bench.cli("check").status == 1, "a fault")
    assert "x0: interface x0: link is down; check the cable" in bench.cli("check").output
    bench.rack.at("dpu-1", "ip", "link", "set", "x1", "up")
    bench.rack.until(lambda: bench.cli("check").status == 0, "well again")


def test_kubectl_has_them_as_a_plugin(bench: Bench) -> None:
    folder = Layout.at(bench.rack.directory).tools
    path = f"PATH={sys.prefix}/bin:{folder}:/usr/bin:/bin"
    kubectl = ("env", path, f"KUBECONFIG={bench.rack.directory / 'host.kubeconfig'}", "kubectl")
    described = run(*kubectl, "dpuchain", "describe", "chain", "side", "-n", NAMESPACE, timeout=60)
    assert described.status == 0, described.output
    assert described.output.startswith("DPUServiceChain side  Ready\n└── DPUCluster cluster-1\n")
    completed = run(*kubectl, "__complete", "dpuchain", "describe", "chain", "ex", timeout=60)
    assert completed.output.splitlines()[-3:-1] != []
    assert "example-chain\n:4\n" in completed.output
    nowhere = run(*kubectl, "dpuchain", "describe", "chain", "side", "--context=nowhere", timeout=60)
    assert nowhere.status == 1
