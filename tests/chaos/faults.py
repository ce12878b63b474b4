"""The faults: each takes the world and a source of chance, does its harm, and says what it did."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random

from dpuchain.lab import containers, control
from dpuchain.lab.cgroups import ControlGroup
from dpuchain.lab.process import run
from tests.chaos.world import DPUS, SIDE, World, ofctl, side_chain, side_interface

DAEMON = "ovs-vswitchd"
"""The process with which all flows end, whosoever they are."""
BRIDGE = "datapath_type=netdev", "fail_mode=secure", "protocols=OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15"


@dataclass(frozen=True)
class Harm:
    """What a fault did, in words; on which DPUs it also harmed what is somebody else's; and how many faults it was."""

    text: str
    razed: frozenset[str] = frozenset()
    count: int = 1


Fault = Callable[[World, Random], Harm]


def kill(world: World, chance: Random) -> Harm:
    """A process dies."""
    name, pid = _process(world, chance)
    _signal(pid, signal.SIGKILL)
    return Harm(f"killed {name}", _razed(name))


def pause(world: World, chance: Random) -> Harm:
    """A process hangs for a while."""
    (name, pid), seconds = _process(world, chance), chance.uniform(0.5, 4)
    _signal(pid, signal.SIGSTOP)
    time.sleep(seconds)
    _signal(pid, signal.SIGCONT)
    return Harm(f"paused {name} for {seconds:.1f} s")


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # of several faults another was quicker
        os.kill(pid, number)


def _process(world: World, chance: Random) -> tuple[str, int]:
    running = {event.text: event.pid for event in asyncio.run(control.status(world.layout)) if event.kind == "running"}
    return chance.choice(sorted((name, pid) for name, pid in running.items() if not name.endswith("/mounts")))


def _razed(name: str) -> frozenset[str]:
    dpu, _, program = name.partition("/")
    return frozenset({dpu} if program == DAEMON else ())


def change_flows(world: World, chance: Random) -> Harm:
    """Somebody else changes the flow tables."""
    port = chance.randint(1, 6)
    what = chance.choice(
        [
            ("del-flows", "br-sfc"),
            ("del-flows", "br-sfc", "cookie=0xd9c0000000000000/0xfff0000000000000"),
            ("del-flows", "br-sfc", f"table=0,in_port={port}"),
            ("mod-flows", "br-sfc", f"table=0,in_port={port},actions=drop"),
            ("mod-flows", "br-sfc", f"table=0,in_port={port},actions=output:{port % 6 + 1}"),
            ("add-flow", "br-sfc", "cookie=0xd9c1100000010000,table=0,priority=77,actions=drop"),
            ("add-flow", "br-sfc", f"cookie=0xd9c1100000010000,table=0,priority=50000,in_port={port},actions=output:{port % 6 + 1}"),
            ("add-flow", "br-sfc", "cookie=0xd9c1100000010000,table=9,priority=77,actions=drop"),
            ("add-flow", "br-sfc", "cookie=0x99,table=9,priority=77,actions=drop"),
            ("add-group", "br-sfc", "group_id=5,type=all,bucket=output:1,bucket=output:2"),
            ("add-meter", "br-sfc", "meter=5,pktps,band=type=drop,rate=1"),
        ]
    )
    dpu = chance.choice(DPUS)
    ofctl(world.rack, dpu, *what)
    if what[0] in ("add-group", "add-meter"):  # whoever made it takes it away again
        time.sleep(chance.uniform(0.1, 1))
        ofctl(world.rack, dpu, what[0].replace("add", "del") + "s", "br-sfc", what[2].partition(",")[0])
    return Harm(f"{dpu}: {' '.join(what)}", frozenset({dpu} if what == ("del-flows", "br-sfc") else ()))


def change_ports(world: World, chance: Random) -> Harm:
    """Somebody else changes the ports: those of devices, and those of pods."""
    dpu = chance.choice(DPUS)
    ports = world.rack.at(dpu, "ovs-vsctl", "list-ports", "br-sfc").output.split()
    port = chance.choice(sorted(port for port in ports if not port.startswith("y")) or ["p0"])
    other = chance.choice(("dpf-operator-system/nobody", "dpf-operator-system/x2-0", "somebody/else/eth1"))
    number = world.rack.at(dpu, "ovs-vsctl", "get", "interface", port, "ofport").output.strip()
    what = chance.choice(
        [
            ("del-port", "br-sfc", port),
            ("del-port", "br-sfc", port, "--", "add-port", "br-sfc", port),
            ("remove", "interface", port, "external_ids", "dpf-id"),
            ("set", "interface", port, f"external_ids:dpf-id={other}"),
            ("clear", "port", port, "external_ids"),
            ("clear", "interface", port, "external_ids", "--", "clear", "port", port, "external_ids"),
            ("set", "interface", port, "ofport_request=55"),
            ("del-port", "br-sfc", "p0", "--", "del-port", "br-sfc", "pf0hpf"),
            _thief("br-sfc", port, number),
        ]
    )
    outcome = world.rack.at(dpu, "ovs-vsctl", *what)
    if "thief" in what:
        time.sleep(chance.uniform(0.1, 1))
        world.rack.at(dpu, "ovs-vsctl", "--if-exists", "del-port", "thief")
    return Harm(f"{dpu}: ovs-vsctl {' '.join(what)}", count=int(outcome.status == 0))


