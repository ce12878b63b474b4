"""The loop of DPUServices: one Helm release of each in each selected cluster, and the service's status."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import structlog

from dpuchain.api import names
from dpuchain.api.conditions import Finding
from dpuchain.api.interface import DPUServiceInterface
from dpuchain.api.kinds import DPU_SERVICE, DPU_SERVICE_INTERFACE
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.service import DPUService
from dpuchain.chain.identities import identity_problems
from dpuchain.chain.project import selects
from dpuchain.chain.release import config_ports_problem, interface_problems, release_of, service_id, unsupported
from dpuchain.chain.selectors import problem as selector_problem
from dpuchain.chain.status import NOT_READY, Unready, awaiting, describe_unready, error, good, pending, with_ready
from dpuchain.host.members import Members
from dpuchain.host.releases import Releases, records_of, unready_in
from dpuchain.host.targets import HOST_CLUSTER, Target
from dpuchain.kube.client import Client
from dpuchain.kube.errors import NotFound
from dpuchain.kube.writes import StatusReporter, add_finalizer, remove_finalizer
from dpuchain.runtime.clock import Clock
from dpuchain.runtime.errors import Unfinished
from dpuchain.runtime.host_objects import HostObjects

WAITING = "nothing is installed or changed before the service's fields and interfaces are right"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Place:
    """A cluster as a service sees it: whether it gets the service, and how it is worked with, or why that is not possible now."""

    name: str
    target: Target | None
    trouble: str | None
    wanted: bool

    @property
    def missing(self) -> Unready:
        """That nothing can be said of it or done there now."""
        title = self.name if self.name == HOST_CLUSTER else f"DPUCluster {self.name}"
        return Unready((f"Cluster: {self.name}",), f"{title} {self.trouble}")


class Services:
    """Makes the releases of a DPUService what `chain.release` wants, and the service's status what became of them."""

    def __init__(self, client: Client, objects: HostObjects, members: Members, host: Target, releases: Releases, clock: Clock) -> None:
        self._client = client
        self._objects = objects
        self._members = members
        self._host = host
        self._releases = releases
        self._clock = clock
        self._reporter: StatusReporter[DPUService] = StatusReporter(client, DPU_SERVICE, names.HOST_FIELD_OWNER)

    async def reconcile(self, key: ObjectKey) -> None:
        """Look at one service. That it vanishes meanwhile is no error: the watch brings it."""
        service = self._objects.services.get(key)
        if service is None:
            self._reporter.forget(key)
            return
        try:
            if service.metadata.deletion_timestamp is not None:
                await self._end(service)
            elif not service.spec.paused:
                service = await add_finalizer(self._client, DPU_SERVICE, service, names.DPU_SERVICE_FINALIZER)
                await self._carry_out(service)
        except NotFound as error:
            _log.debug("the service vanished meanwhile", service=str(key), error=str(error))

    async def _carry_out(self, service: DPUService) -> None:
        interfaces = {key_of(item): item for item in self._objects.interfaces}
        impossible = selector_problem(service.spec.dpu_cluster_selector, "spec.dpuClusterSelector")
        clusters = [cluster for cluster, _, _ in self._members]
        dead = [*unsupported(service), *([impossible] if impossible is not None else [])]
        dead += identity_problems(service, self._objects.services, clusters)
        problems = interface_problems(service, interfaces, self._objects.services)
        if dead or problems:
            # status.serviceID stays that of the pods there are
            await self._reporter.report(service, with_ready(_blocked(dead, problems)), self._clock.now())
            return
        await self._claim(service, interfaces)
        release = release_of(service, interfaces)
        settled = self._settled
        away: list[Unready] = []
        work: list[Awaitable[Unready | None]] = []
        usable: list[Target] = []
        places = list(self._places(service))
        for place in places:
            installed = place.target is not None and records_of(service, place.target.releases)
            if place.target is None or place.trouble is not None:
                if place.wanted or installed:
                    away.append(place.missing)
            elif place.wanted:
                usable.append(place.target)
                work.append(self._releases.install(service, release, place.target))
            elif installed:
                work.append(self._releases.uninstall(place.target, installed))
        failures = [outcome for outcome in await asyncio.gather(*work) if outcome is not None]
        unready = [*away, *(entry for target in usable for entry in unready_in(release, target))]
        if settled:
            wanted = sum(place.wanted for place in places)
            findings = with_ready(_findings(service, [*away, *failures], unready, wanted))
            await self._reporter.report(service, findings, self._clock.now(), service_id=service_id(service))
        if failures:
            raise Unfinished("; ".join(failure.cause for failure in failures))

    @property
    def _settled(self) -> bool:
        """Whether it is known of each cluster that it can be used, or that it cannot."""
        return self._members.settled and self._host.settled

    def _places(self, service: DPUService) -> Iterator[Place]:
        """All clusters, the host cluster among them."""
        inside = bool(service.spec.deploy_in_cluster)
        for cluster, member, trouble in self._members:
            selected = selects(service.spec.dpu_cluster_selector, cluster)
            yield Place(str(key_of(cluster)), member, trouble, selected and not inside)
        yield Place(self._host.name, self._host, self._host.problem, inside)

    async def _claim(self, service: DPUService, interfaces: Mapping[ObjectKey, DPUServiceInterface]) -> None:
        """Mark the interfaces that the service names as its own, so that no other takes them, and give those free that it names no more."""
        for key, interface in interfaces.items():
            if key.namespace == service.metadata.namespace:
                named = key.name in (service.spec.interfaces or ())
                mine = interface.metadata.annotations.get(names.CONSUMED_BY_ANNOTATION) == service.metadata.name
                if named != mine:
                    await self._annotate(interface, service.metadata.name if named else None)

    async def _annotate(self, interface: DPUServiceInterface, service: str | None) -> None:
        """Conflict if the interface has changed since it was read: another service may have been faster."""
        guard = {"resourceVersion": interface.metadata.resource_version}
        patch = {"metadata": {**guard, "annotations": {names.CONSUMED_BY_ANNOTATION: service}}}
        await self._client.patch(DPU_SERVICE_INTERFACE, key_of(interface), patch)

    async def _end(self, service: DPUService) -> None:
        """Uninstall everywhere, give the interfaces free, and let the service go."""
        settled = self._settled
        away: list[Unready] = []
        work: list[Awaitable[Unready | None]] = []
        for place in self._places(service):
            if place.target is not None and place.trouble is None:
                work.append(self._releases.end(service.metadata.uid, place.target))
            elif place.target is not self._host:
                away.append(Unready((f"Cluster: {place.name}",), f"{place.trouble}; delete the DPUCluster if it is gone for good"))
            elif place.wanted:
                away.append(place.missing)
        failures = [outcome for outcome in await asyncio.gather(*work) if outcome is not None]
        if away or failures:
            conditions = (names.APPLICATIONS_RECONCILED, names.APPLICATIONS_READY)
            if settled:
                await self._reporter.report(service, awaiting(conditions, [*away, *failures]), self._clock.now())
            if failures:
                raise Unfinished("; ".join(entry.cause for entry in failures))
            return
        for interface in list(self._objects.interfaces):
            mine = interface.metadata.annotations.get(names.CONSUMED_BY_ANNOTATION) == service.metadata.name
            if mine and interface.metadata.namespace == service.metadata.namespace:
                await self._annotate(interface, None)
        await remove_finalizer(self._client, DPU_SERVICE, service, names.DPU_SERVICE_FINALIZER)


