"""What would be wrong because of a change, each once, with all the places where it would be so."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from dpuchain.chain.comparison import Standing
from dpuchain.chain.foresight import Identity, Issue
from dpuchain.chain.problems import Kind, Ref

REFUSED: frozenset[Kind] = frozenset({"port", "vlan", "switch", "several", "mtu", "service", "identity", "impossible", "dead"})
"""What nothing that may still come makes right."""
WARNED: frozenset[Kind] = frozenset({"none", "name", "follows"})
"""What may become right by itself, or is wrong because something else is."""
LISTED = 3
"""Nodes that a sentence names before it only counts."""


@dataclass(frozen=True)
class Found:
    """Something wrong; on no nodes if it has nothing to do with nodes."""

    issue: Issue
    identities: frozenset[Identity]
    """What of it is new, or, where nothing is, all of it."""
    standings: tuple[Standing, ...] = ()

    @property
    def kind(self) -> Kind:
        """Of which kind it is."""
        return self.issue.problem.kind

    @property
    def between(self) -> tuple[Ref, ...]:
        """The objects that it is between, in order."""
        return tuple(sorted({ref for identity in self.identities for ref in identity.between}))

    @property
    def where(self) -> str:
        """Clusters and nodes in words, to go on after the name of an object; empty if no node has to do with it."""
        return where(self.standings)


def among_objects(before: Iterable[Issue], after: Iterable[Issue], concerned: Collection[Ref] = ()) -> Iterator[Found]:
    """What is wrong with objects after and was not before, or has to do with the objects that are `concerned`."""
    known = {identity for issue in before for identity in issue.identities}
    for issue in after:
        identities = frozenset(issue.identities)
        if identities - known or has_part(identities, concerned):
            yield Found(issue, identities - known or identities)


def on_nodes(standings: Iterable[Standing], concerned: Collection[Ref] = ()) -> Iterator[Found]:
    """What is wrong on nodes after and was not before, or has to do with the objects that are `concerned`.

    Of nodes of which only the selector is known, only what cannot become right.
    """
    found: dict[frozenset[Identity], Found] = {}
    for standing in standings:
        known = {identity for issue in standing.before.issues for identity in issue.identities}
        for issue in standing.after.issues:
            identities = frozenset(issue.identities)
            if (identities - known or has_part(identities, concerned)) and (standing.nodes or issue.problem.kind in REFUSED):
                there = found.get(identities, Found(issue, identities - known or identities))
                found[identities] = Found(there.issue, there.identities, (*there.standings, standing))
    yield from found.values()


def has_part(identities: Iterable[Identity], concerned: Collection[Ref]) -> bool:
    """Whether any of these problems is between objects of which one is `concerned`."""
    return any(ref in concerned for identity in identities for ref in identity.between)


def where(standings: Sequence[Standing]) -> str:
    """Their clusters and nodes in words; nodes that might be are named only where there are no others."""
    if not standings:
        return ""
    real = [standing for standing in standings if standing.nodes]
    if not real:
        return f" {standings[0].where} on any node" + (f" that selector {standings[0].selector} picks" if standings[0].selector else "")
    parts = []
    for cluster in dict.fromkeys(standing.where for standing in real):
        nodes = sorted(node for standing in real if standing.where == cluster for node in standing.nodes)
        parts.append(f" {cluster} on {listed(nodes)}")
    return ",".join(parts)


def listed(nodes: Sequence[str]) -> str:
    """The first few nodes by name, and how many more there are."""
    shown = ", ".join(nodes[:LISTED])
    return f"node {shown}" if len(nodes) == 1 else f"nodes {shown}" + (f" and {len(nodes) - LISTED} more" if len(nodes) > LISTED else "")
