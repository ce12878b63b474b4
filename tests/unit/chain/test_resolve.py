"""Every message of the resolution of a chain's ports, and what stays usable beside it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from dpuchain.api.chain import ServiceChain
from dpuchain.api.interface import ServiceInterface
from dpuchain.api.kubernetes import Pod
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.chain.ports import ObservedPort
from dpuchain.chain.resolve import NodeWorld, Resolution, go_map, interface_problem, resolve

START = datetime(2026, 1, 1, tzinfo=UTC)
HINT = "\nthe CNI made no port for the pod's interface: see the pod's events and its annotation k8s.v1.cni.cncf.io/networks"
CHAIN = ObjectKey("ns", "chain")


def interface(name: str, spec: dict[str, Any] | None = None, *, namespace: str = "ns", **labels: str) -> ServiceInterface:
    """An uplink of that name, labelled `port: NAME` if no labels are given."""
    metadata = {"name": name, "namespace": namespace, "labels": labels or {"port": name}}
    spec = spec or {"interfaceType": "physical", "physical": {"interfaceName": name}}
    return msgspec.convert({"metadata": metadata, "spec": spec}, ServiceInterface)


def service(name: str, interface_name: str = "eth1", **block: str) -> ServiceInterface:
    inner = {"serviceID": "fw", "network": "mybrsfc", "interfaceName": interface_name, **block}
    return interface(name, {"interfaceType": "service", "service": inner})


def pod(name: str, *, ready: bool = True, age: int = 0, **about: Any) -> Pod:
    metadata = {"name": name, "namespace": "ns", "labels": {"svc.dpu.nvidia.com/service": "fw"}} | about.pop("metadata", {})
    metadata["creationTimestamp"] = START - timedelta(seconds=age)
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]} | about
    return msgspec.convert({"metadata": metadata, "status": status}, Pod)


def chain(*switches: tuple[str, ...], name: str = "chain", age: int = 0, mtu: int = 1500) -> ServiceChain:
    ports = [[{"serviceInterface": {"matchLabels": {"port": port}}} for port in switch] for switch in switches]
    metadata = {"name": name, "namespace": "ns", "creationTimestamp": START - timedelta(seconds=age)}
    spec = {"switches": [{"ports": p, "serviceMTU": mtu} for p in ports]}
    return msgspec.convert({"metadata": metadata, "spec": spec}, ServiceChain)


def port(name: str, number: int | None = 1, mark: str | None = None, **about: Any) -> ObservedPort:
    return ObservedPort(name, number, mark or f"ns/{name}", **about)


def world(
    interfaces: list[ServiceInterface],
    ports: list[ObservedPort],
    pods: list[Pod] | None = None,
    refused: dict[ObjectKey, str] | None = None,
) -> NodeWorld:
    by_mark = {p.dpf_id: p for p in ports if p.dpf_id is not None}
    return NodeWorld("dpu-1", interfaces, pods or [], by_mark, refused or {})


def one(the_chain: ServiceChain, the_world: NodeWorld) -> Resolution:
    return resolve([the_chain], the_world)[CHAIN]


def numbers(result: Resolution) -> tuple[tuple[int, ...], ...]:
    """Port numbers of each switch, none of whose ports is a VLAN."""
    assert all(port.vlan is None for ports in result.switch_ports for port in ports)
    return tuple(tuple(port.number for port in ports) for ports in result.switch_ports)


def test_a_chain_that_works() -> None:
    result = one(
        chain(("p0", "fw-1"), ("fw-2", "p1")),
        world(
            [interface("p0"), interface("p1"), service("fw-1"), service("fw-2", "eth2")],
            [port("p0", 1), port("p1", 2), port("veth1", 3, "ns/fw-a/eth1"), port("veth2", 4, "ns/fw-a/eth2")],
            [pod("fw-a")],
        ),
    )
    assert result.problems == ()
    assert numbers(result) == ((1, 3), (4, 2))


def test_no_interface_matches() -> None:
    """The document's text to the letter."""
    result = one(chain(("p0", "p1")), world([interface("p0")], [port("p0")]))
    assert result.problems == ("no serviceInterface in namespace(ns) matching labels(map[port:p1]) on node(dpu-1) found",)
    assert numbers(result) == ((1,),)


def test_interfaces_elsewhere_or_on_their_way_out_do_not_match() -> None:
    leaving = msgspec.structs.replace(interface("p1"), metadata=msgspec.structs.replace(interface("p1").metadata, deletion_timestamp=START))
    result = one(chain(("p0", "p1")), world([interface("p0"), interface("p1", namespace="other"), leaving], [port("p0"), port("p1", 2)]))
    assert result.problems == ("no serviceInterface in namespace(ns) matching labels(map[port:p1]) on node(dpu-1) found",)


