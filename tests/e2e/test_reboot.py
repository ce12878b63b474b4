"""A DPU that reboots, with the database of Open vSwitch kept or lost: its chain is Ready by itself, and no earlier pod has a port."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from dpuchain.lab.layout import Layout
from tests.e2e.conftest import run
from tests.e2e.test_example import service_pod

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Rack

OWNER = "external_ids:owner=ovs-cni.network.kubevirt.io"
STALE = "vethleftbehind0"


@pytest.fixture(scope="module", autouse=True)
def theirs(rack: Rack, ready_example: None) -> Iterator[None]:
    """A port of somebody else's, beside the example."""
    yield
    rack.at("dpu-1", "ovs-vsctl", "--if-exists", "del-port", "theirs")


def hang(rack: Rack, program: str) -> None:
    """Have a process do nothing any more."""
    pid = rack.at("fabric", "pgrep", "-f", program).output.split()[0]
    assert rack.at("fabric", "kill", "-STOP", pid).status == 0


@pytest.mark.parametrize("database", ["kept", "lost"])
def test_rebooted_dpu_serves_again_without_the_ports_of_pods_that_are_gone(rack: Rack, database: str) -> None:
    root = Layout.at(rack.directory).root
    rack.at("dpu-1", "ovs-vsctl", "--may-exist", "add-port", "br-sfc", "theirs", "--", "set", "interface", "theirs", "type=internal")
    rack.at("dpu-1", "ip", "link", "add", STALE, "type", "veth", "peer", "name", "other-end")
    mark = ("--", "set", "interface", STALE, "external_ids:dpf-id=dpf-operator-system/long-gone/eth1")
    rack.at("dpu-1", "ovs-vsctl", "add-port", "br-sfc", STALE, *mark, "--", "set", "port", STALE, OWNER)
    before, pod = set(rack.ports("dpu-1")), service_pod(rack, "dpu-1")
    assert {STALE, "theirs", "p0", "pf0hpf"} < before
    assert len(before) == 6
    hang(rack, f"kubelet --config={root}/dpu-1/")  # nobody on the DPU hears of the end of the pod
    rack.ok("cluster-1", "delete", f"pod/{pod}", "--grace-period=0", "--force")

    outcome = rack.lab("reboot", "dpu-1", *(["--new-database"] if database == "lost" else []))
    assert outcome.status == 0, outcome.output

    theirs = {"theirs"} if database == "kept" else set()

    def pods_ports() -> set[str]:
        return set(rack.ports("dpu-1")) - {"p0", "pf0hpf", "theirs"}

    rack.until(lambda: len(pods_ports()) == 2 and not pods_ports() & before, "wired anew, without what was before", seconds=60)
    rack.ok("host", "wait", "--for=condition=Ready", "dpuservicechain/example-chain", "--timeout=60s")
    assert set(rack.ports("dpu-1")) == {"p0", "pf0hpf", *theirs, *pods_ports()}
    assert service_pod(rack, "dpu-1") != pod
    assert rack.ping()
    assert len(rack.flows("dpu-1")) == 4
    kubeconfig = f"--kubeconfig={rack.directory / 'host.kubeconfig'}"
    traced = run(sys.executable, "-m", "dpuchain", "trace", "--from=pf0hpf", "--node=dpu-1", kubeconfig, timeout=60)
    assert traced.output.endswith("delivered: pf0hpf → p0, and back\n"), traced.output
