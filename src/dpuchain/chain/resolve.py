"""Which ports of br-sfc the switches of a node's chains are made of, and what is in the way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from dpuchain.api.chain import Port, ServiceChain, Switch
from dpuchain.api.interface import ServiceInterface, ServicePort
from dpuchain.api.kubernetes import Pod
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.names import SERVICE_LABEL
from dpuchain.chain.mtu import carries, in_claim_order
from dpuchain.chain.ports import DPF_ID, ObservedPort, SwitchPort, dpf_id_of, pod_dpf_id, refusal, service_of, virtual_network
from dpuchain.chain.problems import Kind, Problem, Ref, ref
from dpuchain.chain.vlans import VlanClaim, vlan_of


@dataclass(frozen=True)
class NodeWorld:
    """All that resolution looks at, of one node. `refused` has the interfaces that get no port, with the reason, and `vlans` what those
    have that are a VLAN (`ports.assign`).
    """

    node: str
    interfaces: Sequence[ServiceInterface]
    pods: Sequence[Pod]
    ports: Mapping[str, ObservedPort]
    """Ports of br-sfc by their dpf-id."""
    refused: Mapping[ObjectKey, str]
    vlans: Mapping[ObjectKey, VlanClaim] = field(default_factory=dict)

    @cached_property
    def by_key(self) -> Mapping[ObjectKey, ServiceInterface]:
        """The interfaces by their keys."""
        return {key_of(interface): interface for interface in self.interfaces}

    @cached_property
    def by_label(self) -> Mapping[tuple[str, str, str], Sequence[ServiceInterface]]:
        """The interfaces that are not being deleted by namespace, label and value: a node has hundreds, and each port of a chain asks."""
        found: defaultdict[tuple[str, str, str], list[ServiceInterface]] = defaultdict(list)
        for interface in self.interfaces:
            if interface.metadata.deletion_timestamp is None:
                for key, value in interface.metadata.labels.items():
                    found[interface.metadata.namespace, key, value].append(interface)
        return found

    def matching(self, namespace: str, labels: Mapping[str, str]) -> list[ServiceInterface]:
        """The interfaces of a namespace that are not being deleted and have all of `labels`, of which there must be one at least."""
        fewest = min((self.by_label.get((namespace, key, value), ()) for key, value in labels.items()), key=len)
        return [interface for interface in fewest if carries(interface, labels)]

    @property
    def reserved(self) -> frozenset[SwitchPort]:
        """The VLANs on ports of the bridge that are interfaces of their own, be they part of a chain or not."""
        found = ((self.ports.get(str(claim.parent)), claim.vlan) for claim in self.vlans.values())
        return frozenset(SwitchPort(port.ofport, vlan) for port, vlan in found if port is not None and port.ofport is not None)


@dataclass(frozen=True)
class ResolvedPort:
    """A port of a switch that exists on the bridge: `port`, or a VLAN on it. It is connected whatever `problems` it has, so that it works
    as soon as they are mended.
    """

    interface: ObjectKey
    port: ObservedPort
    vlan: int | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class ResolvedSwitch:
    """The ports of a switch that can be connected, in the order of the chain, and what is wrong with it."""

    ports: tuple[ResolvedPort, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Resolution:
    """The switches of one chain."""

    chain: ObjectKey
    switches: tuple[ResolvedSwitch, ...]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with any switch, each once, in order."""
        return tuple(dict.fromkeys(problem for switch in self.switches for problem in switch.problems))

    @property
    def switch_ports(self) -> tuple[tuple[SwitchPort, ...], ...]:
        """What the ports of each switch are on the bridge."""
        return tuple(tuple(SwitchPort(p.port.ofport, p.vlan) for p in s.ports if p.port.ofport is not None) for s in self.switches)


_CNI_HINT = "\nthe CNI made no port for the pod's interface: see the pod's events and its annotation k8s.v1.cni.cncf.io/networks"


class _Problem(Exception):
    """Ends the resolution of one port; never leaves this module."""

    def __init__(self, text: str, kind: Kind, *others: Ref, about: str = "") -> None:
        super().__init__(text)
        self._kind: Kind = kind
        self._others = others
        self._about = about

    def of(self, chain: ServiceChain) -> Problem:
        """As a problem of this chain."""
        return Problem(str(self), self._kind, ref("ServiceChain", chain), *self._others, about=self._about)


def resolve(chains: Iterable[ServiceChain], world: NodeWorld) -> dict[ObjectKey, Resolution]:
    """Resolve the chains of a node that are not being deleted.

    Each selector must match exactly one ServiceInterface of the node in the chain's namespace. An interface is a port of one switch of
    one chain: the first use holds, in the order of the chains' age, every other is a problem that names the first. What resolves is
    usable though something else does not.
    """
    claims: _Claims = {}
    return {key_of(chain): _resolve_chain(chain, world, claims) for chain in in_claim_order(chains)}


