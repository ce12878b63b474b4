"""Whether an object may become what somebody wants it to be: what is refused, and what is only warned of.

Refused is what cannot be right, whatever comes later, and only if it is new and the object itself has part in it: who mends one thing is
not held up by another. A deletion is never refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dpuchain.api.fleet import DPFOperatorConfig, DPUCluster
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.service import DPUService
from dpuchain.chain.comparison import Standing, compare
from dpuchain.chain.consequences import Restart, losses, replaced_by_helm, restarts
from dpuchain.chain.fields import deprecated_fields
from dpuchain.chain.findings import REFUSED, WARNED, Found, among_objects, on_nodes, where
from dpuchain.chain.fleet import Fleet, Place, Source
from dpuchain.chain.foresight import Issue
from dpuchain.chain.identities import identity_findings
from dpuchain.chain.objects import service_issues, source_issues
from dpuchain.chain.problems import Ref
from dpuchain.chain.selectors import matches


@dataclass(frozen=True)
class Verdict:
    """What to answer: the reasons to refuse (none: it may be), and the warnings."""

    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def review(fleet: Fleet, old: Any, new: Any, cluster: ObjectKey | None = None) -> Verdict:
    """Judge that `old` becomes `new`, in the host cluster or in a DPU cluster: None where it is created, or deleted."""
    item = new if new is not None else old
    before, after = fleet.changed(None, old, cluster), fleet.changed(old, new, cluster)
    itself = Ref(type(item).__name__, key_of(item))
    place = Place(cluster, *itself)
    standings = _standings(before, after, item, place)
    found = [
        *among_objects(_judged(before, item, place), _judged(after, item, place)),
        *on_nodes(standings),
        *identity_findings(before, after),
    ]
    mine = [entry for entry in found if itself in entry.between or (isinstance(item, DPUCluster) and entry.standings)]
    warnings = [*_warnings(before, after, item, place), *_lost(standings, itself), *_restarted(before, after, item, standings)]
    if new is None:
        return Verdict((), _unique(warnings))
    refusals = [_sentence(entry, itself) for entry in mine if entry.kind in REFUSED]
    warnings += [_sentence(entry, itself) for entry in mine if entry.kind in WARNED]
    return Verdict(_unique(refusals), _unique(warnings))


def _unique(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _standings(before: Fleet, after: Fleet, item: Any, place: Place) -> list[Standing]:
    if isinstance(item, DPUService | DPFOperatorConfig):
        return []
    if isinstance(item, DPUCluster):
        return [standing for standing in compare(before, after) if standing.cluster == place.key]
    return compare(before, after, {place})


def _judged(fleet: Fleet, item: Any, place: Place) -> Iterator[Issue]:
    """What is wrong with the objects that have to do with one, nodes aside."""
    if isinstance(item, DPFOperatorConfig):
        yield from (issue for source in fleet.sources.values() for issue in source_issues(fleet, source))
    elif place in fleet.sources:
        yield from source_issues(fleet, fleet.sources[place])
    yield from service_issues(fleet)


def _sentence(found: Found, itself: Ref) -> str:
    """Who is at odds with whom, where, and the words in which it would be told on the nodes."""
    others = [str(ref) for ref in found.between if ref != itself]
    head = f"{itself} conflicts with {', '.join(others)}" if others and found.kind in REFUSED else str(itself)
    return f"{head}{found.where}: {found.issue.problem}"


def _warnings(before: Fleet, after: Fleet, item: Any, place: Place) -> Iterator[str]:
    """Of the object itself, in the world as it would be."""
    source = after.sources.get(place)
    if source is not None:
        known = before.sources.get(place)
        yield from (text for text in deprecated_fields(item) if known is None or text not in deprecated_fields(known.item))
        if known is None or (known.node_needs, known.cluster_needs) != (source.node_needs, source.cluster_needs):
            yield from _selects_nothing(after, source)
    if isinstance(item, DPUService) and (after.services or {}).get(place.key) is item:
        selector = item.spec.dpu_cluster_selector
        if not item.spec.deploy_in_cluster and not _any_cluster(after, lambda cluster: matches(selector, cluster.metadata.labels)):
            yield "no DPUCluster is selected now: the service is installed as soon as one is"


def _any_cluster(fleet: Fleet, holds: Callable[[DPUCluster], bool]) -> bool:
    return any(cluster.metadata.deletion_timestamp is None and holds(cluster) for cluster in fleet.clusters.values())


def _selects_nothing(fleet: Fleet, source: Source) -> Iterator[str]:
    clusters = [source.place.cluster] if source.place.cluster is not None else [key for key in fleet.clusters if fleet.selects(source, key)]
    if source.selector_problem is not None or fleet.mtu_problem(source) is not None:
        return
    if not clusters:
        yield "no DPUCluster is selected now: nothing is made until one is"
    elif not any(source.picked(fleet.member(cluster).nodes) for cluster in clusters if cluster is not None):
        yield "no node is selected now: nothing is made on any DPU until one is"


def _lost(standings: Iterable[Standing], itself: Ref) -> Iterator[str]:
    """The interfaces that other chains, which have them now, would lose."""
    lost: dict[tuple[Ref, Ref], list[Standing]] = {}
    for standing in standings:
        for loss in losses(standing) if standing.nodes else ():
            if loss.chain != itself:
                lost.setdefault((loss.chain, loss.interface), []).append(standing)
    for (chain, interface), there in lost.items():
        yield f"{interface} is taken from {chain}, which works with it now,{where(there)}"


def _restarted(before: Fleet, after: Fleet, item: Any, standings: Sequence[Standing]) -> Iterator[str]:
    for restart in restarts(standings, before):
        yield f"{counted(restart)} restart, as the MTU of their interfaces changes"
    for restart in replaced_by_helm(before, after, item if isinstance(item, DPUService) else None):
        yield f"the release changes: {counted(restart)} restart if the chart's DaemonSet changes"


def counted(restart: Restart) -> str:
    """How many pods of which service, and where."""
    pods, nodes = _plural(restart.pods, "pod"), _plural(restart.nodes, "node")
    return f"{pods} of service {restart.service.service_id} on {nodes} in DPUCluster {restart.cluster}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
