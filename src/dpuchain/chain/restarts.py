"""Which pods a change of serviceMTU restarts, on which nodes next, when to stop, and what to say of it.

A pod's interface gets its MTU when it is wired and keeps it, so a pod whose interface has another MTU than its switch must be made anew.
What Multus wrote into the pod's network-status tells which MTU that is. A node whose restart has begun is marked by an annotation on its
ServiceChain, which is taken off when pods and chain are Ready again: so whoever comes next knows how many nodes are without their
service, and since when.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec

from dpuchain.api.chain import ServiceChain, ServiceChainSet
from dpuchain.api.conditions import Finding, find, is_true
from dpuchain.api.kubernetes import Pod
from dpuchain.api.meta import key_of
from dpuchain.api.names import (
    BLOCKED,
    FAILURE,
    MAX_UNAVAILABLE_ANNOTATION,
    NETWORK_STATUS_ANNOTATION,
    PENDING,
    READY,
    RESTARTING_ANNOTATION,
    SERVICE_LABEL,
    SERVICE_MTU_APPLIED,
)
from dpuchain.chain.mtu import Claim, PodInterface
from dpuchain.chain.status import LISTED, cause_of, good

MARK_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
"""Of the moment in the annotation that marks a node."""
NOT_OUR_TURN = "none is begun before this cluster's turn; the DPUServiceChain tells whose it is, and `dpuchain host` passes it on"


@dataclass(frozen=True)
class Limit:
    """How many nodes may be without their service at a time: a number, or a share of all nodes."""

    number: int
    percent: bool = False

    @classmethod
    def parse(cls, text: str) -> Limit:
        """From `2` or `10%`. ValueError, which says what is allowed, if it is neither."""
        match = re.fullmatch("([0-9]{1,9})(%?)", text.strip())
        if match is None or (match[2] and int(match[1]) > 100):
            raise ValueError(f"{text!r} is neither a number of nodes such as 1 nor a share such as 10%")
        return cls(int(match[1]), bool(match[2]))

    def of(self, nodes: int) -> int:
        """The number, of that many nodes; a share is rounded up, as DaemonSets do."""
        return math.ceil(nodes * self.number / 100) if self.percent else self.number


def limit_of(chain_set: ServiceChainSet, default: Limit) -> tuple[Limit, str | None]:
    """The limit in force for a set: its annotation, or that of its template, or the default; and what is wrong with the annotation."""
    for metadata in (chain_set.metadata, chain_set.spec.template.metadata):
        text = metadata.annotations.get(MAX_UNAVAILABLE_ANNOTATION)
        if text is not None:
            try:
                return Limit.parse(text), None
            except ValueError as error:
                return default, f"annotation {MAX_UNAVAILABLE_ANNOTATION}: {error}"
    return default, None


@dataclass(frozen=True)
class Place:
    """A set's chain on one node, and the pods with an interface on it."""

    chain: ServiceChain
    pods: tuple[Pod, ...]
    outdated: tuple[Pod, ...]
    """Those that must be made anew and are not on their way out."""
    untold: tuple[Pod, ...]
    """Those of which it is not told what MTU they were wired with."""
    absent: tuple[str, ...]
    """Services with an interface on the chain that have no pod on the node."""
    leaving: frozenset[str]
    """Uids of pods on their way out."""

    @property
    def node(self) -> str:
        """Name of the node."""
        return self.chain.spec.node or ""

    @property
    def since(self) -> datetime | None:
        """When the restart of the node's pods began; None if it has not, or is over. Long ago if the mark cannot be read."""
        mark = self.chain.metadata.annotations.get(RESTARTING_ANNOTATION)
        if mark is None:
            return None
        try:
            return datetime.strptime(mark, MARK_FORMAT).replace(tzinfo=UTC)
        except ValueError:
            return datetime.fromtimestamp(0, UTC)

    @property
    def evictable(self) -> tuple[Pod, ...]:
        """The outdated pods that somebody makes anew when they are gone."""
        return tuple(pod for pod in self.outdated if any(owner.controller for owner in pod.metadata.owner_references))

    @property
    def can_begin(self) -> bool:
        """Whether a restart is due that may begin as soon as enough other nodes serve."""
        return self.since is None and self.observed and bool(self.evictable)

    @property
    def observed(self) -> bool:
        """Whether the node's agent has seen the chain as it is now: without it a new pod could not be wired, or would get the old MTU."""
        ready = find(self.chain.status.conditions, READY)
        return ready is not None and ready.observed_generation == self.chain.metadata.generation

    @property
    def ready(self) -> bool:
        """Whether pods and chain are as they should be."""
        return _chain_ready(self.chain) and not (self.outdated or self.absent) and self.disturbance is None

    @property
    def disturbance(self) -> str | None:
        """Why the node's pods do not all serve now, their MTU aside; None if they do."""
        for pod in self.pods:
            if pod.metadata.uid in self.leaving:
                return f"pod {key_of(pod)} is being replaced"
            if not pod.ready:
                return f"pod {key_of(pod)} is not Ready"
        return None

    @property
    def counts(self) -> tuple[int, int]:
        """How many services have their pod on the node as it should be, and how many have one, or will have it again."""
        services = {_service(pod) for pod in self.pods}
        wrong = {_service(pod) for pod in self.outdated}
        serving = {_service(pod) for pod in self.pods if pod.ready and pod.metadata.uid not in self.leaving}
        return len(serving - wrong), len(services) + (len(self.absent) if self.since is not None else 0)


