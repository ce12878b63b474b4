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
from dpuchain.chain.project import chain_set_of, interface_set_of, is_ours, owner_conflict, selects

SWITCHES = {"switches": [{"ports": [{"serviceInterface": {"matchLabels": {"uplink": "p0"}}}], "serviceMTU": 2000}]}
SET = {"nodeSelector": {"matchLabels": {"rack": "1"}}, "template": {"metadata": {"labels": {"inner": "x"}}, "spec": SWITCHES}}
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
    made = chain_set_of(chain())
    assert msgspec.json.decode(msgspec.json.encode(made)) == {
        "metadata": {
            "name": "example",
            "namespace": "dpf",
            "labels": {"outer": "y", names.OWNER_KIND_LABEL: "DPUServiceChain", names.OWNER_UID_LABEL: "u-1"},
            "annotations": {"note": "z"},
            "finalizers": ["dpu.nvidia.com/servicechainset"],
        },
        "spec": SET,
    }


def test_an_interface_becomes_a_set_in_the_same_way() -> None:
    block = {"interfaceType": "physical", "physical": {"interfaceName": "p0"}}
    inner = {"template": {"metadata": {"labels": {"uplink": "p0"}}, "spec": block}}
    item = msgspec.convert({"metadata": METADATA, "spec": {"template": {"spec": inner}}}, DPUServiceInterface)
    made = interface_set_of(item)
    assert msgspec.json.decode(msgspec.json.encode(made.spec)) == inner
    assert made.metadata.finalizers == ("dpu.nvidia.com/serviceinterfaceset",)
    assert made.metadata.labels == {names.OWNER_KIND_LABEL: "DPUServiceInterface", names.OWNER_UID_LABEL: "u-1"}


def test_the_template_cannot_take_the_owner_away() -> None:
    template = {"metadata": {"labels": {names.OWNER_UID_LABEL: "forged"}}, "spec": SET}
    item = msgspec.convert({"metadata": METADATA, "spec": {"template": template}}, DPUServiceChain)
    assert is_ours(chain_set_of(item), "u-1")


EAST, WEST = {"matchLabels": {"zone": "east"}}, {"matchLabels": {"zone": "west"}}


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
    assert [selects(chain(**spec).spec, cluster(zone=zone)) for zone in ("east", "west")] == chosen


def test_a_cluster_that_is_being_deleted_gets_nothing() -> None:
    leaving = msgspec.structs.replace(cluster(), metadata=msgspec.structs.replace(cluster().metadata, deletion_timestamp=datetime.now(UTC)))
    assert not selects(chain().spec, leaving)


def test_a_set_is_written_over_nothing_over_ours_and_over_dpfs() -> None:
    wanted = chain_set_of(chain())
    assert owner_conflict(None, wanted) is None
    assert owner_conflict(existing({names.OWNER_UID_LABEL: "u-1"}), wanted) is None
    assert owner_conflict(existing({}, ("dpu.nvidia.com/servicechainset",)), wanted) is None


def test_a_set_of_somebody_else_is_left_alone_and_named() -> None:
    wanted = chain_set_of(chain())
    assert owner_conflict(existing({"a": "b"}), wanted) == (
        "dpf/example exists already and was made by somebody else, by hand or by another controller; delete or rename it"
    )
    theirs = {names.OWNER_UID_LABEL: "u-2", names.OWNER_KIND_LABEL: "DPUServiceChain"}
    assert owner_conflict(existing(theirs, ("dpu.nvidia.com/servicechainset",)), wanted) == (
        "dpf/example exists already and was made by DPUServiceChain with uid u-2; delete or rename it"
    )
    assert not is_ours(existing(theirs), "u-1")
