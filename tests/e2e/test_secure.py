"""Secure mode on a rack: what the DPFOperatorConfig says reaches the agents, and without an API server their flows go, until it is back."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from dpuchain.api.names import OPERATOR_CONFIG_NAME
from dpuchain.lab.layout import Layout

if TYPE_CHECKING:
    from tests.e2e.conftest import Rack

DPUS = ("dpu-1", "dpu-2")
TIMEOUT_SECONDS = 4
LASTING = re.compile(r"hard_timeout=\d+, *")
pytestmark = pytest.mark.usefixtures("ready_example")


def configure(rack: Rack, timeout: str | None) -> None:
    controller = None if timeout is None else {"secureFlowDeletionTimeout": timeout}
    patch = {"spec": {"sfcController": controller}}
    rack.ok("host", "patch", f"dpfoperatorconfig/{OPERATOR_CONFIG_NAME}", "--type=merge", f"--patch={json.dumps(patch)}")


def ours(rack: Rack, dpu: str) -> list[str]:
    return [LASTING.sub("", flow) for flow in rack.flows(dpu) if "cookie=0xd9c" in flow]


def test_flows_go_with_the_api_server_and_come_back_with_it(rack: Rack) -> None:
    before = {dpu: ours(rack, dpu) for dpu in DPUS}
    assert all(before.values())
    assert rack.ping()
    pid = rack.at(
        "fabric", "pgrep", "-f", f"kube-apiserver --etcd-servers=unix://{Layout.at(rack.directory).root}/cluster-1/"
    ).output.split()[0]
    configure(rack, f"{TIMEOUT_SECONDS}s")
    try:
        rack.until(lambda: all("hard_timeout=" in flow for dpu in DPUS for flow in rack.flows(dpu)), "tied to the API server")
        assert {dpu: ours(rack, dpu) for dpu in DPUS} == before
        assert rack.ping()
        assert rack.at("fabric", "kill", "-STOP", pid).status == 0
        try:
            rack.until(lambda: not any(ours(rack, dpu) for dpu in DPUS), "without flows", seconds=3 * TIMEOUT_SECONDS)
            assert not rack.ping(1)
        finally:
            assert rack.at("fabric", "kill", "-CONT", pid).status == 0
        rack.until(lambda: {dpu: ours(rack, dpu) for dpu in DPUS} == before, "forwarding again", seconds=60)
        assert rack.ping()
        rack.ok("host", "wait", "--for=condition=Ready", "dpuservicechain/example-chain", "--timeout=60s")
    finally:
        configure(rack, None)
    rack.until(lambda: not any("hard_timeout=" in flow for dpu in DPUS for flow in rack.flows(dpu)), "free of the API server")
    assert {dpu: ours(rack, dpu) for dpu in DPUS} == before
    assert rack.ping()
