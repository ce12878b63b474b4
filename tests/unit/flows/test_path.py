"""The way of a frame on a DPU: what is told of each hop, and the verdict, with a switch that does what its flows say, or does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from tests.unit.chain.test_resolve import chain, interface, pod, port, service, world

from dpuchain.api.chain import ServiceChain
from dpuchain.api.interface import ServiceInterface
from dpuchain.api.kubernetes import Pod
from dpuchain.api.meta import ObjectKey
from dpuchain.chain.ports import ObservedPort
from dpuchain.chain.resolve import resolve
from dpuchain.chain.vlans import assign_vlans
from dpuchain.flows.compile import ChainSwitches, compile_switches
from dpuchain.flows.follow import trace
from dpuchain.flows.model import VLAN_PRESENT, FlowState
from dpuchain.flows.packets import parse
from dpuchain.flows.path import Entry, NoSuchInterface, Picture, find
from dpuchain.flows.simulate import simulate
from dpuchain.flows.trace import Answer, Departure, Trace

Switch = Callable[[Entry], Answer]
P0, HOST, ETH1, ETH2 = interface("p0"), interface("pf0hpf"), service("eth1"), service("eth2", "eth2")


@dataclass
class Dpu:
    """A DPU with the document's chain: p0, eth1, the service, eth2, pf0hpf."""

    interfaces: list[ServiceInterface] = field(default_factory=lambda: [P0, HOST, ETH1, ETH2])
    ports: dict[str, ObservedPort] = field(
        default_factory=lambda: {
            "p0": port("p0", 1),
            "pf0hpf": port("pf0hpf", 2),
            "veth1": port("veth1", 3, "ns/fw-1/eth1", mtu=1500),
            "veth2": port("veth2", 4, "ns/fw-1/eth2", mtu=1500),
        }
    )
    pods: list[Pod] = field(default_factory=lambda: [pod("fw-1")])
    chains: list[ServiceChain] = field(default_factory=lambda: [chain(("p0", "eth1"), ("eth2", "pf0hpf"))])
    patches: dict[str, str] = field(default_factory=dict)
    bridges: dict[str, set[str]] = field(default_factory=dict)

    @property
    def picture(self) -> Picture:
        seen = replace(world(self.interfaces, list(self.ports.values()), self.pods), vlans=assign_vlans(self.interfaces).claims)
        resolutions = resolve(self.chains, seen)
        flows = compile_switches([ChainSwitches(key, found.switch_ports) for key, found in resolutions.items()], seen.reserved)
        bridges = {"br-sfc": set(self.ports), **self.bridges}
        return Picture(seen, self.chains, resolutions, flows, "br-sfc", bridges, self.patches)

    async def trace(self, begins: str = "pf0hpf", frame: str = "icmp", chain: str = "", switch: Switch | None = None) -> Trace:
        """Ask a switch that does as it was told, or another."""
        picture = self.picture

        async def ask(entry: Entry) -> Answer:
            return (switch or self.obedient)(entry)

        return await trace(picture, find(picture.world, begins), parse(frame), chain, ask)

    def obedient(self, entry: Entry) -> Answer:
        """What a switch says that has the compiled flows."""
        names = {found.ofport: found.name for found in self.ports.values()}
        sent = simulate(FlowState(self.picture.compiled.flows), entry.packet.frame, entry.number).sent
        return Answer(tuple(sorted((Departure(names[s.port], s.tags) for s in sent), key=str)), ("br-sfc",), ("table 0: the rule",))


def steps(found: Trace) -> list[str]:
    return [f"{hop.kind} {hop.enters or hop.name}" for hop in found.forward.walk()]


async def test_frame_goes_through_both_switches_and_the_service_and_back() -> None:
    found = await Dpu().trace()
    assert steps(found) == ["switch pf0hpf", "service eth2", "switch eth1 (veth1)", "end p0"]
    (back,) = found.back
    assert [hop.kind for hop in back.walk()] == ["switch", "service", "switch", "end"]
    assert (found.verdict, found.sentence, found.cause) == ("delivered", "delivered: pf0hpf → p0, and back", "")


