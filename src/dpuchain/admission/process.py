"""Admission as a process: caches, certificates, registration and the endpoint, wired up. Replicas work side by side."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

import msgspec
import structlog

from dpuchain.admission import certificates
from dpuchain.admission.registration import DIGEST_ANNOTATION, FIELD_OWNER, Endpoint, Mode, configuration, name_of
from dpuchain.admission.server import Reviewer, serving
from dpuchain.admission.world import HostWorld, MemberWorld, World
from dpuchain.api.kinds import SECRET, VALIDATING_WEBHOOK_CONFIGURATION
from dpuchain.api.kubernetes import Metadata, Secret
from dpuchain.api.meta import ObjectKey, ObjectMeta
from dpuchain.api.names import ADMISSION_CERTIFICATES_NAME, OPERATOR_NAMESPACE
from dpuchain.kube.cache import Cache, Change
from dpuchain.kube.client import APPLY_PATCH, Client
from dpuchain.kube.errors import AlreadyExists, Conflict
from dpuchain.runtime.clock import Clock, SystemClock
from dpuchain.runtime.controller import Controller
from dpuchain.runtime.endpoints import NOWHERE, Endpoints, published
from dpuchain.runtime.errors import Unfinished
from dpuchain.runtime.metrics import Reading
from dpuchain.runtime.readings import readiness

KEY = "certificates"
"""The only key that the loop of certificates works on."""
LONGEST_WAIT = 3600.0
"""Seconds after which certificates are looked at again at the latest: a machine that slept has timers that are late."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Settings:
    """What an operator may set."""

    mode: Mode
    address: str
    endpoint: Endpoint
    failure_policy: str = "Ignore"
    secret: str | None = None
    """A Secret in dpf-operator-system whose certificate somebody else keeps, such as cert-manager; None to keep one of our own."""


async def run(client: Client, settings: Settings, endpoints: Endpoints) -> None:
    """Work until cancelled."""
    async with answering(client, settings, endpoints):
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def answering(client: Client, settings: Settings, endpoints: Endpoints = NOWHERE) -> AsyncIterator[World]:
    """Answer API servers, as far as the world is known; yields the world."""
    world = HostWorld(client) if settings.mode == "host" else MemberWorld(client)
    keeper = Keeper(client, settings, SystemClock())
    checks = {"world": lambda: world.problem, "certificates": lambda: keeper.problem}

    async def read() -> Reading:
        return readiness(checks)

    async with client, published(endpoints, client, checks, read), asyncio.TaskGroup() as group:
        tasks = [group.create_task(part) for part in (world.run(), keeper.run())]
        await keeper.shown.wait()
        async with serving(Reviewer(world), settings.address, keeper.tls) as port:
            _log.info("answering", port=port)
            yield world
        for task in tasks:
            task.cancel()


class Keeper:
    """Keeps the certificate and the registration: whatever is not as it should be is made so, whenever a watch or the clock tells."""

    def __init__(self, client: Client, settings: Settings, clock: Clock) -> None:
        self.tls: ssl.SSLContext = certificates.context()
        self.shown = asyncio.Event()
        """Set when there is a certificate to show, and API servers have been told to ask."""
        self.problem: str | None = "no certificate has been read yet"
        self._client = client
        self._settings = settings
        self._clock = clock
        self._key = ObjectKey(OPERATOR_NAMESPACE, settings.secret or ADMISSION_CERTIFICATES_NAME)
        self._secrets = Cache(client, SECRET, namespace=self._key.namespace, field_selector=f"metadata.name={self._key.name}")
        name = name_of(settings.mode)
        self._registrations = Cache(client, VALIDATING_WEBHOOK_CONFIGURATION, field_selector=f"metadata.name={name}", metadata_only=True)
        self._digest = ""
        self._loop: Controller[str] = Controller("certificates", self._reconcile, clock=clock)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for cache in (self._secrets, self._registrations):
                group.create_task(cache.run())
            await self._secrets.synced()
            await self._registrations.synced()
            self._secrets.subscribe(lambda _: self._loop.enqueue(KEY))
            self._registrations.subscribe(self._registered)
            self._loop.enqueue(KEY)
            await self._loop.run()

    def _registered(self, change: Change[Metadata]) -> None:
        """Look again if the registration is gone, or has been changed by whom does not know what it is to be."""
        if change.new is None or change.new.metadata.annotations.get(DIGEST_ANNOTATION, "") in ("", self._digest):
            self._loop.enqueue(KEY)

    async def _reconcile(self, _: str) -> float:
        secret = self._secrets.get(self._key)
        now = self._clock.now()
        if self._settings.secret is None:
            wanted = certificates.renewed(secret.data if secret is not None else None, self._settings.endpoint.hosts, now)
            if wanted is not None:
                await self._write(secret, wanted)
                return LONGEST_WAIT  # the watch brings what was written, by us or by another replica
        try:
            shown = certificates.shown(secret.data if secret is not None else None)
            await self._register(shown.bundle)
            certificates.show(self.tls, shown)
        except certificates.Unusable as error:
            self.problem = f"Secret {self._key}: {error}"
            raise Unfinished(self.problem) from error
        self.problem = None
        self.shown.set()
        return self._wait(shown.due, now)

    def _wait(self, due: datetime, now: datetime) -> float:
        return min(LONGEST_WAIT, max(1.0, (due - now).total_seconds()))

    async def _write(self, secret: Secret | None, data: dict[str, str]) -> None:
        """Write a new certificate, unless another replica was faster."""
        try:
            if secret is None:
                meta = ObjectMeta(name=self._key.name, namespace=self._key.namespace)
                await self._client.create(SECRET, Secret(metadata=meta, type="kubernetes.io/tls", data=data), field_owner=FIELD_OWNER)
            else:
                guard = {"uid": secret.metadata.uid, "resourceVersion": secret.metadata.resource_version}
                await self._client.patch(SECRET, self._key, {"metadata": guard, "data": data})
        except (AlreadyExists, Conflict) as error:
            _log.debug("another replica has renewed the certificate", error=str(error))
        else:
            _log.info("certificate renewed", secret=str(self._key))

    async def _register(self, bundle: bytes) -> None:
        """Tell API servers whom to ask, and whom to believe; no write if it is so already."""
        settings = self._settings
        content = configuration(settings.mode, settings.endpoint, settings.failure_policy, bundle)
        self._digest = content["metadata"]["annotations"][DIGEST_ANNOTATION]
        path = VALIDATING_WEBHOOK_CONFIGURATION.path("", name_of(settings.mode))
        query = {"fieldManager": FIELD_OWNER, "force": "true"}
        await self._client.request("PATCH", path, body=msgspec.json.encode(content), content_type=APPLY_PATCH, query=query)
