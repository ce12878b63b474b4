"""The faults: each takes the rack and a source of chance, does its harm, and says what it did."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from dpuchain.lab.layout import Layout
from tests.e2e.manifests import ON_FIRST, apply, chain

if TYPE_CHECKING:
    from tests.e2e.conftest import Rack

Fault = Callable[["Rack", Random], str]
DPUS = ("dpu-1", "dpu-2")
PROCESSES = {
    "agent of dpu-1": "dpuchain agent --kubeconfig={}/dpu-1/",
    "agent of dpu-2": "dpuchain agent --kubeconfig={}/dpu-2/",
    "dpu controller": "dpuchain dpu --kubeconfig={}/cluster-1/",
    "host controller": "dpuchain host --kubeconfig={}/host/",
    "API server of cluster-1": "kube-apiserver --etcd-servers=unix://{}/cluster-1/",
    "API server of the host": "kube-apiserver --etcd-servers=unix://{}/host/",
    "etcd of cluster-1": "etcd --data-dir={}/cluster-1/",
    "ovs-vswitchd of dpu-1": "ovs-vswitchd unix:{}/dpu-1/",
    "ovsdb-server of dpu-1": "ovsdb-server {}/dpu-1/",
}
BESIDE = (("x0", "x2"), ("x0", "x2", "x4"))


def kill(rack: Rack, chance: Random) -> str:
    """A process dies."""
    name = chance.choice(list(PROCESSES))
    _signal(rack, name, "-9")
    return f"killed the {name}"


def pause(rack: Rack, chance: Random) -> str:
    """A process hangs for a while."""
    name, seconds = chance.choice(list(PROCESSES)), chance.uniform(0.5, 3)
    _signal(rack, name, "-STOP")
    time.sleep(seconds)
    _signal(rack, name, "-CONT")
    return f"paused the {name} for {seconds:.1f} s"


def _signal(rack: Rack, name: str, signal: str) -> None:
    pattern = PROCESSES[name].format(Layout.at(rack.directory).root)
    outcome = rack.at("fabric", "pgrep", "-f", pattern)
    assert outcome.status == 0, f"no process {pattern}"
    rack.at("fabric", "kill", signal, outcome.output.split()[0])


def change_flows(rack: Rack, chance: Random) -> str:
    """Somebody else changes the flow tables."""
    what = chance.choice(
        [
            ("del-flows", "br-sfc"),
            ("del-flows", "br-sfc", "table=0"),
            ("mod-flows", "br-sfc", "table=0,actions=drop"),
            ("add-flow", "br-sfc", "cookie=0xd9c1100000010000,table=0,priority=77,actions=drop"),
            ("add-flow", "br-sfc", "cookie=0x99,table=9,priority=77,actions=drop"),
        ]
    )
    dpu = chance.choice(DPUS)
    rack.at(dpu, "ovs-ofctl", "-O", "OpenFlow14", *what)
    return f"{dpu}: {' '.join(what)}"


def change_ports(rack: Rack, chance: Random) -> str:
    """Somebody else changes the ports."""
    dpu = chance.choice(DPUS)
    port = chance.choice(["p0", "pf0hpf"])
    what = chance.choice(
        [
            ("del-port", "br-sfc", port),
            ("remove", "interface", port, "external_ids", "dpf-id"),
            ("clear", "port", port, "external_ids"),
            ("--", "del-port", "br-sfc", "p0", "--", "del-port", "br-sfc", "pf0hpf"),
        ]
    )
    rack.at(dpu, "ovs-vsctl", *what)
    return f"{dpu}: ovs-vsctl {' '.join(what)}"


def flap_link(rack: Rack, chance: Random) -> str:
    """A link goes down and comes back."""
    device, seconds = chance.choice(["x1", "x3", "p0"]), chance.uniform(0.1, 1.5)
    rack.at("dpu-1", "ip", "link", "set", device, "down")
    time.sleep(seconds)
    rack.at("dpu-1", "ip", "link", "set", device, "up")
    return f"dpu-1: {device} was down for {seconds:.1f} s"


def change_chains(rack: Rack, chance: Random) -> str:
    """An operator changes chains."""
    if chance.random() < 0.4:
        rack.kubectl("host", "delete", "dpuservicechain/side", "--ignore-not-found", "--wait=false")
        return "deleted the chain beside"
    switch = chance.choice(BESIDE)
    apply(rack, chain("wire", ("p0", "pf0hpf")), chain("side", switch, **ON_FIRST))
    return f"the chain beside has {' '.join(switch)}"


def change_children(rack: Rack, chance: Random) -> str:
    """Somebody edits or deletes what controllers made."""
    kind = chance.choice(["servicechains", "serviceinterfaces", "servicechainsets"])
    items = [item["metadata"]["name"] for item in rack.items("cluster-1", kind)]
    if not items:
        return "nothing to edit"
    name = chance.choice(items)
    if chance.random() < 0.5:
        rack.kubectl("cluster-1", "delete", f"{kind}/{name}", "--wait=false")
        return f"deleted {kind}/{name}"
    rack.kubectl("cluster-1", "label", f"{kind}/{name}", "chaos=here", "port-", "--overwrite")
    return f"took the label off {kind}/{name}"


FAULTS: tuple[Fault, ...] = (kill, kill, pause, change_flows, change_ports, flap_link, change_chains, change_chains, change_children)
