"""What the controller knows of a set between two looks at it: how each object stands, counted as it goes."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Any

from dpuchain.api.meta import Object, ObjectKey, key_of
from dpuchain.chain.expand import Maker
from dpuchain.chain.status import LISTED, Standing, Tally


class Ledger:
    """The standings of one set's objects. An entry looks at none of the others, however many nodes there are."""

    def __init__(self, maker: Maker[Any]) -> None:
        self.maker = maker
        self.homes: dict[str, str] = {}
        """The selected nodes, by the names of their children."""
        self.refused: dict[str, str] = {}
        """Why the API server does not take the child on a node."""
        self._standings: dict[str, Standing] = {}
        self._surplus: dict[str, int] = {}
        self._unready: list[tuple[ObjectKey, str]] = []
        """Objects that are not ready, with their nodes, in order: telling of the first few of thousands looks at no other."""
        self._applied = 0
        self._too_many = 0
        self._written: dict[ObjectKey, tuple[Any, float]] = {}

    @property
    def tally(self) -> Tally:
        """The standings, counted."""
        first = [self._standings[node] for _, node in self._unready[:LISTED]]
        return Tally(len(self._standings), self._applied, self._too_many, len(self._unready), first)

    def note(self, node: str, standing: Standing | None, surplus: int) -> None:
        """The object on a node stands so (None: there is to be none), and there are so many too many."""
        before = self._standings.pop(node, None)
        if before is not None:
            self._applied -= before.applied
            if before.cause is not None:
                del self._unready[bisect_left(self._unready, (before.item, node))]
        if standing is not None:
            self._standings[node] = standing
            self._applied += standing.applied
            if standing.cause is not None:
                insort(self._unready, (standing.item, node))
        self._too_many += surplus - self._surplus.pop(node, 0)
        if surplus:
            self._surplus[node] = surplus

    def wrote(self, item: Object, cached: Object | None, now: float) -> bool:
        """The API server has answered a write with this; returns whether it is newer than what a cache shows."""
        behind = cached is None or _is_older(cached, item)
        if behind:
            self._written[key_of(item)] = (item, now)
        return behind

    def newest(self, key: ObjectKey, cached: Any) -> Any:
        """What a cache shows under `key` (None for nothing), or what we wrote since."""
        written, _ = self._written.get(key, (None, 0.0))
        return cached if written is None or (cached is not None and not _is_older(cached, written)) else written

    def seen(self, item: Object, now: float) -> float | None:
        """A cache shows this; returns the seconds since it was written if it is our last write that comes back, or what came after it."""
        written, moment = self._written.get(key_of(item), (None, 0.0))
        if written is None or _is_older(item, written):
            return None
        del self._written[key_of(item)]
        return now - moment

    def gone(self, item: Object) -> None:
        """A cache has shown the deletion of this very object."""
        written, _ = self._written.get(key_of(item), (None, 0.0))
        if written is not None and written.metadata.uid == item.metadata.uid:
            del self._written[key_of(item)]


def _is_older(item: Object, other: Object) -> bool:
    """Whether `item` is an older version of the same object than `other`.

    Versions of one object compare as numbers (Kubernetes, "Resource versions"); those of an object and its successor do too.
    """
    mine, others = item.metadata.resource_version, other.metadata.resource_version
    return mine.isdecimal() and others.isdecimal() and int(mine) < int(others)
