"""What a plan says, of worlds as values; and that it is the difference of two worlds and nothing else."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.admission_cases.case import FW, NODES
from tests.worlds import NS, ZONE_A, ZONE_B, chain, config, fleet, interface, node, of_service, physical, pod, service

from dpuchain.chain.comparison import compare
from dpuchain.chain.fleet import Fleet
from dpuchain.flows.compile import ChainSwitches, compile_switches
from dpuchain.flows.forecast import flow_state, numbered, port_names
from dpuchain.flows.plan import Plan, plan

WIRE = (interface("p0"), interface("hpf", physical("pf0hpf")), chain("wire", ("p0", "hpf")))


def told(found: Plan) -> list[str]:
    return [str(change) for change in found.paths]


def test_nothing_changes_nothing() -> None:
    world = fleet(*WIRE, north=NODES)
    assert not plan(world, world)


def test_flows_are_those_of_the_compiler() -> None:
    world = fleet(*WIRE, north=NODES)
    (standing,) = (standing for standing in compare(Fleet(), world) if standing.nodes)
    numbers = {"p0": 7, "pf0hpf": 3}
    (owner,) = standing.after.resolutions
    assert flow_state(standing.after, numbers) == compile_switches([ChainSwitches.of_ports(owner, [[7, 3]])])


def test_a_chain_is_made_on_all_nodes_at_once() -> None:
    found = plan(fleet(north=NODES), fleet(*WIRE, north=NODES))
    (group,) = found.nodes
    assert group.nodes == ("dpu-1", "dpu-2")
    assert [(change.action, change.kind, change.name) for change in group.objects] == [
        ("create", "ServiceChain", f"{NS}/wire"),
        ("create", "ServiceInterface", f"{NS}/hpf"),
        ("create", "ServiceInterface", f"{NS}/p0"),
    ]
    assert [(change.action, change.name) for change in group.ports] == [("create", "p0"), ("create", "pf0hpf")]
    assert group.flows.added == (
        "chain=ns/wire, table=0, priority=1000, in_port=p0 actions=output:pf0hpf",
        "chain=ns/wire, table=0, priority=1000, in_port=pf0hpf actions=output:p0",
    )
    assert told(found) == ["hpf on 2 DPUs reaches p0"]


def test_nodes_that_lose_a_path_are_counted() -> None:
    nodes = [node(f"dpu-{number}", zone="a" if number % 3 else "b") for number in range(321)]
    before = fleet(*WIRE, north=nodes)
    found = plan(before, before.changed(WIRE[2], chain("wire", ("p0", "hpf"), nodes=ZONE_B)))
    assert told(found) == ["hpf on 214 DPUs no longer reaches p0"]
    (group,) = found.nodes
    assert len(group.nodes) == 214
    assert group.flows.total == 0


def test_paths_go_on_through_a_service() -> None:
    through = chain("through", ("p0", "fw-in"), ("fw-out", "hpf"))
    world = fleet(*FW, *WIRE[:2], service("fw", "fw-in", "fw-out"), north=NODES)
    found = plan(world, world.put(through))
    assert told(found) == ["hpf on 2 DPUs reaches p0", "hpf on 2 DPUs reaches service fw", "p0 on 2 DPUs reaches service fw"]
    cut = plan(world.put(through), world.put(through).changed(FW[1], None))
    assert told(cut) == ["hpf on 2 DPUs no longer reaches p0", "hpf on 2 DPUs no longer reaches service fw"]


def test_pods_that_restart_are_counted() -> None:
    through = chain("through", ("p0", "fw-in"), ("fw-out", "hpf"))
    pods = [pod("one", "fw", "dpu-1"), pod("two", "fw", "dpu-2"), pod("done", "fw", "dpu-2", mtu=2000), pod("other", "ids", "dpu-1")]
    world = fleet(*FW, *WIRE[:2], through, service("fw", "fw-in", "fw-out"), north=[*NODES, *pods])
    found = plan(world, world.changed(through, chain("through", ("p0", "fw-in"), ("fw-out", "hpf"), mtu=2000)))
    assert [(restart.pods, restart.nodes, restart.service.service_id) for restart in found.restarts] == [(2, 2, "fw")]
    assert not found.paths


def test_a_chain_that_is_refused_stays_as_it_is() -> None:
    world = fleet(*WIRE, config(9000), north=NODES)
    found = plan(world, world.changed(WIRE[2], chain("wire", ("p0", "hpf"), mtu=9216)))
    assert [conflict.kind for conflict in found.conflicts] == ["mtu"]


def test_who_has_a_port_keeps_it() -> None:
    world = fleet(interface("zz", physical("p0")), north=NODES)
    found = plan(world, world.put(interface("aa", physical("p0"))))
    assert [conflict.kind for conflict in found.conflicts] == ["port"]
    assert all(not group.ports for group in found.nodes)


def test_releases_are_told_by_cluster() -> None:
    world = fleet(*FW, service("fw", "fw-in"), north=NODES, south=[node("dpu-9")])
    found = plan(
        world, world.changed(service("fw", "fw-in"), service("fw", "fw-in", source={"version": "2"}, spec={"dpuClusterSelector": ZONE_A}))
    )
    assert [(str(change.cluster), item.action) for change in found.clusters for item in change.objects] == [
        ("ns/north", "delete"),
        ("ns/south", "delete"),
    ]


ports = st.sampled_from(["p0", "p1", "p2"])
things = st.one_of(
    st.builds(
        lambda name, port, label, zone: interface(name, physical(port), labels={"port": label}, nodes=zone),
        st.sampled_from(["a", "b", "c"]),
        ports,
        ports,
        st.sampled_from([None, ZONE_A]),
    ),
    st.builds(
        lambda name, switch: chain(name, tuple(switch)), st.sampled_from(["x", "y"]), st.lists(ports, min_size=2, max_size=3, unique=True)
    ),
    st.builds(lambda name: interface(name, of_service("fw", name), labels={"port": name}), ports),
)


@settings(max_examples=150, deadline=None)
@given(first=st.lists(things, max_size=5), second=st.lists(things, max_size=5))
def test_a_plan_is_the_difference_of_two_worlds(first: list[Any], second: list[Any]) -> None:
    """Each flow of the world before is kept or removed, each of the world after is kept or added; and the same world needs no plan."""
    before, after = fleet(*first, north=NODES), fleet(*second, north=NODES)
    assert not plan(before, before).nodes
    groups = {name: group for group in plan(before, after).nodes for name in group.nodes}
    for standing in (standing for standing in compare(before, after) if standing.nodes):
        numbers = numbered([*port_names(standing.before), *port_names(standing.after)])
        old, new = flow_state(standing.before, numbers).flows, flow_state(standing.after, numbers).flows
        for name in standing.nodes:
            group = groups.get(name)
            added, removed = (len(group.flows.added), len(group.flows.removed)) if group is not None else (0, 0)
            assert (added, removed) == (len(new - old), len(old - new))
