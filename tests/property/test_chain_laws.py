"""What holds for all sets, nodes, interfaces, chains and selectors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from dpuchain.api.chain import DPUServiceChain, ServiceChain, ServiceChainSet
from dpuchain.api.conditions import Finding
from dpuchain.api.interface import DPUServiceInterface, ServiceInterface
from dpuchain.api.kubernetes import Metadata, Pod
from dpuchain.api.meta import LabelSelector, ObjectMeta, key_of
from dpuchain.api.service import DPUService
from dpuchain.chain import status
from dpuchain.chain.expand import child_name, service_chains
from dpuchain.chain.ports import ObservedPort, Ports, assign, claim_of
from dpuchain.chain.project import chain_set_of, owner_conflict
from dpuchain.chain.release import release_of, unsupported
from dpuchain.chain.resolve import NodeWorld, resolve
from dpuchain.chain.selectors import matches, problem

START = datetime(2026, 1, 1, tzinfo=UTC)
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
NODES = ("dpu-1", "dpu-2", "dpu-3")
NETWORKS = "k8s.v1.cni.cncf.io/networks"

set_names = st.from_regex(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
node_names = st.from_regex(r"[a-z0-9]([-.a-z0-9]{0,80}[a-z0-9])?", fullmatch=True)
ages = st.integers(0, 3)
labels = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz"), max_size=3)
operators = st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"])


def metadata(name: str, age: int, *, deleted: bool = False, **more: Any) -> dict[str, Any]:
    gone = {"deletionTimestamp": START} if deleted else {}
    return {"name": name, "namespace": "ns", "creationTimestamp": START - timedelta(seconds=age), **gone, **more}


def chain_set(name: str = "example") -> ServiceChainSet:
    spec = {"template": {"spec": {"switches": [{"ports": [{"serviceInterface": {"matchLabels": {"uplink": "p0"}}}]}]}}}
    return msgspec.convert({"metadata": metadata(name, 0, uid="u-1"), "spec": spec}, ServiceChainSet)


def nodes(names: tuple[str, ...] = NODES) -> list[Metadata]:
    return [Metadata(metadata=ObjectMeta(name=name)) for name in names]


@st.composite
def children(draw: st.DrawFn) -> list[ServiceChain]:
    """Children that controllers, earlier versions and people left: own and foreign names, on any node, some being deleted."""
    names = [child_name("example", node) for node in NODES] + ["example-x7k2p", "by-hand", "stale"]
    spec = chain_set().spec.template.spec
    return [
        ServiceChain(
            metadata=msgspec.convert(metadata(name, draw(ages), deleted=draw(st.booleans())), ObjectMeta),
            spec=msgspec.structs.replace(spec, node=draw(st.sampled_from([*NODES, "gone", None]))),
        )
        for name in draw(st.lists(st.sampled_from(names), unique=True))
    ]


@given(children(), st.permutations(NODES), st.randoms(use_true_random=False))
def test_expanding_gives_one_child_a_node_and_does_not_depend_on_order(
    existing: list[ServiceChain], order: list[str], chance: st.DataObject
) -> None:
    result = service_chains(chain_set(), nodes(), existing)
    assert [item.spec.node for item in result.wanted] == list(NODES)
    wanted = {key_of(item) for item in result.wanted}
    assert len(wanted) == len(NODES)
    assert wanted.isdisjoint(key_of(item) for item in result.surplus), "nothing is both wanted and too many"
    assert {key_of(item) for item in existing} - wanted == {key_of(item) for item in result.surplus}
    shuffled = list(existing)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis types it as what it draws from
    assert service_chains(chain_set(), nodes(tuple(order)), shuffled) == result


@given(children())
def test_expanding_what_was_expanded_changes_nothing(existing: list[ServiceChain]) -> None:
    first = service_chains(chain_set(), nodes(), existing)
    again = service_chains(chain_set(), nodes(), first.wanted)
    assert again.wanted == first.wanted
    assert again.surplus == ()


@given(st.lists(set_names, min_size=1, max_size=3, unique=True), st.lists(node_names, min_size=1, max_size=5, unique=True))
def test_names_of_children_are_labels_and_never_meet(sets: list[str], on: list[str]) -> None:
    made = [child_name(name, node) for name in sets for node in on]
    assert all(len(name) <= 63 and DNS_LABEL.fullmatch(name) for name in made)
    assert len(set(made)) == len(made)


@given(st.text("ab", min_size=53, max_size=63), st.text("ab", min_size=53, max_size=63), node_names)
def test_long_names_with_the_same_beginning_do_not_meet(first: str, second: str, node: str) -> None:
    assert (child_name("x" * 50 + first[:13], node) == child_name("x" * 50 + second[:13], node)) == (first[:13] == second[:13])


@given(set_names, labels, labels)
def test_projecting_is_a_function_and_agrees_with_itself(name: str, outer: dict[str, str], inner: dict[str, str]) -> None:
    template = {"metadata": {"labels": outer}, "spec": msgspec.to_builtins(chain_set().spec) | {"nodeSelector": {"matchLabels": inner}}}
    content = {"metadata": metadata(name, 0, uid="u-1"), "spec": {"template": template}}
    first, second = (chain_set_of(msgspec.convert(content, DPUServiceChain), "host") for _ in range(2))
    assert first == second
    assert outer.items() <= first.metadata.labels.items()
    assert owner_conflict(first, second) is None


@st.composite
def interfaces(draw: st.DrawFn) -> list[ServiceInterface]:
    found = []
    for number in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from(["physical", "pf", "vf", "service", "vlan", "patch", "ovn"]))
        block: dict[str, Any] = {
            "physical": {"interfaceName": draw(st.sampled_from(["p0", "p1", "pf0hpf"]))},
            "pf": {"pfID": draw(st.integers(0, 1))},
            "vf": {"pfID": 0, "vfID": draw(st.integers(0, 1))},
            "service": {"serviceID": draw(st.sampled_from("st")), "network": "n", "interfaceName": draw(st.sampled_from(["e1", "e2"]))},
            "vlan": {"vlanID": draw(st.sampled_from([1, 2, 5000])), "parentInterfaceRef": draw(st.sampled_from(["i0", "i1", "set"]))},
            "patch": {"peerBridge": draw(st.sampled_from(["br-x", "br-sfc"])), "peerPatchName": draw(st.sampled_from(["x", "y"]))},
            "ovn": {},
        }
        meta = metadata(f"i{number}", draw(ages), deleted=draw(st.integers(0, 5)) == 0, labels=draw(labels))
        found.append(msgspec.convert({"metadata": meta, "spec": {"interfaceType": kind, kind: block[kind]}}, ServiceInterface))
    return found


def carried_out(ports: Ports, before: Mapping[str, ObservedPort]) -> dict[str, ObservedPort]:
    """br-sfc after the wanted ports were made: numbers stay, marks are the owners'."""
    numbers = {name: port.ofport for name, port in before.items()}
    return {
        port.name: ObservedPort(port.name, numbers.get(port.name) or 100 + place, port.dpf_id)
        for place, port in enumerate(ports.wanted.values())
    }


