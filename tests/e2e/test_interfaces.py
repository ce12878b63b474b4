"""Types of interfaces that no other test has on a rack, from the operator's object to the frames: vf, patch, vlan.

dpu-1 gets pairs of devices of its own; numbered frames go in at one end and come out at another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dpuchain.lab.layout import Layout
from dpuchain.lab.traffic import End, Stream
from tests.e2e.manifests import ON_FIRST, apply, chain, interface

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Rack

PAIRS = (("i0", "i1"), ("i2", "i3"), ("i4", "i5"))
OTHER = "br-other"


def on_dpu(rack: Rack, *command: str) -> None:
    outcome = rack.at("dpu-1", *command)
    assert outcome.status == 0, outcome.output


def pair(rack: Rack, first: str, second: str) -> None:
    on_dpu(rack, "ip", "link", "add", first, "type", "veth", "peer", "name", second)
    for device in (first, second):
        on_dpu(rack, "ip", "link", "set", device, "up")


@pytest.fixture
def wired(rack: Rack) -> Iterator[Rack]:
    """The rack with pairs of devices on dpu-1, and another bridge there; all of it is gone afterwards."""
    before = rack.snapshot()
    for devices in PAIRS:
        pair(rack, *devices)
    on_dpu(rack, "ovs-vsctl", "add-br", OTHER, "--", "set", "bridge", OTHER, "datapath_type=netdev")
    yield rack
    rack.ok("host", "delete", "dpuservicechains,dpuserviceinterfaces", "--all", "--timeout=60s")
    on_dpu(rack, "ovs-vsctl", "del-br", OTHER)
    for first in [first for first, _ in PAIRS] + ["pf0vf3"]:
        rack.at("dpu-1", "ip", "link", "delete", first)
    assert rack.snapshot() == before


def passes(rack: Rack, first: str, second: str) -> None:
    """Assert that frames pass both ways between two devices of dpu-1."""
    namespace = Layout.at(rack.directory).identity.namespace("dpu-1")
    with Stream(End(namespace, first), End(namespace, second), rate=500) as stream:
        for _ in range(10):  # something that takes a moment
            rack.ports("dpu-1")
    assert stream.outcome is not None
    assert stream.outcome.sent > 20, stream.outcome
    assert stream.outcome.lost < stream.outcome.sent / 10, stream.outcome


def physical(name: str) -> dict[str, Any]:
    return interface(name, {"interfaceType": "physical", "physical": {"interfaceName": name}}, **ON_FIRST)


def test_representor_that_comes_later_is_taken_up(wired: Rack) -> None:
    function = interface("vf", {"interfaceType": "vf", "vf": {"pfID": 0, "vfID": 3}}, **ON_FIRST)
    apply(wired, physical("i0"), function, chain("chain", ("i0", "vf"), **ON_FIRST))
    wired.ok("host", "wait", "--for=condition=Ready=false", "dpuserviceinterface/vf", "--timeout=60s")
    pair(wired, "pf0vf3", "vf3")
    wired.ok("host", "wait", "--for=condition=Ready", "dpuservicechain/chain", "dpuserviceinterface/vf", "--timeout=60s")
    passes(wired, "i1", "vf3")


def test_patch_leads_to_another_bridge(wired: Rack) -> None:
    on_dpu(wired, "ovs-vsctl", "add-port", OTHER, "i2")
    patch = interface("patch", {"interfaceType": "patch", "patch": {"peerBridge": OTHER, "peerExternalIDs": {"of": "test"}}}, **ON_FIRST)
    apply(wired, physical("i0"), patch, chain("chain", ("i0", "patch"), **ON_FIRST))
    wired.ok("host", "wait", "--for=condition=Ready", "dpuservicechain/chain", "dpuserviceinterface/patch", "--timeout=60s")
    passes(wired, "i1", "i3")


def test_vlan_is_tagged_outside_and_untagged_inside(wired: Rack) -> None:
    """The other bridge stands for the network: its port to i2's other end is a trunk, that to i4 is an access port of VLAN 10."""
    on_dpu(wired, "ovs-vsctl", "add-port", OTHER, "i3", "--", "add-port", OTHER, "i4", "tag=10")
    vlan = interface("vlan", {"interfaceType": "vlan", "vlan": {"vlanID": 10, "parentInterfaceRef": "i2"}}, **ON_FIRST)
    apply(wired, physical("i0"), physical("i2"), vlan, chain("chain", ("i0", "vlan"), **ON_FIRST))
    wired.ok("host", "wait", "--for=condition=Ready", "dpuservicechain/chain", "dpuserviceinterface/vlan", "--timeout=60s")
    passes(wired, "i1", "i5")
