"""A proxy before a real API server: it passes requests on, and does to them what a test's rule says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from random import Random

    from dpuchain.lab.cluster import Cluster

REFUSALS = {409: "Conflict", 410: "Expired", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}
"""The statuses that it answers itself. It never says what is not so, as 404."""
RESET, LOSE = "reset", "lose the answer"
"""Cut the connection instead of passing the request on, or instead of the answer to it."""
EVERYWHERE = re.compile(r"(/api/v1|/apis/[^/]+/[^/]+)/(?!namespaces|nodes)([^/?]+)(\?.*)?")
HOP_BY_HOP = {"transfer-encoding", "content-length", "connection", "content-encoding", "date", "server"}
LONGEST_DELAY, LONGEST_WATCH = 0.2, 1.0
"""Seconds."""


@dataclass(frozen=True)
class Seen:
    """A request that has come."""

    method: str
    path: str
    query: str
    accept: str
    body: bytes

    @property
    def writes(self) -> bool:
        return self.method != "GET"

    @property
    def watches(self) -> bool:
        return "watch=true" in self.query

    @property
    def lists(self) -> bool:
        return "limit=" in self.query

    def is_of(self, plural: str) -> bool:
        """Whether it is about objects of this kind, or one of them."""
        return f"/{plural}/" in f"{self.path}/"

    @property
    def of_status(self) -> bool:
        return self.path.endswith("/status")


@dataclass(frozen=True)
class Refusal:
    """Answer with this status."""

    status: int
    retry_after: int = 0


def within(namespace: str) -> Callable[[str, str], str]:
    """A `Proxy.narrow`: what is asked for of all namespaces is asked for of this one, and of nodes those that say that they are its."""

    def narrow(method: str, path: str) -> str:
        if method != "GET":
            return path
        if path.startswith("/api/v1/nodes?"):
            return f"{path}&labelSelector=test%3D{namespace}"
        found = EVERYWHERE.fullmatch(path)
        return path if found is None else f"{found[1]}/namespaces/{namespace}/{found[2]}{found[3] or ''}"

    return narrow


Fate = Refusal | str | None
"""What becomes of a request: a refusal, RESET, LOSE, or (None) nothing."""


async def passes(_: Seen) -> Fate:
    """The rule of a good day."""
    return None


class Proxy:
    """Speaks HTTP without TLS, and to the API server as its administrator."""

    def __init__(self, cluster: Cluster) -> None:
        self.rule: Callable[[Seen], Awaitable[Fate]] = passes
        """Awaited before a request is passed on: it delays one for as long as it takes."""
        self.narrow: Callable[[str, str], str] = lambda _method, path: path
        """Gives the path and query that a request is passed on by."""
        self.patience: Callable[[], float | None] = lambda: None
        """For how many seconds a watch may go on before it is cut; None for ever."""
        self.seen: list[Seen] = []
        self.in_flight = 0
        """Writes that were taken and are not answered yet, and the most that there were."""
        self.most = 0
        self.heard: list[bytes] | None = None
        """What was answered, if it is to be noted."""
        self._cluster = cluster
        self._port = 0
        self._session: aiohttp.ClientSession | None = None
        self._transports: set[asyncio.BaseTransport] = set()

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[Proxy]:
        """Serve until the context ends."""
        application = web.Application(client_max_size=1 << 24)
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        connector = aiohttp.TCPConnector(ssl=self._cluster.admin.ssl_context(), limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._session:
            await runner.setup()
            try:
                site = web.TCPSite(runner, "127.0.0.1", 0)
                await site.start()
                self._port = runner.addresses[0][1]
                yield self
            finally:
                await runner.cleanup()

    @property
    def kubeconfig(self) -> bytes:
        """How to come here."""
        context = {"name": "proxy", "context": {"cluster": "proxy", "user": ""}}
        clusters = [{"name": "proxy", "cluster": {"server": f"http://127.0.0.1:{self._port}"}}]
        content = {**self._cluster.admin.kubeconfig("proxy"), "clusters": clusters, "users": [], "contexts": [context]}
        return json.dumps({**content, "current-context": "proxy"}).encode()

    @property
    def writes(self) -> list[Seen]:
        """The requests that were more than questions."""
        return [request for request in self.seen if request.writes]

    def reset_all(self) -> None:
        """Cut every connection that there is."""
        for transport in tuple(self._transports):
            transport.abort()  # type: ignore[attr-defined]  # of sockets
        self._transports.clear()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        seen = Seen(request.method, request.path, request.query_string, request.headers.get("Accept", ""), await request.read())
        self.seen.append(seen)
        if request.transport is not None:
            self._transports.add(request.transport)
        self.in_flight += seen.writes
        self.most = max(self.most, self.in_flight)
        try:
            return await self._settle(request, seen, await self.rule(seen))
        finally:
            self.in_flight -= seen.writes

    async def _settle(self, request: web.Request, seen: Seen, fate: Fate) -> web.StreamResponse:
        if isinstance(fate, Refusal):
            reason = REFUSALS[fate.status]
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": fate.status}
            headers = {"Retry-After": str(fate.retry_after)} if fate.retry_after else {}
            return web.json_response(status, status=fate.status, headers=headers)
        if fate == RESET:
            return self._hang_up(request)
        assert self._session is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "content-length")}
        url = f"{self._cluster.server}{self.narrow(request.method, request.raw_path)}"
        async with self._session.request(
            request.method, url, data=seen.body, headers=headers, skip_auto_headers=("Content-Type",)
        ) as answer:
            if fate == LOSE:
                return self._hang_up(request)
            return await self._pass_on(request, answer, self.patience() if seen.watches else None)

    async def _pass_on(self, request: web.Request, answer: aiohttp.ClientResponse, patience: float | None) -> web.StreamResponse:
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
        response = web.StreamResponse(status=answer.status, headers=kept)
        await response.prepare(request)
        with contextlib.suppress(ConnectionResetError, TimeoutError):
            async with asyncio.timeout(patience):
                async for chunk in answer.content.iter_any():
                    if self.heard is not None:
                        self.heard.append(chunk)
                    await response.write(chunk)
            await response.write_eof()
            return response
        return self._hang_up(request)

    @staticmethod
    def _hang_up(request: web.Request) -> web.StreamResponse:
        """Cut the connection without a word."""
        if request.transport is not None:
            request.transport.abort()
        return web.Response()


class Misfortune:
    """What servers and networks do to requests, by chance; nothing before it `begins` and after it `ends`."""

    def __init__(self, chance: Random) -> None:
        self.faults = 0
        self._chance = chance
        self._lasts = False

    def begin(self, proxy: Proxy) -> None:
        self._lasts = True
        proxy.rule, proxy.patience = self.fate, self.patience

    def end(self) -> None:
        self._lasts = False

    async def fate(self, _: Seen) -> Fate:
        if not self._lasts or self._chance.random() > 0.3:
            return None
        self.faults += 1
        refusals = [Refusal(status, retry_after=1 if status == 429 else 0) for status in REFUSALS]
        fates: list[Fate] = [*refusals, None, None, RESET, LOSE]
        fate = self._chance.choice(fates)
        if fate is None:
            await asyncio.sleep(self._chance.uniform(0, LONGEST_DELAY))
        return fate

    def patience(self) -> float | None:
        return self._chance.uniform(0.05, LONGEST_WATCH) if self._lasts else None
