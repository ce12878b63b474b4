"""Whether the API server is there, for those who do not want frames forwarded without it: DPF's secure mode."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog

from dpuchain.agent.node import NodeObjects
from dpuchain.flows.lease import LONGEST_SECONDS
from dpuchain.kube.client import Client
from dpuchain.kube.errors import KubeError
from dpuchain.runtime.clock import Clock

PARTS = 8
"""Into how many parts the timeout is divided: as often the API server is asked, and flows are renewed."""
LONGEST_INTERVAL = 5.0
"""Seconds between two questions at most, so that what is away is soon known to be back."""
PATIENCE_SECONDS = 1.0
"""How long an answer may take at least; DPF waits no longer."""
RELIST_SECONDS = 30.0
"""How long the node's objects may take to be read anew."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Terms:
    """What follows from how long the API server may be away, in seconds."""

    timeout: float

    @property
    def interval(self) -> float:
        """Between two questions."""
        return min(self.timeout / PARTS, LONGEST_INTERVAL)

    @property
    def period(self) -> float:
        """Between two renewals of the flows."""
        return min(self.timeout, LONGEST_SECONDS) / PARTS

    @property
    def lifetime(self) -> int:
        """After which flows end that are not renewed.

        The last renewal may be a period and an interval older than the last contact, so it is that much longer than the timeout, where
        OpenFlow can say so.
        """
        return min(math.ceil(self.timeout + self.period + self.interval), LONGEST_SECONDS)

    @property
    def tied(self) -> bool:
        """Whether flows are renewed on contact alone; else, as they would end too early, as long as the agent lives and may keep them."""
        return self.lifetime >= self.timeout + self.period + self.interval


class Contact:
    """Asks the API server, as long as the setting says so, whether it lives, and says when it has not answered for the time that is set.

    Without the setting it asks nothing: the silence of a watch is no sign of anything, and nothing depends on it.
    """

    def __init__(self, client: Client, objects: NodeObjects, clock: Clock) -> None:
        self.problem: str | None = None
        """Why no flows may be there; None if they may."""
        self.renewals = 0
        """How often flows were to be renewed, which they are only if there was contact."""
        self._client = client
        self._objects = objects
        self._clock = clock
        self._terms: Terms | None = None
        self._renewed = -math.inf
        self._failure = ""
        self._deadline: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._callbacks: list[Callable[[], None]] = []

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever flows are to go, to come back, to be renewed, or to live for another time."""
        self._callbacks.append(callback)

    @property
    def lifetime(self) -> int | None:
        """Seconds after which flows are to end if they are not renewed; None if they are to stay."""
        return None if self._terms is None else self._terms.lifetime

    async def run(self) -> None:
        """Follow the setting, and ask, until cancelled."""
        self._objects.settings.subscribe(lambda _: self._configure())
        try:
            while True:
                self._wake.clear()
                if self._terms is not None:
                    await self._look(self._terms)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if self._terms is None else self._terms.interval):
                        await self._wake.wait()
        finally:
            self._cancel_deadline()

    def _configure(self) -> None:
        timeout = self._objects.secure_flow_deletion
        terms = None if timeout is None else Terms(timeout)
        if terms == self._terms:
            return
        _log.info("how long flows may outlive the API server", seconds=timeout)
        self._terms = terms
        self._cancel_deadline()
        if terms is None:
            self.problem = None
        elif self.problem is None:  # a watch has brought the setting just now
            self._set_deadline(terms)
        self._wake.set()
        self._tell()

    async def _look(self, terms: Terms) -> None:
        if await self._answers(terms):
            if self.problem is None or await self._resume():
                self._heard()
        elif self.problem is None and not terms.tied:
            self._renew(terms)

    async def _answers(self, terms: Terms) -> bool:
        """Whether the API server says that it lives."""
        try:
            async with asyncio.timeout(max(terms.interval, PATIENCE_SECONDS)):
                await self._client.request("GET", "/livez")
        except (KubeError, TimeoutError) as error:
            failure = str(error) or "no answer in time"
            if failure != self._failure:
                _log.warning("the API server does not say that it lives", error=failure)
            self._failure = failure
            return False
        self._failure = ""
        return True

    async def _resume(self) -> bool:
        """Read anew what was known before contact was lost, as it counts for nothing now; returns whether that was possible."""
        try:
            async with asyncio.timeout(RELIST_SECONDS):
                await self._objects.relist()
        except TimeoutError:
            _log.warning("the API server lives, but the node's objects cannot be read", problem=self._objects.problem)
            return False
        _log.warning("the API server is back, and with it the flows")
        self.problem = None
        self._renewed = -math.inf
        return True

    def _heard(self) -> None:
        if self._terms is None:
            self._tell()
        else:
            self._set_deadline(self._terms)
            self._renew(self._terms)

    def _renew(self, terms: Terms) -> None:
        now = self._clock.monotonic()
        if now - self._renewed >= terms.period:
            self._renewed = now
            self.renewals += 1
            self._tell()

    def _set_deadline(self, terms: Terms) -> None:
        self._cancel_deadline()
        self._deadline = asyncio.get_running_loop().call_later(terms.timeout, self._lose, terms)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _lose(self, terms: Terms) -> None:
        since = self._clock.now() - timedelta(seconds=terms.timeout)
        self.problem = (
            f"all flows were removed, as the API server {self._client.server} has been away since {since:%Y-%m-%dT%H:%M:%SZ} and "
            f"spec.sfcController.secureFlowDeletionTimeout of the DPFOperatorConfig allows {terms.timeout:g} s; they come back with it"
        )
        _log.warning("the flows go", reason=self.problem)
        self._tell()

    def _tell(self) -> None:
        for callback in self._callbacks:
            callback()
