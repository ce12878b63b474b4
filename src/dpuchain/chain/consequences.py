"""What a change does to traffic and to pods: paths that are cut or opened, interfaces that chains lose, pods that are made anew."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from dpuchain.api.interface import DPUServiceInterface
from dpuchain.api.meta import ObjectKey
from dpuchain.api.service import DPUService
from dpuchain.chain.comparison import Standing
from dpuchain.chain.fleet import Fleet
from dpuchain.chain.foresight import Foresight
from dpuchain.chain.identities import identity_problems
from dpuchain.chain.nodes import Pods, Service
from dpuchain.chain.ports import service_of
from dpuchain.chain.problems import Ref
from dpuchain.chain.release import interface_problems, release_of, service_id
from dpuchain.chain.restarts import look


class Path(NamedTuple):
    """Two ends that frames pass between: interfaces of the DPU, by the objects that people wrote, or a service by its name."""

    one: str
    other: str


def paths(foreseen: Foresight) -> frozenset[Path]:
    """What reaches what on a node, a service being taken to pass on between its interfaces what comes in by one of them."""
    near: defaultdict[str, set[str]] = defaultdict(set)
    ends = {ref: _end(foreseen, ref) for ref in foreseen.origins if ref.kind == "ServiceInterface"}
    for found in foreseen.resolutions.values():
        for switch in found.switches:
            names = [ends[Ref("ServiceInterface", port.interface)] for port in switch.ports]
            for one, other in combinations(names, 2):
                near[one].add(other)
                near[other].add(one)
    return frozenset(Path(*sorted((one, other))) for one in near for other in _reached(one, near) if one != other)


def _end(foreseen: Foresight, ref: Ref) -> str:
    service = service_of(foreseen.world.by_key[ref.key])
    return foreseen.origin(ref).key.name if service is None else f"service {service.service_id}"


def _reached(start: str, near: Mapping[str, set[str]]) -> set[str]:
    """All that can be reached from `start`: on from a service, but not from anything else, as what leaves the DPU does not come back."""
    found, waiting = {start}, [start]
    while waiting:
        place = waiting.pop()
        if place == start or place.startswith("service "):
            new = near.get(place, set()) - found
            found |= new
            waiting += new
    return found


class Loss(NamedTuple):
    """A chain that goes on being on a node, and an interface that was a port of it and no longer is."""

    chain: Ref
    interface: Ref


def losses(standing: Standing) -> Iterator[Loss]:
    """The interfaces that chains lose on these nodes."""
    staying = {standing.after.origin(ref) for ref in standing.after.origins if ref.kind == "ServiceChain"}
    before, after = _ports_of_chains(standing.before), _ports_of_chains(standing.after)
    for chain, ports in before.items():
        if chain in staying:
            yield from (Loss(chain, port) for port in sorted(ports - after.get(chain, set())))


def _ports_of_chains(foreseen: Foresight) -> dict[Ref, set[Ref]]:
    found: defaultdict[Ref, set[Ref]] = defaultdict(set)
    for (chain, _), ports in foreseen.members.items():
        found[chain].update(ports)
    return found


@dataclass(frozen=True)
class Restart:
    """Pods of a service that are made anew: how many, and on how many nodes."""

    cluster: ObjectKey
    service: Service
    pods: int
    nodes: int


def restarts(standings: Iterable[Standing], fleet: Fleet) -> list[Restart]:
    """The pods whose interfaces get another MTU, and that have the one that they should have now."""
    counts: dict[tuple[ObjectKey, Service], Counter[str]] = defaultdict(Counter)
    for standing in standings:
        if standing.cluster is None or not standing.nodes or standing.before.mtus == standing.after.mtus:
            continue
        pods = fleet.member(standing.cluster).pods
        wanted, present = _outdated(standing.after, pods), _outdated(standing.before, pods)
        for service in wanted:
            for likeness in wanted[service].keys() - present.get(service, {}).keys():
                here = wanted[service][likeness]
                counts[standing.cluster, service].update({node: here[node] for node in here.keys() & set(standing.nodes)})
    return [Restart(cluster, service, sum(found.values()), len(found)) for (cluster, service), found in sorted(counts.items()) if found]


def _outdated(foreseen: Foresight, pods: Pods) -> dict[Service, dict[object, Mapping[str, int]]]:
    """Of each service on the node's switches the groups of pods that are to be made anew, as `restarts.look` says."""
    found: defaultdict[Service, dict[object, Mapping[str, int]]] = defaultdict(dict)
    for wired in foreseen.mtus:
        service = Service(wired.namespace, wired.service_id)
        for likeness, group in pods.services.get(service, {}).items():
            if any(look(chain, foreseen.mtus, [group.sample]).evictable for chain in foreseen.chains):
                found[service][likeness] = group.counts
    return found


def replaced_by_helm(before: Fleet, after: Fleet, service: DPUService | None) -> list[Restart]:
    """The pods of a service whose release changes: the chart says whether they are made anew."""
    if service is None or before.services is None or after.services is None:
        return []
    key = ObjectKey(service.metadata.namespace, service.metadata.name)
    old, new = before.services.get(key), after.services.get(key)
    if old is None or new is None or new.spec.paused or _digest(old, before) in (None, _digest(new, after)):
        return []
    identity = Service(key.namespace, service_id(old))
    found = []
    for cluster in sorted(key for key in after.clusters if after.installs(new, key)):
        counts = Counter[str]()
        for group in after.member(cluster).pods.groups(identity):
            counts.update(group.counts)
        if counts:
            found.append(Restart(cluster, identity, sum(counts.values()), len(counts)))
    return found


def _digest(service: DPUService, fleet: Fleet) -> str | None:
    """What tells the service's release from another; None if it has none, as something is wrong with its interfaces or its serviceID."""
    interfaces: Mapping[ObjectKey, DPUServiceInterface] = fleet.interfaces
    services = (fleet.services or {}).values()
    if interface_problems(service, interfaces, services) or identity_problems(service, services, fleet.clusters.values()):
        return None
    return release_of(service, interfaces).digest


def releases(fleet: Fleet, cluster: ObjectKey | None, earlier: Fleet) -> dict[ObjectKey, str]:
    """What tells each release in a cluster (None: in the host cluster) from another one, by its service. One that is paused is as it was
    earlier; one with something wrong about its interfaces or its serviceID is not there.
    """
    found = {}
    for key, service in sorted((fleet.services or {}).items()):
        source, world = (service, fleet) if not service.spec.paused else ((earlier.services or {}).get(key), earlier)
        if source is not None and fleet.installs(service, cluster) and (digest := _digest(source, world)) is not None:
            found[key] = digest
    return found
