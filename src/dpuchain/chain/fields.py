"""Fields that have no effect, and fields that have a successor: told before anybody relies on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dpuchain.api.chain import DPUServiceChain, ServiceChain, ServiceChainSet, ServiceChainSpec
from dpuchain.api.interface import DPUServiceInterface, ServiceInterface, ServiceInterfaceSet, ServiceInterfaceSpec
from dpuchain.api.service import DPUService
from dpuchain.chain.problems import Problem, ref
from dpuchain.chain.release import config_ports_problem, unsupported

BLOCKS = ("physical", "vlan", "pf", "vf", "service", "ovn", "patch")
CLUSTER_SELECTOR = "spec.clusterSelector is deprecated: use spec.dpuClusterSelector, which wins where both are set"


def dead_fields(item: Any) -> tuple[Problem, ...]:
    """The fields of `item`, of any kind that people write, that are set and change nothing, each with the remedy."""
    match item:
        case DPUService():
            ports = config_ports_problem(item)
            texts = [*unsupported(item), *([ports] if ports is not None else [])]
        case DPUServiceChain():
            texts = list(_of_chain("spec.template.spec.template.spec", item.spec.template.spec.template.spec, template=True))
        case DPUServiceInterface():
            texts = list(_of_interface("spec.template.spec.template.spec", item.spec.template.spec.template.spec, template=True))
        case ServiceChainSet():
            texts = list(_of_chain("spec.template.spec", item.spec.template.spec, template=True))
        case ServiceInterfaceSet():
            texts = list(_of_interface("spec.template.spec", item.spec.template.spec, template=True))
        case ServiceChain():
            texts = list(_of_chain("spec", item.spec, template=False))
        case ServiceInterface():
            texts = list(_of_interface("spec", item.spec, template=False))
        case _:
            return ()
    return tuple(Problem(text, "dead", ref(type(item).__name__, item), about=text) for text in texts)


def _of_chain(path: str, spec: ServiceChainSpec, *, template: bool) -> Iterator[str]:
    yield from _node(path, spec.node, template=template)
    for position, switch in enumerate(spec.switches):
        for number, port in enumerate(switch.ports):
            if port.service_interface.ipam is not None:
                where = f"{path}.switches[{position}].ports[{number}].serviceInterface.ipam"
                yield f"{where}: not supported yet; give addresses in the NetworkAttachmentDefinition, or in the service itself"


def _of_interface(path: str, spec: ServiceInterfaceSpec, *, template: bool) -> Iterator[str]:
    yield from _node(path, spec.node, template=template)
    for block in BLOCKS:
        if block != spec.interface_type and getattr(spec, block) is not None:
            yield f"{path}.{block}: has no effect with interfaceType {spec.interface_type}; remove it, or change interfaceType"


def _node(path: str, node: str | None, *, template: bool) -> Iterator[str]:
    if template and node is not None:
        yield f"{path}.node: has no effect in a template; select nodes by nodeSelector"


def deprecated_fields(item: Any) -> tuple[str, ...]:
    """The fields of `item` that work, or do no harm, and have a successor."""
    found = []
    if isinstance(item, DPUServiceChain | DPUServiceInterface) and item.spec.cluster_selector is not None:
        found.append(CLUSTER_SELECTOR)
    spec = _interface_spec(item)
    if spec is not None and spec.interface_type == "ovn":
        found.append("interfaceType ovn is deprecated: use patch")
    if spec is not None and spec.vf is not None and spec.vf.parent_interface_ref is not None:
        found.append("vf.parentInterfaceRef has no effect: leave it out")
    return tuple(found)


def _interface_spec(item: Any) -> ServiceInterfaceSpec | None:
    match item:
        case DPUServiceInterface():
            return item.spec.template.spec.template.spec
        case ServiceInterfaceSet():
            return item.spec.template.spec
        case ServiceInterface():
            return item.spec
    return None
