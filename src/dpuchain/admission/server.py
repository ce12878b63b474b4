"""The HTTPS endpoint that API servers ask."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator

import structlog
from aiohttp import web

from dpuchain.admission.messages import Malformed, Request, answer, objects, read
from dpuchain.admission.world import World
from dpuchain.chain.review import Verdict
from dpuchain.kube.errors import Invalid
from dpuchain.runtime.metrics import ADMISSION_REVIEWS, ADMISSION_SECONDS

PATH = "/validate"
LARGEST = 8 * 1024 * 1024
"""Bytes of a question: twice what an API server takes of an object (3 MiB), which is in it before and after, and some room."""
BODY_SECONDS = 5.0
"""How long a body may take to come; an API server has all of it when it begins to send."""
IDLE_SECONDS = 30.0
"""How long a connection may be without a whole request."""
HANDSHAKE_SECONDS = 5.0

_log = structlog.get_logger(__name__)


class Reviewer:
    """Answers one question after the other in a world.

    What is no question gets 400, one that is too large 413; as long as the world is not known, each gets 503.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._kinds = {(kind.group, kind.version, kind.kind): kind for kind in world.kinds}

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one question."""
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await request.read()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()  # whoever sends so slowly would read as slowly
            raise
        problem = self._world.problem
        if problem is not None:
            return web.Response(status=503, text=f"{problem}\n", headers={"Retry-After": "1"})
        began = time.perf_counter()
        try:
            content = self._answer(read(body))
        except Malformed as error:
            return web.Response(status=400, text=f"{error}\n")
        ADMISSION_SECONDS.observe(time.perf_counter() - began)
        return web.Response(body=content, content_type="application/json")

    def _answer(self, request: Request) -> bytes:
        resource = self._kinds.get((request.kind.group, request.kind.version, request.kind.kind))
        if resource is None:
            raise Malformed(f"kind {request.kind.kind} of {request.kind.group}/{request.kind.version} is not judged here")
        named: dict[str, str] = {}
        try:
            old, new = objects(request, resource)
            item = new if new is not None else old
            named = {"namespace": item.metadata.namespace, "name": item.metadata.name} if item is not None else {}
            verdict = self._world.review(old, new)
        except Invalid as error:  # as it is for the controllers, which could not read it either
            verdict = Verdict(() if request.operation == "DELETE" else (str(error),))
        ADMISSION_REVIEWS.labels(resource.kind, "refused" if verdict.refusals else "warned" if verdict.warnings else "allowed").inc()
        for refusal in verdict.refusals:
            _log.info("refused", kind=resource.kind, **named, reason=refusal)
        return answer(request.uid, verdict)


@contextlib.asynccontextmanager
async def serving(reviewer: Reviewer, address: str, tls: ssl.SSLContext) -> AsyncIterator[int]:
    """Answer on `address` ("HOST:PORT"; port 0 takes a free one); yields the port.

    OSError if it cannot be bound, ValueError if it is none.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"address {address!r} is not HOST:PORT, such as 0.0.0.0:9443")
    application = web.Application(client_max_size=LARGEST)
    application.router.add_post(PATH, reviewer.handle)
    runner = web.AppRunner(application, access_log=None, handle_signals=False, keepalive_timeout=IDLE_SECONDS)
    await runner.setup()
    server = None
    try:
        assert runner.server is not None, "it has been set up"
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            runner.server, host.strip("[]") or None, int(port), ssl=tls, ssl_handshake_timeout=HANDSHAKE_SECONDS, ssl_shutdown_timeout=1
        )
        yield int(server.sockets[0].getsockname()[1])
    finally:
        if server is not None:
            server.close()
        await runner.cleanup()
