"""Two pods of one service on a node, the new beside the old: traffic moves to the one that is ready, and no error is told of it."""

from __future__ import annotations

import contextlib
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from dpuchain.lab.layout import Layout
from dpuchain.lab.network import FABRIC
from dpuchain.lab.traffic import End, Stream
from tests.e2e.conftest import EXAMPLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Rack

LOST = 200
"""Frames of 1000 a second each way that a move may cost; a pod that restarts without another beside it costs thousands."""
SURGE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


@pytest.fixture
def example(rack: Rack, pytestconfig: pytest.Config) -> Iterator[None]:
    """The example, Ready, whose service's new pods come before the old ones go."""
    manifest = ("--filename", str(pytestconfig.rootpath / EXAMPLE))
    objects = list(yaml.safe_load_all((pytestconfig.rootpath / EXAMPLE).read_text()))
    (service,) = [item for item in objects if item["kind"] == "DPUService"]
    service["spec"]["serviceDaemonSet"] = {"updateStrategy": SURGE}
    path = rack.directory / "surge.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    rack.ok("host", "apply", "--filename", str(path))
    rack.ok("host", "wait", "--for=condition=Ready", *manifest, "--timeout=90s")
    yield
    rack.ok("host", "delete", *manifest, "--timeout=120s")
    rack.ok("cluster-1", "wait", "--for=delete", "pod", "--all", "--timeout=60s")


@contextlib.contextmanager
def watched(rack: Rack, cluster: str, kind: str) -> Iterator[list[str]]:
    """Every condition that the objects of a kind have meanwhile, as lines; complete when the block has ended."""
    arguments = (f"--kubeconfig={rack.directory / cluster}.kubeconfig", "--namespace=dpf-operator-system")
    columns = '-o=jsonpath={range .status.conditions[*]}{.type}={.status} {.message}{"\\n"}{end}'
    log = rack.directory / f"{kind}.log"
    said: list[str] = []
    with log.open("w") as file:
        watch = subprocess.Popen([rack.directory / "bin" / "kubectl", *arguments, "get", kind, "--watch", columns], stdout=file)
        try:
            yield said
        finally:
            watch.terminate()
            watch.wait()
    said += [line for line in log.read_text().splitlines() if line.strip()]


def pods(rack: Rack) -> set[str]:
    return {item["metadata"]["name"] for item in rack.items("cluster-1", "pods")}


@pytest.mark.usefixtures("example")
def test_traffic_moves_to_the_pod_that_is_ready_without_an_error(rack: Rack) -> None:
    before = pods(rack)
    assert rack.ping()
    memory: dict[str, Any] = {"spec": {"helmChart": {"values": {"resources": {"memory": "48Mi"}}}}}
    identity = Layout.at(rack.directory).identity
    with (
        watched(rack, "cluster-1", "servicechains") as said,
        Stream(End(identity.namespace(FABRIC), "fabric"), End(identity.namespace("host-2"), "pf0"), rate=1000) as stream,
    ):
        rack.ok("host", "patch", "dpuservice/example-service", "--type=merge", f"--patch={json.dumps(memory)}")
        rack.until(lambda: not before & pods(rack), "replaced", 120)
        rack.ok("cluster-1", "rollout", "status", "daemonset/example-service", "--timeout=60s")
        rack.ok("host", "wait", "--for=condition=Ready", "dpuservicechain/example-chain", "--timeout=60s")
    assert rack.ping()
    assert stream.outcome is not None
    assert stream.outcome.sent > 1000
    assert stream.outcome.lost < LOST, "the new pod serves before the old one ends: only frames that are inside the old one may be lost"
    assert said
    assert [line for line in said if "=True" not in line] == []
