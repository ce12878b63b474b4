"""What would be on one node, worked out by the functions that work out what is: on a DPU that has every port which is wanted of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from dpuchain.api.chain import ServiceChain
from dpuchain.api.interface import ServiceInterface
from dpuchain.api.kubernetes import Pod, PodCondition, PodStatus
from dpuchain.api.meta import ObjectKey, ObjectMeta, key_of
from dpuchain.api.names import SERVICE_LABEL
from dpuchain.chain.fleet import Source
from dpuchain.chain.mtu import Claim, PodInterface, claims
from dpuchain.chain.nodes import Service
from dpuchain.chain.ports import ObservedPort, Ports, assign, function_of, pod_dpf_id, service_of
from dpuchain.chain.problems import Kind, Problem, Ref, ref
from dpuchain.chain.representors import BLUEFIELD, MELLANOX, Function, NetDevice
from dpuchain.chain.resolve import NodeWorld, Resolution, resolve

READY = PodStatus(phase="Running", conditions=(PodCondition(type="Ready", status="True"),))


class Identity(NamedTuple):
    """What makes two problems, on two nodes or at two times, the same one."""

    kind: Kind
    between: frozenset[Ref]
    about: str


@dataclass(frozen=True)
class Issue:
    """A problem, between the objects that people wrote."""

    problem: Problem
    between: tuple[Ref, ...]

    @cached_property
    def identities(self) -> tuple[Identity, ...]:
        """What it is. Of a selector that picks several one for each of them: with one fewer it is no other problem."""
        kind, about = self.problem.kind, self.problem.about
        if kind == "several":
            first, *others = self.between
            return tuple(Identity(kind, frozenset((first, other)), about) for other in others)
        return (Identity(kind, frozenset(self.between), about),)


@dataclass(frozen=True)
class Foresight:
    """What would be on a node: its objects, its ports, and what its chains resolve to. Numbers of ports are made up."""

    node: str
    interfaces: tuple[ServiceInterface, ...] = ()
    chains: tuple[ServiceChain, ...] = ()
    origins: Mapping[Ref, Source] = field(default_factory=dict)
    """What each object on the node comes from."""
    ports: Ports = field(default_factory=lambda: Ports({}, {}))
    world: NodeWorld = field(default_factory=lambda: NodeWorld("", (), (), {}, {}))
    resolutions: Mapping[ObjectKey, Resolution] = field(default_factory=dict)

    @cached_property
    def issues(self) -> tuple[Issue, ...]:
        """What would be wrong, each once."""
        problems = [*self.ports.refused.values(), *(problem for found in self.resolutions.values() for problem in found.problems)]
        found = (Issue(problem, tuple(map(self.origin, problem.between))) for problem in problems)
        return tuple({(issue.problem, issue.between): issue for issue in found}.values())

    @cached_property
    def mtus(self) -> Mapping[PodInterface, Claim]:
        """The pods' interfaces that are on a switch, with its MTU."""
        return claims(self.chains, self.interfaces)

    def origin(self, item: Ref) -> Ref:
        """The object that people know behind one on the node."""
        return self.origins[item].ref if item in self.origins else item

    @cached_property
    def members(self) -> Mapping[tuple[Ref, int], tuple[Ref, ...]]:
        """The interfaces that each switch of each chain connects, as people know all of them."""
        return {
            (self.origin(Ref("ServiceChain", chain)), number): tuple(
                self.origin(Ref("ServiceInterface", port.interface)) for port in switch.ports
            )
            for chain, found in self.resolutions.items()
            for number, switch in enumerate(found.switches)
        }


def foresee(
    node: str,
    objects: Iterable[tuple[Source, ServiceChain | ServiceInterface]],
    serving: Collection[Service] | None,
    holders: Mapping[str, str],
) -> Foresight:
    """What would be on `node`, given its objects with what they come from.

    `serving` are the services that have pods (None: all have). `holders` tells whose mark a port carries already: it keeps that owner.
    """
    known = list(objects)
    interfaces = tuple(item for _, item in known if isinstance(item, ServiceInterface))
    chains = tuple(item for _, item in known if isinstance(item, ServiceChain))
    present = {name: ObservedPort(name, None, mark) for name, mark in holders.items()}
    ports = assign(interfaces, present, _devices(interfaces))
    pods = tuple(_pods(interfaces, serving))
    names = {port.dpf_id: name for name, port in ports.wanted.items()} | dict(_pod_ports(interfaces, pods))
    there = {
        mark: ObservedPort(name, number, mark, link_up=True)
        for number, (mark, name) in enumerate(sorted(names.items(), key=lambda entry: entry[1]), start=1)
    }
    world = NodeWorld(node, interfaces, pods, there, ports.refused, ports.vlans)
    origins = {ref(type(item).__name__, item): source for source, item in known}
    return Foresight(node, interfaces, chains, origins, ports, world, resolve(chains, world))


def holders_of(foreseen: Foresight) -> dict[str, str]:
    """The mark that each port carries, for what comes after."""
    return {name: port.dpf_id for name, port in foreseen.ports.wanted.items()}


def _devices(interfaces: Sequence[ServiceInterface]) -> list[NetDevice]:
    """A representor for each function that is asked for, so that each is found, and two that ask for one find the same."""
    functions = dict.fromkeys(function for function in map(function_of, interfaces) if function is not None)
    return [_device(function) for function in functions]


def _device(function: Function) -> NetDevice:
    address = function.address
    name = function.udev_name or f"representor of {function}" + (f" on NIC {address}" if address is not None else "")
    port = function.port_names(controllers_named=True)[0]
    if address is None:
        return NetDevice(name, "dpu", port, vendor=MELLANOX, device=min(BLUEFIELD))
    return NetDevice(name, address, port, address=f"{address}.0")


def _pods(interfaces: Iterable[ServiceInterface], serving: Collection[Service] | None) -> Iterator[Pod]:
    """A pod that is ready of each service that has any."""
    wanted = {Service(item.metadata.namespace, port.service_id) for item in interfaces if (port := service_of(item)) is not None}
    for service in sorted(wanted if serving is None else wanted & set(serving)):
        meta = ObjectMeta(name=service.service_id, namespace=service.namespace, labels={SERVICE_LABEL: service.service_id})
        yield Pod(metadata=meta, status=READY)


def _pod_ports(interfaces: Iterable[ServiceInterface], pods: Iterable[Pod]) -> Iterator[tuple[str, str]]:
    """Mark and name of each pod's port; the name is the mark, as the CNI makes up another each time."""
    there = {key_of(pod) for pod in pods}
    for item in interfaces:
        port = service_of(item)
        if port is not None and (pod := ObjectKey(item.metadata.namespace, port.service_id)) in there:
            mark = pod_dpf_id(pod, port.interface_name)
            yield mark, mark
