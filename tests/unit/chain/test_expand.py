"""From a set to one object on each selected node."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec.structs import replace

from dpuchain.api import names
from dpuchain.api.chain import ServiceChain, ServiceChainSet
from dpuchain.api.interface import ServiceInterfaceSet
from dpuchain.api.kubernetes import Metadata
from dpuchain.api.meta import ObjectKey, ObjectMeta
from dpuchain.chain.expand import child_name, service_chains, service_interfaces, set_of_child

START = datetime(2026, 1, 1, tzinfo=UTC)
PORTS = [{"serviceInterface": {"matchLabels": {"uplink": "p0"}}}]


def chain_set(**spec: Any) -> ServiceChainSet:
    metadata = {"name": "example", "namespace": "dpf", "uid": "u-1"}
    template = {"metadata": {"labels": {"a": "1"}, "annotations": {"b": "2"}}, "spec": {"switches": [{"ports": PORTS}]}}
    return msgspec.convert({"metadata": metadata, "spec": {"template": template, **spec}}, ServiceChainSet)


def interface_set(block: dict[str, Any], **labels: str) -> ServiceInterfaceSet:
    spec = {"template": {"metadata": {"labels": labels}, "spec": block}}
    return msgspec.convert({"metadata": {"name": "eth1", "namespace": "dpf", "uid": "u-2"}, "spec": spec}, ServiceInterfaceSet)


def node(name: str, *, deleted: bool = False, **labels: str) -> Metadata:
    return Metadata(metadata=ObjectMeta(name=name, labels=labels, deletion_timestamp=START if deleted else None))


def child(name: str, on: str, *, age: int = 0, deleted: bool = False) -> ServiceChain:
    metadata: dict[str, Any] = {"name": name, "namespace": "dpf", "creationTimestamp": START - timedelta(seconds=age)}
    if deleted:
        metadata["deletionTimestamp"] = START
    return msgspec.convert({"metadata": metadata, "spec": {"node": on, "switches": [{"ports": PORTS}]}}, ServiceChain)


def placed(nodes: list[Metadata], existing: list[ServiceChain], **spec: Any) -> tuple[dict[str | None, str], list[str]]:
    """The name of the wanted child on each node, and the names of those that are too many."""
    result = service_chains(chain_set(**spec), nodes, existing)
    return {item.spec.node: item.metadata.name for item in result.wanted}, [item.metadata.name for item in result.surplus]


def test_a_child_has_the_templates_spec_its_node_and_its_owner() -> None:
    (made,) = service_chains(chain_set(), [node("dpu-1")], []).wanted
    assert msgspec.json.decode(msgspec.json.encode(made)) == {
        "metadata": {
            "name": child_name("example", "dpu-1"),
            "namespace": "dpf",
            "labels": {"a": "1", names.CHAIN_SET_NAME_LABEL: "example", names.CHAIN_SET_NAMESPACE_LABEL: "dpf"},
            "annotations": {"b": "2", names.TEMPLATE_DIGEST_ANNOTATION: made.metadata.annotations[names.TEMPLATE_DIGEST_ANNOTATION]},
            "finalizers": ["svc.dpu.nvidia.com/ServiceChain-finalizer"],
            "ownerReferences": [
                {
                    "apiVersion": "svc.dpu.nvidia.com/v1alpha1",
                    "kind": "ServiceChainSet",
                    "name": "example",
                    "uid": "u-1",
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {"node": "dpu-1", "switches": [{"ports": PORTS}]},
    }
    assert set_of_child(made) == ObjectKey("dpf", "example")


def test_an_interface_says_whose_pods_it_is_of() -> None:
    block = {"interfaceType": "service", "service": {"serviceID": "fw", "network": "n", "interfaceName": "eth1"}}
    (made,) = service_interfaces(interface_set(block, uplink="x"), [node("dpu-1")], []).wanted
    assert made.metadata.labels == {
        "uplink": "x",
        names.INTERFACE_SET_NAME_LABEL: "eth1",
        names.INTERFACE_SET_NAMESPACE_LABEL: "dpf",
        names.SERVICE_ID_LABEL: "fw",
    }
    assert made.metadata.finalizers == ("svc.dpu.nvidia.com/ServiceInterface-finalizer",)
    assert made.metadata.owner_references[0].kind == "ServiceInterfaceSet"
    assert set_of_child(made) == ObjectKey("dpf", "eth1")


def test_an_interface_of_another_type_is_of_no_pod_though_it_kept_the_block() -> None:
    leftover = {"serviceID": "fw", "network": "n", "interfaceName": "eth1"}
    block = {"interfaceType": "pf", "pf": {"pfID": 0}, "service": leftover}
    (made,) = service_interfaces(interface_set(block), [node("dpu-1")], []).wanted
    assert names.SERVICE_ID_LABEL not in made.metadata.labels


def test_the_template_cannot_take_the_child_from_its_set() -> None:
    block = {"interfaceType": "pf", "pf": {"pfID": 0}}
    forged = interface_set(block, **{names.INTERFACE_SET_NAME_LABEL: "other"})
    (made,) = service_interfaces(forged, [node("dpu-1")], []).wanted
    assert set_of_child(made) == ObjectKey("dpf", "eth1")


def test_an_object_without_labels_and_owner_is_of_no_set() -> None:
    assert set_of_child(node("x", a="b")) is None


def test_a_child_whose_labels_were_taken_off_is_known_by_its_owner() -> None:
    (made,) = service_chains(chain_set(), [node("dpu-1")], []).wanted
    assert set_of_child(replace(made, metadata=replace(made.metadata, labels={}))) == ObjectKey("dpf", "example")
    foreign = replace(made.metadata.owner_references[0], kind="DaemonSet")
    assert set_of_child(replace(made, metadata=replace(made.metadata, labels={}, owner_references=(foreign,)))) is None


def test_a_label_that_the_template_no_longer_has_shows_in_the_childs_digest() -> None:
    def digest(labels: dict[str, str], annotations: dict[str, str]) -> str:
        template = {"metadata": {"labels": labels, "annotations": annotations}, "spec": {"switches": [{"ports": PORTS}]}}
        (made,) = service_chains(chain_set(template=template), [node("dpu-1")], []).wanted
        return made.metadata.annotations[names.TEMPLATE_DIGEST_ANNOTATION]

    assert digest({"a": "1", "b": "2"}, {}) == digest({"b": "2", "a": "1"}, {})
    assert len({digest({"a": "1"}, {}), digest({}, {"a": "1"}), digest({}, {}), digest({"a": "2"}, {})}) == 4


def test_only_selected_nodes_that_stay_have_a_child() -> None:
    nodes = [node("b", rack="1"), node("a", rack="1"), node("c", rack="2"), node("d", deleted=True, rack="1")]
    wanted, surplus = placed(nodes, [child("left", "c")], nodeSelector={"matchLabels": {"rack": "1"}})
    assert list(wanted) == ["a", "b"]
    assert surplus == ["left"]


def test_a_child_keeps_the_name_that_somebody_else_gave_it() -> None:
    assert placed([node("dpu-1")], [child("example-x7k2p", "dpu-1")]) == ({"dpu-1": "example-x7k2p"}, [])


def test_of_several_children_our_own_stays_then_the_oldest() -> None:
    own = child_name("example", "dpu-1")
    assert placed([node("dpu-1")], [child("old", "dpu-1", age=9), child(own, "dpu-1")]) == ({"dpu-1": own}, ["old"])
    assert placed([node("dpu-1")], [child("young", "dpu-1"), child("old", "dpu-1", age=9)]) == ({"dpu-1": "old"}, ["young"])


def test_a_child_that_is_leaving_makes_room_under_another_name() -> None:
    own = child_name("example", "dpu-1")
    assert placed([node("dpu-1")], [child("leaving", "dpu-1", deleted=True)]) == ({"dpu-1": own}, ["leaving"])
    assert placed([node("dpu-1")], [child(own, "dpu-1", deleted=True)]) == ({"dpu-1": own}, [])


def test_a_child_that_somebody_moved_goes_home() -> None:
    """Its name is that of another node's child: kept where it was moved to, two children would have one name."""
    first, second = child_name("example", "dpu-1"), child_name("example", "dpu-2")
    nodes = [node("dpu-1"), node("dpu-2")]
    assert placed(nodes, [child(first, "dpu-2")]) == ({"dpu-1": first, "dpu-2": second}, [])
    assert placed(nodes, [child(first, "dpu-2"), child(second, "dpu-2")]) == ({"dpu-1": first, "dpu-2": second}, [])
    assert placed(nodes[:1], [child(first, "gone")]) == ({"dpu-1": first}, [])


def test_names_of_children() -> None:
    assert child_name("a", "dpu-1") != child_name("a", "dpu-2")
    long = "x" * 60
    assert child_name(long + "a", "dpu-1") != child_name(long + "b", "dpu-1")
    assert len(child_name(long, "dpu-1")) == 63
    assert "-." not in child_name("a" * 51 + "." + "b" * 20, "n")