def _blocked(dead: Sequence[str], problems: Sequence[str]) -> list[Finding]:
    """What to say of a service that is not installed because of its own fields or its interfaces."""
    prerequisites = names.APPLICATION_PREREQUISITES_RECONCILED
    interfaces = names.DPU_SERVICE_INTERFACE_RECONCILED
    described = "Unable to reconcile interfaces for the DPUService:\n" + "\n".join(f"* {problem}" for problem in problems)
    return [
        error(prerequisites, "\n".join(dead)) if dead else good(prerequisites),
        error(interfaces, described) if problems else good(interfaces),
        pending(names.APPLICATIONS_RECONCILED, WAITING),
        pending(names.APPLICATIONS_READY, WAITING),
    ]


def _findings(service: DPUService, failures: Sequence[Unready], unready: Sequence[Unready], clusters: int) -> list[Finding]:
    reconciled, ready = names.APPLICATIONS_RECONCILED, names.APPLICATIONS_READY
    ports = config_ports_problem(service)
    found = [good(names.APPLICATION_PREREQUISITES_RECONCILED), good(names.DPU_SERVICE_INTERFACE_RECONCILED)]
    found.append(error(names.CONFIG_PORTS_RECONCILED, ports) if ports is not None else good(names.CONFIG_PORTS_RECONCILED))
    if not clusters and not failures:
        nowhere = "no DPUCluster is selected: create one, or change spec.dpuClusterSelector"
        return [*found, pending(reconciled, nowhere), pending(ready, nowhere)]
    if failures:
        found.append(error(reconciled, describe_unready("not as it should be in all DPU clusters:", failures)))
    else:
        found.append(good(reconciled))
    if unready:
        found.append(pending(ready, describe_unready(NOT_READY, unready)))
    else:
        found.append(good(ready) if clusters else pending(ready, f"{reconciled} is not True"))
    return found
