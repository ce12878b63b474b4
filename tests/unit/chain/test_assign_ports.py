"""Which ports of br-sfc the interfaces of a node ask for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from dpuchain.api.interface import ServiceInterface
from dpuchain.api.meta import ObjectKey
from dpuchain.chain.patches import Peer
from dpuchain.chain.ports import DPF_TYPE, ROUND, UPLINK_MTU, ObservedPort, assign, claim_of, dpf_id_of, is_left_behind, pod_dpf_id

START = datetime(2026, 1, 1, tzinfo=UTC)


def interface(name: str, spec: dict[str, Any], *, age: int = 0, deleted: bool = False) -> ServiceInterface:
    """An interface that was made `age` seconds before the others."""
    metadata = {"name": name, "namespace": "ns", "creationTimestamp": START - timedelta(seconds=age)}
    if deleted:
        metadata["deletionTimestamp"] = START
    return msgspec.convert({"metadata": metadata, "spec": spec}, ServiceInterface)


def uplink(name: str, port: str = "p0", **about: Any) -> ServiceInterface:
    return interface(name, {"interfaceType": "physical", "physical": {"interfaceName": port}}, **about)


PF = interface("host", {"interfaceType": "pf", "pf": {"pfID": 0}})
VF = interface("guest", {"interfaceType": "vf", "vf": {"pfID": 1, "vfID": 12}})
SERVICE = interface("eth1", {"interfaceType": "service", "service": {"serviceID": "s", "network": "mybrsfc", "interfaceName": "eth1"}})


def test_ports_have_the_names_of_their_devices() -> None:
    assert [claim_of(item).port for item in (uplink("a"), PF, VF, SERVICE)] == ["p0", "pf0hpf", "pf1vf12", None]


def test_marks() -> None:
    assert dpf_id_of(PF) == "ns/host"
    assert pod_dpf_id(ObjectKey("ns", "pod-1"), "eth1") == "ns/pod-1/eth1"


def test_each_device_gets_its_port_with_mark_type_and_mtu() -> None:
    ports = assign([uplink("up"), PF, VF, SERVICE], {})
    assert not ports.refused
    found = {port.name: (port.dpf_id, port.owner.name, port.mtu_request, dict(port.external_ids)) for port in ports.wanted.values()}
    assert found == {
        "p0": ("ns/up", "up", UPLINK_MTU, {DPF_TYPE: "physical", **ROUND}),
        "pf0hpf": ("ns/host", "host", None, {DPF_TYPE: "pf", **ROUND}),
        "pf1vf12": ("ns/guest", "guest", None, {DPF_TYPE: "vf", **ROUND}),
    }


def test_the_oldest_claim_wins_and_the_other_is_told_who_has_the_port() -> None:
    ports = assign([uplink("young"), uplink("old", age=9)], {})
    assert ports.wanted["p0"].dpf_id == "ns/old"
    assert ports.refused == {
        ObjectKey("ns", "young"): "port p0 is owned by ServiceInterface ns/old; a port has one owner: delete one of the two, or give this "
        "one another port"
    }


def test_who_has_the_port_keeps_it_against_an_older_one() -> None:
    present = {"p0": ObservedPort("p0", 1, "ns/young")}
    assert assign([uplink("young"), uplink("old", age=9)], present).wanted["p0"].dpf_id == "ns/young"


def test_a_port_goes_over_when_its_owner_leaves() -> None:
    present = {"p0": ObservedPort("p0", 1, "ns/leaving")}
    ports = assign([uplink("leaving", deleted=True), uplink("next")], present)
    assert ports.wanted["p0"].dpf_id == "ns/next"
    assert not ports.refused


def test_only_the_block_of_the_type_counts() -> None:
    both = interface("both", {"interfaceType": "pf", "pf": {"pfID": 1}, "physical": {"interfaceName": "p0"}})
    assert list(assign([both], {}).wanted) == ["pf1hpf"]


def patch(name: str, peer: str = "br-ovn", *, age: int = 0, **block: Any) -> ServiceInterface:
    return interface(name, {"interfaceType": "patch", "patch": {"peerBridge": peer, **block}}, age=age)


def test_the_two_ends_of_a_patch_have_the_names_that_dpf_gives_them() -> None:
    """The hash is that of Go's fnv.New32a over `ns/link`."""
    ports = assign([patch("link"), patch("other", "br-my-int", peerPatchName="mine", peerExternalIDs={"a": "b"})], {})
    found = {port.name: (port.peer, dict(port.external_ids), port.mtu_request) for port in ports.wanted.values()}
    assert found == {
        "p_brsfc_to_brovn_afc766ef": (Peer("br-ovn", "p_brovn_to_brsfc_afc766ef"), {DPF_TYPE: "patch", **ROUND}, None),
        "p_brsfc_to_mine": (Peer("br-my-int", "mine", {"a": "b"}), {DPF_TYPE: "patch", **ROUND}, None),
    }


