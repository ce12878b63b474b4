"""From objects of the host cluster to sets in DPU clusters."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from dpuchain.api import names
from dpuchain.api.chain import DPUServiceChain, ServiceChainSet
from dpuchain.api.fleet import DPUCluster
from dpuchain.api.interface import DPUServiceInterface
from dpuchain.api.service import DPUService
from dpuchain.chain.project import chain_set_of, cluster_selector, concerns, interface_set_of, is_from, is_ours, owner_conflict, selects

SWITCHES = {"switches": [{"ports": [{"serviceInterface": {"matchLabels": {"uplink": "p0"}}}], "serviceMTU": 2000}]}
SET = {"nodeSelector": {"matchLabels": {"rack": "1"}}, "template": {"metadata": {"labels": {"inner": "x"}}, "spec": SWITCHES}}
HOST = "h-1"
OWNER = {names.OWNER_KIND_LABEL: "DPUServiceChain", names.OWNER_UID_LABEL: "u-1", names.HOST_LABEL: HOST}
EAST, WEST = {"matchLabels": {"zone": "east"}}, {"matchLabels": {"zone": "west"}}
METADATA = {"name": "example", "namespace": "dpf", "uid": "u-1", "labels": {"mine": "stays"}}


def chain(**spec: Any) -> DPUServiceChain:
    template = {"metadata": {"labels": {"outer": "y"}, "annotations": {"note": "z"}}, "spec": SET}
    return msgspec.convert({"metadata": METADATA, "spec": {"template": template, **spec}}, DPUServiceChain)


def cluster(**labels: str) -> DPUCluster:
    return msgspec.convert({"metadata": {"name": "c", "labels": labels}, "spec": {"type": "static", "version": "1"}}, DPUCluster)


def existing(labels: dict[str, str], finalizers: tuple[str, ...] = ()) -> ServiceChainSet:
    metadata = {"name": "example", "namespace": "dpf", "labels": labels, "finalizers": finalizers}
    return msgspec.convert({"metadata": metadata, "spec": SET}, ServiceChainSet)


def test_the_set_has_the_name_the_spec_and_the_templates_metadata_and_says_whose_it_is() -> None:
    made = chain_set_of(chain(), HOST)
    assert msgspec.json.decode(msgspec.json.encode(made)) == {
        "metadata": {
            "name": "example",
            "namespace": "dpf",
            "labels": {"outer": "y", **OWNER},
            "annotations": {"note": "z", names.TEMPLATE_DIGEST_ANNOTATION: made.metadata.annotations[names.TEMPLATE_DIGEST_ANNOTATION]},
            "finalizers": ["dpu.nvidia.com/servicechainset"],
        },
        "spec": SET,
    }


def test_an_interface_becomes_a_set_in_the_same_way() -> None:
    block = {"interfaceType": "physical", "physical": {"interfaceName": "p0"}}
    inner = {"template": {"metadata": {"labels": {"uplink": "p0"}}, "spec": block}}
    item = msgspec.convert({"metadata": METADATA, "spec": {"template": {"spec": inner}}}, DPUServiceInterface)
    made = interface_set_of(item, HOST)
    assert msgspec.json.decode(msgspec.json.encode(made.spec)) == inner
    assert made.metadata.finalizers == ("dpu.nvidia.com/serviceinterfaceset",)
    assert made.metadata.labels == {**OWNER, names.OWNER_KIND_LABEL: "DPUServiceInterface"}


def test_the_template_cannot_take_the_owner_away() -> None:
    template = {"metadata": {"labels": {names.OWNER_UID_LABEL: "forged"}}, "spec": SET}
    item = msgspec.convert({"metadata": METADATA, "spec": {"template": template}}, DPUServiceChain)
    assert is_ours(chain_set_of(item, HOST), chain_set_of(chain(), HOST))


@pytest.mark.parametrize(
    ("spec", "chosen"),
    [
        ({}, [True, True]),
        ({"dpuClusterSelector": EAST}, [True, False]),
        ({"clusterSelector": EAST}, [True, False]),
        ({"clusterSelector": EAST, "dpuClusterSelector": WEST}, [False, True]),
        ({"clusterSelector": EAST, "dpuClusterSelector": {}}, [True, True]),
    ],
)
def test_which_clusters_are_selected(spec: dict[str, Any], chosen: list[bool]) -> None:
    assert [selects(cluster_selector(chain(**spec).spec), cluster(zone=zone)) for zone in ("east", "west")] == chosen


def test_a_cluster_that_is_being_deleted_gets_nothing() -> None:
    leaving = msgspec.structs.replace(cluster(), metadata=msgspec.structs.replace(cluster().metadata, deletion_timestamp=datetime.now(UTC)))
    assert not selects(None, leaving)


def test_a_set_is_written_over_nothing_over_ours_and_over_dpfs() -> None:
    wanted = chain_set_of(chain(), HOST)
    assert owner_conflict(None, wanted) is None
    assert owner_conflict(existing({names.OWNER_UID_LABEL: "u-1"}), wanted) is None
    assert owner_conflict(existing({}, ("dpu.nvidia.com/servicechainset",)), wanted) is None


def test_a_set_of_somebody_else_is_left_alone_and_named() -> None:
    wanted = chain_set_of(chain(), HOST)
    assert owner_conflict(existing({"a": "b"}), wanted) == (
        "dpf/example exists already and was made by somebody else, by hand or by another controller; delete or rename it"
    )
    theirs = {names.OWNER_UID_LABEL: "u-2", names.OWNER_KIND_LABEL: "DPUServiceChain", names.HOST_LABEL: "h-2"}
    assert owner_conflict(existing(theirs, ("dpu.nvidia.com/servicechainset",)), wanted) == (
        "dpf/example exists already and was made by DPUServiceChain with uid u-2 of host cluster h-2; delete or rename it"
    )
    assert not is_ours(existing(theirs), wanted)
    assert not is_from(existing(theirs), HOST)


def test_a_set_that_an_earlier_object_of_the_same_name_left_is_taken_over() -> None:
    wanted = chain_set_of(chain(), HOST)
    left = existing({**OWNER, names.OWNER_UID_LABEL: "u-0"})
    assert is_ours(left, wanted)
    assert owner_conflict(left, wanted) is None
    assert is_from(left, HOST)


def test_what_the_template_no_longer_has_is_told_by_the_digest() -> None:
    def digest(labels: dict[str, str]) -> str:
        template = {"metadata": {"labels": labels}, "spec": SET}
        item = msgspec.convert({"metadata": METADATA, "spec": {"template": template}}, DPUServiceChain)
        return chain_set_of(item, HOST).metadata.annotations[names.TEMPLATE_DIGEST_ANNOTATION]

    assert digest({"a": "1", "b": "2"}) == digest({"b": "2", "a": "1"}) != digest({"a": "1"})


def service(**spec: Any) -> DPUService:
    source = {"repoURL": "https://charts.example", "version": "1", "chart": "c"}
    return msgspec.convert({"metadata": METADATA, "spec": {"helmChart": {"source": source}, **spec}}, DPUService)


@pytest.mark.parametrize(
    ("item", "before", "after", "expected"),
    [
        (chain(), None, cluster(), True),
        (chain(), cluster(), None, True),
        (chain(), cluster(zone="east"), cluster(zone="west"), False),
        (chain(dpuClusterSelector=EAST), cluster(zone="east"), cluster(zone="west"), True),
        (chain(dpuClusterSelector=EAST), cluster(zone="west"), cluster(zone="east"), True),
        (chain(dpuClusterSelector=EAST), None, cluster(zone="west"), False),
        (chain(dpuClusterSelector=EAST), cluster(zone="west"), None, False),
        (service(dpuClusterSelector=EAST), cluster(zone="west"), cluster(zone="north"), False),
        (service(dpuClusterSelector=EAST), cluster(zone="west"), cluster(zone="east"), True),
    ],
)
def test_whom_a_change_of_a_cluster_concerns(item: Any, before: DPUCluster | None, after: DPUCluster | None, *, expected: bool) -> None:
    assert concerns(item, before, after) is expected


def test_whom_it_concerns_that_a_cluster_fails_or_recovers() -> None:
    east, west = cluster(zone="east"), cluster(zone="west")
    assert concerns(chain(dpuClusterSelector=EAST), east, east)
    assert not concerns(chain(dpuClusterSelector=EAST), west, west)
    assert concerns(service(dpuClusterSelector=EAST), west, west)
    leaving = msgspec.structs.replace(chain().metadata, deletion_timestamp=datetime.now(UTC))
    assert concerns(msgspec.structs.replace(chain(dpuClusterSelector=EAST), metadata=leaving), west, west)
