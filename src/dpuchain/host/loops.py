"""The control loops of the host controller, and what has which object looked at in them."""

from __future__ import annotations

import asyncio
from typing import Any

from dpuchain.api.fleet import DPUCluster
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.service import DPUService
from dpuchain.chain.nodes import Service
from dpuchain.chain.project import concerns
from dpuchain.chain.release import release_name, service_id
from dpuchain.host.delivery import Delivery, Source
from dpuchain.host.made import RELEASE_NAME
from dpuchain.host.members import Member, Members
from dpuchain.host.projection import Projection, Remark, no_remark
from dpuchain.host.releases import OWNER_LABEL
from dpuchain.host.services import Services
from dpuchain.host.targets import Target
from dpuchain.kube.cache import Change
from dpuchain.runtime.clock import Clock
from dpuchain.runtime.controller import Controller
from dpuchain.runtime.host_objects import HostObjects

WORKERS = 4
"""Objects whose status is looked at at once."""
DELIVERY_WORKERS = 8
"""Sets of one cluster that are looked at at once."""


SERVICE_WORKERS = 64
"""Services that are looked at at once; most of them only wait: how many commands of Helm run at once, `host.helm` says."""


class ProjectedLoops:
    """The loops of one kind that becomes sets: one for what is said of the objects, and one for each DPU cluster, so that none waits for
    another.
    """

    def __init__(self, source: Source, members: Members, clock: Clock, remark: Remark = no_remark) -> None:
        self._source = source
        self._clock = clock
        self._deliveries: dict[ObjectKey, Delivery] = {}
        self._to: dict[ObjectKey, Controller[ObjectKey]] = {}
        projection = Projection(source, members, self._deliveries, clock, remark)
        self._status: Controller[ObjectKey] = Controller(
            source.kind.resource.plural, projection.reconcile, clock=clock, workers=WORKERS, kind=source.kind.resource.kind
        )
        source.cache.subscribe(lambda change: self.look(change.key))

    async def run(self) -> None:
        """Work until cancelled; what works for a cluster runs as long as the connection to it."""
        await self._status.run()

    def joined(self, member: Member) -> None:
        """A DPU cluster can be spoken to."""
        delivery = Delivery(self._source, member, self._status.enqueue)
        name = f"{self._source.kind.set.plural} of {member.cluster}"
        controller: Controller[ObjectKey] = Controller(
            name, delivery.reconcile, clock=self._clock, workers=DELIVERY_WORKERS, kind=self._source.kind.set.kind
        )
        self._deliveries[member.cluster], self._to[member.cluster] = delivery, controller
        member.runners.append(controller)

        def changed(change: Change[Any]) -> None:
            controller.enqueue(change.key)
            self._status.enqueue(change.key)

        self._source.kind.sets(member).subscribe(changed)

    def look(self, key: ObjectKey) -> None:
        """Have one object looked at everywhere."""
        self._status.enqueue(key)
        for controller in self._to.values():
            controller.enqueue(key)

    def look_at_all(self) -> None:
        """Have every object looked at everywhere, and every set, since it may be of an object that is gone."""
        for item in self._source.cache:
            self.look(key_of(item))
        for cluster in self._deliveries:
            self._look_at_sets(cluster)

    def cluster_changed(self, before: DPUCluster | None, after: DPUCluster | None) -> None:
        """A DPUCluster came, went, changed, or (the same before and after) can be used or not."""
        for item in self._source.cache:
            if concerns(item, before, after):
                self.look(key_of(item))
        if before is after and after is not None:
            self._look_at_sets(key_of(after))

    def _look_at_sets(self, cluster: ObjectKey) -> None:
        if cluster in self._deliveries:
            for key in self._deliveries[cluster].sets:
                self._to[cluster].enqueue(key)


class ServiceLoop:
    """The loop of DPUServices. What happens to an interface or a service concerns every service, since they claim interfaces."""

    def __init__(self, services: Services, objects: HostObjects, host: Target, clock: Clock) -> None:
        self._objects = objects
        self._host = host
        self._controller: Controller[ObjectKey] = Controller(
            "dpuservices", services.reconcile, clock=clock, workers=SERVICE_WORKERS, kind="DPUService"
        )
        objects.interfaces.subscribe(lambda _: self.look_at_all())
        objects.services.subscribe(lambda _: self.look_at_all())
        self.joined(host)

    async def run(self) -> None:
        """Work until cancelled, and keep the caches of the host cluster's releases."""
        async with asyncio.TaskGroup() as group:
            for cache in self._host.caches:
                cache.subscribe_failing(self.look_at_all)
                group.create_task(cache.run())
            group.create_task(self._host.made.run())
            group.create_task(self._controller.run())
            for cache in self._host.caches:
                await cache.synced()
            self.look_at_all()

    def joined(self, target: Target) -> None:
        """Releases of a cluster can be followed."""
        target.made.subscribe(self._release_changed, lambda: self._look_at_services_in(target))
        target.releases.subscribe(self._release_changed)

    def look_at_all(self) -> None:
        """Have every service looked at."""
        for service in self._objects.services:
            self._controller.enqueue(key_of(service))

    def cluster_changed(self, before: DPUCluster | None, after: DPUCluster | None) -> None:
        """A DPUCluster came, went, changed, or (the same before and after) can be used or not."""
        concerned = {_identity(service) for service in self._objects.services if concerns(service, before, after)}
        for service in self._objects.services:
            if _identity(service) in concerned:  # who has the same serviceID may have it from now on, or no longer
                self._controller.enqueue(key_of(service))

    def _look_at_services_in(self, target: Target) -> None:
        """Have the services looked at that have a release in a cluster."""
        uids = {record.metadata.labels.get(OWNER_LABEL) for record in target.releases}
        for service in self._objects.services:
            if service.metadata.uid in uids:
                self._controller.enqueue(key_of(service))

    def _release_changed(self, change: Change[Any]) -> None:
        """Have the services looked at that a release's record, or an object of it, belongs to."""
        items = [item for item in (change.old, change.new) if item is not None]
        uids = {item.metadata.labels.get(OWNER_LABEL) for item in items}
        releases = {item.metadata.annotations.get(RELEASE_NAME) for item in items} | {item.metadata.labels.get("name") for item in items}
        for service in self._objects.services:
            if service.metadata.uid in uids or release_name(service) in releases:
                self._controller.enqueue(key_of(service))


def _identity(service: DPUService) -> Service:
    return Service(service.metadata.namespace, service_id(service))
