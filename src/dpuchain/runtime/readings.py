"""What most processes tell of a moment: their own readiness, whether they lead, and how the objects are that they answer for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dpuchain.api.conditions import find
from dpuchain.api.names import READY as READY_TYPE
from dpuchain.kube.cache import Cache
from dpuchain.kube.leases import Election
from dpuchain.runtime.metrics import LEADING, OBJECTS, READY, Reading, states


def readiness(checks: Mapping[str, Callable[[], str | None]]) -> Reading:
    """Which checks pass."""
    return {READY: {(name,): float(check() is None) for name, check in checks.items()}}


def leading(election: Election | None) -> Reading:
    """Whether this replica works."""
    return {LEADING: {(): float(election is None or election.leading)}}


def conditions(caches: Iterable[Cache[Any]]) -> Reading:
    """How many objects of each cache are Ready, by their status."""
    found: dict[tuple[str, ...], float] = {}
    for cache in caches:
        found |= states(cache.resource.kind, Counter(map(_state, cache)))
    return {OBJECTS: found}


def _state(item: Any) -> str:
    if item.metadata.deletion_timestamp is not None:
        return "deleting"
    ready = find(item.status.conditions, READY_TYPE)
    return "ready" if ready is not None and ready.status == "True" else "unready"
