"""With deploy/priority.yaml an API server that is asked for too much by a leader still renews its Lease; agents wait elsewhere."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import aiohttp
import msgspec
import pytest
import yaml

from dpuchain.api.kinds import LEASE
from dpuchain.api.meta import ObjectKey
from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.kube.client import APPLY_PATCH, Client
from dpuchain.kube.errors import AlreadyExists
from dpuchain.kube.leases import Election

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dpuchain.lab.cluster import Cluster, Connection

ACCOUNTS = "system:serviceaccounts"
FLOWS = "/apis/flowcontrol.apiserver.k8s.io/v1"
AT_ONCE = 1500
"""Requests of one account: more than the queues of its flow hold, and what is served at once besides (400, and the seats of its level)."""
WRITES = 3000
PATIENCE = 90.0
APPLY = {"Content-Type": APPLY_PATCH}


@pytest.fixture
async def levels(client: Client, pytestconfig: pytest.Config) -> AsyncIterator[dict[str, str]]:
    """The names of flow schemas by their uids, ours among them, which go with the test."""
    ours = list(yaml.safe_load_all((pytestconfig.rootpath / "deploy" / "priority.yaml").read_text()))
    paths = [f"{FLOWS}/{item['kind'].lower()}s" for item in ours]
    for path, item in zip(paths, ours, strict=True):
        await client.request("POST", path, body=msgspec.json.encode(item))
    found = msgspec.json.decode(await client.request("GET", f"{FLOWS}/flowschemas"))["items"]
    yield {item["metadata"]["uid"]: item["metadata"]["name"] for item in found}
    for path, item in zip(paths, ours, strict=True):
        await client.request("DELETE", f"{path}/{item['metadata']['name']}")


@pytest.fixture
async def granted(client: Client) -> AsyncIterator[None]:
    """Service accounts may do everything, and their namespace is there."""
    with suppress(AlreadyExists):
        await client.request("POST", "/api/v1/namespaces", body=msgspec.json.encode({"metadata": {"name": OPERATOR_NAMESPACE}}))
    binding = {
        "metadata": {"name": "test-priority"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": ACCOUNTS}],
    }
    path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    await client.request("POST", path, body=msgspec.json.encode(binding))
    yield
    await client.request("DELETE", f"{path}/test-priority")


def account(cluster: Cluster, name: str) -> Connection:
    groups = (ACCOUNTS, f"{ACCOUNTS}:{OPERATOR_NAMESPACE}", "system:authenticated")
    return cluster.connection(f"system:serviceaccount:{OPERATOR_NAMESPACE}:{name}", groups)


async def schema_of(session: aiohttp.ClientSession, url: str, levels: dict[str, str]) -> str:
    """By which flow schema a request is served; empty for one that was there before the server knew of ours."""
    async with session.get(url) as response:
        return levels.get(response.headers["X-Kubernetes-PF-FlowSchema-UID"], "")


async def until_schema(connection: Connection, path: str, levels: dict[str, str], name: str) -> None:
    """Wait until the API server serves such requests by that schema: it takes new ones up in its own time."""
    connector = aiohttp.TCPConnector(ssl=connection.ssl_context())
    async with asyncio.timeout(PATIENCE), aiohttp.ClientSession(connector=connector) as session:
        while await schema_of(session, connection.server + path, levels) != name:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.1)


async def flood(connection: Connection, name: str) -> Counter[int]:
    """Write one object so often, many times at once, whatever is answered; returns the answers' statuses, counted."""
    url = f"{connection.server}/api/v1/namespaces/{OPERATOR_NAMESPACE}/configmaps/{name}?fieldManager=test&force=true"
    content = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    answers: Counter[int] = Counter()
    numbers = iter(range(WRITES))

    async def write(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            async with session.patch(url, json={**content, "data": {"number": str(number)}}, headers=APPLY) as response:
                answers[response.status] += 1

    connector = aiohttp.TCPConnector(limit=0, ssl=connection.ssl_context())
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(write(session))
    return answers


def flooded(connection: Connection, name: str) -> Counter[int]:
    """As `flood`, to its end."""
    return asyncio.run(flood(connection, name))


async def test_the_lease_of_a_leader_that_writes_too_much_is_renewed(api_server: Cluster, granted: None, levels: dict[str, str]) -> None:
    leader = account(api_server, "dpuchain-dpu")
    lease = f"{LEASE.path(OPERATOR_NAMESPACE)}/test-priority"
    await until_schema(leader, lease, levels, "dpuchain-leader-election")
    await until_schema(leader, f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods", levels, "dpuchain-controllers")

    async def work() -> None:
        await asyncio.Event().wait()

    async with Client.from_kubeconfig(leader.kubeconfig("cluster"), user_agent="tests") as own:
        election = Election(own, ObjectKey(OPERATOR_NAMESPACE, "test-priority"), "leader")
        leading = asyncio.create_task(election.lead(work))
        # In a process of its own: 1,500 handshakes would take the time of the loop that renews.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
            answers = await asyncio.get_running_loop().run_in_executor(apart, flooded, leader, "test-priority")
        assert answers[429], f"the server was not asked for too much: {answers}"
        election.fence()
        assert not leading.done()
        leading.cancel()
        await asyncio.wait([leading])


async def test_agents_have_queues_of_their_own(api_server: Cluster, granted: None, levels: dict[str, str]) -> None:
    agents = account(api_server, "dpuchain-agent")
    await until_schema(agents, f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods", levels, "dpuchain-agents")
