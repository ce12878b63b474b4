"""What is on an API server, kept in memory by list and watch."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, Literal, TypeVar

import msgspec
import structlog

from dpuchain.api.meta import Object, ObjectKey, key_of
from dpuchain.api.resource import Resource
from dpuchain.kube.client import METADATA, METADATA_LIST, UNREADABLE, Client, decode, key_in
from dpuchain.kube.errors import Expired, Invalid, KubeError, Throttled, from_response

T = TypeVar("T", bound=Object)

WATCH_SECONDS = 300
"""After how long the server is asked to end a watch, plus up to half of it by chance, so that the watches of many clients spread out."""
SILENCE = 90.0
"""Seconds without a byte after which a watch is begun anew, in case its connection is dead; most often nothing happened to tell of."""
FIRST_WAIT, LONGEST_WAIT = 0.05, 30.0
"""Seconds between attempts to follow a collection: doubled each time, with jitter, until a watch brings something or lasts."""
FEW = 0.2
"""See `Cache.spread`. An API server remembers a hundred changes of a kind at least, more only while there are more in 75 seconds, and ends
watches that are behind when it is busy: when a quiet fleet of a thousand nodes was changed, none to 558 agents had to list anew
(docs/scaling.md).
"""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """An object was added (`old` is None), changed, or deleted (`new` is None)."""

    old: T | None
    new: T | None

    @property
    def key(self) -> ObjectKey:
        """Key of the object that changed."""
        item = self.new if self.new is not None else self.old
        assert item is not None, "a change has an object before or after"
        return key_of(item)


@dataclass(frozen=True)
class Failing:
    """Since when a cache cannot be kept up to date, and why."""

    since: datetime
    error: KubeError

    def __str__(self) -> str:
        """What is said of a cluster of which this is a cache."""
        return f"cannot be reached since {self.since:%Y-%m-%dT%H:%M:%SZ}: {self.error}"


class _Event(msgspec.Struct):
    """One line of a watch."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]
    object: msgspec.Raw


class _VersionMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Versioned(msgspec.Struct):
    """A bookmark: nothing but a resource version."""

    metadata: _VersionMeta = msgspec.field(default_factory=_VersionMeta)


_EVENTS = msgspec.json.Decoder(_Event)


