"""What an agent answers, and to whom: asked as a person's command asks, and as nobody should."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import yaml

from dpuchain.agent.process import Settings, run
from dpuchain.api.access import SERVICE_ACCOUNT
from dpuchain.api.kinds import NAMESPACE
from dpuchain.api.kubernetes import Metadata
from dpuchain.api.meta import ObjectMeta
from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.chain.report import ASKER_HEADER, AUDIENCE
from dpuchain.kube.client import APPLY_PATCH, Client
from dpuchain.kube.errors import AlreadyExists
from dpuchain.lab.ports import ReservedPort

if TYPE_CHECKING:
    from tests.integration.agent.world import World

    from dpuchain.lab.cluster import Cluster

PLURALS = {"ServiceAccount": "serviceaccounts", "ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings"}


class Asker:
    """Speaks to the agent itself, without an API server between."""

    def __init__(self, client: Client, port: int) -> None:
        self.port = port
        self._client = client

    async def token(self, account: str, audience: str = AUDIENCE) -> str:
        """A token of a service account, for somebody."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [audience], "expirationSeconds": 600},
        }
        path = SERVICE_ACCOUNT.path(OPERATOR_NAMESPACE, account, "token")
        return str(json.loads(await self._client.request("POST", path, body=json.dumps(body).encode()))["status"]["token"])

    async def ask(self, path: str, token: str | None = None, **query: str) -> tuple[int, str]:
        """Status and text of the answer."""
        headers = {} if token is None else {ASKER_HEADER: token}
        url = f"https://127.0.0.1:{self.port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url, params=query, headers=headers, ssl=False) as response:
            return response.status, await response.text()


@pytest.fixture
async def rights(client: Client, pytestconfig: pytest.Config) -> None:
    """The rights as they are deployed."""
    with suppress(AlreadyExists):
        await client.create(NAMESPACE, Metadata(metadata=ObjectMeta(name=OPERATOR_NAMESPACE)))
    query = {"fieldManager": "tests", "force": "true"}
    for item in yaml.safe_load_all((pytestconfig.rootpath / "deploy" / "asking.yaml").read_text()):
        root = "/api" if item["apiVersion"] == "v1" else "/apis"
        folder = f"namespaces/{OPERATOR_NAMESPACE}/" if "namespace" in item["metadata"] else ""
        path = f"{root}/{item['apiVersion']}/{folder}{PLURALS[item['kind']]}/{item['metadata']['name']}"
        await client.request("PATCH", path, body=json.dumps(item).encode(), content_type=APPLY_PATCH, query=query)
    with suppress(AlreadyExists):
        nobody = Metadata(metadata=ObjectMeta(name="nobody", namespace=OPERATOR_NAMESPACE))
        await client.create(SERVICE_ACCOUNT, nobody)


@pytest.fixture
async def asker(world: World, client: Client, api_server: Cluster, rights: None, tmp_path: Path) -> AsyncIterator[Asker]:
    """An agent with a chain of two ports, and who asks it."""
    (tmp_path / "sys/class/net").mkdir(parents=True)
    switch = world.switch
    with ReservedPort("127.0.0.1") as reserved:
        port = reserved.number
    settings = Settings(world.node, "br-sfc", switch.database, switch.management, tmp_path / "cni.sock", "", sysfs=tmp_path / "sys")
    settings = replace(settings, address=f"127.0.0.1:{port}")
    task = asyncio.ensure_future(run(Client.from_kubeconfig(api_server.kubeconfig, user_agent="agent"), settings))
    for name in ("p0", "p1", "p2"):
        await world.add_physical(name)
    await world.add_chain("chain", ("p0", "p1"))
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")
    yield Asker(client, port)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_nobody_is_answered_who_may_not_ask(asker: Asker, world: World) -> None:
    other = await asker.token("dpuchain-viewer", "somebody-else")
    for token in (None, "", "x", "a.b.c", "x" * 8000, other):
        status, said = await asker.ask("/v1/node", token)
        assert status == 401, (token, said)
    status, said = await asker.ask("/v1/node", await asker.token("nobody"))
    assert (status, said) == (
        403,
        f"system:serviceaccount:{OPERATOR_NAMESPACE}:nobody may not get agents.dpuchain.dpu.nvidia.com {world.node}",
    )


