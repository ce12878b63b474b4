"""Which DPU cluster may begin restarts for a new serviceMTU: one of the whole fleet at a time, so that their limits hold for the fleet.

A cluster takes part while the condition ServiceMTUApplied of one of its sets says that restarts go on, have stopped, or could begin. Who
has the turn keeps it until none of its sets says so any more, so whatever it has begun is over by then. The turn is recorded in the host
cluster, which knows of it when a cluster cannot be reached. An annotation carries it to each set that takes part; it holds for one
generation, so a set that has changed begins nothing before it is looked at anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dpuchain.api.chain import ServiceChainSet
from dpuchain.api.conditions import find
from dpuchain.api.meta import Condition, ObjectKey, key_of
from dpuchain.api.names import BLOCKED, FAILURE, OWNER_UID_LABEL, RESTART_TURN_ANNOTATION, SERVICE_MTU_APPLIED


def has_turn(chain_set: ServiceChainSet) -> bool:
    """Whether restarts for the set may begin. One that no host controller made waits for nobody.

    What is not reported yet must not begin: the host controller would take a set at rest for one that has begun nothing.
    """
    if OWNER_UID_LABEL not in chain_set.metadata.labels:
        return True
    return takes_part(chain_set) and _annotation(chain_set) == str(chain_set.metadata.generation)


def takes_part(chain_set: ServiceChainSet) -> bool:
    """Whether restarts for the set go on, have stopped, or could begin."""
    condition = _told(chain_set)
    return condition is not None and condition.status == "False" and condition.reason != BLOCKED


def _told(chain_set: ServiceChainSet) -> Condition | None:
    """What is said of the restarts for the set's present generation; None if nothing is yet."""
    condition = find(chain_set.status.conditions, SERVICE_MTU_APPLIED)
    return condition if condition is not None and condition.observed_generation >= chain_set.metadata.generation else None


def _annotation(chain_set: ServiceChainSet) -> str | None:
    return chain_set.metadata.annotations.get(RESTART_TURN_ANNOTATION)


@dataclass(frozen=True)
class Cluster:
    """A DPU cluster and the sets that were made there from chains of this host cluster, as they were last seen."""

    key: ObjectKey
    trouble: str | None
    """Why it cannot be used, as words after its name; None if it can."""
    sets: Sequence[ServiceChainSet]

    @property
    def concerned(self) -> list[ServiceChainSet]:
        """The sets that take part, or for which that cannot be told and which may have begun; those that have stopped first."""
        found = [item for item in self._staying if takes_part(item) or _annotation(item) is not None]
        return sorted(found, key=lambda item: (not _has_stopped(item), key_of(item)))

    @property
    def annotated(self) -> bool:
        """Whether a set has the annotation."""
        return any(_annotation(item) is not None for item in self._staying)

    @property
    def _staying(self) -> list[ServiceChainSet]:
        return [item for item in self.sets if item.metadata.deletion_timestamp is None]


def decisive(chain_set: ServiceChainSet | None) -> object:
    """All of a set that the turn depends on; equal before and after a change that need not be looked at."""
    if chain_set is None:
        return None
    meta, told = chain_set.metadata, _told(chain_set)
    whose = (meta.uid, meta.generation, meta.deletion_timestamp, meta.labels, _annotation(chain_set))
    return whose, told is None, takes_part(chain_set), _has_stopped(chain_set)


def _has_stopped(chain_set: ServiceChainSet) -> bool:
    condition = _told(chain_set)
    return condition is not None and condition.reason == FAILURE


class Write(NamedTuple):
    """The annotation that a set is to have instead of the one that it has; None takes it off."""

    cluster: ObjectKey
    item: ServiceChainSet
    value: str | None


class Decision(NamedTuple):
    """Who has the turn, which is to be recorded first, and what is to be written into sets after that."""

    holder: ObjectKey | None
    writes: tuple[Write, ...]


def decide(holder: ObjectKey | None, clusters: Sequence[Cluster]) -> Decision:
    """Whose turn it is after `holder` had it (None: nobody), given every DPUCluster that there is.

    It passes on when the cluster is gone, or can be used and has neither a set that takes part nor an annotation. It goes to the first by
    key that wants it, but to one with the annotation before all others, since the record may have been lost.
    """
    before = next((cluster for cluster in clusters if cluster.key == holder), None)
    if before is None or (before.trouble is None and not before.concerned):
        wanting = [cluster for cluster in clusters if cluster.trouble is None and cluster.concerned]
        before = min(wanting, key=lambda cluster: (not cluster.annotated, cluster.key), default=None)
    own = {item.metadata.uid for item in before.sets} if before is not None else set()
    writes = [
        Write(cluster.key, item, wanted)
        for cluster in clusters
        for item in (cluster.concerned if cluster.trouble is None else ())
        if cluster is before or item.metadata.uid not in own  # of a DPU cluster that two DPUClusters name
        if (wanted := _wanted(item, has_turn=cluster is before)) != _annotation(item)
    ]
    return Decision(before.key if before is not None else None, tuple(writes))


def _wanted(item: ServiceChainSet, *, has_turn: bool) -> str | None:
    """The annotation that a set is to have. One of which nothing is told may have begun, and keeps what it has."""
    if has_turn and takes_part(item):
        return str(item.metadata.generation)
    return _annotation(item) if has_turn and _told(item) is None else None


def waits(chain_set: ServiceChainSet) -> bool:
    """Whether the set takes part and does not have the turn."""
    return takes_part(chain_set) and not has_turn(chain_set)


def awaited(holder: Cluster) -> str:
    """What those who wait are told: whom they wait for, and where to read how far that is or what to mend."""
    who = f"waits for DPUCluster {holder.key}, which has the turn to restart pods for a new serviceMTU"
    if holder.trouble is not None:
        return f"{who} and {holder.trouble}; mend that, or delete the DPUCluster if it is gone for good"
    first = next(iter(holder.concerned), None)
    if first is None:
        return who
    tells = f"condition {SERVICE_MTU_APPLIED} of its ServiceChainSet {key_of(first)}"
    return f"{who} and has stopped; {tells} says what to mend" if _has_stopped(first) else f"{who}; {tells} says how far it is"
