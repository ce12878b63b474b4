"""Events about what others have changed of ours and we have put right."""

from __future__ import annotations

from typing import Any

from dpuchain.agent.evidence import Subject
from dpuchain.agent.node import NodeObjects
from dpuchain.api.names import AGENT_FIELD_OWNER
from dpuchain.kube.cache import Cache
from dpuchain.kube.client import Client
from dpuchain.kube.errors import NotFound
from dpuchain.kube.events import EventRecorder
from dpuchain.runtime.clock import Clock

QUIET_SECONDS = 600.0
"""For which no further repair of an object is told: the counter has them all, and a fight is told by conditions."""
SAID = {
    "ServiceChain": "somebody else changed flows of this chain on the node; they have been put right",
    "ServiceInterface": "somebody else removed or changed the port of this interface; it has been put right",
    "Pod": "somebody else removed or changed a port of this pod; it has been put right",
}


class RepairEvents:
    """Tells of a repair in an Event on the object concerned, at most one in ten minutes for each object."""

    def __init__(self, client: Client, objects: NodeObjects, clock: Clock) -> None:
        self._caches: dict[str, Cache[Any]] = {
            "ServiceChain": objects.chains,
            "ServiceInterface": objects.interfaces,
            "Pod": objects.pods,
        }
        self._client = client
        self._events = EventRecorder(client, AGENT_FIELD_OWNER)
        self._clock = clock
        self._told: dict[str, float] = {}
        """When an object, by its uid, was told of last."""

    async def reconcile(self, subject: Subject) -> None:
        """Tell of an object that something of it was put right just now."""
        cache, now = self._caches[subject.kind], self._clock.monotonic()
        item = cache.get(subject.key)
        if item is None:  # gone, or a pod that its cache has yet to hear of
            try:
                item = await self._client.get(cache.resource, subject.key)
            except NotFound:
                return
        self._told = {uid: moment for uid, moment in self._told.items() if now - moment < QUIET_SECONDS}
        if item.metadata.uid in self._told:
            return
        self._told[item.metadata.uid] = now
        await self._events.record(cache.resource, item, "Warning", "Repaired", SAID[subject.kind], self._clock.now())
