"""The pipeline of br-sfc, as data: four tables, four registers, one cookie.

A port of a switch is a port of the bridge, or a VLAN on one: the frames with its tag, which they carry outside the switch alone. A port of
the bridge that is itself a port of a switch has all other frames, and no frame leaves by it with the tag of a VLAN that is not its own.

A port of a two-port switch needs the first table alone: what comes in by one port goes out by the other, whatever it is, and nothing is
learned.

A larger switch is a learning switch. A frame is marked with its switch, its source is remembered in `learned` as a hint ("this station
was last seen behind that port"), the hint for its destination is read, and `forward` decides. Entries that a switch learned hold no
output of their own: only the static flows of `forward` send frames, and those exist for the present members of a switch alone. So a hint
that is out of date can neither leak a frame into another switch nor sink it: it matches nothing, and the frame is flooded.

Two VLANs on one port may belong to one switch. A frame then may leave by the port that it came in by, which Open vSwitch does only if
the frame has forgotten that port; so `origin` remembers it, and flows of their own keep the frame from going back to where it came from.

Costs: one flow a port of a two-port switch; two flows a port and one more for each larger switch. A VLAN on a port that is in a switch
itself costs two flows more, that port three, and one that shares its port with another port of its own switch two.
"""

from __future__ import annotations

from dpuchain.chain.ports import SwitchPort
from dpuchain.flows.declaration import BitField, Layout, Pipeline, Table

STATIC_KIND = 1
LEARNED_KIND = 2
PROBE_KIND = 3

# Twelve bits that say "dpuchain". With the kind, one foreign cookie of 32,768 looks like ours if foreign ones are drawn at random.
BRAND = 0xD9C
# Raised when a later version lays out tables or registers in another way. Flows of another round, earlier or later, are ours, and never
# stay beside those of this one: whoever is upgraded, or taken back, exchanges them all at once (`diff`).
ROUND = 1

# Seconds for which a station is remembered after it was last seen as a source: the usual ageing time of a bridge (IEEE 802.1Q, 8.8.3). Each
# frame of the station starts it anew, since `learn` refreshes the hard timeout and not the idle one: traffic *to* a station that is gone
# must not keep it alive.
LEARNED_SECONDS = 300

# Numbers of switch ports that a flow may name (OpenFlow 1.4, 7.2.1: OFPP_MAX as Open vSwitch maps it to 16 bits).
LARGEST_PORT = 0xFEFF

# Ethertypes of a tag (IEEE 802.1Q, 9.5): customer and service.
TAG_TYPES = (0x8100, 0x88A8)

COOKIE = Layout(
    "cookie",
    64,
    (
        BitField("brand", 52, 12, "0xd9c: the flow is dpuchain's. Flows without it are neither changed nor deleted."),
        BitField("round", 48, 4, "Version of this pipeline's layout. Flows of another round are replaced in one bundle."),
        BitField(
            "kind", 44, 4, "1 for a flow that was compiled, 2 for an entry that the switch learned, 3 for one that catches probe frames."
        ),
        BitField("owner", 16, 28, "Number of the ServiceChain that the flow serves."),
        BitField("port", 0, 16, "Port that the flow serves: frames from it, to it, or a station behind it; 0 for a whole switch."),
    ),
)

METADATA = Layout(
    "metadata",
    64,
    (
        BitField("switch", 32, 16, "Position of the switch in its chain, from 0."),
        BitField("owner", 0, 28, "Number of the ServiceChain."),
    ),
)

HINT = Layout(
    "reg0",
    32,
    (
        BitField("port", 0, 16, "Port behind which the destination was last seen; 0 if it is not known."),
        BitField("vlan", 16, 12, "The VLAN on that port; 0 if the port itself is meant."),
    ),
)

ORIGIN = Layout(
    "reg1",
    32,
    (
        BitField("port", 0, 16, "Port that the frame came in by."),
        BitField("vlan", 16, 12, "The VLAN on that port; 0 if the port itself is meant."),
    ),
)

TARGET = Layout("reg2", 32, (BitField("port", 0, 16, "Port that the frame shall leave by if its tag lets it."),))

PIPELINE = Pipeline(
    tables=(
        Table(
            0,
            "classify",
            "Finds the switch that a frame belongs to by the port and the VLAN it came in by, and takes that VLAN's tag off. A wire's "
            "frame leaves at once; any other is marked with its switch, its source is learned, and it goes on. A frame of a VLAN that is "
            "an interface of its own, but in no switch, goes nowhere. Where a live trace waits for its probe frames, they end here.",
            priorities={"probe": 4000, "vlan": 3000, "reserved": 2000, "port": 1000},
            edges=("learned", "forward", "leave"),
            learns=("learned",),
        ),
        Table(
            1,
            "learned",
            "Holds what switches learned: switch, VLAN and station give the port behind which the station was last seen. Written by the "
            "switch itself; a miss leaves the hint empty.",
            priorities={"station": 1000},
        ),
        Table(
            2,
            "forward",
            "Sends a frame to the hinted port if that is a port of its switch, else to all ports of the switch; never to the one it came "
            "in by. `home` and `shared` see to that where two ports of a switch are VLANs of one port.",
            priorities={"home": 3000, "member": 2000, "shared": 1500, "flood": 1000},
            edges=("leave",),
        ),
        Table(
            3,
            "leave",
            "The last step to a port on which VLANs are interfaces of their own: a frame with the tag of one of them is dropped, since "
            "whoever is at the other end would take it for that interface's. So is one whose tag cannot be seen, since Open vSwitch "
            "looks at one tag of a frame (at all, if other_config:vlan-limit says so), and that one was taken off.",
            priorities={"hidden": 3000, "reserved": 2000, "port": 1000},
        ),
    ),
    layouts=(COOKIE, METADATA, HINT, ORIGIN, TARGET),
)

OURS_MASK = COOKIE["brand"].mask
OURS = COOKIE["brand"].place(BRAND)


def cookie(kind: int, owner: int, port: int = 0) -> int:
    """Cookie of a flow of `kind` that serves `port` (0: a whole switch) of the chain with number `owner`."""
    head = OURS | COOKIE["round"].place(ROUND) | COOKIE["kind"].place(kind)
    return head | COOKIE["owner"].place(owner) | COOKIE["port"].place(port)


def register(port: SwitchPort) -> int:
    """A port of a switch as the registers of hint and origin hold it."""
    return HINT["port"].place(port.number) | HINT["vlan"].place(port.vlan or 0)


def is_ours(value: int) -> bool:
    """Whether a flow with this cookie is dpuchain's to change, whichever round it is of."""
    return value & OURS_MASK == OURS and COOKIE["kind"].read(value) in (STATIC_KIND, LEARNED_KIND)


def is_probe(value: int) -> bool:
    """Whether a flow with this cookie catches probe frames; it goes by itself and is nobody's to repair."""
    return value & OURS_MASK == OURS and COOKIE["kind"].read(value) == PROBE_KIND


def round_of(value: int) -> int:
    """Which round a cookie of ours is of."""
    return COOKIE["round"].read(value)


def metadata(owner: int, switch: int) -> int:
    """The mark that frames carry inside the switch at position `switch` of the chain with number `owner`."""
    return METADATA["owner"].place(owner) | METADATA["switch"].place(switch)
