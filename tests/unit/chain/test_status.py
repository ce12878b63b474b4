"""What is said of an object, given what is below it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from dpuchain.api import names
from dpuchain.api.chain import ServiceChain
from dpuchain.api.conditions import Finding
from dpuchain.api.meta import Condition, ObjectKey
from dpuchain.chain import status
from dpuchain.chain.status import InCluster, Standing, Tally, Unready

START = datetime(2026, 1, 1, tzinfo=UTC)
PORTS = [{"serviceInterface": {"matchLabels": {"uplink": "p0"}}}]


def item(name: str = "x", generation: int = 3) -> ServiceChain:
    metadata = {"name": name, "namespace": "ns", "generation": generation}
    return msgspec.convert({"metadata": metadata, "spec": {"switches": [{"ports": PORTS}]}}, ServiceChain)


def condition(kind: str, state: Any, message: str = "", generation: int = 3, reason: str = "R") -> Condition:
    return Condition(type=kind, status=state, reason=reason, message=message, observed_generation=generation, last_transition_time=START)


def ready(findings: tuple[Finding, ...]) -> Finding:
    (first,) = [finding for finding in findings if finding.type == "Ready"]
    return first


def test_ready_if_all_is_well() -> None:
    assert status.with_ready([status.good("A"), status.good("B", "note")]) == (
        Finding("Ready", "True", "Success"),
        Finding("A", "True", "Success"),
        Finding("B", "True", "Success", "note"),
    )


def test_ready_names_what_fails_and_why() -> None:
    found = ready(status.with_ready([status.error("A", "no port"), status.good("B"), status.pending("C", "")]))
    assert found == Finding("Ready", "False", "Pending", "The following conditions are not ready:\n* A\n* C\nError occurred: no port")


@pytest.mark.parametrize(
    ("reasons", "gravest"),
    [
        ((names.ERROR,), names.PENDING),
        ((names.RETRYING, names.PENDING), names.PENDING),
        ((names.PENDING, names.FAILURE, names.ERROR), names.FAILURE),
        ((names.FAILURE, names.AWAITING_DELETION), names.AWAITING_DELETION),
    ],
)
def test_the_gravest_reason_counts(reasons: tuple[str, ...], gravest: str) -> None:
    findings = [Finding(f"C{number}", "False", reason) for number, reason in enumerate(reasons)]
    assert ready(status.with_ready(findings)).reason == gravest


def test_of_a_node_object() -> None:
    assert status.interface_findings(None)[1] == Finding(names.INTERFACE_RECONCILED, "True", "Success")
    assert status.interface_findings("no p0")[1] == Finding(names.INTERFACE_RECONCILED, "False", "Error", "Error occurred: no p0")
    assert status.chain_findings([], None)[1] == Finding(names.CHAIN_RECONCILED, "True", "Success")
    assert status.chain_findings(["a", "b"], "2 flows are missing")[1] == Finding(
        names.CHAIN_RECONCILED, "False", "Error", "Error occurred: a\nb\n2 flows are missing"
    )
    assert ready(status.chain_findings([], "2 flows are missing")).status == "False"


def test_a_list_of_what_is_not_ready_is_ordered_indented_and_ends() -> None:
    entries = [Unready((f"Object: ns/{number:02}", "Node: n"), "first\nsecond") for number in reversed(range(12))]
    lines = status.describe_unready("Objects are not ready:", entries).splitlines()
    assert lines[:6] == ["Objects are not ready:", "* Object: ns/00", "  Node: n", "  first", "  second", "* Object: ns/01"]
    assert lines[-1] == "* and 2 more"
    assert sum(line.startswith("* Object") for line in lines) == 10
    assert status.describe_unready("h", entries) == status.describe_unready("h", list(reversed(entries)))


def test_cause() -> None:
    reconciled = names.CHAIN_RECONCILED
    assert status.cause_of(item(), []) == "nothing has been reported of it yet"
    assert status.cause_of(item(), [condition("Ready", "True", generation=2)]) == "Reconciliation is in progress"
    assert status.cause_of(item(), [condition("Ready", "True")]) is None
    failing = [condition("Ready", "False", "sum"), condition(reconciled, "False", "Error occurred: no port"), condition("B", "True", "x")]
    assert status.cause_of(item(), failing) == "no port"
    assert status.cause_of(item(), [condition("Ready", "False", "sum")]) == "sum"
    assert status.cause_of(item(), [condition("Ready", "Unknown", reason="Pending")]) == "Pending"
    nested = [condition("Ready", "False"), condition("A", "False", "Objects are not ready:\n* Object: ns/a")]
    assert status.cause_of(item(), nested) == "* Object: ns/a"


def child(name: str, state: Any = "True", *, live: bool = True, up_to_date: bool = True) -> Standing:
    conditions = [condition("Ready", state, "broken" if state == "False" else "")]
    there = item(name) if live else None
    return status.standing(item(name), f"node-{name}", there, conditions if live else [], up_to_date=up_to_date)


def of_set(*children: Standing, surplus: int = 0, **about: Any) -> status.SetSummary:
    unready = [child for child in children if child.cause is not None]
    first = sorted(unready, key=lambda child: child.item)[: status.LISTED]
    tally = Tally(len(children), sum(child.applied for child in children), surplus, len(unready), first)
    return status.summarize_set(names.CHAINS_RECONCILED, names.CHAINS_READY, tally, **about)


def test_a_set_that_is_ready() -> None:
    summary = of_set(child("a"), child("b"))
    assert (summary.number_applied, summary.number_ready) == (2, 2)
    assert [finding.status for finding in summary.findings] == ["True"] * 3


def test_a_set_for_no_node_is_ready_and_says_so() -> None:
    summary = of_set()
    assert (summary.number_applied, summary.number_ready) == (0, 0)
    assert ready(summary.findings).status == "True"
    assert summary.findings[1].message == "no node is selected"


def test_a_set_counts_what_is_true() -> None:
    summary = of_set(child("a"), child("b", "False"), child("c", live=False, up_to_date=False), child("d", up_to_date=False), surplus=3)
    assert (summary.number_applied, summary.number_ready) == (2, 1)
    assert summary.findings[1] == Finding(
        names.CHAINS_RECONCILED, "False", "Pending", "2 objects are still to be written and 3 to be deleted"
    )
    assert summary.findings[2].message.splitlines() == [
        "Objects are not ready:",
        "* Object: ns/b",
        "  Node: node-b",
        "  broken",
        "* Object: ns/c",
        "  Node: node-c",
        "  not created yet",
        "* Object: ns/d",
        "  Node: node-d",
        "  Reconciliation is in progress",
    ]


def test_a_child_that_is_on_its_way_out_is_not_there_and_says_what_it_waits_for() -> None:
    leaving = replace(item("a"), metadata=replace(item("a").metadata, deletion_timestamp=datetime.now(UTC)))
    found = status.standing(item("a"), "node-a", leaving, [condition("Ready", "True")], up_to_date=True)
    assert not found.applied
    assert found.cause == f"is being deleted, and made again when it is gone; {status.ON_AGENT}"


def test_a_set_with_too_many_children_is_not_reconciled() -> None:
    assert ready(of_set(child("a"), surplus=1).findings).status == "False"


def test_a_set_that_cannot_work_says_why() -> None:
    summary = of_set(child("a"), problem="selector is wrong")
    assert summary.findings[1] == Finding(names.CHAINS_RECONCILED, "False", "Error", "Error occurred: selector is wrong")
    assert ready(summary.findings).status == "False"


def in_cluster(name: str, error: str | None = None, cause: str | None = None, *, up_to_date: bool = True) -> InCluster:
    return InCluster(ObjectKey("dpf", name), ObjectKey("ns", "x"), error, cause, up_to_date)


def of_clusters(*clusters: InCluster, stale: tuple[str, ...] = (), problem: str | None = None) -> tuple[Finding, ...]:
    return status.summarize_clusters("Rec", "Rdy", clusters, [ObjectKey("dpf", name) for name in stale], problem)


def test_all_clusters_are_ready() -> None:
    assert [finding.status for finding in of_clusters(in_cluster("a"), in_cluster("b"))] == ["True"] * 3


def test_no_cluster_is_selected() -> None:
    _, reconciled, second = of_clusters()
    assert reconciled == Finding("Rec", "False", "Pending", "no DPUCluster is selected: create one, or change spec.dpuClusterSelector")
    assert second == Finding("Rdy", "False", "Pending", "Rec is not True")


def test_a_cluster_that_cannot_be_written() -> None:
    _, reconciled, second = of_clusters(in_cluster("a", error="connection refused"), in_cluster("b"))
    assert reconciled == Finding(
        "Rec", "False", "Error", "Error occurred: not written to all DPU clusters:\n* Cluster: dpf/a\n  connection refused"
    )
    assert second.message == "Objects are not ready:\n* Cluster: dpf/a\n  Object: ns/x\n  connection refused"


def test_a_cluster_whose_set_is_not_ready() -> None:
    _, reconciled, second = of_clusters(in_cluster("a", cause="* Object: ns/y\n  no port"), in_cluster("b"))
    assert reconciled.status == "True"
    assert second == Finding(
        "Rdy", "False", "Pending", "Objects are not ready:\n* Cluster: dpf/a\n  Object: ns/x\n  * Object: ns/y\n    no port"
    )


def test_a_set_is_still_where_it_should_not_be() -> None:
    _, reconciled, _ = of_clusters(in_cluster("a"), stale=("old",))
    assert reconciled == Finding(
        "Rec", "False", "Pending", "Stale objects still exist across non matching DPUClusters:\n* Cluster: dpf/old"
    )


def test_a_change_is_on_its_way() -> None:
    _, reconciled, _ = of_clusters(in_cluster("a", up_to_date=False))
    assert reconciled == Finding("Rec", "False", "Pending", "Reconciliation is in progress")


def test_an_object_that_cannot_work_anywhere() -> None:
    _, reconciled, second = of_clusters(in_cluster("a"), problem="MTU 9000 can't be bigger than the high speed MTU 1500")
    assert reconciled.message == "Error occurred: MTU 9000 can't be bigger than the high speed MTU 1500"
    assert second.message == "Rec is not True"


def test_an_object_that_is_being_deleted() -> None:
    findings = status.awaiting(["Rec", "Rdy"], [Unready(("Cluster: dpf/a", "Object: ns/x"), "")])
    message = "1 objects still exist across all DPU clusters\n* Cluster: dpf/a\n  Object: ns/x"
    assert findings[1:] == tuple(Finding(kind, "False", "AwaitingDeletion", message) for kind in ("Rec", "Rdy"))
    assert ready(findings).reason == "AwaitingDeletion"
