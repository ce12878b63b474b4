"""Who may ask an agent what: by a token that is for agents alone, and a right to a resource that exists for this purpose."""

from __future__ import annotations

from dpuchain.api.access import ResourceAttributes
from dpuchain.chain.report import ACCESS_GROUP, ACCESS_RESOURCE, AUDIENCE
from dpuchain.kube.client import Client
from dpuchain.runtime import access


class Access:
    """Asks the API server about those who ask the agent of `node`."""

    def __init__(self, client: Client, node: str) -> None:
        self.node = node
        self._access = access.Access(client, AUDIENCE)

    async def check(self, token: str, verb: str, subresource: str = "") -> None:
        """Return if the owner of `token` may do it. Unknown, Forbidden, or a KubeError if the API server cannot say."""
        attributes = ResourceAttributes(verb=verb, group=ACCESS_GROUP, resource=ACCESS_RESOURCE, subresource=subresource, name=self.node)
        await self._access.check(token, attributes)
