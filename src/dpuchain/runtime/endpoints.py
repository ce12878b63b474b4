"""Where a process can be asked how it is: its health by everybody, its metrics over HTTPS by those whom its cluster lets.

A right to read metrics is one to `get` the URL `/metrics`, as it is with Kubernetes' own components.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import platform
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
from aiohttp import web

from dpuchain.api.access import NonResourceAttributes
from dpuchain.kube.client import Client
from dpuchain.kube.errors import KubeError
from dpuchain.runtime.access import Access, Forbidden, Unknown
from dpuchain.runtime.certificates import from_folder, self_signed
from dpuchain.runtime.health import Checks, listen, serve
from dpuchain.runtime.metrics import Read, exposition

READ_METRICS = NonResourceAttributes(verb="get", path="/metrics")
ALLOWED_SECONDS, REFUSED_SECONDS = 120.0, 10.0
"""How long an answer of the API server holds: rights are seldom taken away, and seldom given to who has just been refused."""
ALONE_SECONDS = 3600.0
"""How long it holds while the API server cannot be asked, which is when metrics are needed most."""
REMEMBERED = 256
SCRAPE_SECONDS = 10.0
SCRAPES_AT_ONCE = 4
IDLE_SECONDS = 90.0
"""How long a connection may be without a request; Prometheus asks twice in a minute or so, and keeps its connection."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Endpoints:
    """Addresses ("HOST:PORT"; nowhere if empty), and the folder with the certificate of metrics (None: one is made)."""

    health: str = ""
    metrics: str = ""
    certificate: Path | None = None


NOWHERE = Endpoints()


class Gate:
    """Lets those pass who may read metrics, and remembers for a while who that is."""

    def __init__(self, client: Client, now: Callable[[], float]) -> None:
        self._access = Access(client)
        self._now = now
        self._known: OrderedDict[bytes, tuple[float, Unknown | Forbidden | None]] = OrderedDict()
        """By a token's digest, so that no token is kept: when it was asked about, and the answer."""

    async def check(self, token: str) -> None:
        """Return if the owner of `token` may. Unknown, Forbidden, or a KubeError if nobody can say."""
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        asked, answer = self._known.get(digest, (float("-inf"), None))
        age = self._now() - asked
        if age >= (ALLOWED_SECONDS if answer is None else REFUSED_SECONDS):
            try:
                answer = await self._ask(token)
            except KubeError:
                if answer is not None or age >= ALONE_SECONDS:
                    raise
            else:
                self._remember(digest, answer)
        if answer is not None:
            raise answer.with_traceback(None)

    async def _ask(self, token: str) -> Unknown | Forbidden | None:
        try:
            await self._access.check(token, READ_METRICS)
        except (Unknown, Forbidden) as error:
            return error
        return None

    def _remember(self, digest: bytes, answer: Unknown | Forbidden | None) -> None:
        self._known[digest] = (self._now(), answer)
        self._known.move_to_end(digest)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


@contextlib.asynccontextmanager
async def published(endpoints: Endpoints, client: Client, checks: Checks, read: Read) -> AsyncIterator[int]:
    """Answer at both endpoints while the context lasts; yields the port of metrics.

    `client` must be open, and may be asked who somebody is. OSError or ValueError if an address or the certificate cannot be used.
    """
    async with serve(endpoints.health, checks), telling(endpoints, Gate(client, asyncio.get_running_loop().time), read) as port:
        yield port


@contextlib.asynccontextmanager
async def telling(endpoints: Endpoints, gate: Gate, read: Read) -> AsyncIterator[int]:
    """Answer `/metrics` over HTTPS to whom `gate` lets; yields the port, 0 if there is no address."""
    if not endpoints.metrics:
        yield 0
        return
    folder = endpoints.certificate
    tls = from_folder(folder) if folder is not None else await self_signed(platform.node() or "dpuchain")
    application = web.Application(client_max_size=4096)
    application.add_routes([web.get("/metrics", _route(gate, read))])
    async with listen(application, endpoints.metrics, tls, idle=IDLE_SECONDS) as port:
        yield port


def _route(gate: Gate, read: Read) -> Callable[[web.Request], Awaitable[web.Response]]:
    turns = asyncio.Semaphore(SCRAPES_AT_ONCE)

    async def handle(request: web.Request) -> web.Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            async with asyncio.timeout(SCRAPE_SECONDS):
                await gate.check(token if scheme.lower() == "bearer" else "")
                async with turns:
                    return web.Response(body=await exposition(read), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
        except Unknown as error:
            return web.Response(status=401, text=f"{error}\n", headers={"WWW-Authenticate": "Bearer"})
        except Forbidden as error:
            return web.Response(status=403, text=f"{error}\n")
        except KubeError as error:
            _log.warning("it cannot be asked who may read metrics", error=str(error))
            return web.Response(status=503, text="the API server cannot be asked who you are\n")
        except TimeoutError:
            return web.Response(status=503, text=f"not done after {SCRAPE_SECONDS:g} s\n")

    return handle
