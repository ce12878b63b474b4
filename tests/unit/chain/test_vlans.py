"""Interfaces that are a VLAN on another: parents, owners, and every message."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from dpuchain.api.chain import ServiceChain
from dpuchain.api.interface import ServiceInterface
from dpuchain.api.meta import ObjectKey
from dpuchain.api.names import INTERFACE_SET_NAME_LABEL
from dpuchain.chain.ports import ObservedPort, SwitchPort, assign
from dpuchain.chain.resolve import NodeWorld, interface_problem, resolve
from dpuchain.chain.vlans import VlanClaim, assign_vlans

START = datetime(2026, 1, 1, tzinfo=UTC)


def key(name: str) -> ObjectKey:
    return ObjectKey("ns", name)


def interface(name: str, spec: dict[str, Any], *, namespace: str = "ns", age: int = 0, of: str = "") -> ServiceInterface:
    labels = {"port": name} | ({INTERFACE_SET_NAME_LABEL: of} if of else {})
    created = START - timedelta(seconds=age)
    metadata = {"name": name, "namespace": namespace, "labels": labels, "creationTimestamp": created}
    return msgspec.convert({"metadata": metadata, "spec": spec}, ServiceInterface)


def uplink(name: str = "p0", **about: Any) -> ServiceInterface:
    return interface(name, {"interfaceType": "physical", "physical": {"interfaceName": name}}, **about)


def vlan(name: str, number: int = 10, parent: str = "p0", **about: Any) -> ServiceInterface:
    return interface(name, {"interfaceType": "vlan", "vlan": {"vlanID": number, "parentInterfaceRef": parent}}, **about)


def refused(*interfaces: ServiceInterface) -> dict[ObjectKey, str]:
    return dict(assign_vlans(interfaces).refused)


def test_a_parent_is_named_by_its_own_name_or_that_of_its_set() -> None:
    parent = uplink("p0-dpu-1-x7", of="uplink")
    for name in ("p0-dpu-1-x7", "uplink"):
        assert assign_vlans([vlan("v", parent=name), parent]).claims == {key("v"): VlanClaim(key("p0-dpu-1-x7"), 10)}


def test_several_vlans_on_one_parent_and_one_number_on_several_parents() -> None:
    some = [uplink(), uplink("p1"), vlan("a", 10), vlan("b", 20), vlan("c", 10, "p1")]
    vlans = assign_vlans(some)
    assert not vlans.refused
    assert {name.name: (claim.parent.name, claim.vlan) for name, claim in vlans.claims.items()} == {
        "a": ("p0", 10),
        "b": ("p0", 20),
        "c": ("p1", 10),
    }


def test_of_two_that_want_the_same_the_older_has_it_and_the_other_is_told() -> None:
    vlans = assign_vlans([uplink(), vlan("a"), vlan("b", age=9)])
    assert set(vlans.claims) == {key("b")}
    assert vlans.refused == {
        key("a"): "VLAN 10 of ServiceInterface ns/p0 is owned by ServiceInterface ns/b; it has one owner: delete one of the two, or give "
        "this one another vlanID"
    }


@pytest.mark.parametrize("number", [-1, 0, 4095, 5000])
def test_what_is_no_vlan_is_refused_by_number(number: int) -> None:
    text = f"spec.vlan.vlanID: {number} is not the number of a VLAN; use 1 to 4094"
    assert refused(uplink(), vlan("v", number)) == {key("v"): text}
    assert assign([uplink(), vlan("v", number)], {}).refused == {key("v"): text}


@pytest.mark.parametrize("number", [1, 4094])
def test_the_first_and_the_last_vlan(number: int) -> None:
    assert refused(uplink(), vlan("v", number)) == {}


def test_a_parent_that_is_not_there_or_elsewhere() -> None:
    text = (
        "spec.vlan.parentInterfaceRef: p0: no ServiceInterface of this node in namespace ns has this name, or is of a "
        "DPUServiceInterface with it"
    )
    assert refused(vlan("v"), uplink(namespace="other")) == {key("v"): text}


def test_a_parent_that_is_ambiguous() -> None:
    assert refused(vlan("v", parent="x"), uplink("a", of="x"), uplink("b", of="x")) == {
        key("v"): "spec.vlan.parentInterfaceRef: x means 2 ServiceInterfaces: ns/a, ns/b; delete the stale ones, or name one of them"
    }


def test_a_parent_of_a_type_that_has_no_vlans() -> None:
    text = "spec.vlan.parentInterfaceRef: w: ServiceInterface ns/w is of type vlan; use one of physical, pf, vf, patch"
    assert refused(vlan("v", parent="w"), vlan("w"), uplink()) == {key("v"): text}


def world(some: list[ServiceInterface], *ports: ObservedPort) -> NodeWorld:
    found = assign(some, {})
    return NodeWorld("dpu-1", some, [], {str(port.dpf_id): port for port in ports}, found.refused, found.vlans)


def chain(*switches: tuple[str, ...], name: str = "chain", age: int = 0) -> ServiceChain:
    ports = [[{"serviceInterface": {"matchLabels": {"port": port}}} for port in switch] for switch in switches]
    metadata = {"name": name, "namespace": "ns", "creationTimestamp": START - timedelta(seconds=age)}
    return msgspec.convert({"metadata": metadata, "spec": {"switches": [{"ports": found} for found in ports]}}, ServiceChain)


P0, P1 = ObservedPort("p0", 1, "ns/p0", link_up=True), ObservedPort("p1", 2, "ns/p1", link_up=True)


def test_a_vlan_and_its_parent_are_two_ports() -> None:
    some = [uplink(), uplink("p1"), vlan("a", 10), vlan("b", 20), vlan("unused", 30)]
    there = world(some, P0, P1)
    result = resolve([chain(("p0", "p1"), ("a", "b"))], there)[key("chain")]
    assert result.problems == ()
    assert result.switch_ports == ((SwitchPort(1), SwitchPort(2)), (SwitchPort(1, 10), SwitchPort(1, 20)))
    assert there.reserved == {SwitchPort(1, 10), SwitchPort(1, 20), SwitchPort(1, 30)}
    assert interface_problem(some[2], there) is None


def test_a_vlan_is_of_one_switch() -> None:
    there = world([uplink(), uplink("p1"), vlan("a", 10)], P0, P1)
    result = resolve([chain(("a", "p1"), age=9), chain(("a", "p0"), name="young")], there)
    assert not result[key("chain")].problems
    assert result[key("young")].problems == (
        "ServiceInterface ns/a is a port of switch 0 of ServiceChain ns/chain already; an interface belongs to one switch",
    )


@pytest.mark.parametrize(
    ("ports", "problem"),
    [
        ((), "its parent ServiceInterface ns/p0: no port of the bridge has external_ids map[dpf-id:ns/p0]"),
        (
            (ObservedPort("p0", None, "ns/p0", error="No such device"),),
            "its parent ServiceInterface ns/p0: interface p0: No such device; give the DPU such a device, or name another one",
        ),
    ],
)
def test_a_vlan_works_no_better_than_its_parent(ports: tuple[ObservedPort, ...], problem: str) -> None:
    some = [uplink(), uplink("p1"), vlan("a")]
    there = world(some, P1, *ports)
    assert interface_problem(some[2], there) == problem
    result = resolve([chain(("a", "p1"))], there)[key("chain")]
    assert result.problems == (f"invalid service interface: serviceInterface a in namespace (ns) is not ready: {problem}",)
    assert result.switch_ports == ((SwitchPort(2),),)


def test_a_parent_that_does_not_own_its_port_and_a_link_that_is_down() -> None:
    second = interface("second", {"interfaceType": "physical", "physical": {"interfaceName": "p0"}})
    some = [uplink("p0", age=9), second, vlan("a", 10, "second")]
    problem = interface_problem(some[2], world(some, P0))
    assert problem is not None
    assert problem.startswith("its parent ServiceInterface ns/second: port p0 is owned by ServiceInterface ns/p0;")
    some = [uplink(), uplink("p1"), vlan("a")]
    down = world(some, ObservedPort("p0", 1, "ns/p0", link_up=False), P1)
    text = "interface p0: link is down; check the cable, or bring the device at its other end up"
    assert interface_problem(some[2], down) == text
    result = resolve([chain(("a", "p1"))], down)[key("chain")]
    assert (result.problems, len(result.switch_ports[0])) == ((text,), 2)