def _chain_ready(chain: ServiceChain) -> bool:
    return is_true(chain.status.conditions, READY, chain.metadata.generation)


def look(chain: ServiceChain, claims: Mapping[PodInterface, Claim], pods: Iterable[Pod], evicted: Collection[str] = ()) -> Place:
    """The place of `chain`, given the claims and pods of its node. `evicted` are uids of pods whose end may not show yet."""
    wired = {interface: claim.mtu for interface, claim in claims.items() if claim.chain == key_of(chain)}
    services = {(interface.namespace, interface.service_id) for interface in wired}
    concerned = [pod for pod in pods if _service(pod) in services and pod.status.phase not in ("Succeeded", "Failed")]
    leaving = {pod.metadata.uid for pod in concerned if pod.metadata.deletion_timestamp is not None or pod.metadata.uid in evicted}
    staying = [pod for pod in concerned if pod.metadata.uid not in leaving]
    told = {pod.metadata.uid: _told(pod, wired) for pod in staying}
    return Place(
        chain,
        tuple(concerned),
        outdated=tuple(pod for pod in staying if any(mtu not in (None, wants) for mtu, wants in told[pod.metadata.uid])),
        untold=tuple(pod for pod in staying if any(mtu is None for mtu, _ in told[pod.metadata.uid])),
        absent=tuple(sorted(service for _, service in services - {_service(pod) for pod in concerned})),
        leaving=frozenset(leaving),
    )


def _service(pod: Pod) -> tuple[str, str]:
    return pod.metadata.namespace, pod.metadata.labels.get(SERVICE_LABEL, "")


def _told(pod: Pod, wired: Mapping[PodInterface, int]) -> list[tuple[int | None, int]]:
    """Of each interface of `pod` that is wired: the MTU that it is told to have (None: not told) and the one that its switch has."""
    present = wired_mtus(pod)
    mine = {interface.name: mtu for interface, mtu in wired.items() if (interface.namespace, interface.service_id) == _service(pod)}
    return [(present[name], mtu) for name, mtu in mine.items() if name in present]


class _NetworkStatus(msgspec.Struct, frozen=True):
    """One network of a pod, as Multus tells of it; `mtu` is there if the plugin's configuration has cniVersion 1.1.0."""

    interface: str = ""
    mtu: int | None = None


def wired_mtus(pod: Pod) -> dict[str, int | None]:
    """MTU of each interface of a pod that Multus tells of, None where it does not tell that; nothing of a pod that is not wired yet."""
    try:
        networks = msgspec.json.decode(pod.metadata.annotations.get(NETWORK_STATUS_ANNOTATION, "[]"), type=tuple[_NetworkStatus, ...])
    except (msgspec.MsgspecError, RecursionError):
        return {}
    return {network.interface: network.mtu or None for network in networks}


@dataclass(frozen=True)
class Plan:
    """What is to be done now: marks to set, pods to evict (after that), marks to take off."""

    begin: tuple[ServiceChain, ...]
    evict: tuple[Pod, ...]
    end: tuple[ServiceChain, ...]


@dataclass(frozen=True)
class Circumstances:
    """What else decides about the restarts of a set."""

    busy: frozenset[str]
    """Nodes of the whole cluster on which pods are being restarted, for whichever set."""
    limit: int
    """How many nodes may be without their service at a time."""
    now: datetime
    patience: timedelta
    """How long a node may take to come back."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Why an eviction is refused, by the pod's uid."""
    problem: str | None = None
    """What is wrong with the set's annotation."""
    turn: bool = True
    """Whether it is the cluster's turn to begin restarts for the set (see `chain.turns`)."""


def plan(places: Sequence[Place], about: Circumstances) -> Plan:
    """What to do about a set.

    A node is begun only while no more than the limit are without their service, that one included; those that are anyway come first.
    None is begun while one has not come back in time, or while it is another cluster's turn. What was begun is carried on.
    """
    end = [place for place in places if place.since is not None and place.ready]
    begun = [place for place in places if place.since is not None]
    begin: list[Place] = []
    if about.turn and not any(_overdue(place, about) for place in begun):
        unavailable = {*about.busy, *(place.node for place in places if place.disturbance is not None)}
        for place in sorted((place for place in places if place.can_begin), key=lambda place: (place.node not in unavailable, place.node)):
            if len(unavailable | {place.node}) <= about.limit:
                unavailable.add(place.node)
                begin.append(place)
    evict = [pod for place in (*begun, *begin) for pod in place.evictable]
    return Plan(tuple(place.chain for place in begin), tuple(evict), tuple(place.chain for place in end))


