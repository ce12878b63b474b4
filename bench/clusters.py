"""Clusters without nodes that anybody runs: their kinds, and what their API servers have been asked."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

import msgspec

from dpuchain.api.kinds import NETWORK_ATTACHMENT_DEFINITION
from dpuchain.api.names import OPERATOR_GROUP, PROVISIONING_GROUP, SERVICE_GROUP
from dpuchain.kube.client import APPLY_PATCH, Client
from dpuchain.kube.errors import NotFound, Throttled

WRITES = ("POST", "PUT", "PATCH", "APPLY", "DELETE")
READS = ("GET", "LIST")
GROUPS = (SERVICE_GROUP, PROVISIONING_GROUP, OPERATOR_GROUP, NETWORK_ATTACHMENT_DEFINITION.group)
CORE = ("nodes", "pods", "secrets", "events", "daemonsets")
"""What our processes ask for of Kubernetes' own kinds, but for the Lease of their election."""
PATIENCE = 120.0
REQUEST = re.compile(r"^apiserver_request_total\{([^}]*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Request(NamedTuple):
    """What the API server counts as one kind of request."""

    verb: str
    resource: str
    subresource: str


Requests: TypeAlias = Counter[Request]


async def requests(client: Client) -> Requests:
    """The requests for our kinds, and for those of Kubernetes that we use, that an API server has answered so far, watches aside."""
    text = (await client.request("GET", "/metrics")).decode()
    found: Requests = Counter()
    for labels, value in REQUEST.findall(text):
        label = labels_of(labels)
        ours = label["group"] in GROUPS or label["resource"] in CORE
        if ours and label["verb"] in (*WRITES, *READS):
            found[Request(label["verb"], label["resource"], label["subresource"])] += int(float(value))
    return found


def labels_of(text: str) -> dict[str, str]:
    """The labels of a metric, as they stand between its braces."""
    return dict(_LABEL.findall(text))


def writes(counted: Requests) -> int:
    """How many of the requests were writes."""
    return sum(count for request, count in counted.items() if request.verb in WRITES)


async def put(client: Client, *manifests: dict[str, Any], path: str) -> None:
    """Apply manifests of one kind, whose collection is at `path`."""
    for manifest in manifests:
        query = {"fieldManager": "bench", "force": "true"}
        body = msgspec.json.encode(manifest)
        await client.request("PATCH", f"{path}/{manifest['metadata']['name']}", body=body, content_type=APPLY_PATCH, query=query)


async def define(client: Client, definitions: Iterable[dict[str, Any]]) -> None:
    """Give a cluster its kinds and namespaces, and return when the kinds are served."""
    found = list(definitions)
    kinds = [definition for definition in found if definition["kind"] == "CustomResourceDefinition"]
    await put(client, *(definition for definition in found if definition["kind"] == "Namespace"), path="/api/v1/namespaces")
    await put(client, *kinds, path="/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
    for kind in kinds:
        spec = kind["spec"]
        await _served(client, f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}")


async def _served(client: Client, path: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await client.request("GET", path)
            except (NotFound, Throttled):
                await asyncio.sleep(0.05)
            else:
                return