def test_ovn_is_a_patch_to_its_bridge() -> None:
    default, other = interface("o", {"interfaceType": "ovn"}), interface("o", {"interfaceType": "ovn", "ovn": {"externalBridge": "br-ext"}})
    found = {claim.port: claim.peer for claim in map(claim_of, (default, other))}
    assert found == {
        "puplinkbrsfctobrovn": Peer("br-ovn", "puplinkbrovntobrsfc"),
        "puplinkbrsfctobrext": Peer("br-ext", "puplinkbrexttobrsfc"),
    }


def test_two_patches_with_one_name() -> None:
    ports = assign([patch("a", peerPatchName="x"), patch("b", peerPatchName="x", age=9)], {})
    assert ports.wanted["p_brsfc_to_x"].owner.name == "b"
    assert "port p_brsfc_to_x is owned by ServiceInterface ns/b" in ports.refused[ObjectKey("ns", "a")]


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (patch("x", ""), "peer bridge is not set or is empty"),
        (patch("x", "br-sfc"), "peer bridge br-sfc is the bridge of the chains itself; name another one"),
        (patch("x", peerExternalIDs={"dpf-id": "y"}), "external ID dpf-id is a reserved and managed internally, it cannot be set by users"),
        (
            interface("x", {"interfaceType": "pf", "pf": {"pfID": 0, "virtualNetwork": "v"}}),
            "belongs to virtual network v: it gets no port of the bridge and cannot be chained",
        ),
        (
            interface("x", {"interfaceType": "vf", "vf": {"pfID": 0, "vfID": 1, "virtualNetwork": "v"}}),
            "belongs to virtual network v: it gets no port of the bridge and cannot be chained",
        ),
        (
            interface("x", {"interfaceType": "pf", "pf": {"pfID": 0, "nicSelector": {"type": "pci", "pci": {"address": "0000:03:00.0"}}}}),
            (
                "no representor found for PF 0 of controller 1 on NIC 0000:03:00: no device has phys_port_name c1pf0 or pf0 or pf0hpf; "
                "make the function on the host, or correct the numbers"
            ),
        ),
    ],
)
def test_an_interface_that_can_have_no_port_claims_none_and_says_why(item: ServiceInterface, text: str) -> None:
    ports = assign([item], {})
    assert ports.wanted == {}
    assert ports.refused == {ObjectKey("ns", "x"): text}


def test_a_port_is_left_behind_only_if_it_is_physical_and_annotated() -> None:
    def annotated(item: ServiceInterface) -> ServiceInterface:
        annotations = {"svc.dpu.nvidia.com/noop-physical-removal": ""}
        return msgspec.structs.replace(item, metadata=msgspec.structs.replace(item.metadata, annotations=annotations))

    assert [is_left_behind(item) for item in (uplink("a"), annotated(uplink("a")), annotated(PF))] == [False, True, False]