def _overdue(place: Place, about: Circumstances) -> bool:
    return place.since is not None and not place.ready and about.now - place.since >= about.patience


def next_deadline(places: Iterable[Place], about: Circumstances) -> float | None:
    """Seconds until a node is overdue that is not yet; None if none can become so."""
    times = [place.since + about.patience for place in places if place.since is not None and not _overdue(place, about)]
    return max(0.0, (min(times) - about.now).total_seconds()) if times else None


def finding(places: Sequence[Place], about: Circumstances) -> Finding:
    """The condition that tells whether each pod has the MTU of its switch, and if not, where the restarts stand.

    Its reason tells too whether the set takes part in the turns of the fleet: Blocked if no restart has begun and none may begin now.
    """
    remaining = [place for place in places if place.outdated or (place.since is not None and not place.ready)]
    if not remaining:
        return _nothing_to_do(places, about)
    right, total = (sum(numbers) for numbers in zip(*(place.counts for place in places), strict=True))
    lines = [f"{right} of {total} pods are Ready and have the MTU of their switch"]
    if about.problem is not None:
        lines.append(about.problem)
    reason = _reason(remaining, about)
    if reason == FAILURE:
        minutes = about.patience.total_seconds() / 60
        lines.append(f"stopped, as a node has not come back within {minutes:g} min; mend it, and the rest goes on by itself:")
    elif about.limit == 0:
        lines.append("nothing is restarted, as maxUnavailable is 0")
    elif not about.turn and any(place.can_begin for place in remaining):
        lines.append(NOT_OUR_TURN)
    entries = [f"* Node: {place.node}\n  {_standing(place, about)}" for place in sorted(remaining, key=_urgency)]
    lines += entries[:LISTED]
    if len(entries) > LISTED:
        lines.append(f"* and {len(entries) - LISTED} more")
    lines += _held_up_by(places, about)
    return Finding(SERVICE_MTU_APPLIED, "False", reason, "\n".join(lines))


def _reason(remaining: Iterable[Place], about: Circumstances) -> str:
    """Whether the restarts that remain have stopped, go on or will by themselves, or cannot."""
    if any(_overdue(place, about) for place in remaining):
        return FAILURE
    goes_on = any(place.since is not None or (place.can_begin and about.limit > 0) for place in remaining)
    return PENDING if goes_on else BLOCKED


def _nothing_to_do(places: Iterable[Place], about: Circumstances) -> Finding:
    """That all is well, or that this cannot be told: a chain is not right, and Multus does not say what MTU its pod has."""
    for place in places:
        if place.untold and not _chain_ready(place.chain):
            text = f"the MTU of pod {key_of(place.untold[0])} on node {place.node} is not in its annotation {NETWORK_STATUS_ANNOTATION}"
            remedy = "give its NetworkAttachmentDefinition cniVersion 1.1.0, and restart the pod if its chain asks for that"
            return Finding(SERVICE_MTU_APPLIED, "Unknown", PENDING, f"{text}: {remedy}")
    return good(SERVICE_MTU_APPLIED, about.problem or "")


def _urgency(place: Place) -> tuple[bool, str]:
    return place.since is None, place.node


def _held_up_by(places: Iterable[Place], about: Circumstances) -> list[str]:
    """The nodes that nothing is to be restarted on and that are without their service all the same, if they are what others wait for."""
    idle = [place for place in places if place.since is None and not place.outdated and place.disturbance is not None]
    if about.limit == 0 or len(idle) < about.limit:
        return []
    return [
        f"waits for node {place.node}: {place.disturbance}; mend it, or allow more nodes by annotation {MAX_UNAVAILABLE_ANNOTATION}"
        for place in sorted(idle, key=_urgency)[:LISTED]
    ]


def _standing(place: Place, about: Circumstances) -> str:
    """What is the case on a node that is not done, and what to do about it."""
    unowned = [pod for pod in place.outdated if pod not in place.evictable]
    if unowned:
        return f"pod {key_of(unowned[0])} has no controller that would make it anew: delete it and make it yourself"
    if place.since is None:
        waits = "waits for its turn" if place.observed else "waits for the node's agent, which has not seen the change yet: is it running?"
        return f"pod {key_of(place.outdated[0])} {waits}"
    return f"restarting since {place.since:{MARK_FORMAT}}: {_progress(place, about)}"


def _progress(place: Place, about: Circumstances) -> str:
    """How far a restart is that has begun."""
    if place.outdated:
        refused = (about.refused[pod.metadata.uid] for pod in place.outdated if pod.metadata.uid in about.refused)
        return next(refused, f"pod {key_of(place.outdated[0])} is to be evicted")
    if place.absent:
        return f"service {place.absent[0]} has no pod there yet; see `kubectl describe daemonset`"
    if place.disturbance is not None:
        return f"{place.disturbance}; see `kubectl describe pod`"
    cause = cause_of(place.chain, place.chain.status.conditions)
    return f"ServiceChain {key_of(place.chain)} is not Ready: {cause}"