async def test_flow_that_the_switch_does_not_have_is_told_with_the_rule_that_it_met() -> None:
    dpu = Dpu()

    def disobedient(entry: Entry) -> Answer:
        return Answer((), ("br-sfc",), ("table 0: priority 40000 → drop",)) if entry.number == 3 else dpu.obedient(entry)

    found = await dpu.trace(switch=disobedient)
    (lossy,) = [hop for hop in found.forward.walk() if hop.differs]
    assert lossy.differs == "the compiled flows send to p0, the switch does not"
    assert found.verdict == "dropped"
    assert found.sentence == "dropped: pf0hpf → lost at switch 0 of ServiceChain ns/chain"
    assert found.cause == "the switch drops it, which the compiled flows do not: table 0: priority 40000 → drop"


async def test_frame_is_followed_where_the_switch_sends_it() -> None:
    dpu = Dpu()

    def other(entry: Entry) -> Answer:
        return Answer((Departure("p0"),), ("br-sfc",)) if entry.number == 2 else dpu.obedient(entry)

    found = await dpu.trace(switch=other)
    assert steps(found) == ["switch pf0hpf", "end p0"]
    assert found.forward.differs == (
        "the compiled flows send to eth2 (veth2), the switch does not; the switch sends to p0, the compiled flows do not"
    )
    assert found.verdict == "delivered"
    assert found.cause == f"not as compiled: {found.forward.differs}"


async def test_way_back_that_is_cut_is_told_as_such() -> None:
    dpu = Dpu()
    found = await dpu.trace(switch=lambda entry: Answer() if entry.number == 1 else dpu.obedient(entry))
    assert found.sentence == "dropped: pf0hpf → p0, but the answer → lost at switch 0 of ServiceChain ns/chain"


async def test_answer_that_arrives_elsewhere_is_lost() -> None:
    dpu = Dpu(interfaces=[P0, HOST, interface("p1")], chains=[chain(("p0", "pf0hpf", "p1"))])
    dpu.ports["p1"] = port("p1", 9)
    astray = Answer((Departure("p1"),), ("br-sfc",))
    found = await dpu.trace(switch=lambda entry: Answer((Departure("p0"),), ("br-sfc",)) if entry.number == 2 else astray)
    assert (found.sentence, found.cause) == ("dropped: pf0hpf → p0, but the answer → lost at p1", "it leaves by p1 instead")


@pytest.mark.parametrize(
    ("name", "begins", "verdict", "cause"),
    [
        ("p0", "pf0hpf", "dropped", "interface p0: link is down"),
        ("pf0hpf", "pf0hpf", "dropped", "interface pf0hpf: link is down"),
        ("veth1", "pf0hpf", "dropped", "interface veth1: link is down"),
    ],
)
async def test_link_that_is_down_loses_the_frame(name: str, begins: str, verdict: str, cause: str) -> None:
    dpu = Dpu()
    dpu.ports[name] = replace(dpu.ports[name], link_up=False)
    found = await dpu.trace(begins)
    assert found.verdict == verdict
    assert cause in found.cause


async def test_nobody_knows_what_a_pod_does_that_is_not_ready() -> None:
    found = await Dpu(pods=[pod("fw-1", ready=False)]).trace()
    assert found.sentence == "unknown: pf0hpf may end at service fw, pod fw-1"
    assert "pod ns/fw-1 of service fw is not ready" in found.cause


async def test_port_that_is_gone_is_named_from_both_sides() -> None:
    dpu = Dpu()
    del dpu.ports["p0"]
    there, back = await dpu.trace(), await dpu.trace("p0")
    assert there.verdict == back.verdict == "dropped"
    assert "failed to find matching interface with external_ids: map[dpf-id:ns/p0]" in there.cause
    assert "no port of the bridge has external_ids map[dpf-id:ns/p0]" in back.cause


async def test_service_without_a_pod_is_named() -> None:
    dpu = Dpu(pods=[])
    found = await dpu.trace()
    assert found.verdict == "dropped"
    assert "no pod in namespace(ns) matching labels(map[svc.dpu.nvidia.com/service:fw])" in found.cause


async def test_interface_in_no_chain_is_told_so() -> None:
    dpu = Dpu(interfaces=[P0, HOST, interface("p1")], chains=[chain(("p0", "pf0hpf"))])
    dpu.ports["p1"] = port("p1", 9)
    found = await dpu.trace("p1")
    assert (found.verdict, found.cause) == (
        "dropped",
        "no chain of node dpu-1 has it as a port; name its labels in a switch of a DPUServiceChain",
    )


