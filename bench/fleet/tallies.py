"""What an API server tells of the nodes' objects, counted."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from bench.fleet.objects import RAW
from dpuchain.api.conditions import find
from dpuchain.api.meta import Condition, Model, ObjectKey, ObjectMeta
from dpuchain.api.names import CHAIN_SET_NAME_LABEL, INTERFACE_SET_NAME_LABEL, READY
from dpuchain.api.resource import Resource
from dpuchain.kube.cache import Cache, Change
from dpuchain.kube.client import Client

SET_LABELS = (CHAIN_SET_NAME_LABEL, INTERFACE_SET_NAME_LABEL, RAW)
PATIENCE = 240.0


class _Status(Model, frozen=True, kw_only=True):
    conditions: tuple[Condition, ...] = ()


class _Child(Model, frozen=True, kw_only=True):
    """As much of a ServiceChain or ServiceInterface as is counted, so that watching costs the run little."""

    metadata: ObjectMeta = ObjectMeta()
    status: _Status = _Status()


class _Counted(NamedTuple):
    """What a child counts for: the set's name, and what `Tally` counts."""

    name: str
    changed: bool
    told: bool
    ready: bool

    @classmethod
    def of(cls, child: _Child) -> _Counted | None:
        """None for a child of no set."""
        name = next((child.metadata.labels[label] for label in SET_LABELS if label in child.metadata.labels), None)
        generation, ready = child.metadata.generation, find(child.status.conditions, READY)
        told = ready is not None and ready.observed_generation == generation
        return None if name is None else cls(name, generation > 1, told, told and ready is not None and ready.status == "True")


@dataclass
class Tally:
    """Of the children of one set: how many there are, how many were changed since they were made, of how many an agent has told as they
    are now, and how many of these are Ready.
    """

    present: int = 0
    changed: int = 0
    told: int = 0
    ready: int = 0

    def count(self, child: _Counted, by: int) -> None:
        """Take one child in, or out."""
        self.present += by
        self.changed += by * child.changed
        self.told += by * child.told
        self.ready += by * child.ready


class Tallies:
    """The children of each set of the kinds that are watched, as they are and from now on. Sets are called by their names."""

    def __init__(self, client: Client, *kinds: Resource[Any]) -> None:
        self.of: defaultdict[str, Tally] = defaultdict(Tally)
        self.last = time.monotonic()
        """When the last change was told."""
        self._told = asyncio.Event()
        self._counted: dict[tuple[str, ObjectKey], _Counted] = {}
        self._caches = [Cache(client, replace(kind, type=_Child)) for kind in kinds]
        for cache in self._caches:
            cache.subscribe(partial(self._take, cache.resource.kind))

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for cache in self._caches:
                group.create_task(cache.run())

    def _take(self, kind: str, change: Change[_Child]) -> None:
        # What is told of a child that is gone is how it was in the end, which is not how it was counted.
        before = self._counted.pop((kind, change.key), None)
        after = None if change.new is None else _Counted.of(change.new)
        if before is not None:
            self.of[before.name].count(before, -1)
        if after is not None:
            self._counted[kind, change.key] = after
            self.of[after.name].count(after, 1)
        self.last = time.monotonic()
        self._told.set()

    async def until(self, holds: Callable[[], bool], patience: float = PATIENCE) -> float:
        """Wait until it is so; returns the moment of the monotonic clock."""
        async with asyncio.timeout(patience):
            while not holds():
                self._told.clear()
                await self._told.wait()
        return self.last