@given(interfaces())
def test_every_port_that_is_wanted_has_one_owner_and_everyone_else_an_answer(some: list[ServiceInterface]) -> None:
    ports = assign(some, {})
    staying = [item for item in some if item.metadata.deletion_timestamp is None]
    owners = [port.owner for port in ports.wanted.values()]
    assert len(owners) == len(set(owners))
    assert set(ports.wanted) == {name for name in (claim_of(item).port for item in staying) if name is not None}
    assert all(name == port.name for name, port in ports.wanted.items())
    served = {*owners, *ports.refused, *ports.vlans, *(key_of(item) for item in staying if item.spec.interface_type == "service")}
    assert served == {key_of(item) for item in staying}
    assert ports.refused.keys().isdisjoint([*owners, *ports.vlans])
    assert len(set(ports.vlans.values())) == len(ports.vlans)


@given(interfaces(), st.randoms(use_true_random=False))
def test_order_does_not_matter_to_who_owns_a_port(some: list[ServiceInterface], chance: st.DataObject) -> None:
    shuffled = list(some)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis types it as what it draws from
    assert assign(shuffled, {}) == assign(some, {})


@given(interfaces(), st.integers(0, 6))
def test_who_has_a_port_keeps_it_whoever_comes(some: list[ServiceInterface], early: int) -> None:
    present = carried_out(assign(some[:early], {}), {})
    after = assign(some, present)
    assert {name: after.wanted[name].dpf_id for name in present} == {name: port.dpf_id for name, port in present.items()}
    assert assign(some, carried_out(after, present)) == after


