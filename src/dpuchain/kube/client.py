"""Requests to one API server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import aiohttp
import msgspec

from dpuchain.api.meta import Object, ObjectKey
from dpuchain.api.resource import Resource
from dpuchain.kube.certificates import end_of, end_of_servers
from dpuchain.kube.errors import TRANSPORT_ERRORS, Fenced, Invalid, KubeError, from_response, from_transport
from dpuchain.kube.kubeconfig import Endpoint, in_cluster, read

T = TypeVar("T", bound=Object)

Fence = Callable[[], None]
OnAnswer = Callable[[str, str, float], None]
"""Told of each request: its verb, how it ended (ok, or the name of the error), and the seconds that it took."""
observers: list[OnAnswer] = []
"""Whoever counts the requests of this process, to whichever API server."""

PAGE = 500
TIMEOUT = 30.0
"""Seconds that a request may take; the API server itself gives up after 60."""
REQUESTS = 64
"""Requests in flight at once. HTTP/1.1 needs a connection for each, and one for each watch, of which there may be any number."""

MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Whatever msgspec raises for bytes that are not what they should be."""
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


class ListMeta(msgspec.Struct, rename="camel"):
    """Metadata of a list: where a watch goes on, and the token of the next page."""

    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class RawList(msgspec.Struct):
    """A page of a list whose items are not decoded yet, so that one bad item does not spoil the others."""

    items: list[msgspec.Raw] | None = None
    metadata: ListMeta = msgspec.field(default_factory=ListMeta)


@dataclass(frozen=True)
class Listing(Generic[T]):
    """All objects of a collection at one resource version, and the errors of those that could not be decoded."""

    items: tuple[T, ...]
    resource_version: str
    invalid: Mapping[ObjectKey, Invalid]


