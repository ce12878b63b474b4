"""The messages that the troubleshooting guide lists are the very ones that the code makes, and it has those that matter."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from dpuchain.api.chain import ServiceChain
from dpuchain.api.interface import ServiceInterface
from dpuchain.api.kubernetes import Pod
from dpuchain.chain.mtu import exceeds
from dpuchain.chain.ports import ObservedPort, assign
from dpuchain.chain.resolve import NodeWorld, resolve

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "troubleshoot.md"
TEXT = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LABELS = {"KEY": "VALUE"}


def meta(name: str, labels: dict[str, str] | None = None, second: int = 0) -> dict[str, Any]:
    made = datetime(2026, 1, 1, second=second, tzinfo=UTC)
    return {"name": name, "namespace": "NAMESPACE", "labels": labels or {}, "creationTimestamp": made}


def uplink(name: str, port: str = "PORT", labels: dict[str, str] | None = None, second: int = 1) -> ServiceInterface:
    spec = {"interfaceType": "physical", "physical": {"interfaceName": port}}
    return msgspec.convert({"metadata": meta(name, labels or LABELS, second), "spec": spec}, ServiceInterface)


def service() -> ServiceInterface:
    block = {"serviceID": "SERVICE", "network": "mybrsfc", "interfaceName": "eth1"}
    return msgspec.convert({"metadata": meta("NAME", LABELS), "spec": {"interfaceType": "service", "service": block}}, ServiceInterface)


def pod(*, ready: bool = True) -> Pod:
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]}
    return msgspec.convert({"metadata": meta("POD", {"svc.dpu.nvidia.com/service": "SERVICE"}), "status": status}, Pod)


def chain(name: str = "CHAIN", selectors: tuple[dict[str, str], ...] = (LABELS,), mtu: int = 1500, second: int = 1) -> ServiceChain:
    ports = [{"serviceInterface": {"matchLabels": labels}} for labels in selectors]
    return msgspec.convert(
        {"metadata": meta(name, second=second), "spec": {"switches": [{"ports": ports, "serviceMTU": mtu}]}}, ServiceChain
    )


def port(mark: str = "NAMESPACE/NAME", number: int | None = 1, **about: Any) -> ObservedPort:
    return ObservedPort("PORT", number, mark, **about)


def said(
    *interfaces: ServiceInterface,
    ports: tuple[ObservedPort, ...] = (),
    pods: tuple[Pod, ...] = (),
    chains: tuple[ServiceChain, ...] = (),
) -> list[str]:
    """All that is wrong with the chains of such a node."""
    refused = {key: str(problem) for key, problem in assign(interfaces, {}).refused.items()}
    world = NodeWorld("NODE", interfaces, pods, {str(p.dpf_id): p for p in ports}, refused)
    found = resolve(chains or (chain(),), world)
    return [str(problem) for resolution in found.values() for problem in resolution.problems]


def emitted() -> list[str]:
    """What the code says of each of these worlds, the three texts of NVIDIA's document first."""
    eth1 = port("NAMESPACE/POD/eth1")
    too_large = exceeds(chain(mtu=9000).spec, 1500)
    assert too_large is not None
    return [
        *said(),
        *said(uplink("ONE"), uplink("OTHER", "p1")),
        *said(uplink("NAME")),
        *said(uplink("NAME"), uplink("OWNER", labels={"other": "label"}, second=0)),
        *said(service(), pods=(pod(),)),
        *said(service()),
        *said(service(), ports=(eth1,), pods=(pod(ready=False),)),
        *said(uplink("NAME"), ports=(port(error="could not open network device PORT (No such device)"),)),
        *said(uplink("NAME"), ports=(port(link_up=False),)),
        *said(uplink("NAME"), ports=(port(link_up=False, set_up=False),)),
        *said(uplink("NAME"), ports=(port(number=None),)),
        *said(uplink("NAME"), ports=(port(),), chains=(chain("OTHER", second=0), chain())),
        *said(uplink("NAME"), ports=(port(),), chains=(chain(selectors=(LABELS, LABELS)),)),
        str(too_large),
        *said(service(), ports=(port("NAMESPACE/POD/eth1", mtu=1500),), pods=(pod(),), chains=(chain(mtu=9000),)),
    ]


def lines(texts: list[str]) -> set[str]:
    """Their lines; that a switch of these small worlds has one port is not the point."""
    return {line for text in texts for line in text.splitlines() if "has fewer than two ports" not in line}


def test_the_page_has_each_message_and_no_other() -> None:
    assert lines(TEXT.findall(PAGE.read_text())) == lines(emitted())


def test_the_documents_three_errors_are_among_them() -> None:
    """Its templates, with the names that the page uses."""
    shown = lines(TEXT.findall(PAGE.read_text()))
    assert "no serviceInterface in namespace(NAMESPACE) matching labels(map[KEY:VALUE]) on node(NODE) found" in shown
    assert "expected only one serviceInterface in namespace(NAMESPACE) to match labels(map[KEY:VALUE]) on node(NODE). found 2" in shown
    assert "failed to find matching interface with external_ids: map[dpf-id:NAMESPACE/NAME]" in shown
