"""An Event about what was put right is there though the agent's cache does not have the object yet."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from dpuchain.agent.evidence import Subject
from dpuchain.agent.node import NodeObjects
from dpuchain.agent.repair_events import RepairEvents
from dpuchain.api.kinds import EVENT, SERVICE_CHAIN
from dpuchain.api.meta import ObjectKey
from dpuchain.runtime.clock import SystemClock

if TYPE_CHECKING:
    from dpuchain.kube.client import Client

SPEC = {"node": "dpu-1", "switches": [{"ports": [{"serviceInterface": {"matchLabels": {"port": name}}} for name in ("p0", "p1")]}]}


async def test_object_that_the_cache_has_yet_to_hear_of_is_told_of_once(client: Client, namespace: str) -> None:
    body = {"apiVersion": SERVICE_CHAIN.api_version, "kind": "ServiceChain", "metadata": {"name": "chain"}, "spec": SPEC}
    await client.request("POST", SERVICE_CHAIN.path(namespace), body=json.dumps(body).encode())
    events = RepairEvents(client, NodeObjects.of(client, "dpu-1"), SystemClock())  # whose caches nobody fills
    for name in ("chain", "chain", "gone"):
        await events.reconcile(Subject("ServiceChain", ObjectKey(namespace, name)))
    told = (await client.list(EVENT, namespace=namespace)).items
    assert [(event.reason, event.involved_object.name, event.count) for event in told] == [("Repaired", "chain", 1)]
