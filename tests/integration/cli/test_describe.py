"""`describe` on a real API server, which is the host cluster and the DPU cluster at once, without any agent."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from dpuchain.api.kinds import DPU_CLUSTER, DPU_SERVICE_CHAIN, SECRET, SERVICE_CHAIN, SERVICE_CHAIN_SET
from dpuchain.api.meta import ObjectKey
from dpuchain.api.names import CHAIN_SET_NAME_LABEL, CHAIN_SET_NAMESPACE_LABEL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dpuchain.api.resource import Resource
    from dpuchain.kube.client import Client
    from dpuchain.lab.cluster import Cluster

SWITCHES = {"switches": [{"ports": [{"serviceInterface": {"matchLabels": {"port": name}}} for name in ("p0", "p1")]}]}


class Fleet:
    """Objects of one namespace, and the command that shows them."""

    def __init__(self, client: Client, namespace: str, cluster: Cluster) -> None:
        self.namespace = namespace
        self._client = client
        self._cluster = cluster

    async def make(
        self, resource: Resource[Any], name: str, *, status: str | None = None, labels: dict[str, str] | None = None, **spec: Any
    ) -> None:
        body = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": name, "namespace": self.namespace, "labels": labels or {}},
            **spec,
        }
        await self._client.request("POST", resource.path(self.namespace), body=json.dumps(body).encode())
        if status is not None:
            await self.say(resource, name, status)

    async def say(self, resource: Resource[Any], name: str, status: str) -> None:
        key = ObjectKey(self.namespace, name)
        times = {"lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}
        conditions = [{"type": "Ready", "status": status, "reason": "Reason", "message": "as somebody says", **times}]
        await self._client.patch(resource, key, {"status": {"conditions": conditions}}, subresource="status")

    def command(self, *arguments: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "dpuchain", *arguments, f"--kubeconfig={self._cluster.kubeconfig}", f"--namespace={self.namespace}")

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *self.command(*arguments), stdout=pipe, stderr=pipe, stdin=asyncio.subprocess.DEVNULL
        )
        output, errors = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode(), errors.decode()


@pytest.fixture
async def fleet(client: Client, namespace: str, api_server: Cluster) -> AsyncIterator[Fleet]:
    """A chain on node dpu-1 of cluster north, which is ready, and on dpu-2, which is not; and cluster south, which cannot be reached."""
    made = Fleet(client, namespace, api_server)
    kubeconfig = base64.b64encode(api_server.kubeconfig.read_bytes()).decode()
    await made.make(SECRET, "north", data={"admin.conf": kubeconfig})
    for name, secret in (("north", "north"), ("south", "absent")):
        spec = {"type": "static", "version": "v1", "kubeconfig": secret}
        await made.make(DPU_CLUSTER, f"{namespace}-{name}", spec=spec)
    inner = {"template": {"spec": SWITCHES}}
    await made.make(DPU_SERVICE_CHAIN, "chain", status="True", spec={"template": {"spec": inner}})
    await made.make(SERVICE_CHAIN_SET, "chain", status="True", spec=inner)
    labels = {CHAIN_SET_NAME_LABEL: "chain", CHAIN_SET_NAMESPACE_LABEL: namespace}
    for node, status in (("dpu-1", "True"), ("dpu-2", "False")):
        await made.make(SERVICE_CHAIN, f"chain-{node}", status=status, labels=labels, spec={"node": node, **SWITCHES})
    yield made
    for name in ("north", "south"):
        await client.delete(DPU_CLUSTER, ObjectKey(namespace, f"{namespace}-{name}"))


def named(items: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    found, pending = [], list(items)
    while pending:
        item = pending.pop(0)
        pending = [*item.get("children", []), *pending]
        found += [item] if item["kind"] == kind else []
    return found


async def test_tree_has_every_level_and_every_reason_that_something_is_not_known(fleet: Fleet) -> None:
    status, output, _ = await fleet.run("describe", "chain", "chain", "--output=json")
    items = json.loads(output)["items"]
    assert status == 0
    assert [item["ready"] for item in items] == [True]
    clusters = {
        item["name"].removeprefix(f"{fleet.namespace}-"): item
        for item in named(items, "DPUCluster")
        if item["namespace"] == fleet.namespace
    }
    assert "no such Secret" in clusters["south"]["problems"][0]
    nodes = named([clusters["north"]], "Node")
    assert [node["name"] for node in nodes] == ["dpu-1", "dpu-2"]
    unknown = ("the agent of dpu-", "ServiceAccount", 'nodes "dpu-')  # the last where a test before this one has made the account
    assert all(any(words in node["problems"][0] for words in unknown) for node in nodes), [node["problems"] for node in nodes]
    assert [item["ready"] for item in named(nodes, "ServiceChain")] == [True, False]
    assert named(nodes, "ServiceChain")[1]["problems"] == ["Ready: as somebody says"]


async def test_what_is_not_there_is_told_with_where_it_was_looked_for(fleet: Fleet) -> None:
    status, output, errors = await fleet.run("describe", "chain", "other")
    assert (status, output) == (1, "")
    assert errors == f"Error: there is no chain other in namespace {fleet.namespace}; -n names another, -A looks in all\n"
    status, _, errors = await fleet.run("describe", "chain", "--context=other")
    assert status == 1
    assert "other" in errors


async def test_all_namespaces_are_looked_in_if_asked(fleet: Fleet) -> None:
    _, output, _ = await fleet.run("describe", "chain", "chain", "-A", "--output=json")
    assert fleet.namespace in [item["namespace"] for item in json.loads(output)["items"]]


async def test_names_are_completed_from_the_cluster(fleet: Fleet) -> None:
    pipe = asyncio.subprocess.PIPE
    words = ("describe", f"--kubeconfig={fleet._cluster.kubeconfig}", "-n", fleet.namespace, "chain", "ch")
    code = "import sys; from dpuchain.cli.kubectl import completions; print(completions(sys.argv[1:]))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, *words, stdout=pipe)
    assert (await process.communicate())[0].decode() == "['chain']\n"


async def test_watched_tree_is_shown_again_when_something_has_changed(fleet: Fleet) -> None:
    pipe = asyncio.subprocess.PIPE
    # a shell that starts the tests in the background has interrupts ignored, also by their children
    command = ("env", "--default-signal=INT", *fleet.command("describe", "chain", "chain", "--watch"))
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe)
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert (await process.stdout.readline()).decode() == "DPUServiceChain chain  Ready\n"
        await fleet.say(DPU_SERVICE_CHAIN, "chain", "False")
        while (line := (await process.stdout.readline()).decode()) and not line.startswith("DPUServiceChain"):
            pass
        assert line == "DPUServiceChain chain  not Ready (Reason)\n"
        process.send_signal(2)
        await process.stdout.read()
        assert await process.wait() == 130
