"""A plan as text for people, as JSON for programs, and as a difference."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click
import msgspec
import yaml
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from dpuchain.chain.consequences import Restart
from dpuchain.chain.findings import Found, listed
from dpuchain.chain.review import counted
from dpuchain.flows.plan import Change, NodeChange, Plan

FILE_WIDTH = 200
"""Of what goes to no terminal: nobody's window."""
SHOWN = 20
"""Flows of one bridge that text shows; JSON and diff have all."""
SIGNS = {"create": ("+", "green"), "change": ("~", "yellow"), "delete": ("-", "red")}


def text(plan: Plan | None, faults: Sequence[str], ignored: Sequence[str]) -> None:
    """Print it for a person."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = FILE_WIDTH
    for tree in [*([] if plan is None else trees(plan)), *_listing("Errors", faults, "red")]:
        console.print(tree)
    if ignored:
        console.print(Text(f"not looked at: {_counted_kinds(ignored)}", "dim", overflow="fold"))
    console.print(Text(_summary(plan, faults), "bold", overflow="fold"))


def trees(plan: Plan) -> Iterator[Tree]:
    """The parts of a plan that have anything in them."""
    groups: dict[Any, list[NodeChange]] = {}
    for group in plan.nodes:
        groups.setdefault(group.cluster, []).append(group)
    objects = {change.cluster: change.objects for change in plan.clusters}
    for cluster in sorted({*objects, *groups}, key=str):
        tree = Tree(Text("Host cluster" if cluster is None else f"DPUCluster {cluster}", "bold"))
        for change in objects.get(cluster, ()):
            tree.add(_change(change))
        for group in groups.get(cluster, ()):
            _nodes(tree, group)
        yield tree
    yield from _listing("Pods", [*map(_restart, plan.restarts), *map(_replaced, plan.replaced)], "yellow")
    yield from _listing("Paths", map(str, plan.paths), "")
    yield from _listing("Conflicts", map(sentence, plan.conflicts), "red")
    yield from _listing("Warnings", map(sentence, plan.warnings), "yellow")


def _nodes(tree: Tree, group: NodeChange) -> None:
    branch = tree.add(Text(listed(group.nodes), overflow="fold"))
    for change in (*group.objects, *group.ports):
        branch.add(_change(change))
    flows = group.flows
    if flows.added or flows.removed:
        head = f"flows: {len(flows.added)} added, {len(flows.removed)} removed, {flows.total} then"
        below = branch.add(Text(head))
        lines = [*(("-", "red", flow) for flow in flows.removed), *(("+", "green", flow) for flow in flows.added)]
        for sign, colour, flow in lines[:SHOWN]:
            below.add(Text(f"{sign} {flow}", colour, overflow="fold"))
        if len(lines) > SHOWN:
            below.add(Text(f"and {len(lines) - SHOWN} more; -o diff shows all"))


def _change(change: Change) -> Text:
    sign, colour = SIGNS[change.action]
    return Text(f"{sign} {change.kind} {change.name}", colour, overflow="fold")


def _listing(title: str, lines: Iterable[str], colour: str) -> Iterator[Tree]:
    tree = Tree(Text(title, "bold"))
    for line in lines:
        tree.add(Text(line, colour, overflow="fold"))
    if tree.children:
        yield tree


def _restart(restart: Restart) -> str:
    return f"{counted(restart)} restart, as the MTU of their interfaces changes"


def _replaced(restart: Restart) -> str:
    return f"{counted(restart)} restart if the chart's DaemonSet changes"


def sentence(found: Found) -> str:
    """Who is at odds with whom, where, and why."""
    return f"{', '.join(map(str, found.between))}{found.where}: {found.issue.problem}"


def _counted_kinds(ignored: Iterable[str]) -> str:
    counts: dict[str, int] = {}
    for line in ignored:
        kind = line.rpartition(", ")[2]
        counts[kind] = counts.get(kind, 0) + 1
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))


def _summary(plan: Plan | None, faults: Sequence[str]) -> str:
    if plan is None:
        return f"no plan: {_plural(len(faults), 'error')}"
    nodes = {(group.cluster, node) for group in plan.nodes for node in group.nodes}
    parts = [f"changes on {_plural(len(nodes), 'DPU')}"] if plan else ["nothing to do"]
    parts += [_plural(len(plan.conflicts), "conflict")] if plan.conflicts else []
    parts += [_plural(len(faults), "error")] if faults else []
    return ", ".join(parts)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def json(plan: Plan | None, faults: Sequence[str], ignored: Sequence[str]) -> None:
    """Print it for a program."""
    content = {"errors": list(faults), "ignored": list(ignored), **({} if plan is None else as_json(plan))}
    click.echo(msgspec.json.format(msgspec.json.encode(content), indent=2).decode())


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan in the shape that docs/plan.md describes."""
    return {
        "changes": bool(plan),
        "clusters": [
            {"cluster": _cluster(change.cluster), "objects": [_as_json(item) for item in change.objects]} for change in plan.clusters
        ],
        "nodes": [_nodes_as_json(group) for group in plan.nodes],
        "restarts": [_restart_as_json(restart, certain=True) for restart in plan.restarts]
        + [_restart_as_json(restart, certain=False) for restart in plan.replaced],
        "paths": [
            {"from": change.path.one, "to": change.path.other, "action": "open" if change.opened else "cut", "dpus": change.dpus}
            for change in plan.paths
        ],
        "conflicts": [_found_as_json(found) for found in plan.conflicts],
        "warnings": [_found_as_json(found) for found in plan.warnings],
    }


