"""Who may ask this process what: decided by the API server of its cluster, by a token that is sent with the question."""

from __future__ import annotations

import asyncio

from dpuchain.api.access import (
    SUBJECT_ACCESS_REVIEW,
    TOKEN_REVIEW,
    NonResourceAttributes,
    ResourceAttributes,
    SubjectAccessReview,
    SubjectAccessReviewSpec,
    TokenReview,
    TokenReviewSpec,
)
from dpuchain.kube.client import Client

AT_ONCE = 8
"""Reviews in flight: whoever knocks without a right must not keep the API server busy."""


class Unknown(Exception):
    """Nobody, or nobody whom the cluster knows, asks."""


class Forbidden(Exception):
    """Whoever asks has no right to."""


class Access:
    """Asks the API server about those who ask us."""

    def __init__(self, client: Client, audience: str = "") -> None:
        """Tokens must be for `audience`, or, where that is empty, for the API server itself."""
        self._client = client
        self._audience = audience
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def check(self, token: str, what: ResourceAttributes | NonResourceAttributes) -> None:
        """Return if the owner of `token` may do it. Unknown, Forbidden, or a KubeError if the API server cannot say."""
        if not token or not token.isascii() or not token.isprintable():
            raise Unknown("no token, or none that can be one")
        audiences = (self._audience,) if self._audience else ()
        async with self._turns:
            review = await self._client.create(TOKEN_REVIEW, TokenReview(spec=TokenReviewSpec(token=token, audiences=audiences)))
            # An authenticator that knows of no audiences lets any token pass, and then names none.
            if not review.status.authenticated or not set(audiences) <= set(review.status.audiences):
                meant = self._audience or "this cluster"
                raise Unknown(f"the token is not valid for {meant}: {review.status.error or 'it is of somebody unknown'}")
            user = review.status.user
            spec = SubjectAccessReviewSpec(
                user=user.username,
                uid=user.uid,
                groups=user.groups,
                extra=user.extra,
                resource_attributes=what if isinstance(what, ResourceAttributes) else None,
                non_resource_attributes=what if isinstance(what, NonResourceAttributes) else None,
            )
            answer = await self._client.create(SUBJECT_ACCESS_REVIEW, SubjectAccessReview(spec=spec))
        if not answer.status.allowed:
            raise Forbidden(f"{user.username} may not {what}")
