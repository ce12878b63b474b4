"""The clusters that a person's command looks at: the host cluster by the person's kubeconfig, the DPU clusters by what the host cluster
says of them, and the agents through the API servers of their clusters.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from dpuchain.api.access import SERVICE_ACCOUNT, TOKEN_REQUEST, TokenRequest, TokenRequestSpec
from dpuchain.api.fleet import DPUCluster
from dpuchain.api.kinds import DPU_CLUSTER, NODE, SECRET
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.chain.report import AGENT_PORT, ASKER_HEADER, AUDIENCE, Report
from dpuchain.kube.client import Client, encode
from dpuchain.kube.errors import Denied, Invalid, KubeError, NotFound, Unreachable
from dpuchain.kube.kubeconfig import InvalidKubeconfig
from dpuchain.kube.secrets import KUBECONFIG_KEY, client_by, kubeconfig_in

USER_AGENT = "dpuchain"
VIEWER, PROBER = "dpuchain-viewer", "dpuchain-prober"
"""Service accounts of each DPU cluster, in the operator's namespace, as which a person's command asks (docs/asking.md)."""
TOKEN_SECONDS = 600
"""How long a token holds; an API server gives none for less."""
ASKED_AT_ONCE = 32
"""Agents that are asked at once."""

T = TypeVar("T")


class Agents:
    """Asks the agents of one DPU cluster. Every method raises KubeErrors only."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._tokens: dict[str, tuple[float, str]] = {}
        self._turns = asyncio.Semaphore(ASKED_AT_ONCE)
        self._one_request = asyncio.Lock()

    async def report(self, node: str) -> Report:
        """How the node is."""
        return await self.ask("GET", node, "node", Report, {}, VIEWER)

    async def ask(self, method: str, node: str, question: str, kind: type[T], query: Mapping[str, str], account: str) -> T:
        """What the agent of a node answers, as a value of `kind`.

        Unreachable if it does not answer, Denied if it, or its API server, lets us not, Invalid if the question makes no sense to it.
        """
        path = f"/api/v1/nodes/https:{node}:{AGENT_PORT}/proxy/v1/{question}"
        async with self._turns:
            headers = {ASKER_HEADER: await self._token(account)}
            try:
                content = await self._client.request(method, path, query=query, headers=headers)
            except Invalid as error:
                raise Invalid(_words(error)) from error
            except NotFound as error:
                raise NotFound(_words(error)) from error
            except Unreachable as error:
                raise Unreachable(f"the agent of {node} does not answer: {_words(error)}") from error
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.MsgspecError as error:
            raise Invalid(f"the agent of {node} answers what cannot be understood: {error}; is it of this version?") from error

    async def _token(self, account: str) -> str:
        """A token for agents alone, of a service account that may ask them."""
        now = asyncio.get_running_loop().time()
        async with self._one_request:
            made, token = self._tokens.get(account, (0.0, ""))
            if not token or now - made > TOKEN_SECONDS / 2:
                request = TokenRequest(spec=TokenRequestSpec(audiences=(AUDIENCE,), expiration_seconds=TOKEN_SECONDS))
                path = SERVICE_ACCOUNT.path(OPERATOR_NAMESPACE, account, "token")
                try:
                    answer = await self._client.request("POST", path, body=encode(TOKEN_REQUEST, request))
                except NotFound as error:
                    raise Denied(
                        f"{self._client.server} has no ServiceAccount {OPERATOR_NAMESPACE}/{account}: install chart dpuchain-dpu there"
                    ) from error
                token = msgspec.json.decode(answer, type=TokenRequest).status.token
                self._tokens[account] = now, token
            return token


def _words(error: KubeError) -> str:
    """What was said, without the request that it was said to."""
    return str(error).partition(": ")[2] or str(error)


@dataclass(frozen=True)
class Member:
    """A DPU cluster: how it is reached, or why it cannot be."""

    cluster: DPUCluster
    client: Client | None
    problem: str | None = None

    @property
    def name(self) -> str:
        """What people call it."""
        return self.cluster.metadata.name


@dataclass(frozen=True)
class Fleet:
    """The host cluster and its DPU clusters, by name, with the agents of each that can be reached."""

    host: Client
    members: tuple[Member, ...]
    agents: Mapping[ObjectKey, Agents]

    async def find_node(self, node: str, cluster: str) -> Agents:
        """The agents of the DPU cluster that has a node of this name; `cluster`, if not empty, says which one. NotFound if none has."""
        reached = {m.name: m for m in self.members if cluster in ("", m.name) and m.client is not None}
        found, failures = [], [f"{m.name} {m.problem}" for m in self.members if cluster in ("", m.name) and m.client is None]
        for name, member in reached.items():
            assert member.client is not None
            try:
                await member.client.get(NODE, ObjectKey("", node))
            except NotFound:
                continue
            except KubeError as error:
                failures.append(f"{name} cannot be asked: {error}")
                continue
            found.append(member)
        if len(found) == 1:
            return self.agents[key_of(found[0].cluster)]
        if found:
            raise NotFound(f"clusters {', '.join(m.name for m in found)} each have a node {node}; say which with --cluster")
        which = f"DPU cluster {cluster}" if cluster else "DPU cluster"
        raise NotFound("; ".join([f"no {which} has a node {node}" if reached or not cluster else f"there is no {which}", *failures]))


@contextlib.asynccontextmanager
async def connected(source: Mapping[str, Any], context: str | None) -> AsyncIterator[Fleet]:
    """Connections to the host cluster and to each of its DPU clusters. Raises KubeError if the host cluster cannot be read."""
    async with contextlib.AsyncExitStack() as stack:
        host = await stack.enter_async_context(Client.from_kubeconfig(source, context=context, user_agent=USER_AGENT))
        clusters = sorted((await host.list(DPU_CLUSTER)).items, key=key_of)
        members = await asyncio.gather(*(_member(host, cluster) for cluster in clusters))
        agents = {}
        for member in members:
            if member.client is not None:
                await stack.enter_async_context(member.client)
                agents[key_of(member.cluster)] = Agents(member.client)
        yield Fleet(host, tuple(members), agents)


async def _member(host: Client, cluster: DPUCluster) -> Member:
    if cluster.spec.kubeconfig is None:
        return Member(cluster, None, "has no spec.kubeconfig yet")
    secret = ObjectKey(cluster.metadata.namespace, cluster.spec.kubeconfig)
    try:
        data = (await host.get(SECRET, secret)).data
    except NotFound:
        data = None
    except KubeError as error:
        return Member(cluster, None, f"its Secret {secret} cannot be read: {error}")
    try:
        return Member(cluster, client_by(kubeconfig_in(data), USER_AGENT))
    except InvalidKubeconfig as error:
        return Member(cluster, None, f"cannot be used: {KUBECONFIG_KEY} of Secret {secret} {error}")
