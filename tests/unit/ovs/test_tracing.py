"""What is read of the text of `ofproto/trace`: recorded from Open vSwitch 3.1."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpuchain.flows.model import VLAN_PRESENT
from dpuchain.flows.trace import Departure
from dpuchain.ovs.errors import Invalid, Unreachable
from dpuchain.ovs.tracing import control_socket, devices, read

SHOWN = """\
netdev@ovs-netdev: hit:0 missed:0
  br-sfc:
    br-sfc 65534/1: (dummy-internal)
    d1 1/2: (system)
    d3 3/4: (system)
    pa 5/none: (patch: peer=pb)
  br-x:
    br-x 65534/6: (dummy-internal)
    x1 1/7: (system)
"""
SAID = """\
Flow: in_port=2,vlan_tci=0x0000,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,dl_type=0x88b5

bridge("br-sfc")
----------------
 0. in_port=2, priority 1000, cookie 0xd9c1
    output:1
    resubmit(,3)
     3. reg2=0x3, priority 1000
            drop
    output:5

    bridge("br-x")
    --------------
         0. priority 0
            NORMAL
             -> no learned MAC for destination, flooding
    push_vlan:0x8100
    output:3

Final flow: in_port=2,dl_vlan=10
Megaflow: recirc_id=0,eth,in_port=2
Datapath actions: 2,6,7,push_vlan(vid=10,pcp=0),4,99
"""


def test_devices_have_the_numbers_of_the_datapath() -> None:
    assert devices(SHOWN) == {"1": "br-sfc", "2": "d1", "4": "d3", "6": "br-x", "7": "x1"}


def test_departures_bridges_and_rules() -> None:
    answer = read(SAID, devices(SHOWN), ())
    tagged = (VLAN_PRESENT | 10,)
    plain = [Departure("d1"), Departure("br-x"), Departure("x1")]
    assert list(answer.departures) == [*plain, Departure("d3", tagged), Departure("datapath port 99", tagged)]
    assert answer.bridges == ("br-sfc", "br-x")
    assert answer.rules == (
        "table 0: in_port=2, priority 1000, cookie 0xd9c1 → output:1, resubmit(,3), output:5, push_vlan:0x8100, output:3",
        "table 3: reg2=0x3, priority 1000 → drop",
        "table 0: priority 0 → NORMAL",
    )


def test_dropped_frame_leaves_nowhere() -> None:
    answer = read('Flow: x\n\nbridge("br-sfc")\n---\n 0. No match.\n    drop\n\nFinal flow: unchanged\nDatapath actions: drop\n', {}, ())
    assert answer.departures == ()
    assert answer.rules == ("table 0: No match. → drop",)


def test_tag_that_is_taken_off() -> None:
    answer = read("Datapath actions: pop_vlan,2", {"2": "d1"}, (VLAN_PRESENT | 10, VLAN_PRESENT | 7))
    assert answer.departures == (Departure("d1", (VLAN_PRESENT | 7,)),)


def test_something_else_is_no_answer() -> None:
    with pytest.raises(Invalid, match="without datapath actions"):
        read("Usage: ofproto/trace ...", {}, ())


def test_control_socket_is_that_of_the_process_that_runs(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="ovs-vswitchd does not run"):
        control_socket(tmp_path)
    (tmp_path / "ovs-vswitchd.pid").write_text("77\n")
    (tmp_path / "ovs-vswitchd.76.ctl").touch()
    assert control_socket(tmp_path) == tmp_path / "ovs-vswitchd.ctl"
    (tmp_path / "ovs-vswitchd.77.ctl").touch()
    assert control_socket(tmp_path) == tmp_path / "ovs-vswitchd.77.ctl"
