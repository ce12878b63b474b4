"""What a person sees, on a terminal of any width, or in a file or a pipe."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from dpuchain.cli.checks import Finding
from dpuchain.cli.items import Item
from dpuchain.flows.trace import Departure, Hop, Probe, Trace

FILE_WIDTH = 200
"""Of lines that go to no terminal: nobody's window is to be fitted."""
PLACES_SHOWN = 5
"""Of those where the same is wrong."""
LABELS = {"smallestMTU": "smallest MTU", "mtu": "MTU", "vlan": "VLAN", "openvswitch": "Open vSwitch"}
"""What facts are called in text, where it is not by their names."""
COUNTED = {
    "flows": ("flow", "flows"),
    "flowPackets": ("packet by flows", "packets by flows"),
    "foreignFlows": ("foreign flow", "foreign flows"),
    "errors": ("error", "errors"),
    **{word: (word, word) for word in ("received", "sent", "dropped", "learned", "applied", "ready", "missing", "surplus")},
}
"""Facts that are told as so many of something, with the word for one, and for more."""


def console() -> Console:
    """Standard output: with colours on a terminal that wants them (NO_COLOR), with none elsewhere."""
    made = Console(highlight=False, soft_wrap=False)
    if not made.is_terminal:
        made.width = FILE_WIDTH
    return made


def trees(items: Iterable[Item]) -> Group:
    """The trees as text."""
    return Group(*(_branch(Tree(_label(item)), item) for item in items))


def _branch(drawn: Tree, item: Item) -> Tree:
    for problem in item.problems:
        drawn.add(Text(problem, "yellow", overflow="fold"))
    for child in item.children:
        _branch(drawn.add(_label(child)), child)
    return drawn


def _label(item: Item) -> Text:
    colour = {True: "green", False: "red", None: ""}[item.ready]
    name = f"{item.kind.lower() if item.kind == 'Switch' else '' if item.kind == 'Port' else item.kind} {item.name}".strip()
    label = Text(overflow="fold").append(name, "" if item.state else colour)
    if item.state:
        label.append("  ").append(item.state, colour)
    if item.facts:
        label.append("  ").append(", ".join(_fact(key, value) for key, value in item.facts.items()), "dim")
    return label


def _fact(key: str, value: str | int) -> str:
    if key in COUNTED:
        return f"{value} {COUNTED[key][value != 1]}"
    return f"{LABELS.get(key, key)} {value}"


def traced(found: Trace) -> Group:
    """The ways of a frame, hop by hop, and the verdict."""
    there = _hop(Tree(f"{found.frame}, into {found.begins} of {found.node}"), found.forward)
    back = (_hop(Tree("and back"), way) for way in found.back)
    return Group(there, *back, *map(_probe, found.probes), _verdict(found))


def _probe(probe: Probe) -> Text:
    """What became of the probe frames at one switch."""
    if probe.skipped:
        return Text(f"live, by {probe.begins}: not measured: {probe.skipped}", "dim", overflow="fold")
    way = f"live, by {probe.begins} through {probe.through} to {', '.join(probe.ends)}"
    times = f", {probe.least:.2f}/{probe.mean:.2f}/{probe.most:.2f} ms (least/mean/most)" if probe.mean is not None else ""
    return Text(f"{way}: {probe.lost} of {probe.sent} lost{times}", "red" if probe.lost else "", overflow="fold")


def _hop(drawn: Tree, hop: Hop) -> Tree:
    ends = {"end": ("leaves by", "green"), "lost": ("lost at", "red"), "unsure": ("not known beyond", "yellow")}
    if hop.kind in ends:
        words, colour = ends[hop.kind]
        branch = drawn.add(Text(f"{words} {hop.name}", colour, overflow="fold"))
    else:
        opaque = ", which passes frames on as it likes" if hop.kind == "service" else ""
        branch = drawn.add(Text(f"{hop.name}{opaque}, by {hop.enters or 'a patch'}", overflow="fold"))
    if hop.kind == "switch":
        branch.add(Text(f"compiled flows: {_places(hop.ours)}", "dim", overflow="fold"))
        itself = branch.add(Text(f"switch itself:  {_places(hop.theirs)}", "dim", overflow="fold"))
        for rule in hop.rules:
            itself.add(Text(rule, "dim", overflow="fold"))
    if hop.differs:
        branch.add(Text(f"they differ: {hop.differs}", "red", overflow="fold"))
    for problem in hop.problems:
        branch.add(Text(problem, "yellow", overflow="fold"))
    for after in hop.onward:
        _hop(branch, after)
    return drawn


def _places(departures: Iterable[Departure]) -> str:
    return ", ".join(map(str, departures)) or "nowhere"


def _verdict(found: Trace) -> Text:
    """What became of the frame, in a line, and why."""
    colour = {"delivered": "green", "dropped": "red", "unknown": "yellow"}[found.verdict]
    line = Text(found.sentence, f"bold {colour}", overflow="fold")
    return line.append(f"\n{found.cause}", "not bold") if found.cause else line


def finding(found: Finding) -> Table:
    """A finding of `check`: how bad, about what, what and where; and the remedy."""
    colour = {"ok": "green", "warning": "yellow", "fault": "red"}[found.level]
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=7)
    grid.add_column(width=12)
    grid.add_column(overflow="fold", ratio=1)
    text = Text(found.text, overflow="fold")
    if found.where:
        more = f" and {len(found.where) - PLACES_SHOWN} more" if len(found.where) > PLACES_SHOWN else ""
        text.append(f"\non {', '.join(found.where[:PLACES_SHOWN])}{more}", "dim")
    if found.remedy:
        text.append(f"\n→ {found.remedy}", "bold")
    grid.add_row(Text(found.level, colour), found.area, text)
    return grid
