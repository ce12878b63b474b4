"""Numbers of OpenFlow 1.4 and of Open vSwitch's extensions to it, and where fields lie on the wire.

OpenFlow is encoded here and in `encode` and `decode` rather than by os-ken, whose ofproto classes cost 38 MB of resident memory and 0.6 s
of start (an agent has 80 MB), take 60 microseconds a message, and log and swallow what they cannot parse. os-ken is what the tests hold
every message against. Sources: OpenFlow Switch Specification 1.4.0 (section numbers below); Open vSwitch `include/openflow/nicira-ext.h`,
`lib/ofp-actions.c`, ovs-fields(7).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

VERSION = 0x05

# Message types (A.1)
HELLO = 0
ERROR = 1
ECHO_REQUEST = 2
ECHO_REPLY = 3
SET_CONFIG = 9
PACKET_IN = 10
PACKET_OUT = 13
FLOW_MOD = 14
MULTIPART_REQUEST = 18
MULTIPART_REPLY = 19
BARRIER_REQUEST = 20
BARRIER_REPLY = 21
BUNDLE_CONTROL = 33
BUNDLE_ADD = 34

HEADER = struct.Struct("!BBHI")  # version, type, length, transaction
LARGEST_MESSAGE = 0xFFFF

# Flow modifications (A.3.4.1): cookie, cookie mask, table, command, idle, hard, priority, buffer, out port, out group, flags, importance
FLOW_MOD_BODY = struct.Struct("!QQBBHHHIIIHH")
COMMAND_ADD = 0
COMMAND_MODIFY_STRICT = 2
COMMAND_DELETE = 3
COMMAND_DELETE_STRICT = 4
NO_BUFFER = 0xFFFFFFFF
ANY_PORT = 0xFFFFFFFF
ANY_GROUP = 0xFFFFFFFF
LAST_TABLE = 253  # 254 is Open vSwitch's own
ALL_TABLES = 0xFF
EVERY_COOKIE_BIT = 0xFFFFFFFFFFFFFFFF

# Matches (A.2.3): type, length without padding
MATCH_HEADER = struct.Struct("!HH")
MATCH_OXM = 1

# Instructions (A.2.4): type, length, padding
INSTRUCTION_HEADER = struct.Struct("!HH4x")
APPLY_ACTIONS = 4

# Actions (A.2.5)
ACTION_HEADER = struct.Struct("!HH")
ACTION_OUTPUT = 0
ACTION_PUSH_VLAN = 17
ACTION_POP_VLAN = 18
ACTION_SET_FIELD = 25
ACTION_EXPERIMENTER = 0xFFFF
OUTPUT_BODY = struct.Struct("!IH6x")  # port, bytes for a controller
PUSH_BODY = struct.Struct("!H2x")
TAGGED = 0x8100  # the Ethertype of an 802.1Q tag
EXPERIMENTER_HEADER = struct.Struct("!HHIH")  # type, length, vendor, subtype
NICIRA = 0x00002320
SUBTYPE_LOAD = 7
SUBTYPE_RESUBMIT_TABLE = 14
SUBTYPE_LEARN = 16
LOAD_BODY = struct.Struct("!HIQ")  # first bit << 6 | bits - 1, field, value
RESUBMIT_BODY = struct.Struct("!HB3x")  # in port, table
RESUBMIT_IN_PORT = 0xFFF8
LEARN_BODY = struct.Struct("!HHHQHBxHH")  # idle, hard, priority, cookie, flags, table, idle and hard after FIN
LEARN_PART = struct.Struct("!H")
LEARN_FIELD = struct.Struct("!IH")  # field, first bit
LEARN_FROM_VALUE = 1 << 13
LEARN_LOAD = 1 << 11
LEARN_PART_BITS = 0x3FF
LEARN_PART_KIND = 0xFC00

# Multipart messages (A.3.5): type, flags
MULTIPART_HEADER = struct.Struct("!HH4x")
MULTIPART_FLOW = 1
MULTIPART_MORE = 1
# Sums over flows, asked for as flows are: packets, bytes, flows
MULTIPART_AGGREGATE = 2
AGGREGATE_BODY = struct.Struct("!QQI4x")
# Request for the counters of ports: port
MULTIPART_PORTS = 4
PORT_REQUEST_BODY = struct.Struct("!I4x")
# Counters of a port in a reply: length, port, then packets, bytes, drops and errors, each received and sent
PORT_STATS_BODY = struct.Struct("!H2xI8xQQQQQQQQ")
UNKNOWN_COUNT = 0xFFFFFFFFFFFFFFFF
# Request for flows: table, out port, out group, cookie, cookie mask
FLOW_REQUEST_BODY = struct.Struct("!B3xII4xQQ")
# Flow in a reply: length, table, seconds, nanoseconds, priority, idle, hard, flags, importance, cookie, packets, bytes
FLOW_STATS_BODY = struct.Struct("!HBxIIHHHHH2xQQQ")

# Flow monitors (A.3.5.17): monitor, out port, out group, flags, table, command
MULTIPART_FLOW_MONITOR = 16
MONITOR_REQUEST_BODY = struct.Struct("!IIIHBB")
MONITOR_CHANGES = 0b1110  # what is added, removed and modified; what this connection does itself comes abbreviated
MONITOR_ADD = 0
UPDATE_HEADER = struct.Struct("!HH")  # length, event
# Update in full: length, event, table, reason, idle, hard, priority, cookie
UPDATE_FULL = struct.Struct("!HHBBHHH4xQ")
UPDATE_ADDED = 1
UPDATE_REMOVED = 2
UPDATE_MODIFIED = 3
UPDATE_ABBREVIATED = 4

# Bundles (A.3.9)
BUNDLE_CONTROL_BODY = struct.Struct("!IHH")  # bundle, type, flags
BUNDLE_ADD_BODY = struct.Struct("!I2xH")  # bundle, flags
BUNDLE_OPEN = 0
BUNDLE_COMMIT = 4
BUNDLE_DISCARD = 6
BUNDLE_ATOMIC_ORDERED = 0b11

# Switch configuration (A.3.2): flags, bytes of a frame that met no flow. A connection like ours is sent frames only if it asked for some.
CONFIG_BODY = struct.Struct("!HH")
WHOLE_FRAME = 0xFFFF

# Frames to and from the switch (A.3.7, A.4.1): buffer, port, bytes of actions; buffer, length, reason, table, cookie
PACKET_OUT_BODY = struct.Struct("!IIH6x")
PACKET_IN_BODY = struct.Struct("!IHBBQ")
TO_TABLES = 0xFFFFFFF9
TO_CONTROLLER = 0xFFFFFFFD

# Errors (A.4.4): type, code
ERROR_BODY = struct.Struct("!HH")


class FieldType(NamedTuple):
    """A match field: its header on the wire without mask bit and length (class << 16 | field << 9), its size in bytes and its width in
    bits.
    """

    header: int
    size: int
    bits: int


def _basic(number: int, size: int, bits: int | None = None) -> FieldType:
    return FieldType(0x80000000 | number << 9, size, size * 8 if bits is None else bits)


def _nicira(vendor_class: int, number: int, size: int) -> FieldType:
    return FieldType(vendor_class << 16 | number << 9, size, size * 8)


# Fields as matches name them (7.2.3.7).
MATCH_FIELDS = {
    "in_port": _basic(0, 4),
    "metadata": _basic(2, 8),
    "eth_dst": _basic(3, 6),
    "eth_src": _basic(4, 6),
    "eth_type": _basic(5, 2),
    "vlan_vid": _basic(6, 2, 13),
    "reg0": _nicira(1, 0, 4),
    "reg1": _nicira(1, 1, 4),
    "reg2": _nicira(1, 2, 4),
}
# Fields as actions of Open vSwitch name them; it reads either form, and where a field has an older one of its own, it writes that.
ACTION_FIELDS = {**MATCH_FIELDS, "in_port": _nicira(0, 0, 2), "eth_dst": _nicira(0, 1, 6), "eth_src": _nicira(0, 2, 6)}

FIELD_OF_HEADER = {kind.header: (name, kind) for fields in (MATCH_FIELDS, ACTION_FIELDS) for name, kind in fields.items()}


def name_of_unknown(header: int) -> str:
    """What a field is called that no flow of ours matches, so that a flow with it can be told apart from ours, and be deleted."""
    return f"oxm:{header:#010x}"


def header_of_unknown(name: str) -> int:
    """The header in such a name. ValueError if it is none."""
    return int(name.removeprefix("oxm:"), 16)


def padding(length: int) -> int:
    """Bytes that fill `length` up to a multiple of eight."""
    return -length % 8