def test_several_interfaces_match() -> None:
    """The document's text to the letter, then which ones and what to do."""
    result = one(chain(("p0", "x")), world([interface("p0"), interface("b", port="x"), interface("a", port="x")], [port("p0")]))
    (problem,) = result.problems
    assert problem.splitlines() == [
        "expected only one serviceInterface in namespace(ns) to match labels(map[port:x]) on node(dpu-1). found 2",
        "candidates: ns/a, ns/b; delete the stale ones, or add a label that only one has",
    ]


def test_no_port_with_the_interfaces_mark() -> None:
    """The document's text to the letter, then where to look."""
    result = one(chain(("p0", "p1")), world([interface("p0"), interface("p1")], [port("p0")]))
    assert result.problems == (
        "failed to find matching interface with external_ids: map[dpf-id:ns/p1]\nsee the conditions of ServiceInterface ns/p1",
    )


def test_the_port_is_somebody_elses() -> None:
    refused = {ObjectKey("ns", "p1"): "port p1 is owned by ServiceInterface ns/other"}
    result = one(chain(("p0", "p1")), world([interface("p0"), interface("p1")], [port("p0"), port("p1", 2)], refused=refused))
    assert result.problems == (
        "failed to find matching interface with external_ids: map[dpf-id:ns/p1]\nport p1 is owned by ServiceInterface ns/other",
    )


def test_the_pods_port_is_missing() -> None:
    result = one(chain(("p0", "fw")), world([interface("p0"), service("fw")], [port("p0")], [pod("fw-a")]))
    assert result.problems == (f"failed to find matching interface with external_ids: map[dpf-id:ns/fw-a/eth1]{HINT}",)


@pytest.mark.parametrize(
    "pods",
    [
        [],
        [pod("done", phase="Succeeded"), pod("dead", phase="Failed")],
        [pod("other", metadata={"labels": {"svc.dpu.nvidia.com/service": "lb"}})],
        [pod("far", metadata={"namespace": "other"})],
    ],
)
def test_no_pod_serves(pods: list[Pod]) -> None:
    result = one(chain(("p0", "fw")), world([interface("p0"), service("fw")], [port("p0")], pods))
    assert result.problems == ("no pod in namespace(ns) matching labels(map[svc.dpu.nvidia.com/service:fw]) on node(dpu-1) found",)


def test_of_several_pods_the_one_that_serves_is_taken() -> None:
    both = [port("p0"), port("veth1", 3, "ns/fw-a/eth1"), port("veth2", 4, "ns/fw-b/eth1")]
    terminating = {"name": "fw-a", "deletionTimestamp": START}

    def taken(pods: list[Pod], ports: list[ObservedPort] = both) -> int:
        return one(chain(("p0", "fw")), world([interface("p0"), service("fw")], ports, pods)).switch_ports[0][1].number

    assert taken([pod("fw-a"), pod("fw-b", age=9)]) == 4, "the oldest"
    assert taken([pod("fw-a", age=9, metadata=terminating), pod("fw-b")]) == 4, "not one that is terminating"
    assert taken([pod("fw-a", age=9, ready=False), pod("fw-b")]) == 4, "one that is ready"
    assert taken([pod("fw-a", ready=False), pod("fw-b", age=9)], both[:2]) == 3, "one that has a port"


@pytest.mark.parametrize(
    "spec",
    [
        {"interfaceType": "pf", "pf": {"pfID": 0, "virtualNetwork": "v"}},
        {"interfaceType": "vf", "vf": {"pfID": 0, "vfID": 0, "virtualNetwork": "v"}},
        {"interfaceType": "service", "service": {"serviceID": "fw", "network": "n", "interfaceName": "eth1", "virtualNetwork": "v"}},
    ],
)
def test_an_interface_of_a_virtual_network(spec: dict[str, Any]) -> None:
    result = one(chain(("p0", "v")), world([interface("p0"), interface("v", spec)], [port("p0"), port("v", 2)]))
    assert result.problems == (
        "invalid service interface: serviceInterface v in namespace (ns) has a virtual network, cannot be chained on br-sfc bridge",
    )


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (
            port("p1", 2, error="could not open network device p1"),
            "interface p1: could not open network device p1; give the DPU such a device, or name another one",
        ),
        (port("p1", None), "interface p1 Ofport is nil\nOpen vSwitch has given it no port number: see its ovs-vswitchd.log"),
        (port("p1", -1), "interface p1 Ofport is nil\nOpen vSwitch has given it no port number: see its ovs-vswitchd.log"),
    ],
)
def test_a_port_that_cannot_be_used_is_left_out(broken: ObservedPort, text: str) -> None:
    there = world([interface("p0"), interface("p1")], [port("p0"), broken])
    result = one(chain(("p0", "p1")), there)
    assert result.problems == (text,)
    assert numbers(result) == ((1,),)
    assert interface_problem(interface("p1"), there) == text


