"""Which of several replicas works: leader election on a Lease, with the contract of client-go's `leaderelection`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import msgspec
import structlog

from dpuchain.api.kinds import LEASE
from dpuchain.api.kubernetes import Lease, LeaseSpec
from dpuchain.api.meta import ObjectKey, ObjectMeta
from dpuchain.kube.client import Client
from dpuchain.kube.errors import Conflict, Fenced, KubeError, NotFound

DURATION, DEADLINE, PERIOD, LOOK = 13.0, 10.0, 2.0, 1.0
"""Seconds: how long others respect a lease that is not renewed; how long the leader works without a renewal; between renewals; and between
the looks of one who waits.

He sees the last renewal a look after it at the latest, respects it from then on, and sees that it is over a look later: another leads after
15 s at most. The leader's own deadline is as long as that allows, since an API server with too much to do answers late.
"""
PATIENCE = 3.0
"""Seconds that one attempt to renew may take: a connection that has died tells nothing, and the next attempt is made on another."""

_log = structlog.get_logger(__name__)


class LeadershipLost(Exception):
    """The lease could not be renewed in time: somebody else may be leading, so nothing may be written any more."""


class Election:
    """Competes for the Lease `key` as `identity`."""

    def __init__(self, client: Client, key: ObjectKey, identity: str) -> None:
        """`client` is to be one of its own (`Client.apart`): the leader's work must not hold up its renewals."""
        self._client = client
        self._key = key
        self._identity = identity
        self._seen: tuple[str, float] = ("", 0.0)
        self._renewed = -math.inf

    @property
    def leading(self) -> bool:
        """Whether the lease is ours, as far as we know."""
        return self._renewed != -math.inf

    def fence(self) -> None:
        """Raise Fenced unless the lease was renewed so lately that nobody else can have it.

        Who was stopped for a while (by a debugger, a suspended machine, a full disk) goes on where he was, before he can learn that
        another leads: so each write asks. What was sent before may still arrive; a request is not waited for longer than others respect
        the lease by more than its own time.
        """
        if asyncio.get_running_loop().time() - self._renewed >= DEADLINE:
            raise Fenced(f"lease {self._key} was not renewed for {DEADLINE:.0f} s: another replica may be leading")

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait until the lease is ours, then do `work` while it is renewed. Raises LeadershipLost when it is not, after ending `work`."""
        self._renewed = await self._acquire()
        _log.info("leading", lease=str(self._key), identity=self._identity)
        working = asyncio.ensure_future(work())
        renewing = asyncio.ensure_future(self._renew_until_lost())
        try:
            done, _ = await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._renewed = -math.inf
            for task in (working, renewing):
                task.cancel()
            await asyncio.gather(working, renewing, return_exceptions=True)
            await self._release()

    async def _acquire(self) -> float:
        """Wait until the lease is ours; returns a moment before which nobody saw us take it, so that we never count on it too long."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                async with asyncio.timeout(DEADLINE):
                    if await self._try(renew=False):
                        return began
            except (KubeError, TimeoutError) as error:
                _log.warning("lease not acquired", lease=str(self._key), error=str(error))
            await asyncio.sleep(LOOK)

    async def _renew_until_lost(self) -> None:
        loop = asyncio.get_running_loop()
        pause = PERIOD
        while loop.time() - self._renewed < DEADLINE:
            await asyncio.sleep(pause)
            began = loop.time()
            try:
                async with asyncio.timeout(min(PATIENCE, max(0.1, self._renewed + DEADLINE - began))):
                    if not await self._try(renew=True):
                        break
                self._renewed, pause = began, PERIOD
            except (KubeError, TimeoutError) as error:
                _log.warning("lease not renewed", lease=str(self._key), error=str(error) or "no answer in time")
                pause = PERIOD / 4
        raise LeadershipLost(f"lease {self._key} was not renewed for {DEADLINE:.0f} s or is held by somebody else")

    async def _try(self, *, renew: bool) -> bool:
        """Take the lease if nobody else holds it, or renew it if nobody else has held it since. Whether it is ours.

        A clock of another machine is never compared with ours.
        """
        now = datetime.now(UTC)
        try:
            lease = await self._client.get(LEASE, self._key)
        except NotFound:
            meta = ObjectMeta(name=self._key.name, namespace=self._key.namespace)
            await self._client.create(LEASE, Lease(metadata=meta, spec=self._spec(now, now, 0)))
            return True
        spec = lease.spec
        mine = spec.holder_identity == self._identity
        if not mine and (renew or (spec.holder_identity and not self._abandoned(lease))):
            return False
        new = self._spec(spec.acquire_time if mine and spec.acquire_time else now, now, spec.lease_transitions + (not mine))
        patch = {"metadata": {"resourceVersion": lease.metadata.resource_version}, "spec": msgspec.to_builtins(new)}
        try:
            await self._client.patch(LEASE, self._key, patch)
        except Conflict:
            return False
        return True

    def _abandoned(self, lease: Lease) -> bool:
        """Whether the lease stayed the same for its duration by our own clock."""
        now = asyncio.get_running_loop().time()
        if self._seen[0] != lease.metadata.resource_version:
            self._seen = (lease.metadata.resource_version, now)
        return now - self._seen[1] >= max(DURATION, lease.spec.lease_duration_seconds)

    def _spec(self, acquired: datetime, renewed: datetime, transitions: int) -> LeaseSpec:
        return LeaseSpec(
            holder_identity=self._identity,
            lease_duration_seconds=int(DURATION),
            acquire_time=_micro(acquired),
            renew_time=_micro(renewed),
            lease_transitions=transitions,
        )

    async def _release(self) -> None:
        """Give the lease back, so that the next replica need not wait; that this fails costs only that wait, so it is not tried long."""
        try:
            async with asyncio.timeout(PERIOD):
                lease = await self._client.get(LEASE, self._key)
                if lease.spec.holder_identity == self._identity:
                    released = {"holderIdentity": "", "leaseDurationSeconds": 1}
                    guard = {"resourceVersion": lease.metadata.resource_version}
                    await self._client.patch(LEASE, self._key, {"metadata": guard, "spec": released})
        except (KubeError, TimeoutError) as error:
            _log.warning("lease not released", lease=str(self._key), error=str(error))


def _micro(moment: datetime) -> datetime:
    """`moment` with microseconds that are not zero: `MicroTime` must have its fraction."""
    return moment if moment.microsecond else moment + timedelta(microseconds=1)
