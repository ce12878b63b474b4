"""A rack of its own for the tests of the whole way, raised and taken down by the commands that a person uses."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAMESPACE = "dpf-operator-system"
EXAMPLE = "examples/01-bump-in-the-wire/chain.yaml"
"""The document's example: its second switch has a serviceMTU of 2000."""
LEARNED = "cookie=0xd9c12"
"""What the cookies of learned entries begin with (docs/pipeline.md)."""
HOST_KINDS = ("dpuserviceinterfaces", "dpuservices", "dpuservicechains")
OUR_CLUSTER_KINDS = ("serviceinterfacesets", "servicechainsets", "serviceinterfaces", "servicechains")
CLUSTER_KINDS = (*OUR_CLUSTER_KINDS, "daemonsets", "pods", "secrets", "namespaces")


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    status: int
    output: str


@dataclass(frozen=True)
class Rack:
    """A running rack, used through what it leaves for people."""

    directory: Path

    def lab(self, *arguments: str, timeout: float = 300) -> Outcome:
        """Run `dpuchain lab` on this rack."""
        return run(sys.executable, "-m", "dpuchain", "lab", arguments[0], f"--directory={self.directory}", *arguments[1:], timeout=timeout)

    def at(self, place: str, *command: str, timeout: float = 60) -> Outcome:
        """Run a command on a DPU or host."""
        return run(str(self.directory / "bin" / place), *command, timeout=timeout)

    def kubectl(self, cluster: str, *arguments: str, timeout: float = 120) -> Outcome:
        """Run kubectl as administrator of a cluster, in the operator's namespace."""
        tool = str(self.directory / "bin" / "kubectl")
        return run(tool, f"--kubeconfig={self.directory / cluster}.kubeconfig", f"--namespace={NAMESPACE}", *arguments, timeout=timeout)

    def ok(self, cluster: str, *arguments: str, timeout: float = 120) -> str:
        """Run kubectl, which must succeed."""
        outcome = self.kubectl(cluster, *arguments, timeout=timeout)
        if outcome.status:
            pytest.fail(f"kubectl {' '.join(arguments)}: {outcome.output}\n{self.state()}")
        return outcome.output

    def items(self, cluster: str, kind: str) -> list[dict[str, Any]]:
        """All objects of a kind in the operator's namespace."""
        found: list[dict[str, Any]] = json.loads(self.ok(cluster, "get", kind, "--output=json"))["items"]
        return found

    def ping(self, count: int = 3) -> bool:
        """Whether host-1 reaches host-2: every one of `count` frames is answered."""
        # What a host remembers of its neighbour must not hide that ARP does not pass either.
        self.at("host-1", "ip", "neighbour", "flush", "all")
        outcome = self.at("host-1", "busybox", "ping", "-c", str(count), "-i", "0.1", "-W", "1", "198.51.100.2")
        return outcome.status == 0 and f"{count} packets received" in outcome.output

    def reached(self, seconds: float = 20) -> bool:
        """Whether host-1 reaches host-2 within some seconds: a probe as Kubernetes makes them, for what becomes right by itself."""
        outcome = self.at("host-1", "busybox", "ping", "-w", f"{seconds:.0f}", "-c", "1", "198.51.100.2", timeout=seconds + 10)
        return outcome.status == 0

    def until(self, holds: Callable[[], bool], what: str, seconds: float = 30) -> None:
        """Ask again and again until it is so, for what nothing tells of."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                pytest.fail(f"not {what} after {seconds:.0f} s")
            time.sleep(0.2)

    def flows(self, dpu: str) -> list[str]:
        """All flows of a DPU's bridge but those that its switches learn, without counters."""
        outcome = self.at(dpu, "ovs-ofctl", "-O", "OpenFlow14", "--no-stats", "dump-flows", "br-sfc")
        assert outcome.status == 0, outcome.output
        return sorted(line.strip() for line in outcome.output.splitlines() if "actions" in line and not line.lstrip().startswith(LEARNED))

    def ports(self, dpu: str) -> list[str]:
        """The names of the ports of a DPU's bridge."""
        outcome = self.at(dpu, "ovs-vsctl", "list-ports", "br-sfc")
        assert outcome.status == 0, outcome.output
        return outcome.output.split()

    def snapshot(self) -> dict[str, Any]:
        """What deleting everything must leave as it was: ports, flows and objects, by name."""
        names: dict[str, Any] = {dpu: (self.ports(dpu), self.flows(dpu)) for dpu in ("dpu-1", "dpu-2")}
        for cluster, kinds in (("host", HOST_KINDS), ("cluster-1", CLUSTER_KINDS)):
            for kind in kinds:
                names[f"{cluster}/{kind}"] = sorted(item["metadata"]["name"] for item in self.items(cluster, kind))
        return names

    def until_as(self, before: dict[str, Any], seconds: float = 120) -> None:
        """Wait until a snapshot is again as one before; a failure says in what it differs."""
        differing: dict[str, Any] = {}

        def same() -> bool:
            now = self.snapshot()
            differing.clear()
            differing.update(
                {name: (before.get(name), now.get(name)) for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
            )
            return not differing

        try:
            self.until(same, "as it was before", seconds)
        except pytest.fail.Exception as failure:
            pytest.fail(f"{failure}: before and now {differing}")

    def state(self) -> str:
        """Everything that helps to see why a test failed."""
        parts = [self.kubectl("host", "get", ",".join(HOST_KINDS), "--output=yaml").output]
        parts.append(self.kubectl("cluster-1", "get", ",".join(OUR_CLUSTER_KINDS), "--output=yaml").output)
        parts.append(self.kubectl("cluster-1", "get", "pods", "--output=wide").output)
        for dpu in ("dpu-1", "dpu-2"):
            parts.append(self.at(dpu, "ovs-vsctl", "show").output)
            parts.append(self.at(dpu, "ovs-ofctl", "-O", "OpenFlow14", "dump-flows", "br-sfc").output)
        parts += [f"{log}:\n{log.read_text()[-3000:]}" for log in sorted(self.directory.glob("*/dpuchain-*.log"))]
        return "\n".join(parts)


def run(*command: str, timeout: float) -> Outcome:
    """Run a command to its end."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL)
    return Outcome(done.returncode, done.stdout + done.stderr)


@contextlib.contextmanager
def raised(clusters: int) -> Iterator[Rack]:
    """Two DPUs in so many DPU clusters, without the example."""
    with tempfile.TemporaryDirectory(prefix="dpuchain-e2e-") as folder:
        rack = Rack(Path(folder) / "rack")
        try:
            outcome = rack.lab("up", "--dpus=2", f"--clusters={clusters}", "--no-example", timeout=900)
            assert outcome.status == 0, outcome.output
            yield rack
        finally:
            outcome = rack.lab("down")
            assert outcome.status == 0, outcome.output


@pytest.fixture(scope="package")
def rack() -> Iterator[Rack]:
    """Two DPUs in one DPU cluster, without the example."""
    with raised(1) as rack:
        yield rack


@pytest.fixture(scope="module")
def ready_example(rack: Rack, pytestconfig: pytest.Config) -> Iterator[None]:
    """The document's example, Ready, and afterwards gone with its pods."""
    manifest = ("--filename", str(pytestconfig.rootpath / EXAMPLE))
    rack.ok("host", "apply", *manifest)
    rack.ok("host", "wait", "--for=condition=Ready", *manifest, "--timeout=90s")
    yield
    rack.ok("host", "delete", *manifest, "--timeout=120s")
    rack.ok("cluster-1", "wait", "--for=delete", "pod", "--all", "--timeout=60s")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Add the state of the rack to a failure."""
    report = yield
    rack = getattr(item, "funcargs", {}).get("rack")
    if report.failed and call.when == "call" and rack is not None:  # type: ignore[attr-defined]  # pluggy's wrappers are typed by what they yield
        report.sections.append(("the rack", rack.state()))  # type: ignore[attr-defined]
    return report
