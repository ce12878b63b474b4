"""Whatever goes wrong between us and an API server leaves as one of our errors."""

from __future__ import annotations

import json
import ssl
from http import HTTPStatus
from typing import Any

import aiohttp
import pytest

from dpuchain.kube.errors import (
    TRANSPORT_ERRORS,
    AlreadyExists,
    Conflict,
    Denied,
    Expired,
    Invalid,
    KubeError,
    NotFound,
    Throttled,
    Unreachable,
    from_response,
    from_transport,
)

ACTION = "GET https://host/api"
BY_STATUS = {
    400: Invalid,
    401: Denied,
    403: Denied,
    404: NotFound,
    405: Invalid,
    406: Invalid,
    409: Conflict,
    410: Expired,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    429: Throttled,
}


def status(**content: Any) -> bytes:
    return json.dumps({"kind": "Status", **content}).encode()


def library_errors() -> list[type[BaseException]]:
    """Every exception that aiohttp exports for clients."""
    exported = [getattr(aiohttp, name) for name in aiohttp.__all__]
    return [item for item in exported if isinstance(item, type) and issubclass(item, BaseException)]


def test_every_error_of_the_library_is_caught() -> None:
    of_what_we_do_not_use = {"WebSocketError", "WSMessageTypeError", "BadContentDispositionHeader", "BadContentDispositionParam"}
    within_the_library = {"EofStream"}
    unmapped = {kind.__name__ for kind in library_errors() if not issubclass(kind, TRANSPORT_ERRORS)}
    assert unmapped == of_what_we_do_not_use | within_the_library


@pytest.mark.parametrize("kind", TRANSPORT_ERRORS, ids=lambda kind: str(kind.__name__))
@pytest.mark.parametrize("arguments", [(), ("the reason",)], ids=["silent", "with a reason"])
def test_a_failure_below_http_is_unreachable_and_says_of_what(kind: type[Exception], arguments: tuple[str, ...]) -> None:
    error = from_transport(kind(*arguments), ACTION)
    assert type(error) is Unreachable
    assert error.retryable
    text = str(error)
    assert text.startswith(f"{ACTION}: ")
    assert len(text) > len(ACTION) + 2


def test_a_certificate_and_a_timeout_are_told_as_such() -> None:
    assert "certificate" in str(from_transport(ssl.SSLError(1, "unknown ca"), ACTION))
    assert str(from_transport(TimeoutError(), ACTION)) == f"{ACTION}: no answer in time"


@pytest.mark.parametrize("code", [s.value for s in HTTPStatus if s.value >= 400] + [499, 520, 599])
def test_every_status_has_an_error_that_quotes_the_server(code: int) -> None:
    error = from_response(code, status(message="the reason"), ACTION)
    assert type(error) is BY_STATUS.get(code, Unreachable)
    assert str(error) == f"{ACTION}: the reason"
    assert error.retryable == (type(error) is not Invalid)


def test_a_name_that_is_taken_is_told_from_another_conflict() -> None:
    assert type(from_response(409, status(message="m", reason="AlreadyExists"), ACTION)) is AlreadyExists
    assert type(from_response(409, status(message="m", reason="Conflict"), ACTION)) is Conflict


@pytest.mark.parametrize(
    ("code", "header", "seconds"),
    [(429, None, 1.0), (429, "7", 7.0), (429, "0", 0.0), (429, "Wed, 21 Oct 2026 07:28:00 GMT", 1.0), (503, "3", 3.0)]
    + [(429, odd, 1.0) for odd in ("", "inf", "nan", "-5", "1e9", "9" * 5000, "\uff17")],
)
def test_when_the_server_wants_us_back(code: int, header: str | None, seconds: float) -> None:
    error = from_response(code, b"", ACTION, header)
    assert isinstance(error, Throttled)
    assert error.retry_after == seconds


def test_a_server_that_is_away_without_a_date_is_unreachable() -> None:
    assert type(from_response(503, b"", ACTION)) is Unreachable


def test_causes() -> None:
    body = status(message="m", details={"causes": [{"field": "spec.a", "message": "too large"}, {"reason": "x"}, 5]})
    error = from_response(422, body, ACTION)
    assert isinstance(error, Invalid)
    assert error.causes == (("spec.a", "too large"), ("", ""))


def test_a_uid_that_is_another_by_now_is_a_conflict() -> None:
    body = status(message="m", details={"causes": [{"field": "metadata.uid", "message": "field is immutable"}]})
    assert type(from_response(422, body, ACTION)) is Conflict


@pytest.mark.parametrize(
    "body",
    [
        status(details={"causes": 5}),
        status(details={"causes": "text"}),
        status(details={"causes": {"a": 1}}),
        status(details=[1]),
        status(details=None),
        b"[" * 200_000,
        b"\xff\xfe",
        b"[]",
        b"5",
        b"",
        b'{"kind": "Pod"}',
    ],
    ids=lambda body: repr(body[:30]),
)
@pytest.mark.parametrize("code", [404, 422, 500])
def test_a_body_that_is_no_status_is_an_error_all_the_same(body: bytes, code: int) -> None:
    error = from_response(code, body, ACTION)
    assert isinstance(error, KubeError)
    assert len(str(error)) > len(ACTION) + 2
    assert len(str(error)) < 1000


def test_a_page_of_a_proxy_is_quoted_but_not_as_a_whole() -> None:
    error = from_response(502, b"<html>Bad Gateway" + b"x" * 10_000, ACTION)
    assert "Bad Gateway" in str(error)
    assert len(str(error)) < 1000
