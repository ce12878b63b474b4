"""The parts used of Kubernetes' questions about who somebody is and what he may do: the answer is the object's status."""

from __future__ import annotations

from typing import Any

from msgspec import field

from dpuchain.api.kubernetes import Metadata
from dpuchain.api.meta import Model, ObjectMeta
from dpuchain.api.resource import Resource


class TokenReviewSpec(Model, frozen=True, kw_only=True):
    """A token, and for whom it must be: for the API server itself if nobody is named."""

    token: str
    audiences: tuple[str, ...] = ()


class UserInfo(Model, frozen=True, kw_only=True):
    """Who the owner of a token is."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


class TokenReviewStatus(Model, frozen=True, kw_only=True):
    """Whether the token is good, for whom, and whose it is."""

    authenticated: bool = False
    user: UserInfo = UserInfo()
    audiences: tuple[str, ...] = ()
    error: str = ""


class TokenReview(Model, frozen=True, kw_only=True):
    """Whose token this is."""

    metadata: ObjectMeta = ObjectMeta()
    spec: TokenReviewSpec
    status: TokenReviewStatus = TokenReviewStatus()

    def __repr__(self) -> str:
        return "TokenReview(...)"  # never the token


class ResourceAttributes(Model, frozen=True, kw_only=True):
    """A verb on a resource."""

    verb: str
    group: str
    resource: str
    subresource: str = ""
    name: str = ""

    def __str__(self) -> str:
        what = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.verb} {what}.{self.group} {self.name}"


class NonResourceAttributes(Model, frozen=True, kw_only=True):
    """A verb on a path of a server."""

    verb: str
    path: str

    def __str__(self) -> str:
        return f"{self.verb} {self.path}"


class SubjectAccessReviewSpec(Model, frozen=True, kw_only=True):
    """Somebody, and what he would do."""

    user: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)
    resource_attributes: ResourceAttributes | None = None
    non_resource_attributes: NonResourceAttributes | None = None


class SubjectAccessReviewStatus(Model, frozen=True, kw_only=True):
    """Whether he may."""

    allowed: bool = False
    reason: str = ""


class SubjectAccessReview(Model, frozen=True, kw_only=True):
    """Whether somebody may do something."""

    metadata: ObjectMeta = ObjectMeta()
    spec: SubjectAccessReviewSpec
    status: SubjectAccessReviewStatus = SubjectAccessReviewStatus()


class TokenRequestSpec(Model, frozen=True, kw_only=True):
    """For whom the token shall be, and for how long."""

    audiences: tuple[str, ...]
    expiration_seconds: int


class TokenRequestStatus(Model, frozen=True, kw_only=True):
    """The token."""

    token: str = ""

    def __repr__(self) -> str:
        return "TokenRequestStatus(...)"


class TokenRequest(Model, frozen=True, kw_only=True):
    """A token for a service account."""

    metadata: ObjectMeta = ObjectMeta()
    spec: TokenRequestSpec
    status: TokenRequestStatus = TokenRequestStatus()


TOKEN_REVIEW = Resource("authentication.k8s.io", "v1", "TokenReview", "tokenreviews", TokenReview, namespaced=False)
SUBJECT_ACCESS_REVIEW = Resource(
    "authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", SubjectAccessReview, namespaced=False
)
TOKEN_REQUEST = Resource("authentication.k8s.io", "v1", "TokenRequest", "tokenrequests", TokenRequest)
"""Posted to the subresource `token` of a service account."""
SERVICE_ACCOUNT = Resource("", "v1", "ServiceAccount", "serviceaccounts", Metadata)
