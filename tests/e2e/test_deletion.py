"""In whatever order the example is deleted, nothing of it is left: no object in any cluster, no port and no flow on a DPU."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.conftest import EXAMPLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Rack

KINDS = ("dpuserviceinterfaces", "dpuservices", "dpuservicechains")
HELD = "example.org/provisioning"
"""A finalizer such as the one by which DPF's provisioning keeps a DPUCluster until what runs there is gone."""


@pytest.fixture
def before(rack: Rack) -> dict[str, Any]:
    """The rack before anybody applied anything."""
    return rack.snapshot()


@pytest.fixture
def example(rack: Rack, before: dict[str, Any], pytestconfig: pytest.Config) -> Iterator[dict[str, Any]]:
    """The example, Ready; gives the rack before, and takes away what a test that failed left."""
    manifest = ("--filename", str(pytestconfig.rootpath / EXAMPLE))
    rack.ok("host", "apply", *manifest)
    rack.ok("host", "wait", "--for=condition=Ready", *manifest, "--timeout=90s")
    yield before
    rack.ok("host", "delete", *manifest, "--ignore-not-found", "--timeout=120s")


def gone(rack: Rack, kind: str) -> None:
    rack.ok("host", "wait", "--for=delete", kind, "--all", "--timeout=90s")


def as_before(rack: Rack, before: dict[str, Any]) -> None:
    """Everything is as it was, as soon as the pods have ended."""
    rack.ok("cluster-1", "wait", "--for=delete", "pod", "--all", "--timeout=60s")
    assert rack.snapshot() == before


@pytest.mark.parametrize(
    "order", [KINDS, tuple(reversed(KINDS)), ("dpuservices", "dpuservicechains", "dpuserviceinterfaces")], ids=lambda order: str(order[0])
)
def test_nothing_is_left_one_kind_after_the_other(rack: Rack, example: dict[str, Any], order: tuple[str, ...]) -> None:
    for kind in order:
        rack.ok("host", "delete", kind, "--all", "--wait=false")
        gone(rack, kind)
    as_before(rack, example)


def test_nothing_is_left_when_all_goes_at_once(rack: Rack, example: dict[str, Any]) -> None:
    rack.ok("host", "delete", ",".join(KINDS), "--all", "--wait=false")
    for kind in KINDS:
        gone(rack, kind)
    as_before(rack, example)


@pytest.fixture
def cluster(rack: Rack) -> Iterator[str]:
    """The rack's DPUCluster, which is there again afterwards."""
    item = rack.items("host", "dpuclusters")[0]
    name = str(item["metadata"]["name"])
    keep = {key: item[key] for key in ("apiVersion", "kind", "spec")}
    path = rack.directory / "cluster.json"
    path.write_text(json.dumps({**keep, "metadata": {"name": name, "namespace": item["metadata"]["namespace"]}}))
    yield name
    release(rack, name)
    rack.ok("host", "delete", f"dpucluster/{name}", "--ignore-not-found", "--timeout=60s")
    rack.ok("host", "apply", "--filename", str(path))


def release(rack: Rack, cluster: str) -> None:
    """Let a DPUCluster go that is being deleted, as its provisioning does; nothing if it is gone."""
    rack.kubectl("host", "patch", f"dpucluster/{cluster}", "--type=merge", '--patch={"metadata":{"finalizers":null}}')


def below(rack: Rack) -> list[Any]:
    """Everything that was made in the DPU cluster."""
    kinds = ("serviceinterfacesets", "servicechainsets", "serviceinterfaces", "servicechains", "daemonsets")
    return [item["metadata"]["name"] for kind in kinds for item in rack.items("cluster-1", kind)]


def test_nothing_is_left_when_the_dpu_cluster_goes_first(rack: Rack, example: dict[str, Any], cluster: str) -> None:
    rack.ok("host", "patch", f"dpucluster/{cluster}", "--type=merge", f'--patch={{"metadata":{{"finalizers":["{HELD}"]}}}}')
    rack.ok("host", "delete", f"dpucluster/{cluster}", "--wait=false")
    rack.until(lambda: below(rack) == [], "emptied, while its provisioning holds it", 90)
    release(rack, cluster)
    rack.ok("host", "wait", "--for=delete", f"dpucluster/{cluster}", "--timeout=60s")
    for kind in KINDS:
        rack.ok("host", "delete", kind, "--all", "--wait=false")
        gone(rack, kind)
    as_before(rack, example)


def test_objects_do_not_wait_for_a_dpu_cluster_that_was_deleted(rack: Rack, example: dict[str, Any], cluster: str) -> None:
    """Nobody can reach into a cluster that is gone; one of the same name that comes takes up what is in it, and ends it too."""
    rack.ok("host", "delete", f"dpucluster/{cluster}", "--timeout=60s")
    (chain,) = rack.items("cluster-1", "servicechainsets")
    rack.ok("host", "apply", "--filename", str(rack.directory / "cluster.json"))
    rack.ok("host", "wait", "--for=condition=Ready", ",".join(KINDS), "--all", "--timeout=60s")
    (again,) = rack.items("cluster-1", "servicechainsets")
    assert again["metadata"]["uid"] == chain["metadata"]["uid"]
    rack.ok("host", "delete", ",".join(KINDS), "--all", "--timeout=120s")
    as_before(rack, example)