@st.composite
def chains(draw: st.DrawFn) -> list[ServiceChain]:
    chosen = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz"), min_size=1, max_size=2)
    found = []
    for number in range(draw(st.integers(1, 4))):
        switches = draw(st.lists(st.lists(chosen, min_size=1, max_size=4), min_size=1, max_size=3))
        spec = {"switches": [{"ports": [{"serviceInterface": {"matchLabels": match}} for match in ports]} for ports in switches]}
        found.append(msgspec.convert({"metadata": metadata(f"c{number}", draw(ages)), "spec": spec}, ServiceChain))
    return found


@st.composite
def worlds(draw: st.DrawFn) -> NodeWorld:
    some = draw(interfaces())
    ports = assign(some, {})
    pods = [
        msgspec.convert(
            {"metadata": metadata(f"pod-{s}", 0, labels={"svc.dpu.nvidia.com/service": s}), "status": {"phase": "Running"}}, Pod
        )
        for s in draw(st.sets(st.sampled_from("st")))
    ]
    marks = [port.dpf_id for port in ports.wanted.values()] + [f"ns/{pod.metadata.name}/{e}" for pod in pods for e in ("e1", "e2")]
    there = draw(st.sets(st.sampled_from(marks))) if marks else set()
    by_mark = {mark: ObservedPort(f"port-{n}", draw(st.sampled_from([n + 1, None])), mark) for n, mark in enumerate(sorted(there))}
    return NodeWorld("dpu-1", some, pods, by_mark, ports.refused, ports.vlans)


@given(chains(), worlds())
def test_no_port_belongs_to_two_switches(some: list[ServiceChain], world: NodeWorld) -> None:
    result = resolve(some, world)
    used = [number for resolution in result.values() for ports in resolution.switch_ports for number in ports]
    assert len(used) == len(set(used))
    connected = {port.interface for resolution in result.values() for switch in resolution.switches for port in switch.ports}
    assert connected.isdisjoint(world.refused)


@given(chains(), worlds())
def test_whatever_is_asked_for_is_connected_or_explained(some: list[ServiceChain], world: NodeWorld) -> None:
    result = resolve(some, world)
    assert set(result) == {key_of(chain) for chain in some}
    for chain in some:
        for switch, resolved in zip(chain.spec.switches, result[key_of(chain)].switches, strict=True):
            explained = len(resolved.ports) == len(switch.ports) >= 2
            assert explained or resolved.problems


@given(chains(), worlds(), st.randoms(use_true_random=False))
def test_order_does_not_matter_to_who_gets_a_port(some: list[ServiceChain], world: NodeWorld, chance: st.DataObject) -> None:
    shuffled = list(some)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis types it as what it draws from
    assert resolve(shuffled, world) == resolve(some, world)


requirements = st.fixed_dictionaries(
    {"key": st.sampled_from(["", *"abc"]), "operator": operators, "values": st.lists(st.sampled_from("xyz"))}
)
selectors = st.fixed_dictionaries({"matchLabels": labels, "matchExpressions": st.lists(requirements, max_size=3)})


def picks(requirement: dict[str, Any], value: str | None) -> bool:
    """The table in Kubernetes' documentation."""
    return {
        "In": value is not None and value in requirement["values"],
        "NotIn": value is None or value not in requirement["values"],
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }[requirement["operator"]]


@given(selectors, labels)
def test_a_selector_picks_what_kubernetes_says(content: dict[str, Any], having: dict[str, str]) -> None:
    selector = msgspec.convert(content, LabelSelector)
    wrong = [r for r in content["matchExpressions"] if not r["key"] or (r["operator"] in ("In", "NotIn")) != bool(r["values"])]
    assert (problem(selector, "f") is not None) == bool(wrong)
    exact = all(having.get(key) == value for key, value in content["matchLabels"].items())
    expected = exact and all(picks(r, having.get(r["key"])) for r in content["matchExpressions"])
    assert matches(selector, having) == (expected and not wrong)