def _thief(bridge: str, port: str, number: str) -> tuple[str, ...]:
    """Somebody else's port gets the number that flows name."""
    return (
        "del-port",
        bridge,
        port,
        "--",
        "add-port",
        bridge,
        "thief",
        "--",
        "set",
        "interface",
        "thief",
        "type=internal",
        f"ofport_request={number}",
    )


def make_bridge_anew(world: World, chance: Random) -> Harm:
    """The bridge goes with all that is on it, and comes back with nothing."""
    dpu, seconds = chance.choice(DPUS), chance.choice((0.0, chance.uniform(0.1, 3)))
    again = ("add-br", "br-sfc", "--", "set", "bridge", "br-sfc", *BRIDGE)
    if seconds:
        world.rack.at(dpu, "ovs-vsctl", "del-br", "br-sfc")
        time.sleep(seconds)
        world.rack.at(dpu, "ovs-vsctl", *again)
    else:
        world.rack.at(dpu, "ovs-vsctl", "del-br", "br-sfc", "--", *again)
    return Harm(f"{dpu}: the bridge was removed and made anew after {seconds:.1f} s", frozenset({dpu}))


def flap_link(world: World, chance: Random) -> Harm:
    """A link goes down and comes back: an uplink, a port beside, a pod's, or that to the API server."""
    dpu, seconds = chance.choice(DPUS), chance.uniform(0.1, 1.5)
    ports = world.rack.at(dpu, "ovs-vsctl", "list-ports", "br-sfc").output.split()
    pods = sorted(port for port in ports if port.startswith("veth"))
    device = chance.choice(["x1", "x3", "p0", "pf0hpf", *pods[:2]])
    world.rack.at(dpu, "ip", "link", "set", device, "down")
    time.sleep(seconds)
    world.rack.at(dpu, "ip", "link", "set", device, "up")
    return Harm(f"{dpu}: {device} was down for {seconds:.1f} s")


def part(world: World, chance: Random) -> Harm:
    """Nothing passes between a DPU and its API server for a while, and nobody says so."""
    number, seconds = chance.randint(1, 2), chance.uniform(1, 8)
    names = world.layout.identity
    link = names.management_link(number)
    asyncio.run(run("ip", "link", "set", link, "nomaster"))
    try:
        time.sleep(seconds)
    finally:
        asyncio.run(run("ip", "link", "set", link, "master", names.bridge))
    return Harm(f"dpu-{number} was parted from its API server for {seconds:.1f} s")


def change_chains(world: World, chance: Random) -> Harm:
    """An operator changes chains and interfaces."""
    rack = world.rack
    match chance.randrange(6):
        case 0:
            rack.kubectl("host", "delete", "dpuservicechain/side", "--ignore-not-found", "--wait=false")
            return Harm("deleted the chain beside")
        case 1:
            rack.kubectl("host", "delete", "dpuservicechain/side", "--ignore-not-found", "--wait=true", "--timeout=15s")
            return _applied(world, "deleted the chain beside and made it again", side_chain("x0", "x2"))
        case 2:
            device = chance.choice(("x0", "x4"))
            others = "x4" if device == "x0" else "x0"
            changes = [side_interface("x0", device), side_interface("x4", others)]
            return _applied(world, f"interface x0 is {device}, x4 is {others}", *changes)
        case 3:
            rack.kubectl("host", "delete", "dpuserviceinterface/x4", "--wait=false")
            return _applied(world, "deleted interface x4 and applied it again", side_interface("x4", "x4"))
        case _:
            switch = chance.choice((("x0", "x2"), ("x0", "x2", "x4")))
            return _applied(world, f"the chain beside has {' '.join(switch)}", side_chain(*switch))


