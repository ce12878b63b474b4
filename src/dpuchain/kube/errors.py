"""What can go wrong between us and an API server, and the one place that turns the library's errors into it."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from typing import Any

import aiohttp


class KubeError(Exception):
    """A request to an API server did not do what it was to do. `retryable`: whether the same request may succeed later."""

    retryable = True


class Unreachable(KubeError):
    """No answer, or one that says that the server cannot answer now: nothing is known about the object."""


class Throttled(Unreachable):
    """The server asks to come back after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Fenced(KubeError):
    """Not sent: we may not write now, since another replica may be leading."""


class NotFound(KubeError):
    """The server knows that there is no such object, or no such kind."""


class Conflict(KubeError):
    """The object has changed since it was read, or another field owner holds a field."""


class AlreadyExists(Conflict):
    """An object of that name exists."""


class Expired(KubeError):
    """The resource version or continue token is too old: list again."""


class Invalid(KubeError):
    """The server, or our decoder, refuses the object; `causes` are (field, message). The same object is refused again."""

    retryable = False

    def __init__(self, message: str, causes: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.causes = causes


class Denied(KubeError):
    """The server does not know us, or does not let us. Rights may be granted later, so it is worth trying again."""


def from_transport(error: BaseException, action: str) -> KubeError:
    """The error to raise for a failure below HTTP while doing `action` (method, object and server)."""
    if isinstance(error, asyncio.TimeoutError):
        return Unreachable(f"{action}: no answer in time")
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLError | aiohttp.ClientConnectorSSLError):
        return Unreachable(f"{action}: the server's certificate or ours is not accepted: {error}")
    return Unreachable(f"{action}: {str(error) or type(error).__name__}")


TRANSPORT_ERRORS = (aiohttp.ClientError, OSError, asyncio.TimeoutError, ssl.SSLError, ValueError, EOFError)
"""Whatever aiohttp, ssl and the socket may raise; `ValueError` is what aiohttp raises for a malformed URL or header."""


def from_response(status: int, body: bytes, action: str, retry_after: str | None = None) -> KubeError:
    """The error to raise for an answer with an error status; `body` is a `metav1.Status` or anything."""
    details = _status_of(body)
    message = details.get("message") or body[:300].decode(errors="replace").strip() or f"HTTP {status}"
    reason = details.get("reason", "")
    text = f"{action}: {message}"
    if status == 429 or (status == 503 and retry_after):
        return Throttled(text, _seconds(retry_after))
    if status == 409 and reason == "AlreadyExists":
        return AlreadyExists(text)
    if status in (400, 405, 406, 413, 415, 422):
        causes = _causes(details)
        if any(field == "metadata.uid" for field, _ in causes):  # a patch that names the uid it means met an object made anew
            return Conflict(text)
        return Invalid(text, causes)
    by_status: dict[int, type[KubeError]] = {401: Denied, 403: Denied, 404: NotFound, 409: Conflict, 410: Expired}
    return by_status.get(status, Unreachable)(text)


def _status_of(body: bytes) -> dict[str, Any]:
    try:
        decoded = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return decoded if isinstance(decoded, dict) and decoded.get("kind") == "Status" else {}


def _causes(status: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    if not isinstance(causes, list):
        return ()
    return tuple((str(c.get("field", "")), str(c.get("message", ""))) for c in causes if isinstance(c, dict))


def _seconds(text: str | None) -> float:
    """The seconds that a Retry-After header gives; 1 where it is absent, a date or nonsense."""
    return float(text) if text is not None and re.fullmatch("[0-9]{1,6}", text) else 1.0