class _Use(NamedTuple):
    """A switch of a chain."""

    switch: int
    chain: ObjectKey

    def __str__(self) -> str:
        return f"switch {self.switch} of ServiceChain {self.chain}"


_Claims = dict[tuple[str, int | None], _Use]
"""The switch that each port, or VLAN of it, is a port of."""


def _resolve_chain(chain: ServiceChain, world: NodeWorld, claims: _Claims) -> Resolution:
    switches = []
    for number, switch in enumerate(chain.spec.switches):
        use = _Use(number, key_of(chain))
        ports: list[ResolvedPort] = []
        problems: list[Problem] = []
        for port in switch.ports:
            try:
                resolved = _resolve_port(chain, port, world)
                _claim(resolved, use, claims)
            except _Problem as found:
                problems.append(found.of(chain))
                continue
            ailments = _ailments(resolved, switch, world)
            ports.append(replace(resolved, problems=tuple(ailments)))
            problems += ailments
        if len(ports) < 2 and not problems:
            text = f"{use} has fewer than two ports: nothing can pass; give it another port"
            problems.append(Problem(text, "none", ref("ServiceChain", chain), about=f"switch {number}"))
        switches.append(ResolvedSwitch(tuple(ports), tuple(problems)))
    return Resolution(key_of(chain), tuple(switches))


def _resolve_port(chain: ServiceChain, port: Port, world: NodeWorld) -> ResolvedPort:
    interface = _interface(chain, port.service_interface.match_labels, world)
    itself = ref("ServiceInterface", interface)
    if virtual_network(interface) is not None:
        text = _is_not_ready(interface, "has a virtual network, cannot be chained on br-sfc bridge")
        raise _Problem(text, "impossible", itself)
    if vlan_of(interface) is not None:
        place = _vlan_place(interface, world)
        if isinstance(place, str):
            raise _Problem(_is_not_ready(interface, f"is not ready: {place}"), "follows", itself)
        return place
    reason = refusal(interface)
    if reason is not None:
        raise _Problem(_is_not_ready(interface, f"is not ready: {reason}"), "follows", itself)
    observed = _observed(interface, world)
    if observed is None or key_of(interface) in world.refused:
        raise _Problem(_missing(_mark(interface, world), world.refused.get(key_of(interface)), interface), "follows", itself)
    problem = _unusable(observed)
    if problem is not None:
        raise _Problem(problem, "device", itself)
    return ResolvedPort(key_of(interface), observed)


def _vlan_place(interface: ServiceInterface, world: NodeWorld) -> ResolvedPort | str:
    """Where an interface of type vlan is, or why it is nowhere."""
    refused = world.refused.get(key_of(interface))
    claim = world.vlans.get(key_of(interface))
    if refused is not None or claim is None:
        return refused or "its parent is not known yet"
    parent = world.ports.get(str(claim.parent))
    problem = world.refused.get(claim.parent) or (None if parent is None else _unusable(parent))
    if parent is not None and problem is None:
        return ResolvedPort(key_of(interface), parent, claim.vlan)
    marks = go_map({DPF_ID: str(claim.parent)})
    return f"its parent ServiceInterface {claim.parent}: {problem or f'no port of the bridge has external_ids {marks}'}"


def place_of(interface: ServiceInterface, world: NodeWorld) -> ResolvedPort | None:
    """Where an interface is on the bridge, be it part of a chain or not, and working or not; None if it is nowhere."""
    if vlan_of(interface) is not None:
        place = _vlan_place(interface, world)
        return place if isinstance(place, ResolvedPort) else None
    try:
        observed = _observed(interface, world)
    except _Problem:
        return None
    return None if observed is None else ResolvedPort(key_of(interface), observed)


def interface_problem(interface: ServiceInterface, world: NodeWorld) -> str | None:
    """Why an interface of the node has no working port; None if it has one: on the bridge, numbered, without error, its link up."""
    reason = refusal(interface) or world.refused.get(key_of(interface))
    if reason is not None:
        return reason
    if vlan_of(interface) is not None:
        place = _vlan_place(interface, world)
        return place if isinstance(place, str) else _link_problem(place.port)
    try:
        observed = _observed(interface, world)
    except _Problem as problem:
        return str(problem)
    if observed is None:
        marks = go_map({DPF_ID: _mark(interface, world)})
        return f"no port of the bridge has external_ids {marks}{_CNI_HINT if service_of(interface) is not None else ''}"
    return _unusable(observed) or _link_problem(observed)


def _mark(interface: ServiceInterface, world: NodeWorld) -> str:
    service = service_of(interface)
    return _pod_mark(interface, service, world) if service is not None else dpf_id_of(interface)


def _observed(interface: ServiceInterface, world: NodeWorld) -> ObservedPort | None:
    return world.ports.get(_mark(interface, world))


def _unusable(observed: ObservedPort) -> str | None:
    if observed.error:
        return f"interface {observed.name}: {observed.error}; give the DPU such a device, or name another one"
    if observed.ofport is None or observed.ofport < 1:
        return f"interface {observed.name} Ofport is nil\nOpen vSwitch has given it no port number: see its ovs-vswitchd.log"
    return None