async def test_report_tells_ports_chains_and_counters(asker: Asker, world: World) -> None:
    token = await asker.token("dpuchain-viewer")
    await world.switch.appctl("netdev-dummy/receive", "p0", "020000000002020000000001" + "88b5" + "00" * 46)
    status, text = await asker.ask("/v1/node", token)
    assert status == 200
    report = json.loads(text)
    assert (report["node"], report["bridge"], report["datapath"], "problems" in report) == (world.node, "br-sfc", "netdev", False)
    assert report["ovs"].startswith(("2.", "3."))
    (chain,) = report["chains"]
    (switch,) = chain["switches"]
    first, second = switch["ports"]
    assert (chain["flows"], first["called"], first["port"], first["link"], first["mtu"]) == (2, "p0", "p0", "up", 9216)
    assert (first["flows"], second["called"]) == (1, "p1")
    assert [item["called"] for item in report["interfaces"]] == ["p0", "p1", "p2"]

    async def counted() -> dict[str, Any]:
        (found,) = json.loads((await asker.ask("/v1/node", token))[1])["chains"]
        ports: dict[str, Any] = found["switches"][0]["ports"][0]
        return ports

    await world.switch.appctl("revalidator/purge")  # counters of the datapath are collected
    seen = await counted()
    assert (seen["received"], seen["entered"]) == (1, 1)


async def test_trace_tells_the_compiled_flows_and_the_switch_and_what_is_between_them(asker: Asker, world: World) -> None:
    token = await asker.token("dpuchain-viewer")
    status, text = await asker.ask("/v1/trace", token, **{"from": "p0", "frame": "icmp"})
    trace = json.loads(text)
    assert (status, trace["sentence"]) == (200, "delivered: p0 → p1, and back")
    assert trace["forward"]["ours"] == trace["forward"]["theirs"] == [{"port": "p1", "called": "p1"}]
    number = (await world.switch.vsctl("get", "interface", "p0", "ofport")).strip()
    await world.switch.ofctl("add-flow", f"cookie=0x77,priority=40000,in_port={number},icmp,actions=drop")
    trace = json.loads((await asker.ask("/v1/trace", token, **{"from": "p0", "frame": "icmp"}))[1])
    assert trace["verdict"] == "dropped"
    assert "priority 40000, cookie 0x77 → drop" in trace["cause"]
    trace = json.loads((await asker.ask("/v1/trace", token, **{"from": "p0", "frame": "udp"}))[1])
    assert trace["verdict"] == "delivered", "the foreign flow is about another protocol"


@pytest.mark.parametrize(
    ("query", "expected", "words"),
    [
        ({"from": "p9", "frame": "icmp"}, 404, "has no interface 'p9'; it has p0, p1, p2"),
        ({"from": "p0"}, 400, "the frame is empty"),
        ({"from": "p0", "frame": "icmp src=x"}, 400, "src='x' is no IP address"),
        ({"from": "p0", "frame": "i" * 1001}, 400, "parameter frame must be given once"),
        ({"from": "p0\x00", "frame": "icmp"}, 400, "parameter from must be given once"),
    ],
)
async def test_question_that_makes_no_sense_is_told_why(asker: Asker, query: dict[str, str], expected: int, words: str) -> None:
    status, said = await asker.ask("/v1/trace", await asker.token("dpuchain-viewer"), **query)
    assert status == expected
    assert words in said


async def test_switch_that_is_away_is_a_problem_and_no_failure(asker: Asker, world: World) -> None:
    token = await asker.token("dpuchain-viewer")
    await world.switch.stop_daemon()
    status, text = await asker.ask("/v1/node", token)
    assert status == 200
    assert any("openflow" in problem or "Open vSwitch" in problem for problem in json.loads(text)["problems"])
    status, said = await asker.ask("/v1/trace", token, **{"from": "p0", "frame": "icmp"})
    assert status == 503
    assert "is not there: ovs-vswitchd does not run" in said or "ovs-vswitchd" in said
    await world.switch.start_daemon()


async def test_whatever_comes_the_agent_answers_the_next(asker: Asker) -> None:
    """Bytes that are no HTTP, and HTTP that is no question: none has an answer that is a failure of the agent's own."""
    token, chance = await asker.token("dpuchain-viewer"), Random(7)
    words = [
        "/v1/node",
        "/v1/trace",
        "?from=",
        "&frame=",
        "icmp",
        "%00",
        "%ff",
        "..",
        "//",
        "=",
        "&",
        "src=1.2.3.4",
        "+",
        "é",
        " ",
        "x" * 3000,
    ]
    for _ in range(60):
        target = "/" + "".join(chance.choice(words) for _ in range(chance.randint(1, 8)))
        method, shown = chance.choice(["GET", "POST", "PUT", "HEAD", "X"]), chance.choice([token, "x"])
        head = f"{method} {target} HTTP/1.1\r\nHost: a\r\n{ASKER_HEADER}: {shown}\r\n\r\n"
        raw = head.encode() if chance.random() < 0.8 else chance.randbytes(300)
        answer = await _send(asker.port, raw)
        assert answer[:12] not in (b"HTTP/1.1 500", b"HTTP/1.0 500"), (raw, answer)
    assert (await asker.ask("/v1/node", token))[0] == 200


async def _send(port: int, raw: bytes) -> bytes:
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    try:
        writer.write(raw)
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(1):
                return await reader.read(4096)
    finally:
        writer.close()
    return b""
