"""What is done about our own release in a DPU cluster, and what never is."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from dpuchain.api.fleet import DPUCluster, DPUClusterSpec
from dpuchain.api.meta import ObjectMeta
from dpuchain.api.names import INSTALL_ANNOTATION
from dpuchain.chain.installation import Package, Standing, decide

US, OTHER = "us", "another"
CLUSTER = DPUCluster(metadata=ObjectMeta(name="north", namespace="dpf"), spec=DPUClusterSpec(type="static", version="v1.34.0"))
OPTED_OUT = replace(CLUSTER, metadata=replace(CLUSTER.metadata, annotations={INSTALL_ANNOTATION: "false"}))
WANTED = Package("/charts/dpuchain-dpu", "1.2.0", "digest", {})


def standing(**fields: Any) -> Standing:
    """The release as we installed it, but for some fields."""
    return Standing(
        **{"revision": 4, "status": "deployed", "host": US, "version": "1.2.0", "digest": "digest", "made_by_us": True, **fields}
    )


@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [
        (None, "Installed", "chart dpuchain-dpu 1.2.0"),
        (standing(version="1.1.9", digest="old"), "Upgraded", "1.1.9 to 1.2.0"),
        (standing(version="1.10.0", digest="new"), "RolledBack", "1.10.0 to 1.2.0"),
        (standing(version="1.2.0-rc.1", digest="old"), "Upgraded", "1.2.0-rc.1 to 1.2.0"),
        (standing(version="what", digest="old"), "Upgraded", "what to 1.2.0"),
        (standing(version="1.2.0+build", digest="old"), "Upgraded", "1.2.0+build to 1.2.0"),
        (standing(digest="other"), "Upgraded", "1.2.0, with other values"),
        (standing(status="failed"), "Upgraded", "it was failed"),
        (standing(made_by_us=False), "Upgraded", "somebody changed it"),
        (standing(revision=1, status="pending-install"), "Installed", "cut off"),
        (standing(status="pending-upgrade", version="1.1.0", digest="old"), "Upgraded", "1.1.0 to 1.2.0"),
    ],
)
def test_release_is_brought_to_what_the_controller_has(found: Standing | None, reason: str, words: str) -> None:
    decision = decide(CLUSTER, WANTED, found, US)
    assert decision is not None
    assert decision.run
    assert decision.reason == reason
    assert words in decision.message
    assert decision.interrupted == (found is not None and found.status.startswith("pending"))


def test_nothing_is_done_where_it_is_so_already() -> None:
    assert decide(CLUSTER, WANTED, standing(), US) is None


@pytest.mark.parametrize(
    ("cluster", "found", "words"),
    [
        (CLUSTER, standing(host=""), "made by somebody else"),
        (CLUSTER, standing(host="", status="failed"), "made by somebody else"),
        (CLUSTER, standing(host=OTHER, version="0.1.0", digest="old"), "made by another host cluster"),
        (CLUSTER, standing(status="pending-rollback", made_by_us=False), "somebody else's Helm works on"),
        (OPTED_OUT, None, "is yours to install"),
        (OPTED_OUT, standing(version="1.1.0", digest="old"), "left as it is"),
    ],
)
def test_what_is_not_ours_is_told_and_not_touched(cluster: DPUCluster, found: Standing | None, words: str) -> None:
    decision = decide(cluster, WANTED, found, US)
    assert decision is not None
    assert not decision.run
    assert decision.reason == "NotInstalled"
    assert words in decision.message
