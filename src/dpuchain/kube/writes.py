"""The writes that controllers share: one status patch, and finalizers."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from dpuchain.api.meta import Object, key_of
from dpuchain.api.resource import Resource
from dpuchain.kube.client import Client
from dpuchain.kube.patches import merge_patch

T = TypeVar("T", bound=Object)


async def write_status(client: Client, resource: Resource[T], item: T, status: msgspec.Struct) -> T | None:
    """Make the status of `item` be `status` with one merge patch; None, and no request, if it is so already.

    `item` is the object as last read; the patch names its uid, so that an object of the same name made since is not written (Conflict).
    """
    old: dict[str, Any] = msgspec.to_builtins(item).get("status", {})
    patch = merge_patch(old, msgspec.to_builtins(status))
    if not patch:
        return None
    body = {"metadata": {"uid": item.metadata.uid}, "status": patch}
    return await client.patch(resource, key_of(item), body, subresource="status")


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
