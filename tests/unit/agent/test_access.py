"""Whom an agent lets in, given what an API server says of a token: one that this test plays, since a real one never says some of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from dpuchain.agent.access import Access
from dpuchain.chain.report import AUDIENCE
from dpuchain.kube.client import Client
from dpuchain.kube.errors import KubeError
from dpuchain.runtime.access import Forbidden, Unknown

USER = {"username": "ann", "uid": "7", "groups": ["a", "b"], "extra": {"key": ["value"]}}
GOOD = {"authenticated": True, "audiences": [AUDIENCE], "user": USER}
ALLOWED = {"allowed": True}


@dataclass
class Server:
    """An API server that says this of each token, and of what its owner may do; a number is the HTTP status of a failure."""

    token: dict[str, Any] | int
    rights: dict[str, Any] | int
    asked: dict[str, list[Any]] = field(default_factory=dict)
    """The specs of what it was asked, by resource."""

    async def answer(self, request: web.Request) -> web.Response:
        resource = request.path.rpartition("/")[2]
        body = await request.json()
        self.asked.setdefault(resource, []).append(body["spec"])
        said = {"tokenreviews": self.token, "subjectaccessreviews": self.rights}[resource]
        if isinstance(said, int):
            return web.json_response({"kind": "Status", "message": "not now"}, status=said)
        return web.json_response({**body, "status": said}, status=201)


@asynccontextmanager
async def access(token: dict[str, Any] | int = GOOD, rights: dict[str, Any] | int = ALLOWED) -> AsyncIterator[tuple[Access, Server]]:
    """The access to the agent of dpu-1, and the server that it asks."""
    server = Server(token, rights)
    application = web.Application()
    application.router.add_post("/{path:.*}", server.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    content = {
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c"}}],
        "current-context": "x",
    }
    async with Client.from_kubeconfig(content, user_agent="tests") as client:
        yield Access(client, "dpu-1"), server
    await runner.cleanup()


async def test_who_may_is_let_in_and_just_that_is_asked() -> None:
    async with access() as (checked, server):
        await checked.check("token", "create", "probes")
        assert server.asked["tokenreviews"] == [{"token": "token", "audiences": [AUDIENCE]}]
        wanted = {"verb": "create", "group": "dpuchain.dpu.nvidia.com", "resource": "agents", "subresource": "probes", "name": "dpu-1"}
        (spec,) = server.asked["subjectaccessreviews"]
        assert spec == {"user": "ann", "uid": "7", "groups": ["a", "b"], "extra": {"key": ["value"]}, "resourceAttributes": wanted}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"authenticated": False, "error": "it has expired"}, "it has expired"),
        ({"authenticated": False, "audiences": [AUDIENCE]}, "it is of somebody unknown"),
        ({**GOOD, "audiences": []}, f"not valid for {AUDIENCE}"),
        ({**GOOD, "audiences": ["https://kubernetes.default.svc"]}, f"not valid for {AUDIENCE}"),
        ({"authenticated": True, "user": USER}, f"not valid for {AUDIENCE}"),
        ({}, "it is of somebody unknown"),
    ],
    ids=["expired", "not authenticated", "no audience", "another audience", "an authenticator that knows of none", "nothing"],
)
async def test_token_that_is_not_for_agents_is_nobodys(said: dict[str, Any], words: str) -> None:
    """Whoever steals a pod's own token, or has one that is for the API server, must not be let in by it."""
    async with access(token=said) as (checked, server):
        with pytest.raises(Unknown, match=words):
            await checked.check("token", "get")
        assert "subjectaccessreviews" not in server.asked, "of nobody it is not asked what he may"


@pytest.mark.parametrize("said", [{"allowed": False}, {}, {"denied": True}])
async def test_who_may_not_is_told_what(said: dict[str, Any]) -> None:
    async with access(rights=said) as (checked, _):
        with pytest.raises(Forbidden, match=r"^ann may not get agents\.dpuchain\.dpu\.nvidia\.com dpu-1$"):
            await checked.check("token", "get")


@pytest.mark.parametrize("answers", [{"token": 500}, {"token": 403}, {"rights": 503}])
async def test_server_that_cannot_say_lets_nobody_in(answers: dict[str, int]) -> None:
    async with access(**answers) as (checked, _):
        with pytest.raises(KubeError):
            await checked.check("token", "get")


@pytest.mark.parametrize("token", ["", "a b\n", "é", "\x00"])
async def test_what_can_be_no_token_is_not_even_asked_about(token: str) -> None:
    async with access() as (checked, server):
        with pytest.raises(Unknown):
            await checked.check(token, "get")
        assert server.asked == {}
