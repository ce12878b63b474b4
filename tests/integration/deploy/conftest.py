"""Our charts as Helm renders them, and what they grant on the shared API server."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from dpuchain.api.kinds import NAMESPACE
from dpuchain.api.kubernetes import Metadata
from dpuchain.api.meta import ObjectMeta
from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.kube.client import APPLY_PATCH, Client
from dpuchain.kube.errors import AlreadyExists
from dpuchain.lab.charts import OURS
from dpuchain.lab.process import run
from dpuchain.lab.toolchain import GROUPS, Toolchain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

CHARTS = ("dpuchain", "dpuchain-dpu")


@dataclass(frozen=True)
class Helm:
    """Helm, which remembers nothing outside of a test's folder."""

    program: str
    home: Path

    async def __call__(self, *arguments: str) -> str:
        """What it prints; raises LabError with its words if it fails."""
        places = {f"HELM_{kind}_HOME": str(self.home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        return await run(self.program, *arguments, environment=places)

    async def rendered(self, chart: str, *options: str) -> list[dict[str, Any]]:
        """The objects of a chart."""
        version = f"--kube-version={GROUPS['kubernetes'].version()}"
        text = await self("template", chart, str(OURS / chart), f"--namespace={OPERATOR_NAMESPACE}", version, *options)
        return [item for item in yaml.safe_load_all(text) if item]


@pytest.fixture
async def helm(tmp_path: Path) -> Helm:
    toolchain = Toolchain()
    await toolchain.provide("helm")
    return Helm(toolchain.path("helm"), tmp_path)


async def apply(client: Client, items: Iterable[dict[str, Any]], *, dry_run: bool = False) -> None:
    """Apply objects of any kind, with no field that the API server does not know."""
    query = {"fieldManager": "tests", "force": "true", "fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
    if not dry_run:
        with suppress(AlreadyExists):
            await client.create(NAMESPACE, Metadata(metadata=ObjectMeta(name=OPERATOR_NAMESPACE)))
    for item in items:
        path = await path_of(client, item)
        await client.request("PATCH", path, body=json.dumps(item).encode(), content_type=APPLY_PATCH, query=query)


async def path_of(client: Client, item: dict[str, Any]) -> str:
    """Where the API server has an object."""
    version, name = item["apiVersion"], item["metadata"]["name"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    served: Sequence[dict[str, Any]] = json.loads(await client.request("GET", root))["resources"]
    kind = next(entry for entry in served if entry["kind"] == item["kind"] and "/" not in entry["name"])
    where = f"/namespaces/{item['metadata'].get('namespace', OPERATOR_NAMESPACE)}" if kind["namespaced"] else ""
    return f"{root}{where}/{kind['name']}/{name}"
