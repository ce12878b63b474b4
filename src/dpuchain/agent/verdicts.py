"""From what a pass has found to what is to be said of each object. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from dpuchain.agent.evidence import Evidence, Subject, Verdict
from dpuchain.agent.guard import Complaint
from dpuchain.api.chain import ServiceChain
from dpuchain.api.interface import ServiceInterface
from dpuchain.api.meta import Object, ObjectKey, key_of
from dpuchain.api.names import SERVICE_LABEL
from dpuchain.chain.ports import dpf_id_of, service_of
from dpuchain.chain.resolve import NodeWorld, Resolution, interface_problem
from dpuchain.chain.vlans import vlan_of
from dpuchain.flows.diff import shortfalls
from dpuchain.flows.identity import number_owners
from dpuchain.flows.model import FlowState


@dataclass(frozen=True)
class Findings:
    """What a pass has found: the node as it was resolved, what is missing of the flows of each chain, the marks that are left on ports,
    and whether somebody fights it.
    """

    world: NodeWorld
    resolutions: Mapping[ObjectKey, Resolution]
    missing: Mapping[ObjectKey, str]
    marks: Collection[str]
    complaint: Complaint | None = None


def evidence(findings: Findings, chains: Iterable[ServiceChain]) -> Evidence:
    """What is to be said of each object.

    Whatever a fight is about is now there and now not. As long as it lasts its objects are said to be fought over and nothing else, so
    that their conditions stand.
    """
    verdicts: dict[Subject, Verdict] = {}
    released: dict[Subject, str] = {}
    complaint = findings.complaint
    missing = findings.missing if complaint is None else dict.fromkeys(findings.resolutions, complaint.text)
    flowless = flowless_vlans(findings.resolutions, missing)
    for interface in findings.world.interfaces:
        subject = Subject("ServiceInterface", key_of(interface))
        if interface.metadata.deletion_timestamp is not None:
            if dpf_id_of(interface) not in findings.marks:
                released[subject] = interface.metadata.uid
        elif complaint is not None and _is_fought_over(interface, complaint, findings.world):
            verdicts[subject] = _verdict(interface, (complaint.text,))
        else:
            problem = interface_problem(interface, findings.world) or flowless.get(key_of(interface))
            verdicts[subject] = _verdict(interface, () if problem is None else (problem,))
    for chain in chains:
        subject = Subject("ServiceChain", key_of(chain))
        resolution = findings.resolutions.get(key_of(chain))
        if chain.metadata.deletion_timestamp is not None:
            if resolution is None:  # it had no part in the flows that were read back just now
                released[subject] = chain.metadata.uid
        elif resolution is not None:
            lasting = () if complaint is not None and complaint.subjects else resolution.problems
            verdicts[subject] = _verdict(chain, lasting, missing.get(key_of(chain)))
    return Evidence(verdicts, released)


def unseen(interfaces: Iterable[ServiceInterface], chains: Iterable[ServiceChain], problem: str) -> Evidence:
    """What is to be said while the switch cannot be read: nothing works as far as anybody knows."""
    verdicts = {Subject("ServiceInterface", key_of(interface)): _verdict(interface, (problem,)) for interface in interfaces}
    return Evidence(verdicts | {Subject("ServiceChain", key_of(chain)): _verdict(chain, (problem,)) for chain in chains})


def missing_flows(chains: Iterable[ObjectKey], actual: FlowState, desired: FlowState, reason: str = "") -> dict[ObjectKey, str]:
    """For each chain whose flows are not all on the switch, how many are not, how many are there that should not be, and why."""
    found = shortfalls(actual, desired)
    end = f"{f' ({reason})' if reason else ''}; trying again"
    return {
        chain: "{} of its flows are not on the switch and {} are there that should not be{}".format(*found[number], end)
        for chain, number in number_owners(chains).items()
        if number in found
    }


def flowless_vlans(resolutions: Mapping[ObjectKey, Resolution], missing: Mapping[ObjectKey, str]) -> dict[ObjectKey, str]:
    """The VLANs in chains of which flows are missing: a VLAN is nothing on a switch but flows."""
    return {
        port.interface: f"ServiceChain {chain}: {missing[chain]}"
        for chain, resolution in resolutions.items()
        for switch in resolution.switches
        for port in switch.ports
        if port.vlan is not None and chain in missing
    }


def _is_fought_over(interface: ServiceInterface, complaint: Complaint, world: NodeWorld) -> bool:
    """Whether the fight is about the port of the interface, of its parent, or of a pod of its service."""
    claim = world.vlans.get(key_of(interface)) if vlan_of(interface) is not None else None
    own = Subject("ServiceInterface", key_of(interface) if claim is None else claim.parent)
    service = service_of(interface)
    if service is None or own in complaint.subjects:
        return own in complaint.subjects
    pods = (pod for pod in world.pods if Subject("Pod", key_of(pod)) in complaint.subjects)
    return any(
        pod.metadata.namespace == interface.metadata.namespace and pod.metadata.labels.get(SERVICE_LABEL) == service.service_id
        for pod in pods
    )


def _verdict(item: Object, problems: tuple[str, ...], flows_missing: str | None = None) -> Verdict:
    return Verdict(item.metadata.uid, item.metadata.generation, problems, flows_missing)
