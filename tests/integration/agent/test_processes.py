"""The processes as they are started: what they log is JSON that says what it is about; neither logs nor metrics tell a secret."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.integration.agent.world import World

from dpuchain.api.kinds import NAMESPACE
from dpuchain.api.kubernetes import Metadata
from dpuchain.api.meta import ObjectMeta
from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.kube.errors import AlreadyExists
from dpuchain.lab.ports import ReservedPort
from dpuchain.lab.scraping import scrape, token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dpuchain.kube.client import Client
    from dpuchain.lab.cluster import Cluster

PROCESSES = ("agent", "dpu", "host")


@pytest.fixture
def started(world: World, api_server: Cluster, tmp_path: Path) -> Iterator[dict[str, str]]:
    """One process of each kind, with where each answers `/metrics`; their logs are in `tmp_path`."""
    agent = [f"--node={world.node}", f"--ovsdb={world.switch.database}", f"--openflow={world.switch.management}", "--address="]
    options = {"agent": [*agent, f"--cni-socket={tmp_path / 'cni.sock'}"], "dpu": [], "host": []}
    addresses, processes = {}, []
    for name in PROCESSES:
        with ReservedPort("127.0.0.1") as port:
            addresses[name] = f"127.0.0.1:{port.number}"
        arguments = [f"--kubeconfig={api_server.kubeconfig}", f"--metrics-address={addresses[name]}", *options[name]]
        with (tmp_path / f"{name}.log").open("wb") as log:
            processes.append(subprocess.Popen([sys.executable, "-m", "dpuchain", name, *arguments], stderr=log, stdout=log))
    yield addresses
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        process.wait(30)


async def test_logs_say_what_they_are_about_and_nothing_tells_a_secret(
    world: World, client: Client, api_server: Cluster, started: dict[str, str], tmp_path: Path
) -> None:
    with suppress(AlreadyExists):
        await client.create(NAMESPACE, Metadata(metadata=ObjectMeta(name=OPERATOR_NAMESPACE)))
    for name in ("p0", "p1"):
        await world.add_physical(name)
    await world.add_chain("chain", ("p0", "p1"))
    await world.until(lambda: world.ready(world.chains, "chain") == "True", "ready", 60)
    right = sorted(await world.flows())
    await world.switch.ofctl("del-flows")
    await world.until_flows(right)
    reader = await token(client)

    told: dict[str, str] = {}

    async def all_answer() -> bool:
        for name, address in started.items():
            with suppress(OSError):
                status, told[name] = await scrape(address, reader)
                if status == 200:
                    continue
            return False
        return True

    await world.until_so(all_answer, "answering")
    assert all("dpuchain_api_requests_total" in text for text in told.values())
    logs = {name: (tmp_path / f"{name}.log").read_text() for name in PROCESSES}
    lines: dict[str, list[dict[str, Any]]] = {name: [json.loads(line) for line in text.splitlines()] for name, text in logs.items()}
    for line in (line for found in lines.values() for line in found):
        assert {"event", "level", "timestamp"} <= line.keys(), line
        if "/" in line.get("key", ""):
            assert {"kind", "namespace", "name"} <= line.keys(), line
    assert {line.get("node") for line in lines["agent"]} == {world.node}
    undone = next(line for line in lines["agent"] if line["event"] == "undid what somebody else had changed")
    assert undone["objects"] == [f"ServiceChain {world.namespace}/chain"]
    user = yaml.safe_load(api_server.kubeconfig.read_text())["users"][0]["user"]
    secrets = [reader, *(value for field, value in user.items() if field in ("client-key-data", "token"))]
    assert len(secrets) > 1
    for name in PROCESSES:
        assert not [secret for secret in secrets if secret in logs[name] + told[name]], name
