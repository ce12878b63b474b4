"""What a chaos run keeps going: the example's chain through a service on both DPUs, a chain beside it, and what belongs to somebody else.

Somebody else has a bridge of his own on each DPU, and on br-sfc two ports, flows that join them, a group and a meter, which nobody may
touch.
"""

from __future__ import annotations

import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpuchain.lab.layout import Layout
from dpuchain.lab.openvswitch import PROTOCOLS
from dpuchain.lab.traffic import End, Outcome, Stream
from tests.chaos.ears import Ear
from tests.e2e.conftest import Rack
from tests.e2e.manifests import ON_FIRST, chain, interface

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from tests.e2e.conftest import Outcome as Answer

EXAMPLE = Path(__file__).parents[2] / "examples/01-bump-in-the-wire/chain.yaml"
DPUS = ("dpu-1", "dpu-2")
PAIRS = (("x0", "x1"), ("x2", "x3"), ("x4", "x5"), ("y0", "y1"), ("y2", "y3"))
"""Pairs of devices of each DPU: x0, x2 and x4 are for the chain beside, y0 and y2 are somebody else's."""
FAR_END = {one: other for pair in PAIRS for one, other in (pair, pair[::-1])}
"""The other device of a device's pair."""
DEVICES = ("x", "y", "p0", "pf0hpf", "veth")
"""How the names of a DPU's devices begin that frames may pass."""
BESIDE = frozenset({"x0", "x1", "x2", "x3", "x4", "x5"})
"""The devices that the chain beside may have had ports of, and their other ends."""
FAULTY = ("br-sfc", "thief")
"""The devices to which faults themselves send frames, as long as they last."""
SIDE = {"chaos/side": "yes"}
"""The label of the cluster and of the node that the chain beside is for."""
BRIDGE = "datapath_type=netdev", "fail_mode=secure", f"protocols={PROTOCOLS}"
THEIRS = "cookie=0x77/-1"
THEIR_FLOWS = (
    "table=0,priority=60000,in_port=701,actions=output:702",
    "table=0,priority=60000,in_port=702,actions=output:701",
    "table=2,priority=9,ip,actions=drop",
    "table=9,priority=5,actions=drop",
)
STREAMS = {
    "hosts": (("host-1", "pf0"), ("host-2", "pf0"), 200),
    "beside": (("dpu-1", "x1"), ("dpu-1", "x3"), 100),
    "theirs": (("dpu-1", "y1"), ("dpu-1", "y3"), 100),
}
"""Ends and frames a second each way: few enough to wait in queues while a busy machine lets nobody forward."""


