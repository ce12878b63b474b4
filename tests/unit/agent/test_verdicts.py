from __future__ import annotations

from dpuchain.agent.verdicts import flowless_vlans
from dpuchain.api.meta import ObjectKey
from dpuchain.chain.ports import ObservedPort
from dpuchain.chain.resolve import Resolution, ResolvedPort, ResolvedSwitch


def test_vlan_in_a_chain_without_all_its_flows_is_not_ready_and_a_port_is_no_worse_for_it() -> None:
    port = ObservedPort("p0", 1, "ns/p0")
    switch = ResolvedSwitch((ResolvedPort(ObjectKey("ns", "p0"), port), ResolvedPort(ObjectKey("ns", "blue"), port, 10)), ())
    chain = ObjectKey("ns", "chain")
    resolutions = {chain: Resolution(chain, (switch,))}
    assert flowless_vlans(resolutions, {chain: "2 of its flows are not on the switch"}) == {
        ObjectKey("ns", "blue"): "ServiceChain ns/chain: 2 of its flows are not on the switch"
    }
    assert flowless_vlans(resolutions, {}) == {}
