"""The tree of what a rack carries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from dpuchain.api.chain import DPUServiceChain, ServiceChain, ServiceChainSet
from dpuchain.api.interface import ServiceInterface
from dpuchain.api.kubernetes import Pod
from dpuchain.api.service import DPUService
from dpuchain.chain.ports import ObservedPort
from dpuchain.lab.tree import ClusterView, Item, View, build

SET_LABELS = {"svc.dpu.nvidia.com/servicechainset-name": "chain", "svc.dpu.nvidia.com/servicechainset-namespace": "ns"}
SWITCH = {"ports": [{"serviceInterface": {"matchLabels": {"uplink": name}}} for name in ("p0", "p1")]}


def status(ready: str = "True", **others: str) -> dict[str, Any]:
    conditions = {"Ready": ready, **others}
    common = {"lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}
    return {"conditions": [{"type": t, "status": s, "reason": "Reason", "message": f"{t} says", **common} for t, s in conditions.items()]}


def metadata(name: str, **labels: str) -> dict[str, Any]:
    return {"name": name, "namespace": "ns", "generation": 1, "labels": labels}


def a_chain(**more: Any) -> DPUServiceChain:
    spec = {"template": {"spec": {"template": {"spec": {"switches": [SWITCH]}}}}}
    return msgspec.convert({"metadata": metadata("chain"), "spec": spec, **more}, DPUServiceChain, strict=False)


def a_cluster(ports: Sequence[ObservedPort]) -> ClusterView:
    chain_set = {"metadata": metadata("chain"), "spec": {"template": {"spec": {"switches": [SWITCH]}}}, "status": status()}
    chain = {"metadata": metadata("chain-x") | {"labels": SET_LABELS}, "spec": {"node": "dpu-1", "switches": [SWITCH]}, "status": status()}
    interfaces = [
        {
            "metadata": metadata(f"{name}-x", uplink=name),
            "spec": {"node": "dpu-1", "interfaceType": "physical", "physical": {"interfaceName": name}},
        }
        for name in ("p0", "p1")
    ]
    pod = {
        "metadata": metadata("pod") | {"labels": {"svc.dpu.nvidia.com/service": "identity"}},
        "spec": {"nodeName": "dpu-1"},
        "status": {"phase": "Pending"},
    }
    return ClusterView(
        "cluster-1",
        [msgspec.convert(chain_set, ServiceChainSet, strict=False)],
        [msgspec.convert(chain, ServiceChain, strict=False)],
        msgspec.convert(interfaces, list[ServiceInterface]),
        [msgspec.convert(pod, Pod)],
        {"dpu-1": list(ports)},
    )


def lines(items: Sequence[Item], depth: int = 0) -> Iterator[str]:
    for item in items:
        yield "  " * depth + f"{item.name}: {item.state or '-'}"
        yield from (f"{'  ' * (depth + 1)}! {remark}" for remark in item.remarks)
        yield from lines(item.children, depth + 1)


def test_chain_goes_down_to_the_ports() -> None:
    ports = [ObservedPort("p0", 1, "ns/p0-x", link_up=True), ObservedPort("p1", 2, "ns/p1-x", link_up=False)]
    view = View([a_chain(status=status())], [], [a_cluster(ports)])
    drawn = "\n".join(lines(build(view)))
    assert drawn.startswith(
        """\
DPUServiceChain chain: Ready
  cluster-1: -
    ServiceChainSet chain: Ready
      dpu-1: -
        ServiceChain chain-x: Ready
          switch 1, MTU 1500: -
            ! interface p1: link is down"""
    )
    assert drawn.endswith(
        """
            ServiceInterface p0-x, port p0, ofport 1: link up
            ServiceInterface p1-x, port p1, ofport 2: link down"""
    )


def test_port_that_is_not_there_is_a_remark() -> None:
    drawn = "\n".join(lines(build(View([a_chain()], [], [a_cluster([ObservedPort("p0", 1, "ns/p0-x", link_up=True)])]))))
    assert "! failed to find matching interface with external_ids: map[dpf-id:ns/p1-x]" in drawn
    assert "port p1" not in drawn


def test_not_ready_says_which_condition_is_not_true() -> None:
    (item,) = build(View([a_chain(status=status("False", ServiceChainSetReady="Unknown"))], [], []))
    assert (item.good, item.state) == (False, "not Ready (Reason)")
    assert item.remarks == ("ServiceChainSetReady: ServiceChainSetReady says",)


def test_ready_says_why_where_no_other_condition_does() -> None:
    (item,) = build(View([a_chain(status=status("False", ServiceChainSetReady="True"))], [], []))
    assert item.remarks == ("Ready: Ready says",)


def test_ready_of_an_older_generation_is_not_ready() -> None:
    chain = a_chain(status=status(), metadata=metadata("chain") | {"generation": 2})
    assert build(View([chain], [], []))[0].good is False


def test_nothing_below_is_said() -> None:
    (item,) = build(View([a_chain()], [], [ClusterView("cluster-1")]))
    assert item.state == "not Ready (no status)"
    assert list(lines(item.children)) == ["cluster-1: -", "  no ServiceChainSet: -"]


def test_service_shows_its_pods() -> None:
    spec = {"serviceID": "identity", "helmChart": {"source": {"repoURL": "https://charts", "version": "1", "chart": "c"}}}
    service = msgspec.convert({"metadata": metadata("service"), "spec": spec, "status": status()}, DPUService, strict=False)
    (item,) = build(View([], [service], [a_cluster([])]))
    assert list(lines([item])) == ["DPUService service: Ready", "  cluster-1: -", "    Pod pod on dpu-1: Pending"]
    assert item.children[0].children[0].good is False