def _applied(world: World, text: str, *objects: dict[str, object]) -> Harm:
    outcome = world.apply(*objects)
    return Harm(text) if outcome.status == 0 else Harm(f"{text}: in vain: {outcome.output.strip():.80}", count=0)


def change_labels(world: World, chance: Random) -> Harm:
    """The node, or the cluster, that the chain beside is for is no longer one that it selects, or is again."""
    (label, value) = next(iter(SIDE.items()))
    cluster, thing = chance.choice((("cluster-1", "node/dpu-1"), ("host", "dpucluster/cluster-1")))
    word = chance.choice((f"{label}={value}", f"{label}={value}", f"{label}-"))
    outcome = world.rack.kubectl(cluster, "label", thing, word, "--overwrite")
    return Harm(f"labelled {thing} {word}", count=int(outcome.status == 0))


EDITS = (
    ("delete", "{}", "--wait=false"),
    ("label", "{}", "chaos=here", "port-", "--overwrite"),
    ("patch", "{}", "--type=merge", '--patch={"metadata":{"ownerReferences":null}}'),
    ("patch", "{}", "--type=merge", '--patch={"metadata":{"labels":null}}'),
    ("patch", "{}", "--subresource=status", "--type=merge", '--patch={"status":{"conditions":null}}'),
)


def change_children(world: World, chance: Random) -> Harm:
    """Somebody edits or deletes what controllers made."""
    kind = chance.choice(["servicechains", "serviceinterfaces", "servicechainsets", "serviceinterfacesets"])
    listed = world.rack.kubectl("cluster-1", "get", kind, "--output=name")
    names = sorted(listed.output.split()) if listed.status == 0 else []
    if not names:
        return Harm("nothing to edit", count=0)
    words = [word.format(chance.choice(names)) if word == "{}" else word for word in chance.choice(EDITS)]
    outcome = world.rack.kubectl("cluster-1", *words)
    return Harm(f"kubectl {' '.join(words)}", count=int(outcome.status == 0))


def harm_pod(world: World, chance: Random) -> Harm:
    """The service's pod on a DPU goes, or one of its containers dies, or that which holds the pod's network."""
    dpu = chance.choice(DPUS)
    if chance.random() < 0.6:
        how = chance.choice((("--wait=false",), ("--grace-period=0", "--force", "--wait=false")))
        selector = ("--field-selector", f"spec.nodeName={dpu}")
        listed = world.rack.kubectl("cluster-1", "get", "pods", "--output=name", *selector).output.split()
        if not listed:
            return Harm(f"{dpu} has no pod", count=0)
        outcome = world.rack.kubectl("cluster-1", "delete", *listed, *how)
        return Harm(f"{dpu}: deleted {' '.join(listed)} {how[0]}", count=int(outcome.status == 0))
    groups = sorted((containers.state(world.layout.root / dpu) / "io.containerd.runtime.v2.task" / containers.NAMESPACE).glob("*"))
    if not groups:
        return Harm(f"{dpu} has no containers", count=0)
    ControlGroup(f"{containers.NAMESPACE}/{chance.choice(groups).name}").kill()
    return Harm(f"{dpu}: killed a container")


def reboot(world: World, chance: Random) -> Harm:
    """A DPU reboots, with the database of Open vSwitch or without."""
    dpu, options = chance.choice(DPUS), chance.choice(((), ("--new-database",)))
    with world.without_devices_of(dpu):
        outcome = world.rack.lab("reboot", dpu, *options)
        assert outcome.status == 0, outcome.output
    return Harm(f"rebooted {dpu} {' '.join(options)}")


def several(world: World, chance: Random) -> Harm:
    """Several at once, or shortly after each other."""
    chosen = [(chance.choice(AT_ONCE), Random(chance.random()), chance.uniform(0, 2)) for _ in range(chance.randint(2, MOST_AT_ONCE))]

    def later(fault: Fault, own: Random, seconds: float) -> Harm:
        time.sleep(seconds)
        return fault(world, own)

    with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
        harms = list(pool.map(lambda choice: later(*choice), chosen))
    razed = frozenset(dpu for harm in harms for dpu in harm.razed)
    return Harm(" & ".join(harm.text for harm in harms), razed, sum(harm.count for harm in harms))


MOST_AT_ONCE = 7
AT_ONCE: tuple[Fault, ...] = (
    *(kill, kill, pause, change_flows, change_flows, change_ports, change_ports, change_ports),
    *(flap_link, change_chains, change_chains, change_labels, change_children, change_children),
    *(make_bridge_anew, part, harm_pod),
)
FAULTS: tuple[Fault, ...] = (*AT_ONCE, *(several,) * 40, *(reboot,) * 4)
