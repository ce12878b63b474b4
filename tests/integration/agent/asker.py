"""Who asks an agent, speaking to it itself, without an API server between."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aiohttp

from dpuchain.api.access import SERVICE_ACCOUNT
from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.chain.report import ASKER_HEADER, AUDIENCE

if TYPE_CHECKING:
    from dpuchain.kube.client import Client


class Asker:
    """Speaks to the agent itself, without an API server between."""

    def __init__(self, client: Client, port: int) -> None:
        self.port = port
        self._client = client

    async def token(self, account: str, audience: str = AUDIENCE) -> str:
        """A token of a service account, for somebody."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [audience], "expirationSeconds": 600},
        }
        path = SERVICE_ACCOUNT.path(OPERATOR_NAMESPACE, account, "token")
        return str(json.loads(await self._client.request("POST", path, body=json.dumps(body).encode()))["status"]["token"])

    async def ask(self, path: str, token: str | None = None, *, method: str = "GET", **query: str) -> tuple[int, str]:
        """Status and text of the answer."""
        headers = {} if token is None else {ASKER_HEADER: token}
        url = f"https://127.0.0.1:{self.port}{path}"
        async with aiohttp.ClientSession() as session, session.request(method, url, params=query, headers=headers, ssl=False) as response:
            return response.status, await response.text()

    async def live(self, begins: str) -> dict[str, Any]:
        """A live trace of a ping from an interface, as who may have one."""
        query = {"from": begins, "frame": "icmp"}
        status, text = await self.ask("/v1/probe", await self.token("dpuchain-prober"), method="POST", **query)
        assert status == 200, text
        found: dict[str, Any] = json.loads(text)
        return found
