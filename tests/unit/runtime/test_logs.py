"""What lines of a log say they are about, seen from outside, on real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

MAIN = """
import asyncio, logging, structlog
from typing import NamedTuple
from dpuchain.api.meta import ObjectKey
from dpuchain.kube.errors import Unreachable
from dpuchain.runtime.clock import SystemClock
from dpuchain.runtime.controller import Controller
from dpuchain.runtime.logs import bind
from dpuchain.runtime.process import run

class Subject(NamedTuple):
    kind: str
    key: ObjectKey

seen = set()

async def reconcile(key):
    structlog.get_logger("x").info("at work")
    logging.getLogger("library").warning("at work, too")
    if key == ObjectKey("ns", "b") and key not in seen:
        seen.add(key)
        raise Unreachable("it is away")

async def cluster(name, kind, *keys):
    bind(cluster=name)
    controller = Controller("loop", reconcile, clock=SystemClock(), kind=kind)
    for key in keys:
        controller.enqueue(key)
    task = asyncio.create_task(controller.run())
    while not controller.idle:
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])

async def main():
    bind(node="dpu-1")
    async with asyncio.TaskGroup() as group:
        group.create_task(cluster("north", "ServiceChain", ObjectKey("ns", "a"), Subject("Pod", ObjectKey("ns", "p")), "switch"))
        group.create_task(cluster("south", "ServiceChain", ObjectKey("ns", "b")))
    raise RuntimeError("nobody knows this")

run(main, log_format="FORMAT")
"""


def logged(form: str) -> tuple[int, list[str]]:
    code = MAIN.replace("FORMAT", form)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr.splitlines()


def test_each_line_is_json_and_says_which_object_node_and_cluster_it_is_about() -> None:
    status, text = logged("json")
    assert status == 1
    lines: list[dict[str, Any]] = [json.loads(line) for line in text]
    working = [line for line in lines if line["event"].startswith("at work")]
    about = {tuple(line.get(field, "") for field in ("event", "cluster", "kind", "namespace", "name")) for line in working}
    named = {("north", "ServiceChain", "ns", "a"), ("north", "Pod", "ns", "p"), ("north", "", "", ""), ("south", "ServiceChain", "ns", "b")}
    assert about == {(event, *who) for event in ("at work", "at work, too") for who in named}
    failed = next(line for line in lines if line["event"] == "failed, trying again")
    assert (failed["cluster"], failed["kind"], failed["name"], failed["error"]) == ("south", "ServiceChain", "b", "it is away")
    assert {line.get("node") for line in working} == {"dpu-1"}
    last = lines[-1]
    assert last["level"] == "critical"
    assert "RuntimeError: nobody knows this" in last["exception"]


def test_text_is_for_people() -> None:
    status, lines = logged("text")
    assert status == 1
    assert any("at work" in line and "name=a" in line and "\x1b" not in line for line in lines)
    assert not any(line.startswith("{") for line in lines)
