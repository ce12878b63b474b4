"""The writes that controllers share: one status patch, and finalizers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
import structlog
from msgspec.structs import replace

from dpuchain.api.conditions import Finding, find, update
from dpuchain.api.kinds import NAMESPACE
from dpuchain.api.kubernetes import Metadata
from dpuchain.api.meta import Object, ObjectKey, ObjectMeta, key_of
from dpuchain.api.names import READY
from dpuchain.api.resource import Resource
from dpuchain.kube.client import Client
from dpuchain.kube.errors import AlreadyExists, NotFound
from dpuchain.kube.events import EventRecorder
from dpuchain.kube.patches import merge_patch

T = TypeVar("T", bound=Object)

_log = structlog.get_logger(__name__)


async def write_status(client: Client, resource: Resource[T], item: T, status: msgspec.Struct) -> T | None:
    """Make the status of `item` be `status` with one merge patch; None, and no request, if it is so already.

    `item` is the object as last read. Conflict if it has changed since: the conditions are written as a whole, and an object of the same
    name made since is another one (a uid in the patch would not do: the status endpoint ignores it).
    """
    old: dict[str, Any] = msgspec.to_builtins(item).get("status", {})
    patch = merge_patch(old, msgspec.to_builtins(status))
    if not patch:
        return None
    body = {"metadata": {"resourceVersion": item.metadata.resource_version}, "status": patch}
    return await client.patch(resource, key_of(item), body, subresource="status")


class StatusReporter(Generic[T]):
    """Writes what was found about the objects of one kind into their status, and an Event whenever Ready turns.

    That a new object is Ready, or not yet, is no turn: most are so at once, and an Event for each would be as much to write as they are.
    """

    def __init__(self, client: Client, resource: Resource[T], component: str) -> None:
        self._client = client
        self._resource = resource
        self._events = EventRecorder(client, component)
        self._written: dict[ObjectKey, tuple[set[str], T]] = {}
        """What we wrote last, with the versions that it came after: a cache that shows one of them is behind."""

    async def report(self, item: T, findings: Iterable[Finding], now: datetime, **fields: object) -> bool:
        """Make the conditions of `item`, as a cache has it, say `findings`, and further fields of its status be as given.

        No request if the status says so already, be it only since our own last write, which the cache may not show yet; returns whether
        there was one.
        """
        older, item = self._newest(item)
        before: Any = item.status  # type: ignore[attr-defined]  # of the five kinds that this is for
        generation = item.metadata.generation
        status = replace(before, conditions=update(before.conditions, findings, generation, now), observed_generation=generation, **fields)
        written = await write_status(self._client, self._resource, item, status)
        if written is None:
            return False
        self._written[key_of(item)] = (older | {item.metadata.resource_version}, written)
        await self._tell(item, before, status, now)
        return True

    def forget(self, key: ObjectKey) -> None:
        """The object is gone."""
        self._written.pop(key, None)

    def _newest(self, item: T) -> tuple[set[str], T]:
        """`item` as it is since our last write, and the versions before that."""
        older, written = self._written.get(key_of(item), (set(), item))
        if item.metadata.resource_version in older:
            return older, written
        self._written.pop(key_of(item), None)
        return set(), item

    async def _tell(self, item: T, before: Any, after: Any, now: datetime) -> None:
        was, ready = find(before.conditions, READY), find(after.conditions, READY)
        if ready is None or was is None or ready.status == was.status:
            return
        if ready.status == "True":
            await self._events.record(self._resource, item, "Normal", "Ready", "everything is as it should be", now)
        else:
            await self._events.record(self._resource, item, "Warning", "NotReady", ready.message, now)


async def apply_with_namespace(client: Client, resource: Resource[T], item: T, *, field_owner: str) -> T:
    """Apply `item`, and make its namespace first if it is missing."""
    try:
        return await client.apply(resource, item, field_owner=field_owner)
    except NotFound:
        namespace = Metadata(metadata=ObjectMeta(name=item.metadata.namespace))
        try:
            await client.create(NAMESPACE, namespace, field_owner=field_owner)
        except AlreadyExists:
            _log.debug("somebody else made the namespace", namespace=namespace.metadata.name)
        return await client.apply(resource, item, field_owner=field_owner)


async def add_finalizer(client: Client, resource: Resource[T], item: T, finalizer: str) -> T:
    """`item` with the finalizer; no request if it has it. Conflict if the object has changed since it was read."""
    if finalizer in item.metadata.finalizers:
        return item
    return await _set_finalizers(client, resource, item, (*item.metadata.finalizers, finalizer))


async def remove_finalizer(client: Client, resource: Resource[T], item: T, finalizer: str) -> T:
    """`item` without the finalizer; no request if it has none. Conflict if the object has changed since it was read."""
    if finalizer not in item.metadata.finalizers:
        return item
    return await _set_finalizers(client, resource, item, tuple(f for f in item.metadata.finalizers if f != finalizer))


async def _set_finalizers(client: Client, resource: Resource[T], item: T, finalizers: tuple[str, ...]) -> T:
    guard = {"uid": item.metadata.uid, "resourceVersion": item.metadata.resource_version}
    return await client.patch(resource, key_of(item), {"metadata": {**guard, "finalizers": list(finalizers)}})