@dataclass
class World:
    """A rack, the frames that pass on it, and what was seen when last planted of that which is somebody else's."""

    rack: Rack
    streams: dict[str, Stream] = field(default_factory=dict)
    ended: list[Outcome] = field(default_factory=list)
    theirs: dict[str, list[str]] = field(default_factory=dict)
    ears: dict[str, Ear] = field(default_factory=dict)
    stray: list[str] = field(default_factory=list)

    @property
    def layout(self) -> Layout:
        """Where the rack keeps its files."""
        return Layout.at(self.rack.directory)

    def raise_up(self) -> None:
        """Raise the rack and have everything Ready on it."""
        outcome = self.rack.lab("up", "--dpus=2", "--no-example", timeout=900)
        assert outcome.status == 0, outcome.output
        for dpu in DPUS:
            self.plant(dpu)
        self.rack.ok("cluster-1", "label", "node/dpu-1", *_words(SIDE))
        self.rack.ok("host", "label", "dpucluster/cluster-1", *_words(SIDE))
        self.rack.ok("host", "apply", "--filename", str(EXAMPLE))
        assert self.apply(*(side_interface(name, name) for name in ("x0", "x2", "x4")), side_chain("x0", "x2")).status == 0
        for kinds in ("dpuserviceinterfaces", "dpuservices", "dpuservicechains"):
            self.rack.ok("host", "wait", "--for=condition=Ready", kinds, "--all", "--timeout=90s")

    def plant(self, dpu: str) -> None:
        """Have on a DPU the bridge, what is somebody else's, and the devices for the chain beside; whatever is there already stays."""
        at = self.rack.at
        assert vsctl(self.rack, dpu, "--may-exist", "add-br", "br-sfc", "--", "set", "bridge", "br-sfc", *BRIDGE).status == 0
        for first, second in PAIRS:
            at(dpu, "ip", "link", "add", first, "up", "type", "veth", "peer", "name", second)
        self.bring_up(dpu)
        for port, number in (("y0", 701), ("y2", 702)):
            marks = ("set", "port", port, "external_ids:owner=somebody", "--", "set", "interface", port, "external_ids:iface-id=theirs")
            made = ("--may-exist", "add-port", "br-sfc", port, "--", "set", "interface", port, f"ofport_request={number}", "--", *marks)
            assert vsctl(self.rack, dpu, *made).status == 0, port
        other = ("--may-exist", "add-br", "br-other", "--", "set", "bridge", "br-other", "datapath_type=netdev")
        inside = ("--may-exist", "add-port", "br-other", "o0", "--", "set", "interface", "o0", "type=internal")
        assert vsctl(self.rack, dpu, *other, "--", *inside).status == 0
        for flow in THEIR_FLOWS:
            ofctl(self.rack, dpu, "add-flow", "br-sfc", f"cookie=0x77,{flow}")
        ofctl(self.rack, dpu, "del-groups", "br-sfc", "group_id=77")
        ofctl(self.rack, dpu, "del-meter", "br-sfc", "meter=77")
        ofctl(self.rack, dpu, "add-group", "br-sfc", "group_id=77,type=all,bucket=output:702")
        ofctl(self.rack, dpu, "add-meter", "br-sfc", "meter=77,pktps,band=type=drop,rate=1000")
        self.theirs[dpu] = self.look_at_theirs(dpu)

    def bring_up(self, dpu: str) -> None:
        """Bring up what is down of a DPU's devices, all of which are somebody's.

        Open vSwitch reads the flags of a device that it takes up or lets go, and writes them back with one changed: a device that was
        brought up between the two is down again.
        """
        listed = self.rack.at(dpu, "ip", "-json", "link", "show")
        for link in json.loads(listed.output) if listed.status == 0 else ():
            if "UP" not in link["flags"] and link["ifname"].startswith(DEVICES):
                self.rack.at(dpu, "ip", "link", "set", link["ifname"], "up")

    def look_at_theirs(self, dpu: str) -> list[str]:
        """All that is to be known of what is somebody else's on a DPU."""
        questions = [("dump-flows", "br-sfc", THEIRS), ("dump-groups", "br-sfc"), ("dump-meters", "br-sfc")]
        found = [
            line for question in questions for line in ofctl(self.rack, dpu, "--no-stats", *question).splitlines() if "xid" not in line
        ]
        for table, columns in (("port", "name,external_ids"), ("interface", "name,type,ofport,ofport_request,external_ids,error")):
            listed = vsctl(self.rack, dpu, "--format=csv", f"--columns={columns}", "list", table, *("y0", "y2", "o0"))
            found += listed.output.splitlines()
        return sorted(line.strip() for line in found)

    def apply(self, *objects: dict[str, Any]) -> Answer:
        """Apply objects in the host cluster, which may be away."""
        path = self.rack.directory / f"chaos-{threading.get_ident()}.json"
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        return self.rack.kubectl("host", "apply", "--filename", str(path), "--request-timeout=20s", timeout=60)

    def complete(self, devices: Mapping[str, str]) -> None:
        """Make the interfaces for the chain beside whole, given the device that each has.

        A fault may have been cut short by another, or several may have given one device to two of them.
        """
        first = devices.get("x0", "x4" if devices.get("x4") == "x0" else "x0")
        wanted = {"x0": first, "x2": "x2", "x4": "x0" if first == "x4" else "x4"}
        missing = [side_interface(name, device) for name, device in wanted.items() if devices.get(name) != device]
        if missing:
            self.apply(*missing)

    @contextlib.contextmanager
    def traffic(self) -> Iterator[None]:
        """Frames pass while the context lasts."""
        try:
            for dpu in DPUS:
                self.listen(dpu)
            for name in STREAMS:
                self.start(name)
            yield
        finally:
            for name in STREAMS:
                self.stop(name)
            for ear in self.ears.values():
                ear.close()

    def start(self, name: str) -> None:
        """Have a stream begin."""
        first, second, rate = STREAMS[name]
        near, far = (End(self.layout.identity.namespace(place), device) for place, device in (first, second))
        self.streams[name] = Stream(near, far, number=1 + list(STREAMS).index(name), rate=rate)
        self.streams[name].start()

    def stop(self, name: str) -> None:
        """End a stream."""
        if name in self.streams:
            self.ended.append(self.streams.pop(name).stop())

    def listen(self, dpu: str) -> None:
        """Hear on every device of a DPU."""
        self.ears[dpu] = Ear(self.layout.identity.namespace(dpu))

    def hear(self, beside: Collection[str] | None = None) -> None:
        """Note in `stray` what was heard since this was last asked where it does not belong.

        As long as it is quiet, frames of the chain beside belong on the devices `beside` and on those of its stations, and none where only
        faults send any.
        """
        for dpu, ear in self.ears.items():
            for (device, number), count in sorted(ear.take().items()):
                stream = list(STREAMS)[number - 1]
                if not _belongs(stream, dpu, device, beside):
                    self.stray.append(f"{dpu}: {count} frames of stream {stream} on {device}, where they do not belong")

    @contextlib.contextmanager
    def without_devices_of(self, dpu: str) -> Iterator[None]:
        """The streams that end on devices which software made on a DPU stop for as long as those may be gone."""
        ending = [name for name, (first, second, _) in STREAMS.items() if dpu in (first[0], second[0])]
        for name in ending:
            self.stop(name)
        self.ears[dpu].close()
        yield
        self.plant(dpu)
        self.listen(dpu)
        for name in ending:
            self.start(name)

    def pause(self) -> dict[str, Outcome]:
        """What was counted so far, all sent frames having arrived; until `resume` no frame is sent."""
        with ThreadPoolExecutor() as pool:
            return dict(zip(self.streams, pool.map(Stream.pause, self.streams.values()), strict=True))

    def resume(self) -> None:
        """Send again."""
        for stream in self.streams.values():
            stream.resume()


