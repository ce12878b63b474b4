"""Who a host cluster is, for DPU clusters that several of them may use."""

from __future__ import annotations

import asyncio

from dpuchain.api.kinds import NAMESPACE
from dpuchain.kube.cache import Cache
from dpuchain.kube.client import Client

FIRST_NAMESPACE = "kube-system"
"""Made by the API server itself and never deleted: its uid is what people take for the identity of a cluster."""


async def cluster_identity(client: Client) -> str:
    """The uid of namespace kube-system. Waits until the API server tells it."""
    namespaces = Cache(client, NAMESPACE, field_selector=f"metadata.name={FIRST_NAMESPACE}", metadata_only=True)
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    namespaces.subscribe(lambda change: None if told.done() or change.new is None else told.set_result(change.new.metadata.uid))
    watching = asyncio.ensure_future(namespaces.run())
    try:
        return await told
    finally:
        watching.cancel()
        await asyncio.wait([watching])
