"""Frames that pass while everything around them changes: none may be lost on a path that stays, none may turn up where it does not belong.

Host-1 and host-2 send 4,000 numbered frames a second to each other, through a chain of one switch (p0, pf0hpf) on each DPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from dpuchain.lab.layout import Layout
from dpuchain.lab.traffic import End, Stream
from tests.e2e.manifests import ON_FIRST, apply, chain, interface

if TYPE_CHECKING:
    from tests.e2e.conftest import Rack

ATTEMPTS = 3
DEVICES = ("x0", "x1", "x2", "x3")
"""Further ports of dpu-1, each one end of a pair."""


def ready(rack: Rack, *names: str) -> None:
    rack.ok("host", "wait", "--for=condition=Ready", *names, "--timeout=60s")


@pytest.fixture(scope="module")
def wired(rack: Rack) -> Iterator[Rack]:
    """The rack with one chain between network and host on each DPU, and four more ports on dpu-1."""
    for first, second in (DEVICES[:2], DEVICES[2:]):
        assert rack.at("dpu-1", "ip", "link", "add", first, "type", "veth", "peer", "name", second).status == 0
    for device in DEVICES:
        assert rack.at("dpu-1", "ip", "link", "set", device, "up").status == 0
    apply(
        rack,
        interface("p0", {"interfaceType": "physical", "physical": {"interfaceName": "p0"}}),
        interface("pf0hpf", {"interfaceType": "pf", "pf": {"pfID": 0}}),
        *(interface(name, {"interfaceType": "physical", "physical": {"interfaceName": name}}, **ON_FIRST) for name in DEVICES),
        chain("wire", ("p0", "pf0hpf")),
    )
    ready(rack, "dpuservicechain/wire")
    yield rack
    rack.ok("host", "delete", "dpuservicechain,dpuserviceinterface", "--all", "--timeout=120s")
    for device in (DEVICES[0], DEVICES[2]):
        rack.at("dpu-1", "ip", "link", "delete", device)


def unharmed(rack: Rack, happens: Callable[[], None]) -> None:
    """Assert that something costs no frame.

    It is done up to three times: forwarding shares two cores with everything else here, and a busy machine may lose a frame by itself. What
    is lost because of what happens is lost each time (76 to 102 of 8,000 where flows are deleted before others are added).
    """
    names = Layout.at(rack.directory).identity
    outcomes = []
    for _ in range(ATTEMPTS):
        with Stream(End(names.namespace("host-1"), "pf0"), End(names.namespace("host-2"), "pf0")) as stream:
            happens()
        assert stream.outcome is not None
        assert stream.outcome.sent > 1000, stream.outcome
        assert stream.outcome.alien == stream.outcome.duplicates == 0, stream.outcome
        outcomes.append(stream.outcome)
        if stream.outcome.lost == 0:
            return
    pytest.fail(f"frames are lost each time: {outcomes}")


def test_third_port_comes_and_goes(wired: Rack) -> None:
    def happens() -> None:
        apply(wired, chain("wire", ("p0", "pf0hpf", "x0")))
        wired.until(lambda: len(wired.flows("dpu-1")) == 7, "a switch of three ports")
        apply(wired, chain("wire", ("p0", "pf0hpf")))
        wired.until(lambda: len(wired.flows("dpu-1")) == 2, "a switch of two ports")

    unharmed(wired, happens)


def test_switch_comes_and_goes(wired: Rack) -> None:
    def happens() -> None:
        apply(wired, chain("wire", ("p0", "pf0hpf"), ("x0", "x2")))
        wired.until(lambda: len(wired.flows("dpu-1")) == 4, "two switches")
        apply(wired, chain("wire", ("p0", "pf0hpf")))
        wired.until(lambda: len(wired.flows("dpu-1")) == 2, "one switch")

    unharmed(wired, happens)


def test_other_chain_comes_changes_and_goes(wired: Rack) -> None:
    def happens() -> None:
        apply(wired, chain("other", ("x0", "x2"), **ON_FIRST))
        wired.until(lambda: len(wired.flows("dpu-1")) == 4, "the other chain's flows")
        apply(wired, chain("other", ("x0", "x2", "x1"), **ON_FIRST))
        wired.until(lambda: len(wired.flows("dpu-1")) == 9, "the other chain's third port")
        wired.ok("host", "delete", "dpuservicechain/other", "--timeout=60s")
        assert len(wired.flows("dpu-1")) == 2

    unharmed(wired, happens)


def test_applied_again_with_labels_and_without_effect(wired: Rack) -> None:
    def happens() -> None:
        for _ in range(3):
            apply(wired, chain("wire", ("p0", "pf0hpf")))
        wired.ok("host", "label", "dpuservicechain/wire", "some=label")
        wired.ok("host", "label", "dpuservicechain/wire", "some-")
        ready(wired, "dpuservicechain/wire")

    unharmed(wired, happens)


@pytest.mark.parametrize(
    "victims",
    [
        ("dpuchain agent --kubeconfig={}/dpu-1/", "dpuchain agent --kubeconfig={}/dpu-2/"),
        ("dpuchain dpu --kubeconfig={}/cluster-1/", "dpuchain host --kubeconfig={}/host/"),
        ("kube-apiserver --etcd-servers=unix://{}/cluster-1/", "etcd --data-dir={}/cluster-1/"),
    ],
    ids=("agents", "controllers", "api-server"),
)
def test_killed_process_stops_no_frame(wired: Rack, victims: tuple[str, ...]) -> None:
    root = Layout.at(wired.directory).root

    def happens() -> None:
        for victim in victims:
            kill(wired, victim.format(root))
        outcome = wired.lab("up", "--dpus=2", "--clusters=1", "--no-example")
        assert outcome.status == 0, outcome.output
        ready(wired, "dpuservicechain/wire")

    before = [wired.flows(dpu) for dpu in ("dpu-1", "dpu-2")]
    unharmed(wired, happens)
    assert [wired.flows(dpu) for dpu in ("dpu-1", "dpu-2")] == before


def test_killed_database_changes_no_flow(wired: Rack) -> None:
    """What remains afterwards; not the frames meanwhile: while its database is away, ovs-vswitchd's main thread does nothing, and that
    is the thread which forwards here. On a DPU forwarding has threads of its own: see `tests/integration/agent/test_dpdk.py`.
    """
    root = Layout.at(wired.directory).root
    flows = [wired.flows(dpu) for dpu in ("dpu-1", "dpu-2")]
    for dpu in ("dpu-1", "dpu-2"):
        kill(wired, f"ovsdb-server {root}/{dpu}/")
    outcome = wired.lab("up", "--dpus=2", "--clusters=1", "--no-example")
    assert outcome.status == 0, outcome.output
    ready(wired, "dpuservicechain/wire")
    assert [wired.flows(dpu) for dpu in ("dpu-1", "dpu-2")] == flows
    assert wired.reached()


def test_killed_switch_forwards_again_without_the_api(wired: Rack) -> None:
    root = Layout.at(wired.directory).root
    flows = wired.flows("dpu-1")
    api = pid_of(wired, f"kube-apiserver --etcd-servers=unix://{root}/cluster-1/")
    wired.at("fabric", "kill", "-STOP", str(api))
    with ThreadPoolExecutor() as pool:
        try:
            kill(wired, f"ovs-vswitchd unix:{root}/dpu-1/")
            reviving = pool.submit(wired.lab, "up", "--dpus=2", "--clusters=1", "--no-example")
            wired.until(lambda: wired.at("dpu-1", "ovs-appctl", "version").status == 0, "running again")
            wired.until(lambda: wired.flows("dpu-1") == flows, "programmed again")
            assert wired.ping()
        finally:
            wired.at("fabric", "kill", "-CONT", str(api))
        assert reviving.result().status == 0, reviving.result()
    ready(wired, "dpuservicechain/wire")


def kill(rack: Rack, pattern: str) -> None:
    rack.at("fabric", "kill", "-9", str(pid_of(rack, pattern)))


def pid_of(rack: Rack, pattern: str) -> int:
    outcome = rack.at("fabric", "pgrep", "-f", pattern)
    assert outcome.status == 0, pattern
    return int(outcome.output.split()[0])
