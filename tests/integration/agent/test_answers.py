"""What an agent answers, and to whom: asked as a person's command asks, and as nobody should."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.chain.report import ASKER_HEADER

if TYPE_CHECKING:
    from tests.integration.agent.asker import Asker
    from tests.integration.agent.world import World


@pytest.fixture(autouse=True)
async def wired(asker: Asker, world: World) -> None:
    """A chain of two ports, and a third port in none."""
    for name in ("p0", "p1", "p2"):
        await world.add_physical(name)
    await world.add_chain("chain", ("p0", "p1"))
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready")


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


async def test_who_may_look_may_not_send(asker: Asker, world: World) -> None:
    query = {"from": "p0", "frame": "icmp"}
    status, said = await asker.ask("/v1/probe", await asker.token("dpuchain-viewer"), method="POST", **query)
    assert (status, said.split(" may not ")[1]) == (403, f"create agents/probes.dpuchain.dpu.nvidia.com {world.node}")
    assert (await asker.ask("/v1/node", await asker.token("dpuchain-prober")))[0] == 403
    assert (await asker.live("p0"))["probes"][0]["skipped"].startswith("a frame would leave the DPU by p1")


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


async def test_what_is_wrong_is_part_of_every_answer(asker: Asker, world: World) -> None:
    await world.switch.appctl("netdev-dummy/set-admin-state", "p1", "down")
    await world.until(lambda: world.ready(world.chains, "chain") == "False", "told")
    token, words = await asker.token("dpuchain-viewer"), "interface p1: link is down"
    report = json.loads((await asker.ask("/v1/node", token))[1])
    assert words in report["chains"][0]["problems"][0]
    assert words in report["chains"][0]["switches"][0]["problems"][0]
    assert words in report["interfaces"][1]["problems"][0]
    trace = json.loads((await asker.ask("/v1/trace", token, **{"from": "p0", "frame": "icmp"}))[1])
    assert (trace["verdict"], words in trace["cause"]) == ("dropped", True)


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