def _belongs(stream: str, dpu: str, device: str, beside: Collection[str] | None) -> bool:
    """Whether frames of a stream may be heard on a device."""
    if beside is None and device in FAULTY:
        return True
    if stream == "hosts":
        return device.startswith(("p0", "pf0hpf", "veth"))
    if stream == "theirs":
        return dpu == DPUS[0] and device in ("y0", "y1", "y2", "y3")
    return dpu == DPUS[0] and device in (BESIDE if beside is None else {"x0", "x1", "x2", "x3", *beside})


def side_interface(name: str, device: str) -> dict[str, Any]:
    """An interface of dpu-1 for the chain beside."""
    return interface(name, {"interfaceType": "physical", "physical": {"interfaceName": device}}, **ON_FIRST)


def side_chain(*switch: str) -> dict[str, Any]:
    """The chain beside, with one switch."""
    made = chain("side", switch, nodeSelector={"matchLabels": SIDE})
    made["spec"]["dpuClusterSelector"] = {"matchLabels": SIDE}
    return made


def ofctl(rack: Rack, dpu: str, *words: str) -> str:
    """What `ovs-ofctl` prints of br-sfc; nothing while Open vSwitch is away."""
    outcome = rack.at(dpu, "ovs-ofctl", "--timeout=10", "-O", "OpenFlow14", *words)
    return outcome.output if outcome.status == 0 else f"{' '.join(words)}: {outcome.output}"


def vsctl(rack: Rack, dpu: str, *words: str) -> Answer:
    """Run `ovs-vsctl`, which waits for ovs-vswitchd to do as it was told, but not for long."""
    return rack.at(dpu, "ovs-vsctl", "--timeout=10", *words)


def _words(labels: dict[str, str]) -> Sequence[str]:
    return [f"{key}={value}" for key, value in labels.items()]
