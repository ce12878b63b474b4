"""Which pods a change of serviceMTU restarts, where next, when it stops, and what is said of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from dpuchain.api.chain import ServiceChain, ServiceChainSet
from dpuchain.api.kubernetes import Pod
from dpuchain.api.meta import ObjectKey
from dpuchain.api.names import MAX_UNAVAILABLE_ANNOTATION, RESTARTING_ANNOTATION
from dpuchain.chain.mtu import Claim, PodInterface
from dpuchain.chain.restarts import NOT_OUR_TURN, Circumstances, Limit, Place, finding, limit_of, look, next_deadline, plan, wired_mtus

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
BEGAN = "2026-01-01T11:59:00Z"
PATIENCE = timedelta(minutes=10)
FW = PodInterface("ns", "fw", "eth1")


def chain(node: str, *, began: str | None = None, ready: bool = False, observed: bool = True, message: str = "not yet") -> ServiceChain:
    condition = {
        "type": "Ready",
        "status": "True" if ready else "False",
        "reason": "r",
        "message": "" if ready else message,
        "observedGeneration": 2 if observed else 1,
        "lastTransitionTime": NOW,
    }
    metadata = {"name": f"c-{node}", "namespace": "ns", "generation": 2, "annotations": {RESTARTING_ANNOTATION: began} if began else {}}
    switches = [{"ports": [{"serviceInterface": {"matchLabels": {"a": "b"}}}], "serviceMTU": 2000}]
    content = {"metadata": metadata, "spec": {"node": node, "switches": switches}, "status": {"conditions": [condition]}}
    return msgspec.convert(content, ServiceChain)


def pod(name: str, mtu: int | None = 1500, *, service: str = "fw", ready: bool = True, leaving: bool = False, **more: Any) -> Pod:
    networks = [{"name": "default", "interface": "eth0"}, {"interface": "eth1", **({"mtu": mtu} if mtu else {})}]
    metadata = {
        "name": name,
        "namespace": more.get("namespace", "ns"),
        "uid": f"uid-{name}",
        "labels": {"svc.dpu.nvidia.com/service": service},
        "annotations": {"k8s.v1.cni.cncf.io/network-status": json.dumps(networks)} if more.get("wired", True) else {},
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "d", "controller": more.get("owned", True)}],
        **({"deletionTimestamp": NOW} if leaving else {}),
    }
    conditions = [{"type": "Ready", "status": str(ready)}]
    return msgspec.convert({"metadata": metadata, "status": {"phase": more.get("phase", "Running"), "conditions": conditions}}, Pod)


def at(node: str, *pods: Pod, mtu: int = 2000, evicted: tuple[str, ...] = (), **about: Any) -> Place:
    claims = {FW: Claim(ObjectKey("ns", f"c-{node}"), mtu), PodInterface("ns", "lb", "eth1"): Claim(ObjectKey("ns", "other"), 9000)}
    return look(chain(node, **about), claims, pods, evicted)


def about(limit: int = 1, busy: tuple[str, ...] = (), later: timedelta = timedelta(0), **more: Any) -> Circumstances:
    return Circumstances(frozenset(busy), limit, NOW + later, PATIENCE, **more)


def steps(*places: Place, limit: int = 1, busy: tuple[str, ...] = (), later: timedelta = timedelta(0)) -> tuple[list[str], ...]:
    """Nodes begun, pods evicted, nodes ended. A place that is marked is busy."""
    marked = (*busy, *(place.node for place in places if place.since is not None))
    result = plan(places, about(limit, marked, later))
    return (
        [item.spec.node or "" for item in result.begin],
        [item.metadata.name for item in result.evict],
        [item.spec.node or "" for item in result.end],
    )


@pytest.mark.parametrize(
    ("text", "of_1", "of_25", "of_0"), [("1", 1, 1, 1), ("0", 0, 0, 0), ("10%", 1, 3, 0), ("100%", 1, 25, 0), (" 3 ", 3, 3, 3)]
)
def test_limit_is_a_number_or_a_share_rounded_up(text: str, of_1: int, of_25: int, of_0: int) -> None:
    assert [Limit.parse(text).of(nodes) for nodes in (1, 25, 0)] == [of_1, of_25, of_0]


@pytest.mark.parametrize("text", ["", "many", "-1", "101%", "1.5", "%", "²"])
def test_limit_that_is_none_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="neither a number of nodes such as 1 nor a share such as 10%"):
        Limit.parse(text)


def annotated(outer: str | None, inner: str | None) -> ServiceChainSet:
    def metadata(text: str | None) -> dict[str, Any]:
        return {"annotations": {MAX_UNAVAILABLE_ANNOTATION: text}} if text is not None else {}

    switches = [{"ports": [{"serviceInterface": {"matchLabels": {"a": "b"}}}]}]
    template = {"metadata": metadata(inner), "spec": {"switches": switches}}
    return msgspec.convert({"metadata": metadata(outer), "spec": {"template": template}}, ServiceChainSet)


def test_the_annotation_of_the_set_wins_over_its_templates_and_the_setting() -> None:
    assert limit_of(annotated("2", "3"), Limit(1)) == (Limit(2), None)
    assert limit_of(annotated(None, "3%"), Limit(1)) == (Limit(3, percent=True), None)
    assert limit_of(annotated(None, None), Limit(1)) == (Limit(1), None)
    limit, problem = limit_of(annotated("all", "3"), Limit(1))
    assert limit == Limit(1)
    assert problem is not None
    assert "'all'" in problem


def test_pods_with_an_interface_on_the_switch_are_outdated_by_their_mtu_and_no_other() -> None:
    place = at(
        "n",
        pod("old"),
        pod("right", 2000),
        pod("others", service="lb"),
        pod("elsewhere", namespace="other"),
        pod("done", phase="Succeeded"),
        pod("leaving", leaving=True),
        pod("not-wired-yet", wired=False, ready=False),
        pod("untold", None),
    )
    assert [item.metadata.name for item in place.outdated] == ["old"]
    assert [item.metadata.name for item in place.untold] == ["untold"]
    assert {item.metadata.name for item in place.pods} == {"old", "right", "leaving", "not-wired-yet", "untold"}


def test_a_change_that_leaves_the_mtu_restarts_nothing() -> None:
    assert steps(at("a", pod("p", 1500), mtu=1500), at("b", pod("q", 1500), mtu=1500), limit=9) == ([], [], [])


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"interface": "eth1"}', '[{"mtu": "x"}]', "[" * 5000])
def test_a_network_status_that_is_none_tells_nothing(text: str) -> None:
    metadata = {"annotations": {"k8s.v1.cni.cncf.io/network-status": text}}
    assert wired_mtus(msgspec.convert({"metadata": metadata}, Pod)) == {}


def test_one_node_after_the_other_is_begun() -> None:
    a, b = at("a", pod("pa")), at("b", pod("pb"))
    assert steps(b, a) == (["a"], ["pa"], [])
    begun = at("a", pod("pa"), began=BEGAN)
    assert steps(begun, b) == ([], ["pa"], []), "died between the mark and the eviction"
    assert steps(at("a", pod("pa", leaving=True), began=BEGAN), b) == ([], [], [])
    assert steps(at("a", pod("pa"), began=BEGAN, evicted=("uid-pa",)), b) == ([], [], []), "the cache does not show the end yet"
    assert steps(at("a", began=BEGAN), b) == ([], [], []), "nothing there yet"
    assert steps(at("a", pod("new", 2000, ready=False), began=BEGAN, ready=True), b) == ([], [], [])
    assert steps(at("a", pod("new", 2000), began=BEGAN), b) == ([], [], []), "the chain is not Ready"
    assert steps(at("a", pod("new", 2000), began=BEGAN, ready=True, observed=False), b) == ([], [], [])
    assert steps(at("a", pod("new", 2000), began=BEGAN, ready=True), b) == ([], [], ["a"])
    assert steps(at("a", pod("new", 2000), ready=True), b) == (["b"], ["pb"], [])


def test_as_many_nodes_as_allowed_are_begun() -> None:
    places = [at(node, pod(f"p{node}")) for node in "abcd"]
    assert steps(*places, limit=3)[0] == ["a", "b", "c"]
    assert steps(*places, limit=3, busy=("x", "y"))[0] == ["a"], "restarts for another set count"
    assert steps(*places, limit=2, busy=("x", "c"))[0] == ["c"], "a node that is without its service anyway costs nothing"
    assert steps(*places, limit=0)[0] == []


def test_nodes_without_their_service_count_and_come_first() -> None:
    sick = at("z", pod("sick", ready=False))
    assert steps(at("a", pod("pa")), sick) == (["z"], ["sick"], [])
    rolling = at("r", pod("old", 2000, leaving=True))
    assert steps(at("a", pod("pa")), rolling) == ([], [], []), "a DaemonSet is at work there"
    assert steps(at("a", pod("pa")), rolling, limit=2)[0] == ["a"]


def test_a_pod_that_changed_its_mind_twice_is_restarted_again() -> None:
    assert steps(at("a", pod("new", 1800, ready=False), began=BEGAN)) == ([], ["new"], [])


def test_nothing_is_begun_where_no_agent_or_no_controller_would_bring_the_pod_back() -> None:
    assert steps(at("a", pod("pa"), observed=False)) == ([], [], [])
    assert steps(at("a", pod("pa", owned=False))) == ([], [], [])
    assert "has no controller that would make it anew" in finding([at("a", pod("pa", owned=False))], about()).message
    assert "agent" in finding([at("a", pod("pa"), observed=False)], about()).message


def test_it_stops_when_a_node_does_not_come_back_and_goes_on_when_it_is_mended() -> None:
    stuck, waiting = at("a", pod("new", 2000, ready=False), began=BEGAN), at("b", pod("pb"))
    assert steps(stuck, waiting, limit=2, later=timedelta(minutes=5))[0] == ["b"]
    assert steps(stuck, waiting, limit=2, later=PATIENCE)[0] == []
    found = finding([stuck, waiting], about(2, later=PATIENCE))
    assert (found.status, found.reason) == ("False", "Failure")
    assert found.message.splitlines() == [
        "0 of 2 pods are Ready and have the MTU of their switch",
        "stopped, as a node has not come back within 10 min; mend it, and the rest goes on by itself:",
        "* Node: a",
        f"  restarting since {BEGAN}: pod ns/new is not Ready; see `kubectl describe pod`",
        "* Node: b",
        "  pod ns/pb waits for its turn",
    ]
    mended = at("a", pod("new", 2000), began=BEGAN, ready=True)
    assert steps(mended, waiting, limit=2, later=PATIENCE) == (["b"], ["pb"], ["a"])


def test_nothing_is_begun_while_it_is_another_clusters_turn() -> None:
    begun, waiting = at("a", pod("pa"), began=BEGAN), at("b", pod("pb"))
    others = about(2, ("a",), turn=False)
    assert [item.metadata.name for item in plan([begun, waiting], others).evict] == ["pa"], "what has begun is carried on"
    assert plan([begun, waiting], others).begin == ()
    assert NOT_OUR_TURN in finding([begun, waiting], others).message
    assert NOT_OUR_TURN not in finding([begun, waiting], about(2, ("a",))).message
    assert NOT_OUR_TURN not in finding([begun], others).message


@pytest.mark.parametrize(
    ("places", "limit", "reason"),
    [
        ([at("a", pod("pa"))], 1, "Pending"),
        ([at("a", pod("pa"))], 0, "Blocked"),
        ([at("a", pod("pa"), began=BEGAN)], 0, "Pending"),
        ([at("a", began=BEGAN)], 1, "Pending"),
        ([at("a", pod("pa"), observed=False)], 1, "Blocked"),
        ([at("a", pod("pa", owned=False))], 1, "Blocked"),
        ([at("a", pod("pa"), observed=False), at("b", pod("pb"))], 1, "Pending"),
        ([at("a", pod("pa")), at("z", pod("sick", 2000, ready=False))], 1, "Pending"),
    ],
)
def test_the_reason_tells_whether_restarts_go_on_or_could_begin(places: list[Place], limit: int, reason: str) -> None:
    assert finding(places, about(limit)).reason == finding(places, about(limit, turn=False)).reason == reason


def test_the_next_deadline_is_that_of_the_oldest_restart() -> None:
    places = [at("a", began=BEGAN), at("b", began="2026-01-01T11:58:00Z"), at("c", pod("p"))]
    assert next_deadline(places, about()) == 8 * 60
    assert next_deadline(places, about(later=timedelta(minutes=8))) == 60
    assert next_deadline(places, about(later=timedelta(hours=1))) is None


def test_a_mark_that_cannot_be_read_holds_everything_up_until_the_node_is_ready() -> None:
    assert steps(at("a", began="yesterday"), at("b", pod("pb")), limit=2)[0] == []
    assert steps(at("a", pod("p", 2000), began="yesterday", ready=True))[2] == ["a"]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (at("a", began=BEGAN), "service fw has no pod there yet"),
        (at("a", pod("p", leaving=True), began=BEGAN), "pod ns/p is being replaced"),
        (at("a", pod("p", 2000), began=BEGAN, message="no port"), "ServiceChain ns/c-a is not Ready: no port"),
        (at("a", pod("p"), began=BEGAN), "refused because"),
        (at("a", pod("q"), began=BEGAN), "pod ns/q is to be evicted"),
    ],
)
def test_where_a_restart_stands_is_told(place: Place, words: str) -> None:
    found = finding([place], about(refused={"uid-p": "refused because"}))
    assert (found.type, found.status, found.reason) == ("ServiceMTUApplied", "False", "Pending")
    assert f"* Node: a\n  restarting since {BEGAN}: {words}" in found.message


def test_progress_is_counted_and_what_is_waited_for_is_named() -> None:
    places = [at("a", pod("pa", 2000), ready=True), at("b", pod("pb")), at("c", pod("pc", 2000, ready=False))]
    lines = finding(places, about()).message.splitlines()
    assert lines[0] == "1 of 3 pods are Ready and have the MTU of their switch"
    assert lines[-1].startswith("waits for node c: pod ns/pc is not Ready; mend it, or allow more nodes by annotation")
    assert "waits for node" not in finding(places, about(2)).message
    assert "nothing is restarted, as maxUnavailable is 0" in finding(places, about(0)).message
    assert "wrong annotation" in finding(places, about(problem="wrong annotation")).message
    many = finding([at(f"n{i:02}", pod(f"p{i}")) for i in range(13)], about()).message
    assert many.count("* Node") == 10
    assert "* and 3 more" in many


def test_all_is_well_when_nothing_is_outdated() -> None:
    assert finding([at("a", pod("p", 2000), ready=True)], about())[1:] == ("True", "Success", "")
    assert finding([at("a", pod("p", 2000), ready=True, began=BEGAN)], about()).status == "True"
    assert finding([at("a", pod("new", 2000, ready=False))], about()).status == "True", "not ready is another condition's matter"


def test_an_mtu_that_is_not_told_is_unknown_unless_the_chain_is_ready() -> None:
    found = finding([at("a", pod("p", None))], about())
    assert found.status == "Unknown"
    assert "give its NetworkAttachmentDefinition cniVersion 1.1.0" in found.message
    assert finding([at("a", pod("p", None), ready=True)], about()).status == "True"
