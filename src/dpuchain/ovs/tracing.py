"""What ovs-vswitchd itself says: of a frame (`ofproto/trace`), and which version it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from dpuchain.flows.model import VLAN_PRESENT
from dpuchain.flows.packets import Packet
from dpuchain.flows.trace import Answer, Departure
from dpuchain.ovs.errors import Invalid, Unreachable
from dpuchain.ovs.unixctl import call

_PORT = re.compile(r"^\s+(\S+) \d+/(\d+):", re.MULTILINE)
_BRIDGE = re.compile(r'^\s*bridge\("(.*)"\)$', re.MULTILINE)
_RULE = re.compile(r"^\s*(\d+)\. (.*)$")
_ACTIONS = re.compile(r"^Datapath actions: (.*)$", re.MULTILINE)
_PUSH = re.compile(r"push_vlan\((?:tpid=0x[0-9a-f]+,)?vid=(\d+),pcp=\d+\)")


def control_socket(folder: Path) -> Path:
    """The control socket of the ovs-vswitchd whose files are in `folder`. Unreachable if it does not run."""
    try:
        pid = (folder / "ovs-vswitchd.pid").read_text().strip()
    except OSError as error:
        raise Unreachable(f"{folder / 'ovs-vswitchd.pid'} cannot be read: ovs-vswitchd does not run ({error.strerror})") from error
    usual = folder / f"ovs-vswitchd.{pid}.ctl"
    return usual if usual.exists() else folder / "ovs-vswitchd.ctl"


async def version(folder: Path) -> str:
    """Version of the ovs-vswitchd whose files are in `folder`, such as 3.1.0. Unreachable, Rejected and Invalid as for any call."""
    return (await call(control_socket(folder), "version")).split()[-1]


async def settled(folder: Path) -> None:
    """Return when the datapath forwards as the flows say that there are now: until then it may go by what it has cached.

    Rejected if the switch cannot tell, as it has several datapaths; Unreachable and Invalid as for any call.
    """
    control = control_socket(folder)
    for _ in range(2):  # the first may be told of a look at the cache that had begun before the flows were changed
        await call(control, "revalidator/wait")


async def trace(folder: Path, bridge: str, port: int, packet: Packet) -> Answer:
    """What would become of a frame that comes in by a port of `bridge`; nothing is sent and nothing learned.

    `folder` is where ovs-vswitchd has its files. Unreachable, Rejected and Invalid as for any call.
    """
    control = control_socket(folder)
    said = await call(control, "ofproto/trace", bridge, f"in_port={port}", packet.content.hex())
    return read(said, devices(await call(control, "dpif/show")), packet.tags)


def devices(shown: str) -> dict[str, str]:
    """The names of the devices by their numbers in the datapath, from what `dpif/show` says."""
    return {number: name for name, number in _PORT.findall(shown)}


def read(said: str, names: Mapping[str, str], tags: tuple[int, ...]) -> Answer:
    """The answer in the text of `ofproto/trace`, for a frame that came with `tags`. Invalid if there is none in it."""
    actions = _ACTIONS.findall(said)
    if not actions:
        raise Invalid(f"ofproto/trace was answered without datapath actions: {said:.200}")
    return Answer(_departures(actions[-1], names, tags), tuple(_BRIDGE.findall(said)), tuple(_rules(said)))


def _departures(actions: str, names: Mapping[str, str], tags: tuple[int, ...]) -> tuple[Departure, ...]:
    found = []
    for action in re.split(r",(?![^()]*\))", actions):
        push = _PUSH.fullmatch(action)
        if push:
            tags = (VLAN_PRESENT | int(push[1]), *tags)
        elif action == "pop_vlan":
            tags = tags[1:]
        elif action.isdigit():
            found.append(Departure(names.get(action, f"datapath port {action}"), tags))
    return tuple(dict.fromkeys(found))


def _rules(said: str) -> list[str]:
    """Each rule that the frame met, with what it did, on one line: table, match, priority and cookie, then the actions.

    A rule's actions stand deeper than the rule, and what a resubmit finds stands between them, deeper still.
    """
    rules: list[str] = []
    open_rules: list[tuple[int, int]] = []
    for line in said.partition("\nFinal flow:")[0].splitlines()[1:]:
        text = line.strip()
        if not text or text.startswith(("bridge(", "--", "->", ">>")):
            continue
        depth = len(line) - len(line.lstrip())
        rule = _RULE.match(line)
        while open_rules and open_rules[-1][0] >= depth:
            open_rules.pop()
        if rule:
            open_rules.append((depth, len(rules)))
            rules.append(f"table {rule[1]}: {rule[2].strip()}")
        elif open_rules:
            at = open_rules[-1][1]
            rules[at] += (", " if " → " in rules[at] else " → ") + text
    return rules
