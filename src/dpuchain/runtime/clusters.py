"""Connections to the DPU clusters: one, with live caches, for each DPUCluster whose kubeconfig can be used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import structlog

from dpuchain.api.fleet import DPUCluster
from dpuchain.api.kinds import SECRET
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.kube.cache import Cache, Change
from dpuchain.kube.client import Client
from dpuchain.kube.identity import cluster_identity
from dpuchain.kube.kubeconfig import InvalidKubeconfig
from dpuchain.kube.secrets import KUBECONFIG_KEY, kubeconfig_in
from dpuchain.runtime.logs import bind

FIRST_LOOK_SECONDS = 5.0
"""How long at most nothing is said because it is not known yet whether a cluster can be reached."""

Changed: TypeAlias = Callable[[DPUCluster | None, DPUCluster | None], None]

_log = structlog.get_logger(__name__)


class Runner(Protocol):
    """Something that works until it is cancelled."""

    async def run(self) -> None:
        """Work."""


class Connection(Protocol):
    """A DPU cluster that can be spoken to."""

    @property
    def client(self) -> Client:
        """How."""

    @property
    def caches(self) -> tuple[Cache[Any], ...]:
        """All of its caches; they are to be run."""

    @property
    def runners(self) -> Sequence[Runner]:
        """What else works as long as the connection lasts."""

    @property
    def problem(self) -> str | None:
        """Why its objects are not known; None if they are."""


C = TypeVar("C", bound=Connection)


@dataclass(frozen=True)
class _Place:
    """Where a DPUCluster leads to, as last heard."""

    server: str
    authorities: frozenset[bytes]
    uid: str | None
    """The identity of the cluster; None as long as it has not been told."""

    def is_same(self, other: _Place) -> bool:
        """Whether both are the same API server, as far as is known."""
        return self.server == other.server if None in (self.uid, other.uid) else self.uid == other.uid

    def may_be_same(self, other: _Place) -> bool:
        """Whether this one, which has not been told yet who it is, may be the same API server as the other: somebody vouches for both."""
        anybody = not self.authorities or not other.authorities
        return self.uid is None and (anybody or not self.authorities.isdisjoint(other.authorities))


class DpuClusters(Generic[C]):
    """All DPU clusters. Subscribers are told of each connection before its caches run."""

    def __init__(self, host: Client, clusters: Cache[DPUCluster], connect: Callable[[ObjectKey, bytes], C]) -> None:
        """`connect` makes a connection from a cluster's kubeconfig, or raises InvalidKubeconfig."""
        self.clusters = clusters
        self._connect_by = connect
        self._host = host
        self._members: dict[ObjectKey, C] = {}
        self._problems: dict[ObjectKey, str] = {}
        self._tasks: dict[ObjectKey, asyncio.Task[None]] = {}
        self._undecided: dict[ObjectKey, asyncio.TimerHandle] = {}
        self._places: dict[ObjectKey, _Place] = {}  # kept when a kubeconfig cannot be used any more: what was made there is still theirs
        self._heard = asyncio.Event()
        self._joined: list[Callable[[C], None]] = []
        self._changed: list[Changed] = []
        self._settled: list[Callable[[], None]] = []
        self._group: asyncio.TaskGroup | None = None

    def subscribe(self, joined: Callable[[C], None], changed: Changed, settled: Callable[[], None]) -> None:
        """Call `joined` with each cluster that can be spoken to; `changed` with each DPUCluster as it was and as it is whenever it comes
        (None before), goes (None after) or changes, and twice as it is when it fails or recovers; `settled` whenever that begins to hold.
        """
        self._joined.append(joined)
        self._changed.append(changed)
        self._settled.append(settled)

    @property
    def settled(self) -> bool:
        """Whether it is known of each cluster that it can be used, or that it cannot.

        Before that, a status would tell of our beginning and not of the world. It does not last, and subscribers are told when it is over.
        To be asked together with the clusters, since what was found before may be written after.
        """
        return not self._undecided

    def __iter__(self) -> Iterator[tuple[DPUCluster, C | None, str | None]]:
        """Each DPUCluster with its connection, and why it cannot be used now (None if it can)."""
        for cluster in sorted(self.clusters, key=key_of):
            member = self._members.get(key_of(cluster))
            problem = member.problem if member is not None else self._problems.get(key_of(cluster), "is not connected yet")
            yield cluster, member, problem

    async def run(self) -> None:
        """Keep a connection to each cluster until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self.clusters.subscribe(self._cluster_changed)
                await asyncio.Event().wait()
        finally:
            self._group = None

    def _cluster_changed(self, change: Change[DPUCluster]) -> None:
        old, new = change.old, change.new
        if old is not None and new is not None and (old.metadata.uid, old.spec.kubeconfig) == (new.metadata.uid, new.spec.kubeconfig):
            if _marks(old) != _marks(new):
                self._tell(old, new)
            return
        task = self._tasks.pop(change.key, None)
        if task is not None:
            task.cancel()
        self._problems.pop(change.key, None)
        self._places.pop(change.key, None)
        self._wake()
        if new is not None and self._group is not None:
            self._begin(change.key)
            self._tasks[change.key] = self._group.create_task(self._keep(new))
        else:
            self._settle(change.key)
        self._tell(old, new)

    async def _keep(self, cluster: DPUCluster) -> None:
        """Follow the cluster's kubeconfig Secret, and have a connection by what it says."""
        key = key_of(cluster)
        bind(cluster=str(key))
        if cluster.spec.kubeconfig is None:
            self._fail(key, "has no spec.kubeconfig yet")
            return
        name = ObjectKey(key.namespace, cluster.spec.kubeconfig)
        secrets = Cache(self._host, SECRET, namespace=key.namespace, field_selector=f"metadata.name={name.name}")
        changed = asyncio.Event()
        secrets.subscribe(lambda _: changed.set())
        async with asyncio.TaskGroup() as group:
            group.create_task(secrets.run())
            await secrets.synced()
            connection: asyncio.Task[None] | None = None
            before: dict[str, str] | None = None
            while True:
                changed.clear()
                secret = secrets.get(name)
                data = secret.data if secret is not None else None
                if connection is None or data != before:
                    if connection is not None:
                        connection.cancel()
                    self._begin(key)
                    connection = group.create_task(self._connect(key, name, data))
                    before = data
                await changed.wait()

    async def _connect(self, key: ObjectKey, secret: ObjectKey, data: Mapping[str, str] | None) -> None:
        """Have a connection as long as no older DPUCluster leads to the same API server, where each would remove what is the other's."""
        place: _Place | None = None
        while True:
            try:
                member = self._connect_by(key, kubeconfig_in(data))
            except InvalidKubeconfig as error:
                self._fail(key, f"cannot be used: {KUBECONFIG_KEY} of Secret {secret} {error}")
                return
            async with member.client, asyncio.TaskGroup() as group:
                place = place if place is not None else await self._identify(key, member.client)
                owner = await self._owner_after(None, key, place)
                serving = group.create_task(self._serve(key, member)) if owner == key else None
                if owner != key:
                    self._fail(key, f"leads to the same API server as DPUCluster {owner}, which is older; delete one of the two")
                await self._owner_after(owner, key, place)
                if serving is not None:
                    serving.cancel()

    async def _identify(self, key: ObjectKey, client: Client) -> _Place:
        """Ask the API server who it is, for as long as it takes."""
        address = client.server, client.authorities
        self._places.setdefault(key, _Place(*address, None))
        self._wake()
        self._places[key] = _Place(*address, await cluster_identity(client, lambda failing: self._fail(key, str(failing))))
        self._wake()
        return self._places[key]

    async def _serve(self, key: ObjectKey, member: C) -> None:
        """Have the caches of a connection run until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._problems.pop(key, None)
                self._members[key] = member
                for joined in self._joined:
                    joined(member)
                for cache in member.caches:
                    cache.subscribe_failing(lambda: self._decided(key))
                    group.create_task(cache.run())
                for runner in member.runners:
                    group.create_task(runner.run())
                for cache in member.caches:
                    await cache.synced()
                self._decided(key)
        finally:
            if self._members.get(key) is member:
                del self._members[key]
            self._tell_state(key)

    async def _owner_after(self, before: ObjectKey | None, key: ObjectKey, place: _Place) -> ObjectKey:
        """Wait until it is known which DPUCluster owns the API server that this one leads to, and until that is another than before."""
        while True:
            owner = self._owner(key, place)
            if owner is not None and owner != before:
                return owner
            await self._heard.wait()

    def _owner(self, key: ObjectKey, place: _Place) -> ObjectKey | None:
        """The oldest of the DPUClusters that lead to the same API server as this one; None if that is not known yet.

        One that never was identified is held to lead there if it has the same address. By another address it may lead there too, which
        is waited for during its first look only; and not if the two are vouched for by different authorities, as those of DPU clusters
        are, so that one which does not answer does not hold up the others.
        """
        ages = {key_of(cluster): (str(cluster.metadata.creation_timestamp), key_of(cluster)) for cluster in self.clusters}
        older = {other: self._places.get(other) for other, age in ages.items() if key in ages and age < ages[key]}
        same = [other for other, there in older.items() if there is not None and there.is_same(place)]
        if same:
            return min(same, key=ages.__getitem__)
        unknown = (other for other, there in older.items() if there is None or there.may_be_same(place))
        return None if any(other in self._undecided for other in unknown) else key

    def _wake(self) -> None:
        """Have all look again who wait to hear which cluster leads where."""
        self._heard.set()
        self._heard = asyncio.Event()

    def _begin(self, key: ObjectKey) -> None:
        """From now on it is not known whether the cluster can be used; not for long."""
        if key in self._undecided:
            self._undecided.pop(key).cancel()
        self._undecided[key] = asyncio.get_running_loop().call_later(FIRST_LOOK_SECONDS, self._decided, key)

    def _decided(self, key: ObjectKey) -> None:
        self._settle(key)
        self._tell_state(key)

    def _settle(self, key: ObjectKey) -> None:
        timer = self._undecided.pop(key, None)
        if timer is None:
            return
        timer.cancel()
        self._wake()
        if self.settled:
            for callback in self._settled:
                callback()

    def _fail(self, key: ObjectKey, problem: str) -> None:
        _log.warning("DPU cluster cannot be used", cluster=str(key), problem=problem)
        self._problems[key] = problem
        self._decided(key)

    def _tell_state(self, key: ObjectKey) -> None:
        """Whether a cluster can be used is another answer now."""
        cluster = self.clusters.get(key)
        if cluster is not None:
            self._tell(cluster, cluster)

    def _tell(self, before: DPUCluster | None, after: DPUCluster | None) -> None:
        for callback in self._changed:
            callback(before, after)


def _marks(cluster: DPUCluster) -> tuple[object, ...]:
    """What of a DPUCluster matters to anybody, besides how it is reached."""
    meta = cluster.metadata
    return meta.labels, meta.annotations, meta.deletion_timestamp
