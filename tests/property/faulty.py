"""An API server as it is on its worst day: a proxy before a real one that drops, delays, resets and refuses at random."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from random import Random

    from dpuchain.lab.cluster import Cluster

REFUSALS = {409: "Conflict", 410: "Expired", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}
LONGEST_DELAY = 0.2
LONGEST_WATCH = 1.0
"""Seconds."""
HOP_BY_HOP = {"transfer-encoding", "content-length", "connection", "content-encoding", "date", "server"}


class FaultyServer:
    """Passes requests on to the API server of `cluster`, and answers wrongly while it is `faulty`. It never says what is not so, as 404."""

    def __init__(self, cluster: Cluster) -> None:
        self.faulty = False
        self.faults = 0
        self.chance: Random | None = None
        self._cluster = cluster
        self._session: aiohttp.ClientSession | None = None

    @contextlib.asynccontextmanager
    async def serve(self, kubeconfig: Path) -> AsyncIterator[None]:
        """Serve until the context ends; `kubeconfig` leads here."""
        application = web.Application(client_max_size=1 << 24)
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        connection = self._cluster.admin
        connector = aiohttp.TCPConnector(ssl=connection.ssl_context(), limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._session:
            await runner.setup()
            try:
                site = web.TCPSite(runner, "127.0.0.1", 0)
                await site.start()
                context = {"name": "faulty", "context": {"cluster": "faulty", "user": ""}}
                clusters = [{"name": "faulty", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}]
                content = {**connection.kubeconfig("faulty"), "clusters": clusters, "users": [], "contexts": [context]}
                kubeconfig.write_text(json.dumps(content))
                yield
            finally:
                await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """Pass one request on, or do one of the things that servers and networks do to them."""
        fault = self._fault()
        if fault == "delay":
            assert self.chance is not None
            await asyncio.sleep(self.chance.uniform(0, LONGEST_DELAY))
        elif fault == "reset":
            return self._hang_up(request)
        elif isinstance(fault, int):
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": REFUSALS[fault], "code": fault}
            return web.json_response(status, status=fault, headers={"Retry-After": "1"} if fault == 429 else {})
        assert self._session is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "content-length")}
        body = await request.read()
        url = f"{self._cluster.server}{request.raw_path}"
        async with self._session.request(request.method, url, data=body, headers=headers, skip_auto_headers=("Content-Type",)) as answer:
            if fault == "lose the answer":
                return self._hang_up(request)
            return await self._pass_on(request, answer)

    async def _pass_on(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
        response = web.StreamResponse(status=answer.status, headers=kept)
        await response.prepare(request)
        watching = request.query.get("watch") == "true"
        chunks = answer.content.iter_any()
        with contextlib.suppress(ConnectionResetError, TimeoutError):
            while True:
                async with asyncio.timeout(self._patience(watching=watching)):
                    chunk = await anext(chunks, b"")
                if not chunk:
                    break
                await response.write(chunk)
            await response.write_eof()
            return response
        return self._hang_up(request)

    def _patience(self, *, watching: bool) -> float | None:
        """How long a watch is let go on while the server is faulty."""
        return self.chance.uniform(0.05, LONGEST_WATCH) if watching and self.faulty and self.chance is not None else None

    def _fault(self) -> int | str | None:
        if not self.faulty or self.chance is None or self.chance.random() > 0.3:
            return None
        self.faults += 1
        kinds: list[int | str] = [*REFUSALS, "delay", "delay", "reset", "lose the answer"]
        return self.chance.choice(kinds)

    @staticmethod
    def _hang_up(request: web.Request) -> web.StreamResponse:
        """Cut the connection without a word."""
        if request.transport is not None:
            request.transport.abort()
        return web.Response()
