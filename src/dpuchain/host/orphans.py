"""Releases whose DPUService is no more: what a Helm run left that outlived its controller, or somebody who took the finalizer off."""

from __future__ import annotations

import asyncio

from dpuchain.api.kinds import DPU_SERVICE_METADATA
from dpuchain.api.kubernetes import Metadata
from dpuchain.api.service import DPUService
from dpuchain.host.members import Members
from dpuchain.host.releases import Releases
from dpuchain.host.targets import Target
from dpuchain.kube.cache import Change
from dpuchain.kube.client import Client
from dpuchain.runtime.clock import Clock
from dpuchain.runtime.controller import Controller
from dpuchain.runtime.errors import Unfinished
from dpuchain.runtime.host_objects import HostObjects

WORKERS = 4
"""DPUServices whose releases are looked for at once."""


class OrphanLoop:
    """The loop of the uids of DPUServices of this host cluster that may be gone, whose releases are uninstalled then.

    The releases of another host cluster's are none of ours.
    """

    def __init__(self, client: Client, objects: HostObjects, members: Members, host: Target, releases: Releases, clock: Clock) -> None:
        self._client = client
        self._objects = objects
        self._members = members
        self._host = host
        self._releases = releases
        self._controller: Controller[str] = Controller("orphans", self.reconcile, clock=clock, workers=WORKERS)
        objects.services.subscribe(self._service_changed)
        host.releases.subscribe(self._record_changed)
        members.subscribe(lambda member: member.releases.subscribe(self._record_changed), lambda before, after: None, lambda: None)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._controller.run()

    async def reconcile(self, owner: str) -> None:
        """Uninstall what the DPUService of this uid has left, if the API server too says that it is gone.

        One that we cannot decode is there all the same.
        """
        connected = (self._host, *(member for _, member, _ in self._members if member is not None))
        targets = [target for target in connected if any(self._releases.owner_of(record) == owner for record in target.releases)]
        if not targets:
            return
        services = await self._client.list(DPU_SERVICE_METADATA, metadata_only=True)
        if services.invalid or any(service.metadata.uid == owner for service in services.items):
            return
        outcomes = await asyncio.gather(*(self._releases.end(owner, target) for target in targets))
        failures = [outcome for outcome in outcomes if outcome is not None]
        if failures:
            raise Unfinished("; ".join(f"{' '.join(failure.where)}: {failure.cause}" for failure in failures))

    def _service_changed(self, change: Change[DPUService]) -> None:
        if change.new is None and change.old is not None:
            self._controller.enqueue(change.old.metadata.uid)

    def _record_changed(self, change: Change[Metadata]) -> None:
        """Look for the DPUService of a release if the cache does not know it."""
        owner = self._releases.owner_of(change.new) if change.new is not None else None
        if owner is not None and all(service.metadata.uid != owner for service in self._objects.services):
            self._controller.enqueue(owner)