class Client:
    """One API server. To be used as `async with Client...`; every method raises `KubeError`s only."""

    def __init__(self, endpoint: Endpoint, *, user_agent: str, fence: Fence = lambda: None) -> None:
        """`fence` is called before each request that is not a GET, and raises if it must not be sent."""
        self.server = endpoint.server
        self._fence = fence
        self._endpoint = endpoint
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None
        self._turns = asyncio.Semaphore(REQUESTS)

    @classmethod
    def from_kubeconfig(
        cls, source: Path | Mapping[str, Any], *, context: str | None = None, user_agent: str, fence: Fence = lambda: None
    ) -> Client:
        """A client for what a kubeconfig (file, or decoded content) names. Raises InvalidKubeconfig."""
        return cls(read(source, context), user_agent=user_agent, fence=fence)

    @classmethod
    def from_pod(cls, environment: Mapping[str, str], *, user_agent: str) -> Client:
        """A client for the cluster that this process is a pod of. Raises InvalidKubeconfig."""
        return cls(in_cluster(environment), user_agent=user_agent)

    @property
    def authorities(self) -> frozenset[bytes]:
        """Those of the endpoint."""
        return self._endpoint.authorities

    def fenced(self, fence: Fence) -> Client:
        """The same open connection, for whom `fence` tells before each write whether he may."""
        other = Client(self._endpoint, user_agent=self._user_agent, fence=fence)
        other._session = self._open()  # of the same class: the connections are shared, and closed by whom they are of
        return other

    def apart(self) -> Client:
        """The same API server by connections of its own: what is asked there waits for nothing that is asked here."""
        return Client(self._endpoint, user_agent=self._user_agent)

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, ssl=self._endpoint.tls or True, keepalive_timeout=75)
        self._session = aiohttp.ClientSession(connector=connector, headers={"User-Agent": self._user_agent}, auto_decompress=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, resource: Resource[T], key: ObjectKey) -> T:
        """The object as the API server has it now. NotFound if there is none."""
        return decode(resource, await self.request("GET", resource.path(key.namespace, key.name)))

    async def list(
        self,
        resource: Resource[T],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
    ) -> Listing[T]:
        """All objects of a collection, read page by page at one resource version. Expired if that took longer than the server keeps it."""
        query = _query(labelSelector=label_selector, fieldSelector=field_selector, limit=str(PAGE))
        accept = METADATA_LIST if metadata_only else None
        items: list[T] = []
        invalid: dict[ObjectKey, Invalid] = {}
        while True:
            body = await self.request("GET", resource.path(namespace), query=query, accept=accept)
            page = _decode_page(body, resource)
            for raw in page.items or ():
                try:
                    items.append(decode(resource, raw))
                except Invalid as error:
                    invalid[key_in(raw)] = error
            if not page.metadata.continue_:
                return Listing(tuple(items), page.metadata.resource_version, invalid)
            query["continue"] = page.metadata.continue_

    async def create(self, resource: Resource[T], item: T, *, field_owner: str = "") -> T:
        """Create the object. AlreadyExists if one of that name is there."""
        path = resource.path(item.metadata.namespace)
        body = encode(resource, item)
        return decode(resource, await self.request("POST", path, body=body, query=_query(fieldManager=field_owner)))

    async def apply(self, resource: Resource[T], item: T, *, field_owner: str, force: bool = True) -> T:
        """Server-side apply: the object has the fields of `item` afterwards, and those that the owner no longer names are gone.

        Conflict if another owner holds one of the fields and `force` is false.
        """
        query = _query(fieldManager=field_owner, force="true" if force else "")
        path = resource.path(item.metadata.namespace, item.metadata.name)
        body = encode(resource, item)
        return decode(resource, await self.request("PATCH", path, body=body, content_type=APPLY_PATCH, query=query))

    async def patch(self, resource: Resource[T], key: ObjectKey, patch: Mapping[str, Any], *, subresource: str = "") -> T:
        """JSON merge patch (RFC 7396). With `metadata.resourceVersion` in it: Conflict if the object has changed since."""
        path = resource.path(key.namespace, key.name, subresource)
        body = msgspec.json.encode(patch)
        return decode(resource, await self.request("PATCH", path, body=body, content_type=MERGE_PATCH))

    async def delete(self, resource: Resource[T], key: ObjectKey, *, uid: str = "", propagation: str = "Background") -> None:
        """Delete the object, or the very object of that `uid`. NotFound if there is none; Conflict if it is another by now."""
        options: dict[str, Any] = {"propagationPolicy": propagation}
        if uid:
            options["preconditions"] = {"uid": uid}
        await self.request("DELETE", resource.path(key.namespace, key.name), body=msgspec.json.encode(options))

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
        accept: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Send one request and return the body of its answer: the door that all of the above go through."""
        action = f"{method} {self.server}{path}"
        with _counted(method):
            ours = self._headers(accept, content_type if body is not None else None)
            try:
                async with self._turns:
                    if method != "GET":  # at its turn, and again when it is written: who waits may be stopped meanwhile
                        self._fence()
                    async with self._open().request(
                        method,
                        self.server + path,
                        params=query,
                        data=body if body is None or method == "GET" else _Fenced(body, self._fence),
                        headers={**(headers or {}), **ours},
                        timeout=aiohttp.ClientTimeout(total=TIMEOUT),
                    ) as response:
                        content = await response.read()
            except TRANSPORT_ERRORS as error:
                if isinstance(error.__cause__, Fenced):
                    raise error.__cause__ from error
                raise from_transport(error, action) from error
            if response.status >= 400:
                raise from_response(response.status, content, action, response.headers.get("Retry-After"))
        return content

    async def expiries(self) -> dict[str, datetime]:
        """When the certificates expire by which the server and we know each other; what is not known by one is left out."""
        found = {}
        if self._endpoint.certificate is not None:
            found["our client certificate"] = end_of(self._endpoint.certificate)
        if self._endpoint.tls is not None:
            found["the API server's certificate"] = await end_of_servers(self.server, self._endpoint.tls)
        return {name: end for name, end in found.items() if end is not None}

    async def stream(self, path: str, *, query: Mapping[str, str], accept: str | None, silence: float) -> AsyncGenerator[bytes, None]:
        """Lines of an answer that goes on, such as a watch's, as they come; ends when the server ends it.

        The first is empty and comes as soon as the server has begun to answer; no other is. A line that is cut off is dropped. It ends too
        when nothing at all has come for `silence` seconds, which tells nothing: an API server sends no bookmarks for a kind of which it has
        seen no change. Unreachable if the connection breaks, or if the server does not begin to answer.
        """
        action = f"GET {self.server}{path}"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=silence)
        request = self._open().get(self.server + path, params=query, headers=self._headers(accept, None), timeout=timeout)
        begun = False
        began = time.monotonic()
        try:
            async with asyncio.timeout(min(TIMEOUT, silence)) as beginning, request as response:
                beginning.reschedule(None)
                if response.status >= 400:
                    refused = from_response(response.status, await response.read(), action, response.headers.get("Retry-After"))
                    _tell("WATCH", type(refused).__name__, began)
                    raise refused
                begun = True
                _tell("WATCH", "ok", began)
                yield b""
                pending = bytearray()
                async for chunk in response.content.iter_any():
                    *lines, rest = chunk.split(b"\n")
                    for line in lines:
                        pending += line
                        if pending:
                            yield bytes(pending)
                        pending.clear()
                    pending += rest
        except TRANSPORT_ERRORS as error:
            if begun and isinstance(error, TimeoutError):
                return
            broken = from_transport(error, action)
            _tell("WATCH", type(broken).__name__, began)
            raise broken from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the client is used outside of `async with`")
        return self._session

    def _headers(self, accept: str | None, content_type: str | None) -> dict[str, str]:
        headers = {"Accept": accept or "application/json"}
        if content_type:
            headers["Content-Type"] = content_type
        try:
            token = self._endpoint.token()
        except (OSError, ValueError) as error:
            raise from_transport(error, f"read the token for {self.server}") from error
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return headers


class _Fenced(aiohttp.BytesPayload):
    """A body before which the fence is asked, when it and the headers before it are written and not a moment earlier: between the choice
    of a connection and that, the event loop does other things, and the process may be stopped.
    """

    def __init__(self, content: bytes, fence: Fence) -> None:
        super().__init__(content)
        self._fence = fence

    async def write_with_length(self, writer: aiohttp.abc.AbstractStreamWriter, content_length: int | None) -> None:
        self._fence()
        await super().write_with_length(writer, content_length)


def _tell(verb: str, answer: str, began: float) -> None:
    for observer in observers:
        observer(verb, answer, time.monotonic() - began)


@contextlib.contextmanager
def _counted(verb: str) -> Iterator[None]:
    """Tell how what is done in it ends. One that is cancelled has not ended."""
    began = time.monotonic()
    try:
        yield
    except KubeError as error:
        _tell(verb, type(error).__name__, began)
        raise
    _tell(verb, "ok", began)


def _query(**parameters: str) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if value}


def encode(resource: Resource[T], item: T) -> bytes:
    """`item` as the API server takes it: with `apiVersion` and `kind`, without the status, which has an endpoint of its own."""
    content: dict[str, Any] = msgspec.to_builtins(item)
    content.pop("status", None)
    return msgspec.json.encode({"apiVersion": resource.api_version, "kind": resource.kind, **content})


class _IdentityMeta(msgspec.Struct):
    name: str = ""
    namespace: str = ""


class _Identity(msgspec.Struct):
    """As much of an object as it takes to name it in an error."""

    metadata: _IdentityMeta = msgspec.field(default_factory=_IdentityMeta)


def decode(resource: Resource[T], body: bytes | msgspec.Raw) -> T:
    """One object from JSON. Invalid, naming the object and the field, if it does not fit its struct."""
    try:
        return msgspec.json.decode(body, type=resource.type)
    except UNREADABLE as error:
        raise Invalid(f"{resource.kind} {key_in(body)}: {error}") from error


def key_in(body: bytes | msgspec.Raw) -> ObjectKey:
    """Key of an object that may not be decodable otherwise; its name is "(unreadable)" if not even that can be read."""
    try:
        metadata = msgspec.json.decode(body, type=_Identity).metadata
    except UNREADABLE:
        return ObjectKey("", "(unreadable)")
    return ObjectKey(metadata.namespace, metadata.name)


def _decode_page(body: bytes, resource: Resource[T]) -> RawList:
    try:
        return msgspec.json.decode(body, type=RawList)
    except UNREADABLE as error:
        raise Invalid(f"list of {resource.plural}: not a Kubernetes list: {error}") from error
