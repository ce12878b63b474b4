"""What happens to a rack while frames pass: none of it may cost a frame on a path that stays. For the tests, and for the figures.

Host-1 and host-2 send 4,000 numbered frames a second to each other, through a chain of one switch (p0, pf0hpf) on each DPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from dpuchain.lab.layout import Layout
from dpuchain.lab.traffic import End, Outcome, Stream
from tests.e2e.manifests import ON_FIRST, apply, chain, interface

if TYPE_CHECKING:
    from tests.e2e.conftest import Rack

DEVICES = ("x0", "x1", "x2", "x3")
"""Further ports of dpu-1, each one end of a pair."""
PATH = ("p0", "pf0hpf")


@contextlib.contextmanager
def wired(rack: Rack) -> Iterator[None]:
    """Give the rack, which has no chains, one between network and host on each DPU, and four more ports on dpu-1."""
    for first, second in (DEVICES[:2], DEVICES[2:]):
        assert rack.at("dpu-1", "ip", "link", "add", first, "type", "veth", "peer", "name", second).status == 0
    for device in DEVICES:
        assert rack.at("dpu-1", "ip", "link", "set", device, "up").status == 0
    apply(
        rack,
        interface("p0", {"interfaceType": "physical", "physical": {"interfaceName": "p0"}}),
        interface("pf0hpf", {"interfaceType": "pf", "pf": {"pfID": 0}}),
        *(interface(name, {"interfaceType": "physical", "physical": {"interfaceName": name}}, **ON_FIRST) for name in DEVICES),
        chain("wire", PATH),
    )
    ready(rack, "dpuservicechain/wire")
    yield
    rack.ok("host", "delete", "dpuservicechain,dpuserviceinterface", "--all", "--timeout=120s")
    for device in (DEVICES[0], DEVICES[2]):
        rack.at("dpu-1", "ip", "link", "delete", device)


def during(rack: Rack, happens: Callable[[Rack], None]) -> Outcome:
    """Have something happen while frames pass; what became of them."""
    names = Layout.at(rack.directory).identity
    with Stream(End(names.namespace("host-1"), "pf0"), End(names.namespace("host-2"), "pf0")) as stream:
        happens(rack)
    assert stream.outcome is not None
    assert stream.outcome.sent > 1000, stream.outcome
    assert stream.outcome.alien == stream.outcome.duplicates == 0, stream.outcome
    return stream.outcome


def ready(rack: Rack, *names: str) -> None:
    rack.ok("host", "wait", "--for=condition=Ready", *names, "--timeout=60s")


def has_flows(rack: Rack, count: int) -> None:
    """Wait until dpu-1 has so many."""
    rack.until(lambda: len(rack.flows("dpu-1")) == count, f"with {count} flows")


def third_port(rack: Rack) -> None:
    apply(rack, chain("wire", (*PATH, "x0")))
    has_flows(rack, 7)
    apply(rack, chain("wire", PATH))
    has_flows(rack, 2)


def another_switch(rack: Rack) -> None:
    apply(rack, chain("wire", PATH, ("x0", "x2")))
    has_flows(rack, 4)
    apply(rack, chain("wire", PATH))
    has_flows(rack, 2)


def another_chain(rack: Rack) -> None:
    apply(rack, chain("other", ("x0", "x2"), **ON_FIRST))
    has_flows(rack, 4)
    apply(rack, chain("other", ("x0", "x2", "x1"), **ON_FIRST))
    has_flows(rack, 9)
    rack.ok("host", "delete", "dpuservicechain/other", "--timeout=60s")
    assert len(rack.flows("dpu-1")) == 2


def service_mtu(rack: Rack) -> None:
    """Of a switch without a service, so that no pod restarts."""
    for mtu in (2000, 1500):
        changed = chain("wire", PATH)
        changed["spec"]["template"]["spec"]["template"]["spec"]["switches"][0]["serviceMTU"] = mtu
        apply(rack, changed)
        ready(rack, "dpuservicechain/wire")


def without_effect(rack: Rack) -> None:
    """The same again, with ports and labels in another order, and labels of the object itself that come and go."""
    for ports in (PATH, PATH[::-1], PATH):
        apply(rack, chain("wire", ports))
        ready(rack, "dpuservicechain/wire")
    rack.ok("host", "label", "dpuservicechain/wire", "some=label")
    rack.ok("host", "label", "dpuservicechain/wire", "some-")
    ready(rack, "dpuservicechain/wire")


def ended(signal: str, *patterns: str) -> Callable[[Rack], None]:
    """Processes of the rack get a signal that ends them, and are started again."""

    def happens(rack: Rack) -> None:
        for pattern in patterns:
            assert rack.at("fabric", "kill", signal, str(pid_of(rack, pattern))).status == 0
        revive(rack)
        ready(rack, "dpuservicechain/wire")

    return happens


def pid_of(rack: Rack, pattern: str) -> int:
    """The process with such a command line; the rack's directory takes the place of `{}`."""
    outcome = rack.at("fabric", "pgrep", "-f", pattern.format(Layout.at(rack.directory).root))
    assert outcome.status == 0, pattern
    return int(outcome.output.split()[0])


def revive(rack: Rack) -> None:
    """Start what of the rack does not run."""
    outcome = rack.lab("up", "--dpus=2", "--clusters=1", "--no-example")
    assert outcome.status == 0, outcome.output


AGENTS = ("dpuchain agent --kubeconfig={}/dpu-1/", "dpuchain agent --kubeconfig={}/dpu-2/")
CONTROLLERS = ("dpuchain dpu --kubeconfig={}/cluster-1/", "dpuchain host --kubeconfig={}/host/")
API_SERVER = ("kube-apiserver --etcd-servers=unix://{}/cluster-1/", "etcd --data-dir={}/cluster-1/")
EVENTS: dict[str, Callable[[Rack], None]] = {
    "a third port comes and goes": third_port,
    "a switch comes and goes": another_switch,
    "another chain comes, changes and goes": another_chain,
    "serviceMTU changes": service_mtu,
    "reordered, labelled, applied again": without_effect,
    "agents killed and started": ended("-KILL", *AGENTS),
    "agents ended and started, as for an upgrade": ended("-TERM", *AGENTS),
    "controllers killed and started": ended("-KILL", *CONTROLLERS),
    "API server and etcd killed and started": ended("-KILL", *API_SERVER),
}
"""After each of them all is as it was before."""
