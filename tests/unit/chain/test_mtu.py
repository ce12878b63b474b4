"""How large serviceMTU may be, and which one a pod's interface has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from dpuchain.api.chain import ServiceChain
from dpuchain.api.interface import ServiceInterface
from dpuchain.api.meta import ObjectKey
from dpuchain.chain.mtu import Claim, PodInterface, claims, exceeds, in_claim_order, of_pod_interface

START = datetime(2026, 1, 1, tzinfo=UTC)
POD = {"svc.dpu.nvidia.com/service": "fw"}


def chain(name: str, *switches: tuple[int, str], namespace: str = "ns", age: int = 0, deleted: bool = False) -> ServiceChain:
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "creationTimestamp": START - timedelta(seconds=age)}
    if deleted:
        metadata["deletionTimestamp"] = START
    ports = [(mtu, [{"serviceInterface": {"matchLabels": {"port": port}}}]) for mtu, port in switches or ((1500, "any"),)]
    spec = {"switches": [{"ports": port, "serviceMTU": mtu} for mtu, port in ports]}
    return msgspec.convert({"metadata": metadata, "spec": spec}, ServiceChain)


def eth(name: str = "eth1", *, namespace: str = "ns", kind: str = "service", deleted: bool = False) -> ServiceInterface:
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "labels": {"port": name}}
    if deleted:
        metadata["deletionTimestamp"] = START
    block = {"serviceID": "fw", "network": "mybrsfc", "interfaceName": name}
    return msgspec.convert({"metadata": metadata, "spec": {"interfaceType": kind, "pf": {"pfID": 0}, "service": block}}, ServiceInterface)


def mtu_of(name: str, *chains: ServiceChain, labels: dict[str, str] | None = None) -> int:
    return of_pod_interface("ns", POD if labels is None else labels, name, chains, [eth("eth1"), eth("eth2")])


def test_the_first_switch_that_is_too_large_is_named() -> None:
    spec = chain("c", (1500, "a"), (9000, "b"), (9216, "c")).spec
    assert exceeds(spec, 9216) is None
    assert exceeds(spec, 9000) == "MTU 9216 can't be bigger than the high speed MTU 9000"
    assert exceeds(spec, 1500) == "MTU 9000 can't be bigger than the high speed MTU 1500"


def test_an_interface_has_the_mtu_of_its_switch() -> None:
    wide = chain("c", (2000, "eth1"), (3000, "eth2"))
    assert [mtu_of(name, wide) for name in ("eth1", "eth2", "eth3")] == [2000, 3000, 1500]
    assert mtu_of("eth1") == 1500


def test_the_chain_with_the_first_claim_decides() -> None:
    young, old = chain("a", (2000, "eth1")), chain("b", (3000, "eth1"), age=9)
    assert mtu_of("eth1", young, old) == 3000
    assert mtu_of("eth1", young, chain("b", (3000, "eth1"), age=9, deleted=True)) == 2000
    assert mtu_of("eth1", chain("c", (2000, "eth1"), namespace="other")) == 1500


def test_a_pod_of_another_service_has_nothing_to_do_with_it() -> None:
    assert mtu_of("eth1", chain("c", (2000, "eth1")), labels={}) == 1500


def test_claims_are_those_of_services_whose_interface_stays() -> None:
    both = chain("c", (2000, "eth1"))
    assert claims([both], [eth(), eth("eth2")]) == {PodInterface("ns", "fw", "eth1"): Claim(ObjectKey("ns", "c"), 2000)}
    for no in (eth("eth2"), eth(namespace="other"), eth(kind="pf"), eth(deleted=True)):
        assert claims([both], [no]) == {}


def test_claims_are_ordered_by_age_then_by_key() -> None:
    chains = [chain("b"), chain("a"), chain("old", age=9), chain("gone", age=99, deleted=True), chain("z", namespace="a")]
    assert [item.metadata.name for item in in_claim_order(chains)] == ["old", "z", "a", "b"]