async def test_switch_says_what_is_wrong_with_the_interface_that_it_could_not_take() -> None:
    dpu = Dpu(interfaces=[P0, HOST], chains=[chain(("p0", "absent"))])
    found = await dpu.trace("p0")
    assert found.verdict == "dropped"
    assert "no serviceInterface in namespace(ns) matching labels(map[port:absent])" in found.cause


async def test_chain_that_is_not_the_interfaces_is_told() -> None:
    found = await Dpu().trace(chain="other")
    assert found.cause == "it is a port of switch 1 of ServiceChain ns/chain, and none of chain other"
    assert (await Dpu().trace(chain="chain")).verdict == "delivered"


async def test_learning_switch_floods_what_it_does_not_know() -> None:
    dpu = Dpu(interfaces=[P0, HOST, interface("p1")], chains=[chain(("p0", "p1", "pf0hpf"))])
    dpu.ports["p1"] = port("p1", 9)
    found = await dpu.trace()
    assert found.sentence == "delivered: pf0hpf → p0 and p1 (flooded), and back"


async def test_service_that_is_the_end_answers_by_the_same_interface() -> None:
    dpu = Dpu(interfaces=[HOST, ETH2], chains=[chain(("eth2", "pf0hpf"))])
    found = await dpu.trace()
    assert found.sentence == "delivered: pf0hpf → eth2 of service fw, pod fw-1, and back"


async def test_service_that_sends_back_into_the_same_switch_is_a_ring() -> None:
    dpu = Dpu(interfaces=[HOST, ETH1, ETH2], chains=[chain(("eth1", "eth2", "pf0hpf"))])
    found = await dpu.trace()
    assert "the frame would go round: it has come in by this port before" in [p for hop in found.forward.walk() for p in hop.problems]


async def test_vlan_enters_with_its_tag_and_leaves_without() -> None:
    vlan = interface("blue", {"interfaceType": "vlan", "vlan": {"vlanID": 10, "parentInterfaceRef": "p0"}})
    dpu = Dpu(interfaces=[P0, HOST, vlan], chains=[chain(("blue", "pf0hpf"))])
    out, into = await dpu.trace(), await dpu.trace("blue", "icmp vlan=7")
    assert out.forward.theirs == (Departure("p0", (VLAN_PRESENT | 10,), "blue"),)
    assert out.sentence == "delivered: pf0hpf → blue (p0) with VLAN 10, and back"
    assert into.forward.ours == (Departure("pf0hpf", (VLAN_PRESENT | 7,), "pf0hpf"),)


async def test_patch_leads_to_another_bridge_of_which_the_switch_alone_can_tell() -> None:
    link = interface("link", {"interfaceType": "patch", "patch": {"peerBridge": "br-x"}})
    dpu = Dpu(interfaces=[HOST, link], chains=[chain(("link", "pf0hpf"))], patches={"plink": "br-x"}, bridges={"br-x": {"x1", "peer"}})
    dpu.ports["plink"] = port("plink", 7, "ns/link")

    def switch(entry: Entry) -> Answer:
        return Answer((Departure("x1"),), ("br-sfc", "br-x")) if entry.number == 2 else dpu.obedient(entry)

    found = await dpu.trace(switch=switch)
    assert steps(found) == ["switch pf0hpf", "bridge plink", "end x1"]
    assert found.forward.differs == ""
    assert found.sentence == "delivered: pf0hpf → x1, and back"
    cut = await dpu.trace(switch=lambda entry: Answer((), ("br-sfc",), ("no rule",)))
    assert cut.forward.differs == "the compiled flows send to link (plink), the switch does not"


async def test_interface_is_found_by_what_people_call_it() -> None:
    seen = Dpu().picture.world
    assert [find(seen, name).metadata.name for name in ("p0", "veth1", "eth2")] == ["p0", "eth1", "eth2"]
    with pytest.raises(NoSuchInterface, match="node dpu-1 has no interface 'p9'; it has eth1, eth2, p0, pf0hpf"):
        find(seen, "p9")
    twice = replace(seen, interfaces=[P0, interface("p0", namespace="other")])
    with pytest.raises(NoSuchInterface, match="'p0' means 2 interfaces of node dpu-1: ns/p0, other/p0"):
        find(twice, "p0")
    assert find(twice, "p0", "other").metadata.namespace == "other"
    assert ObjectKey("ns", "p0") in seen.by_key
