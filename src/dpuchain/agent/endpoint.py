"""Where an agent answers those who may ask: over HTTPS, with a token that its cluster's API server vouches for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import structlog
from aiohttp import web

from dpuchain.agent.access import Access
from dpuchain.agent.answers import Answers, Checks, NotYet, Question
from dpuchain.chain.report import ASKER_HEADER, PROBES
from dpuchain.flows.packets import FrameError, parse
from dpuchain.flows.path import NoSuchInterface
from dpuchain.kube.errors import KubeError
from dpuchain.ovs.errors import OvsError
from dpuchain.runtime.access import Forbidden, Unknown
from dpuchain.runtime.certificates import self_signed
from dpuchain.runtime.health import listen


class InvalidParameter(ValueError):
    """A parameter of a question is not what it must be."""


LONGEST_PARAMETER = 1000
ANSWER_SECONDS = 20.0
ASKED_AT_ONCE = 16
"""Questions that are worked on at once; a person's commands ask one agent one thing."""

STATUS_OF: dict[type[Exception], int] = {
    Unknown: 401,
    Forbidden: 403,
    NoSuchInterface: 404,
    FrameError: 400,
    InvalidParameter: 400,
    KubeError: 503,
    OvsError: 503,
    NotYet: 503,
}
"""How what is in the way of an answer is told; anything else is a bug, and 500."""

_log = structlog.get_logger(__name__)
Respond = Callable[[web.Request], Awaitable[Any]]


@contextlib.asynccontextmanager
async def answering(address: str, access: Access, answers: Answers, checks: Checks) -> AsyncIterator[int]:
    """Answer on `address` ("HOST:PORT", "" for nowhere) while the context lasts; yields the port. OSError, ValueError as for `listen`."""
    if not address:
        yield 0
        return
    application = web.Application(client_max_size=4096)
    application.add_routes(
        [
            web.get("/v1/node", _route(access, "get", "", lambda _: answers.report(checks))),
            web.get("/v1/trace", _route(access, "get", "", lambda request: answers.trace(_question(request)))),
            web.post("/v1/probe", _route(access, "create", PROBES, lambda request: answers.probe(_question(request)))),
        ]
    )
    async with listen(application, address, await self_signed(access.node)) as port:
        yield port


def _question(request: web.Request) -> Question:
    asked = {name: _parameter(request, name) for name in ("from", "namespace", "chain", "frame")}
    return Question(asked["from"], asked["namespace"], asked["chain"], parse(asked["frame"]))


def _parameter(request: web.Request, name: str) -> str:
    values = request.query.getall(name, [""])
    if len(values) > 1 or len(values[0]) > LONGEST_PARAMETER or not values[0].isprintable():
        raise InvalidParameter(f"parameter {name} must be given once, in at most {LONGEST_PARAMETER} printable characters")
    return str(values[0])


def _plain(value: object) -> str:
    """A text that knows more than its words (`chain.problems`), as its words. TypeError for anything else, which is a bug."""
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"{type(value).__name__} is nothing that an answer may have")


def _route(access: Access, verb: str, subresource: str, respond: Respond) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Let in who may, answer, and say in a sentence what is in the way."""
    turns = asyncio.Semaphore(ASKED_AT_ONCE)

    async def handle(request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await access.check(request.headers.get(ASKER_HEADER, ""), verb, subresource)
                async with turns:
                    return web.Response(body=msgspec.json.encode(await respond(request), enc_hook=_plain), content_type="application/json")
        except tuple(STATUS_OF) as error:
            _log.info("a question was not answered", path=request.path, error=str(error))
            return web.Response(status=next(code for kind, code in STATUS_OF.items() if isinstance(error, kind)), text=str(error))
        except TimeoutError:
            return web.Response(status=503, text=f"the agent was not done after {ANSWER_SECONDS:g} s")

    return handle
