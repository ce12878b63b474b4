"""serviceIDs that two DPUServices have where their pods may meet: on one node, the pods of the one could not be told from the other's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import combinations
from typing import Any

import msgspec

from dpuchain.api.fleet import DPUCluster
from dpuchain.api.meta import LabelSelector, LabelSelectorRequirement, ObjectKey, key_of
from dpuchain.api.service import DPUService
from dpuchain.chain.comparison import Standing
from dpuchain.chain.findings import Found, has_part
from dpuchain.chain.fleet import LAST, Fleet
from dpuchain.chain.foresight import Foresight, Issue
from dpuchain.chain.nodes import Nodes, Service
from dpuchain.chain.problems import Problem, Ref, ref
from dpuchain.chain.project import selects
from dpuchain.chain.release import service_id
from dpuchain.chain.selectors import apart, described, implies, requirements

NOBODY = Foresight("")


def identity_problems(service: DPUService, services: Iterable[DPUService], clusters: Collection[DPUCluster]) -> tuple[Problem, ...]:
    """Why `service` cannot have its serviceID: another one, which was first, has it in one of the clusters."""
    return tuple(
        _clash(other, service)
        for other in services
        if _alike(service, other) and claimed(other) < claimed(service)
        if any(_both_select(service, other, cluster) for cluster in clusters)
    )


def claimed(service: DPUService) -> tuple[Any, ...]:
    """When a service claimed its serviceID, as something to be ordered by: those in force are first, then the older, then by name."""
    return service.status.service_id != service_id(service), service.metadata.creation_timestamp or LAST, key_of(service)


def identity_findings(before: Fleet, after: Fleet, concerned: Collection[Ref] = ()) -> Iterator[Found]:
    """The serviceIDs that two have after and had not before, or that has to do with the objects that are `concerned`, where it is so."""
    known = {identity for issue, _ in _shared(before) for identity in issue.identities}
    for issue, standing in _shared(after):
        identities = frozenset(issue.identities)
        if identities - known or has_part(identities, concerned):
            yield Found(issue, identities, (standing,))


def _shared(fleet: Fleet) -> Iterator[tuple[Issue, Standing]]:
    """Each two services of one serviceID with each cluster that both are in; with one that might be, if there is none."""
    same: defaultdict[Service, list[DPUService]] = defaultdict(list)
    for service in (fleet.services or {}).values():
        same[Service(service.metadata.namespace, service_id(service))].append(service)
    for group in same.values():
        for one, other in combinations(sorted(group, key=claimed), 2):
            if _alike(one, other):
                problem = _clash(one, other)
                for standing in _places(fleet, one, other):
                    # a cluster more is another problem, though the objects are the same
                    told = Problem(problem, "identity", *problem.between, about=f"{problem.about} {standing.where}")
                    yield Issue(told, told.between), standing


def _clash(first: DPUService, second: DPUService) -> Problem:
    text = (
        f"DPUServices {key_of(first)} and {key_of(second)} both have serviceID {service_id(first)}: on one node, their pods cannot be told "
        "from one another; give one of them another serviceID, other clusters (spec.dpuClusterSelector) or other nodes "
        "(spec.serviceDaemonSet.nodeSelector)"
    )
    return Problem(text, "identity", ref("DPUService", first), ref("DPUService", second), about=service_id(first))


def _alike(one: DPUService, other: DPUService) -> bool:
    """Whether two services that are on one node are taken for one another, and no selector of theirs keeps them from being there."""
    return (
        key_of(one) != key_of(other)
        and one.metadata.namespace == other.metadata.namespace
        and service_id(one) == service_id(other)
        and not (one.spec.deploy_in_cluster or other.spec.deploy_in_cluster)
        and any(not apart(requirements(first), requirements(second)) for first in _terms(one) for second in _terms(other))
    )


def _both_select(one: DPUService, other: DPUService, cluster: DPUCluster) -> bool:
    return all(selects(service.spec.dpu_cluster_selector, cluster) for service in (one, other))


def _places(fleet: Fleet, one: DPUService, other: DPUService) -> Iterator[Standing]:
    """The clusters that two services meet in, with the nodes that both select."""
    real = [key for key, cluster in fleet.clusters.items() if _both_select(one, other, cluster)]
    for key in sorted(real):
        nodes = fleet.member(key).nodes
        yield _standing(key, f"in DPUCluster {key}", tuple(sorted(_picked(one, nodes) & _picked(other, nodes))))
    if real:
        return
    first, second = (requirements(service.spec.dpu_cluster_selector) for service in (one, other))
    for narrow, wide in ((first, second), (second, first)):
        if implies(narrow, wide):
            chosen = described(narrow)
            yield _standing(None, f"in any DPUCluster that selector {chosen} picks" if chosen else "in any DPUCluster", ())
            return


def _standing(cluster: ObjectKey | None, where: str, nodes: tuple[str, ...]) -> Standing:
    return Standing(cluster, where, nodes, "", NOBODY, NOBODY)


def _picked(service: DPUService, nodes: Nodes) -> frozenset[str]:
    return frozenset().union(*(nodes.picked(term) for term in _terms(service)))


def _terms(service: DPUService) -> list[LabelSelector | None]:
    """The selectors any of which a node must meet to have the service's pods, wider than they are where that cannot be told from labels."""
    asked = service.spec.service_daemon_set.node_selector if service.spec.service_daemon_set is not None else None
    if asked is None:
        given = service.spec.helm_chart.values.get("serviceDaemonSet")
        asked = given.get("nodeSelector") if isinstance(given, Mapping) else None
    found = asked.get("nodeSelectorTerms") if isinstance(asked, Mapping) else None
    return [_term(term) for term in found] if isinstance(found, list) and found else [None]


def _term(term: Any) -> LabelSelector | None:
    expressions = term.get("matchExpressions") if isinstance(term, Mapping) else None
    if not isinstance(expressions, list):
        return None
    known = []
    for expression in expressions:
        try:
            known.append(msgspec.convert(expression, LabelSelectorRequirement))
        except msgspec.ValidationError:
            continue  # Gt and Lt, or what is no expression
    return LabelSelector(match_expressions=tuple(known))