class Cache(Generic[T]):
    """The objects of a collection as typed values, with a callback for each change.

    `run` lists once and then watches, going on where it was whenever the connection ends, and lists again only if the server says that it
    no longer knows that point (410). What a new list shows to have changed meanwhile is told as changes, exactly once. Until the first
    list the cache knows nothing: wait for `synced` before taking an absent object for absent. An object that cannot be decoded is named
    in `invalid` as long as it is there; what was known of it before stays, since it is not gone.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource[T],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
        share: Callable[[T], T] = lambda item: item,
    ) -> None:
        """`share` gives what is kept of an object: an equal one (`kube.sharing`)."""
        self.resource = resource
        self.failing: Failing | None = None
        self.spread = 0.0
        """Where there are many such caches, or large ones: seconds over which they spread their lists, each waiting a part of them by
        chance, when the server has forgotten the point at which they are. One that was started anew has forgotten it for all at once; one
        that has served our watches until now for a few, whose next list is wanted soon: they wait the part FEW of it.
        """
        self.invalid: dict[ObjectKey, Invalid] = {}
        self._client = client
        self._namespace = namespace
        self._selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        self._metadata_only = metadata_only
        self._share = share
        self._objects: dict[ObjectKey, T] = {}
        self._callbacks: list[Callable[[Change[T]], None]] = []
        self._failing_callbacks: list[Callable[[], None]] = []
        self._indexers: dict[str, Callable[[T], Iterable[Hashable]]] = {}
        self._indexes: dict[str, defaultdict[Hashable, set[ObjectKey]]] = {}
        self._version = ""
        self._wait = FIRST_WAIT
        self._forgotten = False
        """Whether the server has said that it does not know our point any more, and no watch has brought anything since."""
        self._served = False
        """Whether a watch of ours has brought something, and the server has been there since."""
        self._synced = asyncio.Event()
        self._attempt: asyncio.Timeout | None = None

    def get(self, key: ObjectKey) -> T | None:
        """The object, or None if there is none (or, before `synced`, if it is not known)."""
        return self._objects.get(key)

    def __iter__(self) -> Iterator[T]:
        return iter(tuple(self._objects.values()))

    def __len__(self) -> int:
        return len(self._objects)

    @property
    def is_synced(self) -> bool:
        """Whether there was a first list."""
        return self._synced.is_set()

    async def synced(self) -> None:
        """Return when the first list has been taken in."""
        await self._synced.wait()

    def index(self, name: str, keys: Callable[[T], Iterable[Hashable]]) -> None:
        """Keep an index: `by_index(name, value)` finds the objects for which `keys` yields `value`."""
        self._indexers[name] = keys
        self._indexes[name] = defaultdict(set)
        for key, item in self._objects.items():
            for value in keys(item):
                self._indexes[name][value].add(key)

    def by_index(self, name: str, value: Hashable) -> list[T]:
        """The objects under `value`, ordered by key."""
        return [self._objects[key] for key in sorted(self._indexes[name].get(value, ()))]

    def index_values(self, name: str) -> frozenset[Hashable]:
        """The values for which `by_index` finds any object."""
        return frozenset(self._indexes[name])

    def subscribe(self, callback: Callable[[Change[T]], None]) -> None:
        """Call `callback` for each change from now on, and at once for each object that is here already. It must not block."""
        self._callbacks.append(callback)
        for item in self:
            callback(Change(None, item))

    def subscribe_failing(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever `failing` begins or ends, or an object comes into `invalid` or leaves it."""
        self._failing_callbacks.append(callback)

    async def run(self) -> None:
        """Keep the cache up to date until cancelled."""
        while True:
            self._attempt = attempt = asyncio.timeout(None)
            try:
                async with attempt:
                    await self._follow()
            except TimeoutError:
                if not attempt.expired():
                    raise
                self._version = ""  # `relist` has asked for it

    async def relist(self) -> None:
        """List anew, whatever is being waited for, and return when that has been taken in: what is known is no older than this call then.

        Until then the cache counts as not synced. It must be running.
        """
        self._synced.clear()
        self._wait = FIRST_WAIT
        if self._attempt is not None:
            self._attempt.reschedule(asyncio.get_running_loop().time())
        await self._synced.wait()

    async def _follow(self) -> None:
        """List, where that is needed, and watch; then wait for a while."""
        asked = 0.0
        try:
            if not self._version:
                await self._list()
            await self._watch()
        except Expired:
            self._version = ""
            if not self._forgotten:  # what was tried in vain before says nothing of a server that answers
                self._wait = FIRST_WAIT
            self._forgotten = True
            asked = random.uniform(0, self.spread * (FEW if self._served else 1))  # noqa: S311 - jitter, not a secret
        except KubeError as error:
            self._failed(error)
            self._served = False
            asked = error.retry_after if isinstance(error, Throttled) else 0.0
        await asyncio.sleep(asked + self._wait * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
        self._wait = min(2 * self._wait, LONGEST_WAIT)

    async def _list(self) -> None:
        listing = await self._client.list(
            self.resource,
            namespace=self._namespace,
            label_selector=self._selectors["labelSelector"],
            field_selector=self._selectors["fieldSelector"],
            metadata_only=self._metadata_only,
        )
        for key in [key for key in self.invalid if key not in listing.invalid]:
            self._mended(key)
        for key, error in listing.invalid.items():
            self._spoiled(key, error)
        present = {key_of(item): item for item in listing.items}
        for key in [key for key in self._objects if key not in present and key not in self.invalid]:
            self._remove(key)
        for key, item in present.items():
            self._store(key, item)
        self._version = listing.resource_version
        self._synced.set()

    async def _watch(self) -> None:
        query = {name: value for name, value in self._selectors.items() if value} | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(int(WATCH_SECONDS * random.uniform(1.0, 1.5))),  # noqa: S311 - jitter, not a secret
        }
        accept = f"{METADATA},{METADATA_LIST}" if self._metadata_only else None
        path = self.resource.path(self._namespace)
        loop = asyncio.get_running_loop()
        opened: float | None = None
        try:
            async with contextlib.aclosing(self._client.stream(path, query=query, accept=accept, silence=SILENCE)) as lines:
                async for line in lines:
                    if line:
                        self.take(line)
                        self._is_served()
                    opened = loop.time() if opened is None else opened
                    self._recovered()
        except Expired:
            opened = None  # it was no watch, however long it took to say so
            raise
        finally:
            if opened is not None and loop.time() - opened > self._wait:
                self._is_served()

    def _is_served(self) -> None:
        """A watch has brought something, or lasted."""
        self._wait, self._forgotten, self._served = FIRST_WAIT, False, True

    def take(self, line: bytes) -> None:
        """Take in one line of a watch. Expired or another KubeError if it is an error event; Invalid if it is no event at all."""
        try:
            event = _EVENTS.decode(line)
        except UNREADABLE as error:
            self._version = ""
            raise Invalid(f"watch of {self.resource.plural}: not a watch event: {error}") from error
        if event.type == "ERROR":
            raise _error_of(event, f"watch {self.resource.plural} of {self._client.server}")
        if event.type == "BOOKMARK":
            self._version = _version_of(event) or self._version
            return
        self._version = self._take_object(event) or self._version

    def _take_object(self, event: _Event) -> str:
        """Take in the object of an event; returns its version, empty if that cannot be read."""
        try:
            item = decode(self.resource, event.object)
        except Invalid as error:
            key = key_in(event.object)
            if event.type == "DELETED":
                self._remove(key)
            else:
                self._spoiled(key, error)
            return _version_of(event)
        key = key_of(item)
        if event.type == "DELETED":
            self._remove(key, item)
        else:
            self._store(key, item)
        version: str = item.metadata.resource_version
        return version

    def _spoiled(self, key: ObjectKey, error: Invalid) -> None:
        began = key not in self.invalid
        self.invalid[key] = error
        if began:
            _log.error("object cannot be decoded", kind=self.resource.kind, error=str(error))
            self._tell_failing()

    def _mended(self, key: ObjectKey) -> None:
        if self.invalid.pop(key, None) is not None:
            self._tell_failing()

    def _store(self, key: ObjectKey, item: T) -> None:
        self._mended(key)
        old = self._objects.get(key)
        if old is not None and old.metadata.resource_version == item.metadata.resource_version:
            return
        if old is not None and old.metadata.uid != item.metadata.uid:
            self._remove(key)  # deleted and made again while we were not looking: two changes, not one
            old = None
        item = self._share(item)
        self._reindex(key, old, item)
        self._objects[key] = item
        self._tell(Change(old, item))

    def _remove(self, key: ObjectKey, last: T | None = None) -> None:
        self._mended(key)
        old = self._objects.pop(key, None)
        if old is None:
            return
        self._reindex(key, old, None)
        self._tell(Change(last if last is not None else old, None))

    def _reindex(self, key: ObjectKey, old: T | None, new: T | None) -> None:
        for name, keys in self._indexers.items():
            index = self._indexes[name]
            for value in keys(old) if old is not None else ():
                index[value].discard(key)
                if not index[value]:
                    del index[value]
            for value in keys(new) if new is not None else ():
                index[value].add(key)

    def _tell(self, change: Change[T]) -> None:
        for callback in self._callbacks:
            callback(change)

    def _failed(self, error: KubeError) -> None:
        if self.failing is None:
            _log.warning("cannot be kept up to date", kind=self.resource.kind, server=self._client.server, error=str(error))
        began = self.failing is None
        self.failing = Failing(self.failing.since if self.failing else datetime.now(UTC), error)
        if began:
            self._tell_failing()

    def _recovered(self) -> None:
        if self.failing is not None:
            self.failing = None
            self._tell_failing()

    def _tell_failing(self) -> None:
        for callback in self._failing_callbacks:
            callback()


def _version_of(event: _Event) -> str:
    try:
        return msgspec.json.decode(event.object, type=_Versioned).metadata.resource_version
    except UNREADABLE:
        return ""


def _error_of(event: _Event, action: str) -> KubeError:
    try:
        code = msgspec.json.decode(event.object, type=dict).get("code")
    except UNREADABLE:
        code = None
    return from_response(code if isinstance(code, int) else 500, bytes(event.object), action)


def problem_of(caches: Iterable[Cache[Any]]) -> str | None:
    """Why it is not known of which objects a cluster consists, by the first cache that does not know; None if all do."""
    for cache in caches:
        if cache.failing is not None:
            return f"{cache.resource.plural} cannot be read since {cache.failing.since:%Y-%m-%dT%H:%M:%SZ}: {cache.failing.error}"
        if not cache.is_synced:
            return f"{cache.resource.plural} have not been read yet"
    return None