def _link_problem(observed: ObservedPort) -> str | None:
    if observed.link_up is not False:
        return None
    remedy = "check the cable, or bring the device at its other end up"
    if observed.set_up is False:
        remedy = f"the device itself was set down: ip link set {observed.name} up"
    return f"interface {observed.name}: link is down; {remedy}"


def _is_not_ready(interface: ServiceInterface, why: str) -> str:
    meta = interface.metadata
    return f"invalid service interface: serviceInterface {meta.name} in namespace ({meta.namespace}) {why}"


def _missing(mark: str, refused: str | None, interface: ServiceInterface) -> str:
    text = f"failed to find matching interface with external_ids: {go_map({DPF_ID: mark})}"
    if refused:
        return f"{text}\n{refused}"
    if service_of(interface) is not None:
        return text + _CNI_HINT
    return f"{text}\nsee the conditions of ServiceInterface {key_of(interface)}"


def _interface(chain: ServiceChain, labels: Mapping[str, str], world: NodeWorld) -> ServiceInterface:
    namespace, wanted = chain.metadata.namespace, go_map(labels)
    found = world.matching(namespace, labels)
    if not found:
        text = f"no serviceInterface in namespace({namespace}) matching labels({wanted}) on node({world.node}) found"
        raise _Problem(text, "none", about=wanted)
    if len(found) > 1:
        names = ", ".join(sorted(str(key_of(i)) for i in found))
        text = (
            f"expected only one serviceInterface in namespace({namespace}) to match labels({wanted}) on node({world.node}). "
            f"found {len(found)}\ncandidates: {names}; delete the stale ones, or add a label that only one has"
        )
        raise _Problem(text, "several", *(ref("ServiceInterface", i) for i in found), about=wanted)
    return found[0]


def _pod_mark(interface: ServiceInterface, service: ServicePort, world: NodeWorld) -> str:
    """dpf-id of the port of the pod that serves: of several the one with a port that is ready, not terminating, and oldest."""
    namespace = interface.metadata.namespace
    labels = {SERVICE_LABEL: service.service_id}
    pods = [
        p for p in world.pods if p.metadata.namespace == namespace and carries(p, labels) and p.status.phase not in ("Succeeded", "Failed")
    ]
    if not pods:
        text = f"no pod in namespace({namespace}) matching labels({go_map(labels)}) on node({world.node}) found"
        raise _Problem(text, "none", ref("ServiceInterface", interface), about=service.service_id)

    def preference(pod: Pod) -> tuple[bool, bool, bool, str, str]:
        created = pod.metadata.creation_timestamp
        return (
            pod_dpf_id(key_of(pod), service.interface_name) not in world.ports,
            not pod.ready,
            pod.metadata.deletion_timestamp is not None,
            created.isoformat() if created else "",
            pod.metadata.name,
        )

    return pod_dpf_id(key_of(min(pods, key=preference)), service.interface_name)


def _claim(resolved: ResolvedPort, use: _Use, claims: _Claims) -> None:
    place = resolved.port.name, resolved.vlan
    holder = claims.get(place)
    itself = Ref("ServiceInterface", resolved.interface)
    if holder == use:
        text = f"ServiceInterface {resolved.interface} is named twice in {use}; name it once"
        raise _Problem(text, "switch", itself, about=f"switch {use.switch}")
    if holder is not None:
        text = f"ServiceInterface {resolved.interface} is a port of {holder} already; an interface belongs to one switch"
        raise _Problem(text, "switch", itself, Ref("ServiceChain", holder.chain))
    claims[place] = use


def _ailments(resolved: ResolvedPort, switch: Switch, world: NodeWorld) -> list[Problem]:
    """What is wrong with a port that is there."""
    port, interface = resolved.port, Ref("ServiceInterface", resolved.interface)
    link = _link_problem(port)
    found = [] if link is None else [Problem(link, "device", interface)]
    service = service_of(world.by_key[resolved.interface])
    if service is None:
        return found
    pod = next((p for p in world.pods if port.dpf_id == pod_dpf_id(key_of(p), service.interface_name)), None)
    if pod is not None and not pod.ready:
        text = f"pod {key_of(pod)} of service {service.service_id} is not ready: see `kubectl describe pod`"
        found.append(Problem(text, "device", interface))
    if port.mtu is not None and port.mtu != switch.service_mtu:
        whose = f"interface {service.interface_name} of pod {key_of(pod) if pod else '(gone)'}"
        text = f"{whose} has MTU {port.mtu}, its switch asks for {switch.service_mtu}: the pod must be restarted"
        found.append(Problem(text, "device", interface))
    return found


def go_map(values: Mapping[str, str]) -> str:
    """`values` as Go's fmt prints a map, keys sorted: the format of the messages that users and their tools know."""
    return "map[" + " ".join(f"{key}:{values[key]}" for key in sorted(values)) + "]"
