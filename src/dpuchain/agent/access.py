"""Who may ask an agent what: decided by the API server of its cluster, by a token that is for agents alone."""

from __future__ import annotations

import asyncio

from dpuchain.api.access import (
    SUBJECT_ACCESS_REVIEW,
    TOKEN_REVIEW,
    ResourceAttributes,
    SubjectAccessReview,
    SubjectAccessReviewSpec,
    TokenReview,
    TokenReviewSpec,
)
from dpuchain.chain.report import ACCESS_GROUP, ACCESS_RESOURCE, AUDIENCE
from dpuchain.kube.client import Client

AT_ONCE = 8
"""Reviews in flight: whoever knocks without a right must not keep the API server busy."""


class Unknown(Exception):
    """Nobody, or nobody whom the cluster knows, asks."""


class Forbidden(Exception):
    """Whoever asks has no right to."""


class Access:
    """Asks the API server about those who ask the agent of `node`."""

    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self.node = node
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def check(self, token: str, verb: str, subresource: str = "") -> None:
        """Return if the owner of `token` may do it. Unknown, Forbidden, or a KubeError if the API server cannot say."""
        if not token or not token.isascii() or not token.isprintable():
            raise Unknown("no token, or none that can be one")
        async with self._turns:
            review = await self._client.create(TOKEN_REVIEW, TokenReview(spec=TokenReviewSpec(token=token, audiences=(AUDIENCE,))))
            # An authenticator that knows of no audiences lets any token pass, and then names none.
            if not review.status.authenticated or AUDIENCE not in review.status.audiences:
                raise Unknown(f"the token is not valid for {AUDIENCE}: {review.status.error or 'it is of somebody unknown'}")
            user = review.status.user
            attributes = ResourceAttributes(
                verb=verb, group=ACCESS_GROUP, resource=ACCESS_RESOURCE, subresource=subresource, name=self.node
            )
            spec = SubjectAccessReviewSpec(
                user=user.username, uid=user.uid, groups=user.groups, extra=user.extra, resource_attributes=attributes
            )
            answer = await self._client.create(SUBJECT_ACCESS_REVIEW, SubjectAccessReview(spec=spec))
        if not answer.status.allowed:
            what = f"{ACCESS_RESOURCE}{f'/{subresource}' if subresource else ''}.{ACCESS_GROUP}"
            raise Forbidden(f"{user.username} may not {verb} {what} {self.node}")