trees = st.recursive(
    st.integers(0, 3) | st.text("ab", max_size=2), lambda inner: st.dictionaries(st.sampled_from(["a", "b", "labels", "resources"]), inner)
)


def paths(tree: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """The leaves of a tree by their path; an empty mapping is one."""
    if not isinstance(tree, Mapping) or not tree:
        return {path: tree}
    return {key: leaf for name, value in tree.items() for key, leaf in paths(value, (*path, name)).items()}


@given(
    st.dictionaries(st.sampled_from(["a", "serviceDaemonSet"]), trees), st.dictionaries(st.sampled_from("ab"), st.text("xy"), max_size=2)
)
def test_values_are_merged_at_every_depth_and_what_is_asked_wins(values: dict[str, Any], asked: dict[str, str]) -> None:
    source = {"repoURL": "https://example.org", "version": "1", "chart": "c"}
    spec = {"serviceID": "fw", "helmChart": {"source": source, "values": values}, "serviceDaemonSet": {"labels": asked}}
    result = release_of(msgspec.convert({"metadata": metadata("s", 0), "spec": spec}, DPUService), {}).values
    wanted = {("serviceDaemonSet", "labels", key): value for key, value in asked.items()}
    wanted["serviceDaemonSet", "labels", "svc.dpu.nvidia.com/service"] = "fw"
    found = paths(result)
    assert wanted.items() <= found.items()

    def gives_way(path: tuple[str, ...]) -> bool:
        return any(path[: len(other)] == other or other[: len(path)] == path for other in wanted)

    assert {path: leaf for path, leaf in paths(values).items() if path and not gives_way(path)}.items() <= found.items()


json_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "namespace", "interface", "mac"]), inner),
)
networks = st.lists(json_values, max_size=3).map(lambda value: msgspec.json.encode(value).decode()) | st.text("ab/@, []{}", max_size=20)


@given(networks)
def test_any_networks_annotation_is_taken_over_or_named(annotation: str) -> None:
    block = {"interfaceType": "service", "service": {"serviceID": "fw", "network": "n", "interfaceName": "eth1"}}
    wrapped = {"metadata": metadata("eth1", 0), "spec": {"template": {"spec": {"template": {"spec": block}}}}}
    interface = msgspec.convert(wrapped, DPUServiceInterface)
    source = {"repoURL": "https://example.org", "version": "1", "chart": "c"}
    asked = {"annotations": {NETWORKS: annotation}}
    spec = {"serviceID": "fw", "interfaces": ["eth1"], "helmChart": {"source": source}, "serviceDaemonSet": asked}
    item = msgspec.convert({"metadata": metadata("s", 0), "spec": spec}, DPUService)
    written = json.loads(release_of(item, {key_of(interface): interface}).values["serviceDaemonSet"]["annotations"][NETWORKS])
    assert [entry.get("interface") for entry in written].count("eth1") >= 1
    ours = {"name": "n", "namespace": "ns", "interface": "eth1"}
    if unsupported(item):
        assert written == [ours]
    elif annotation.startswith("["):
        assert all(entry in written for entry in json.loads(annotation))


findings = st.lists(
    st.builds(
        Finding,
        st.sampled_from(["A", "B", "C"]),
        st.sampled_from(["True", "False", "Unknown"]),
        st.sampled_from(["Success", "Error", "Pending", "Retrying", "Failure", "AwaitingDeletion"]),
        st.text(max_size=5),
    ),
    unique_by=lambda finding: finding.type,
)


@given(findings)
def test_ready_exactly_if_everything_is(some: list[Finding]) -> None:
    first, *rest = status.with_ready(some)
    assert rest == some
    assert first.type == "Ready"
    assert (first.status == "True") == all(finding.status == "True" for finding in some)
    assert all(f"* {finding.type}" in first.message.splitlines() for finding in some if finding.status != "True")
