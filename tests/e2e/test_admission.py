"""Admission on a rack: a conflict is refused, and where two come at the same instant, at most one wins, and who does not is told why."""

from __future__ import annotations

import functools
import json
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.manifests import apply, interface

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Rack

P0: dict[str, Any] = {"interfaceType": "physical", "physical": {"interfaceName": "p0"}}
ROUNDS = 8
REGISTRATION = "validatingwebhookconfiguration/dpuchain-admission"


@pytest.fixture
def replicas(rack: Rack) -> Iterator[Rack]:
    """Two replicas of admission, asked in turns by nobody but whom the registration names last; nothing of them is left."""
    before = rack.snapshot()
    processes = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        arguments = [f"--kubeconfig={rack.directory / 'host.kubeconfig'}", f"--address=127.0.0.1:{port}"]
        arguments += [f"--url=https://127.0.0.1:{port}/validate"]
        log = (rack.directory / f"admission-{port}.log").open("wb")
        processes.append(subprocess.Popen([sys.executable, "-m", "dpuchain", "admission", *arguments], stderr=log))
    apply(rack, interface("first", P0))
    rack.until(lambda: refused(rack, interface("second", P0)), "asked and answered", 60)
    rack.ok("host", "delete", "dpuserviceinterface/first", "--timeout=60s")
    yield rack
    for process in processes:
        process.terminate()
        process.wait()
    rack.ok("host", "delete", REGISTRATION)
    rack.ok("host", "delete", "secret/dpuchain-admission-certificates")
    rack.ok("host", "delete", "dpuserviceinterfaces", "--all", "--timeout=60s")
    assert rack.snapshot() == before


def refused(rack: Rack, item: dict[str, Any]) -> bool:
    """Whether a dry run is refused because of a conflict on both DPUs."""
    path = rack.directory / "asked.json"
    path.write_text(json.dumps(item))
    outcome = rack.kubectl("host", "apply", "--dry-run=server", "--filename", str(path))
    return outcome.status != 0 and "on nodes dpu-1, dpu-2: port p0 is owned by ServiceInterface" in outcome.output


def test_two_conflicting_objects_at_the_same_instant(replicas: Rack) -> None:
    rack = replicas
    stored = 0
    for number in range(ROUNDS):
        names = [f"left-{number}", f"right-{number}"]
        together(rack, [interface(name, P0) for name in names])
        there = [item["metadata"]["name"] for item in rack.items("host", "dpuserviceinterfaces")]
        assert there, "one of two must have been let in"
        stored += len(there) == 2
        rack.until(functools.partial(is_settled, rack, there), "settled: each has its port everywhere, or says who has it", 60)
        assert len(ready(rack)) <= 1
        if len(there) == 1:
            assert ready(rack) == there
        rack.ok("host", "delete", "dpuserviceinterfaces", "--all", "--timeout=60s")
    print(f"{stored} of {ROUNDS} pairs were both stored")  # noqa: T201


def together(rack: Rack, items: list[dict[str, Any]]) -> None:
    """Create objects, each by a process of its own, at the same instant as far as a machine can."""
    barrier = threading.Barrier(len(items))

    def one(position: int, item: dict[str, Any]) -> None:
        path = rack.directory / f"together-{position}.json"
        path.write_text(json.dumps(item))
        barrier.wait()
        rack.kubectl("host", "create", "--filename", str(path))

    threads = [threading.Thread(target=one, args=entry) for entry in enumerate(items)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def ready(rack: Rack) -> list[str]:
    """The interfaces that say that they have their port."""
    return [item["metadata"]["name"] for item in rack.items("host", "dpuserviceinterfaces") if condition(item, "Ready")["status"] == "True"]


def is_settled(rack: Rack, names: list[str]) -> bool:
    """Whether each interface has its port on both nodes, or says on which ones another has it. On each node the first one seen there wins,
    so that of two that came at the same instant both may lose.
    """
    told = [condition(item, "ServiceInterfaceSetReady").get("message", "") for item in rack.items("host", "dpuserviceinterfaces")]
    losses: list[int] = [words.count("port p0 is owned by ServiceInterface dpf-operator-system/") for words in told]
    settled = len(ready(rack)) + sum(count > 0 for count in losses) == len(names)
    return settled and sum(losses) == 2 * (len(names) - 1)


def condition(item: dict[str, Any], kind: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = [c for c in item.get("status", {}).get("conditions", []) if c["type"] == kind]
    return found[0] if found else {"status": "Unknown"}
