"""What a process tells everybody over HTTP: whether it lives, and whether it is ready and why not."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping

from aiohttp import web

SHUTDOWN_SECONDS = 1.0
"""How long an end waits for answers that are under way."""
IDLE_SECONDS = 30.0
Checks = Mapping[str, Callable[[], str | None]]
"""Readiness checks by name; each returns None when all is well, else what is wrong."""


@contextlib.asynccontextmanager
async def serve(address: str, checks: Checks) -> AsyncIterator[int]:
    """Answer `/healthz` and `/readyz` on `address` ("HOST:PORT"; port 0 takes a free one; "" serves nothing); yields the port.

    `/readyz` answers 503 with a line for each check that fails. Raises OSError if the address cannot be bound, ValueError if it is none.
    """
    if not address:
        yield 0
        return

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        failing = [f"{name}: {problem}" for name, check in checks.items() if (problem := check()) is not None]
        return web.Response(text="\n".join(failing or ["ok"]) + "\n", status=503 if failing else 200)

    application = web.Application()
    application.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz)])
    async with listen(application, address) as port:
        yield port


@contextlib.asynccontextmanager
async def listen(
    application: web.Application, address: str, tls: ssl.SSLContext | None = None, *, idle: float = IDLE_SECONDS
) -> AsyncIterator[int]:
    """Serve an application on `address` ("HOST:PORT"; port 0 takes a free one) while the context lasts; yields the port.

    A connection without a request for `idle` seconds is closed. Raises OSError if the address cannot be bound, ValueError if it is none.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"address {address!r} is not HOST:PORT, such as 127.0.0.1:8080")
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS, keepalive_timeout=idle)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host.strip("[]") or None, int(port), ssl_context=tls)
        await site.start()
        bound = runner.addresses[0]
        yield int(bound[1])
    finally:
        await runner.cleanup()
