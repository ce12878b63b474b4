"""What is wrong with objects by themselves, and among each other in the host cluster: all that no node has a part in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from dpuchain.api.interface import DPUServiceInterface
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.names import CONSUMED_BY_ANNOTATION, OPERATOR_CONFIG_NAME, OPERATOR_NAMESPACE
from dpuchain.api.service import DPUService
from dpuchain.chain.fields import dead_fields
from dpuchain.chain.fleet import LAST, Fleet, Source
from dpuchain.chain.foresight import Issue
from dpuchain.chain.problems import Problem, Ref, ref
from dpuchain.chain.release import interface_problems
from dpuchain.chain.selectors import problem as selector_problem

CONFIG = Ref("DPFOperatorConfig", ObjectKey(OPERATOR_NAMESPACE, OPERATOR_CONFIG_NAME))


def issues(fleet: Fleet) -> tuple[Issue, ...]:
    """All of it, each once."""
    found = [issue for source in fleet.sources.values() for issue in source_issues(fleet, source)]
    return (*found, *service_issues(fleet))


def source_issues(fleet: Fleet, source: Source) -> Iterator[Issue]:
    """Of one source: its fields, its selectors, and its serviceMTU."""
    for problem in dead_fields(source.item):
        yield _issue(problem)
    wrong = source.selector_problem
    if wrong is not None:
        yield _issue(Problem(wrong, "impossible", source.ref, about=wrong))
    too_large = fleet.mtu_problem(source)
    if too_large is not None:
        largest = max(switch.service_mtu for switch in source.chain_spec.switches)
        yield _issue(Problem(too_large, "mtu", source.ref, CONFIG, about=str(largest)))
    if source.place.cluster is None:
        for cluster in fleet.clusters:
            taken = fleet.name_taken(source, cluster) if fleet.selects(source, cluster) else None
            if taken is not None:
                kind = type(source.made).__name__
                yield _issue(Problem(f"DPUCluster {cluster}: {kind} {taken}", "name", source.ref, about=str(cluster)))


def service_issues(fleet: Fleet) -> Iterator[Issue]:
    """Of the DPUServices and the interfaces that they name, as claims will be: the first that names one that it can have gets it."""
    services = fleet.services or {}
    if not services:
        return
    interfaces = _claimed(fleet.interfaces, services)
    for service in services.values():
        yield from map(_issue, dead_fields(service))
        wrong = selector_problem(service.spec.dpu_cluster_selector, "spec.dpuClusterSelector")
        if wrong is not None:
            yield _issue(Problem(wrong, "impossible", ref("DPUService", service), about=wrong))
        yield from map(_issue, interface_problems(service, interfaces, services.values()))


def _issue(problem: Problem) -> Issue:
    return Issue(problem, problem.between)


def _claimed(
    interfaces: Mapping[ObjectKey, DPUServiceInterface], services: Mapping[ObjectKey, DPUService]
) -> Mapping[ObjectKey, DPUServiceInterface]:
    """The interfaces, marked as the services that name them will have marked them."""
    found = dict(interfaces)
    for service in sorted(services.values(), key=_age):
        namespace, name = key_of(service)
        for wanted in service.spec.interfaces or ():
            key = ObjectKey(namespace, wanted)
            interface = found.get(key)
            if interface is None or interface_problems(
                replace(service, spec=replace(service.spec, interfaces=(wanted,))), found, services.values()
            ):
                continue
            annotations = {**interface.metadata.annotations, CONSUMED_BY_ANNOTATION: name}
            found[key] = replace(interface, metadata=replace(interface.metadata, annotations=annotations))
    return found


def _age(service: DPUService) -> tuple[Any, ObjectKey]:
    return service.metadata.creation_timestamp or LAST, key_of(service)