@pytest.mark.parametrize(
    ("set_up", "remedy"),
    [
        (True, "check the cable, or bring the device at its other end up"),
        (None, "check the cable, or bring the device at its other end up"),
        (False, "the device itself was set down: ip link set p1 up"),
    ],
)
def test_a_link_that_is_down_stays_connected(set_up: bool | None, remedy: str) -> None:
    there = world([interface("p0"), interface("p1")], [port("p0"), port("p1", 2, link_up=False, set_up=set_up)])
    text = f"interface p1: link is down; {remedy}"
    result = one(chain(("p0", "p1")), there)
    assert result.problems == (text,)
    assert numbers(result) == ((1, 2),)
    assert interface_problem(interface("p1"), there) == text


def test_a_pod_that_is_not_ready_or_has_the_wrong_mtu_stays_connected() -> None:
    ports = [port("p0"), port("veth1", 3, "ns/fw-a/eth1", mtu=1500)]
    there = world([interface("p0"), service("fw")], ports, [pod("fw-a", ready=False)])
    result = one(chain(("p0", "fw"), mtu=2000), there)
    assert result.problems == (
        "pod ns/fw-a of service fw is not ready: see `kubectl describe pod`",
        "interface eth1 of pod ns/fw-a has MTU 1500, its switch asks for 2000: the pod must be restarted",
    )
    assert numbers(result) == ((1, 3),)


def test_a_switch_with_one_port() -> None:
    result = one(chain(("p0",)), world([interface("p0")], [port("p0")]))
    assert result.problems == ("switch 0 of ServiceChain ns/chain has fewer than two ports: nothing can pass; give it another port",)


def test_an_interface_named_twice_in_a_switch() -> None:
    result = one(chain(("p0", "p1", "p0")), world([interface("p0"), interface("p1")], [port("p0"), port("p1", 2)]))
    assert result.problems == ("ServiceInterface ns/p0 is named twice in switch 0 of ServiceChain ns/chain; name it once",)
    assert numbers(result) == ((1, 2),)


def test_an_interface_of_two_switches_belongs_to_the_older_chain() -> None:
    there = world([interface(n) for n in ("p0", "p1", "p2")], [port("p0"), port("p1", 2), port("p2", 3)])
    result = resolve([chain(("p1", "p2"), name="young"), chain(("p0", "p1"), age=9)], there)
    assert numbers(result[CHAIN]) == ((1, 2),)
    assert result[CHAIN].problems == ()
    young = result[ObjectKey("ns", "young")]
    assert numbers(young) == ((3,),)
    assert young.problems == (
        "ServiceInterface ns/p1 is a port of switch 0 of ServiceChain ns/chain already; an interface belongs to one switch",
    )


def test_each_problem_is_told_once() -> None:
    result = one(chain(("x", "p0"), ("x", "p1")), world([interface("p0"), interface("p1")], [port("p0"), port("p1", 2)]))
    assert len(result.problems) == 1
    assert [switch.problems for switch in result.switches] == [result.problems, result.problems]


def test_a_chain_that_is_being_deleted_claims_nothing() -> None:
    leaving = chain(("p0", "p1"), name="leaving", age=9)
    leaving = msgspec.structs.replace(leaving, metadata=msgspec.structs.replace(leaving.metadata, deletion_timestamp=START))
    result = resolve([leaving, chain(("p0", "p1"))], world([interface("p0"), interface("p1")], [port("p0"), port("p1", 2)]))
    assert list(result) == [CHAIN]
    assert not result[CHAIN].problems


def test_the_block_of_another_type_does_not_count() -> None:
    """A manifest may keep a block of the type that it was before; only the one of its type says what it is."""
    leftover = {"serviceID": "fw", "network": "mybrsfc", "interfaceName": "eth1", "virtualNetwork": "v"}
    mixed = interface("p1", {"interfaceType": "physical", "physical": {"interfaceName": "p1"}, "service": leftover})
    there = world([interface("p0"), mixed], [port("p0"), port("p1", 2, mtu=9216)])
    result = one(chain(("p0", "p1")), there)
    assert result.problems == ()
    assert numbers(result) == ((1, 2),)
    assert interface_problem(mixed, there) is None


def test_an_interface_alone() -> None:
    there = world([], [port("p0", link_up=True), port("veth1", 3, "ns/fw-a/eth1")], [pod("fw-a")], {key_of(interface("p1")): "taken"})
    assert interface_problem(interface("p0"), there) is None
    assert interface_problem(interface("p1"), there) == "taken"
    assert interface_problem(interface("p2"), there) == "no port of the bridge has external_ids map[dpf-id:ns/p2]"
    assert interface_problem(service("fw"), there) is None
    assert interface_problem(service("fw", "eth9"), there) == f"no port of the bridge has external_ids map[dpf-id:ns/fw-a/eth9]{HINT}"
    nobody = "no pod in namespace(ns) matching labels(map[svc.dpu.nvidia.com/service:fw]) on node(dpu-1) found"
    assert interface_problem(service("fw"), world([], [])) == nobody


def test_maps_are_printed_as_go_prints_them() -> None:
    assert go_map({"b": "2", "a": "1"}) == "map[a:1 b:2]"
    assert go_map({}) == "map[]"
