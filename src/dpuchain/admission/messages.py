"""What API servers ask, and what they are answered (admission.k8s.io/v1). Pure."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from dpuchain.api.resource import Resource
from dpuchain.chain.review import Verdict
from dpuchain.kube.client import UNREADABLE, decode

VERSION = "admission.k8s.io/v1"
UNPROCESSABLE = 422


class Malformed(ValueError):
    """What was sent is no question; the message says why."""


class Kind(msgspec.Struct, frozen=True):
    """The kind of the object that is asked about."""

    group: str
    version: str
    kind: str


class Request(msgspec.Struct, frozen=True, rename="camel"):
    """The question. A part that is JSON's null is as good as absent."""

    uid: str
    kind: Kind
    operation: Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
    object: msgspec.Raw = msgspec.Raw()
    old_object: msgspec.Raw = msgspec.Raw()


class Review(msgspec.Struct, frozen=True, rename="camel"):
    """The envelope of the question."""

    api_version: str
    kind: Literal["AdmissionReview"]
    request: Request


_REVIEWS = msgspec.json.Decoder(Review)


def read(body: bytes) -> Request:
    """The question in a body. Raises Malformed."""
    try:
        review = _REVIEWS.decode(body)
    except UNREADABLE as error:
        raise Malformed(f"not an AdmissionReview: {error}") from error
    if review.api_version != VERSION:
        raise Malformed(f"apiVersion {review.api_version} is not {VERSION}")
    if not review.request.uid:
        raise Malformed("request.uid is empty")
    return review.request


def objects(request: Request, resource: Resource[Any]) -> tuple[Any, Any]:
    """What there is, and what there shall be; None where there is nothing. Raises Invalid for an object that cannot be decoded."""
    old, new = (None if bytes(raw) in (b"", b"null") else decode(resource, raw) for raw in (request.old_object, request.object))
    return old, None if request.operation == "DELETE" else new


def answer(uid: str, verdict: Verdict) -> bytes:
    """The answer to the question of that uid."""
    response: dict[str, Any] = {"uid": uid, "allowed": not verdict.refusals}
    if verdict.refusals:
        response["status"] = {"code": UNPROCESSABLE, "reason": "Invalid", "message": "\n".join(verdict.refusals)}
    if verdict.warnings:
        response["warnings"] = [" ".join(warning.split()) for warning in verdict.warnings]  # a header of HTTP has one line
    return msgspec.json.encode({"apiVersion": VERSION, "kind": "AdmissionReview", "response": response})
