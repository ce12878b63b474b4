"""Kubernetes Events: what happened to an object, for `kubectl describe`."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from datetime import datetime
from typing import Literal

import msgspec
import structlog

from dpuchain.api.kinds import EVENT
from dpuchain.api.kubernetes import Event, EventSource, ObjectReference
from dpuchain.api.meta import Object, ObjectKey, ObjectMeta, key_of
from dpuchain.api.resource import Resource
from dpuchain.api.vocabulary import EventReason
from dpuchain.kube.bucket import TokenBuckets
from dpuchain.kube.client import Client
from dpuchain.kube.errors import KubeError, NotFound

_log = structlog.get_logger(__name__)
REMEMBERED = 1024
"""Events that the recorder still knows, so that one that repeats is counted up instead of written again."""

BURST, SECONDS = 25, 300.0
"""Events of one object at once, and after how long there may be one more: client-go's own bounds (EventSourceObjectSpamFilter)."""


class EventRecorder:
    """Writes Events about objects. An Event is a courtesy: that one cannot be written is logged and never hinders the work; nor does an
    object that turns all the time become an Event each time.
    """

    def __init__(self, client: Client, component: str) -> None:
        self._client = client
        self._component = component
        self._written: OrderedDict[ObjectKey, tuple[int, datetime]] = OrderedDict()
        """How often each was recorded, and when first."""
        self._buckets = TokenBuckets(BURST, SECONDS)

    async def record(
        self, resource: Resource[Object], item: Object, kind: Literal["Normal", "Warning"], reason: EventReason, message: str, now: datetime
    ) -> None:
        """Say of `item` that `reason` happened. The same once more raises the count of the Event that is there."""
        about = {"kind": resource.kind, "namespace": item.metadata.namespace, "name": item.metadata.name, "reason": reason}
        if not self._may(item.metadata.uid):
            _log.info("event left out, as there were many of this object", **about)
            return
        stem = item.metadata.name[:200].rstrip("-.")
        identity = "\0".join((item.metadata.uid, kind, reason, message))
        name = f"{stem}.{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        key = ObjectKey(item.metadata.namespace or "default", name)
        before, first = self._written.get(key, (0, now))
        event = Event(
            metadata=ObjectMeta(name=key.name, namespace=key.namespace),
            involved_object=ObjectReference(
                api_version=resource.api_version,
                kind=resource.kind,
                namespace=item.metadata.namespace,
                name=item.metadata.name,
                uid=item.metadata.uid,
            ),
            type=kind,
            reason=reason,
            message=message[:1024],
            source=EventSource(component=self._component),
            count=before + 1,
            first_timestamp=first,
            last_timestamp=now,
        )
        self._written[key] = event.count, first
        self._written.move_to_end(key)
        if len(self._written) > REMEMBERED:
            self._written.popitem(last=False)
        try:
            await self._write(event, fresh=not before)
        except KubeError as error:
            _log.warning("event not written", **about, error=str(error))

    def _may(self, uid: str) -> bool:
        now = asyncio.get_running_loop().time()
        self._buckets.trim(now)
        if self._buckets.wait(uid, now) > 0:
            return False
        self._buckets.take(uid, now)
        return True

    async def _write(self, event: Event, *, fresh: bool) -> None:
        if not fresh:
            change = {"count": event.count, "lastTimestamp": msgspec.to_builtins(event)["lastTimestamp"]}
            try:
                await self._client.patch(EVENT, key_of(event), change)
            except NotFound:  # the API server forgets Events after an hour
                pass
            else:
                return
        await self._client.apply(EVENT, event, field_owner=self._component)
