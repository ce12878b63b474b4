"""Where probe frames are sent, and where not."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.chain.test_resolve import chain, interface, pod, port
from tests.unit.flows.test_path import ETH1, HOST, P0, Dpu

from dpuchain.api.meta import ObjectKey
from dpuchain.api.names import PASSES_PROBES_ANNOTATION
from dpuchain.flows.model import Output
from dpuchain.flows.path import Entry, judge
from dpuchain.flows.pipeline import is_ours, is_probe
from dpuchain.flows.probes import CONTROLLER, Course, begins, course, frame, measured, number_in, with_probes
from dpuchain.flows.trace import Trace

NONCE = b"12345678"
WILLING = pod("fw-1", metadata={"name": "fw-1", "namespace": "ns", "annotations": {PASSES_PROBES_ANNOTATION: "true"}})


def planned(dpu: Dpu, name: str) -> Course:
    picture = dpu.picture
    entry = Entry.by(picture.by_interface[ObjectKey("ns", name)], frame(NONCE, 0))
    return course(picture, entry, judge(picture, entry, dpu.obedient(entry))[1])


def test_frame_that_goes_into_a_service_is_caught_where_it_comes_out() -> None:
    found = planned(Dpu(pods=[WILLING]), "pf0hpf")
    assert (found.probe.skipped, found.probe.through, found.probe.ends) == ("", "service fw, pod fw-1", ("eth1 (veth1)",))
    (flow,) = found.flows
    assert (("in_port", 3, None) in flow.match, flow.actions, flow.hard_timeout > 0) == (True, (Output(CONTROLLER),), True)
    assert is_probe(flow.cookie)
    assert not is_ours(flow.cookie), "it is nobody's to repair"


@pytest.mark.parametrize(
    ("dpu", "name", "reason"),
    [
        (Dpu(), "pf0hpf", f'annotation {PASSES_PROBES_ANNOTATION}: "true"'),
        (Dpu(pods=[WILLING]), "eth1", "would leave the DPU by p0, which no probe frame may"),
        (Dpu(interfaces=[P0, HOST], chains=[chain(("p0", "pf0hpf"))]), "p0", "would leave the DPU"),
        (Dpu(pods=[WILLING], chains=[chain(("p0", "eth1", "p1"), ("eth2", "pf0hpf"))]), "p0", "would leave the DPU"),
        (Dpu(interfaces=[P0, ETH1], pods=[WILLING], chains=[chain(("p0", "eth1"))]), "p0", "no probe frame would come back"),
    ],
)
def test_none_is_sent_that_could_leave_or_would_not_come_back(dpu: Dpu, name: str, reason: str) -> None:
    if len(dpu.chains[0].spec.switches[0].ports) == 3:
        dpu.interfaces = [*dpu.interfaces, interface("p1")]
        dpu.ports["p1"] = port("p1", 9)
    found = planned(dpu, name)
    assert reason in found.probe.skipped
    assert found.flows == ()


def test_frames_are_known_by_their_series_and_number_whatever_tags_they_have() -> None:
    content = frame(NONCE, 7).content
    assert number_in(content, NONCE) == number_in(content[:12] + b"\x81\x00\x00\x0a" + content[12:], NONCE) == 7
    assert number_in(content, b"87654321") is None
    assert number_in(content[:36], NONCE) is None


async def test_each_switch_that_a_way_enters_is_a_beginning() -> None:
    found = await Dpu().trace()
    assert [key.name for key in begins(found)] == ["pf0hpf", "eth1", "p0", "eth2"]


async def test_service_that_passes_none_is_the_verdict_and_one_that_passes_some_is_not() -> None:
    found: Trace = await Dpu(pods=[WILLING]).trace()
    series = planned(Dpu(pods=[WILLING]), "pf0hpf")
    some = with_probes(found, [measured(series, 10, [1.0, 2.0, 6.0])])
    assert (some.verdict, some.probes[0].lost) == ("delivered", 7)
    assert (some.probes[0].least, some.probes[0].mean, some.probes[0].most) == (1.0, 3.0, 6.0)
    none = with_probes(found, [measured(series, 10, [])])
    assert none.sentence == "dropped: pf0hpf → lost in service fw, pod fw-1"
    unsent = with_probes(found, [msgspec.structs.replace(series.probe, skipped="no")])
    assert unsent.verdict == "delivered"
