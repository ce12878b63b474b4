"""Which cluster an API server is of: a host cluster, for DPU clusters that several may use, or a DPU cluster that is named twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dpuchain.api.kinds import NAMESPACE
from dpuchain.kube.cache import Cache, Failing
from dpuchain.kube.client import Client

FIRST_NAMESPACE = "kube-system"
"""Made by the API server itself and never deleted: its uid is what people take for the identity of a cluster."""


async def cluster_identity(client: Client, failing: Callable[[Failing], None] = lambda _: None) -> str:
    """The uid of namespace kube-system. Waits until the API server tells it; `failing` is called with why it does not yet."""
    namespaces = Cache(client, NAMESPACE, field_selector=f"metadata.name={FIRST_NAMESPACE}", metadata_only=True)
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    namespaces.subscribe(lambda change: None if told.done() or change.new is None else told.set_result(change.new.metadata.uid))
    namespaces.subscribe_failing(lambda: failing(namespaces.failing) if namespaces.failing is not None else None)
    watching = asyncio.ensure_future(namespaces.run())
    try:
        return await told
    finally:
        watching.cancel()
        await asyncio.wait([watching])