def _cluster(cluster: Any) -> str | None:
    return None if cluster is None else str(cluster)


def _as_json(change: Change) -> dict[str, str]:
    return {"action": change.action, "kind": change.kind, "name": change.name}


def _nodes_as_json(group: NodeChange) -> dict[str, Any]:
    return {
        "cluster": str(group.cluster),
        "nodes": list(group.nodes),
        "objects": [_as_json(change) for change in group.objects],
        "ports": [_as_json(change) for change in group.ports],
        "flows": {"added": list(group.flows.added), "removed": list(group.flows.removed), "total": group.flows.total},
    }


def _restart_as_json(restart: Restart, *, certain: bool) -> dict[str, Any]:
    service = {"namespace": restart.service.namespace, "serviceID": restart.service.service_id}
    return {"cluster": str(restart.cluster), **service, "pods": restart.pods, "nodes": restart.nodes, "certain": certain}


def _found_as_json(found: Found) -> dict[str, Any]:
    between = [{"kind": ref.kind, "name": str(ref.key)} for ref in found.between]
    where = [{"cluster": _cluster(standing.cluster), "nodes": list(standing.nodes)} for standing in found.standings]
    return {"kind": found.kind, "message": str(found.issue.problem), "objects": between, "where": where}


def diff(plan: Plan | None, faults: Sequence[str], ignored: Sequence[str]) -> None:
    """Print each object, port and flow that differs, as `diff -u` does."""
    del ignored
    for line in [] if plan is None else differences(plan):
        click.echo(line)
    for fault in faults:
        click.echo(fault, err=True)
    for found in plan.conflicts if plan is not None else ():
        click.echo(f"conflict: {sentence(found)}", err=True)


def differences(plan: Plan) -> Iterator[str]:
    """The lines of it."""
    for cluster in plan.clusters:
        where = "host cluster" if cluster.cluster is None else f"DPUCluster {cluster.cluster}"
        yield from _contents(where, cluster.objects)
    for group in plan.nodes:
        where = f"DPUCluster {group.cluster}, {listed(group.nodes)}"
        yield from _contents(where, (*group.objects, *group.ports))
        if group.flows.added or group.flows.removed:
            yield f"--- {where}: flows"
            yield f"+++ {where}: flows"
            yield from (f"-{flow}" for flow in group.flows.removed)
            yield from (f"+{flow}" for flow in group.flows.added)


def _contents(where: str, changes: Iterable[Change]) -> Iterator[str]:
    for change in changes:
        name = f"{where}: {change.kind} {change.name}"
        yield from difflib.unified_diff(_lines(change.old), _lines(change.new), name, name, lineterm="", n=2)


def _lines(content: Any) -> list[str]:
    return [] if content is None else yaml.safe_dump(content, sort_keys=True, default_flow_style=False).splitlines()
