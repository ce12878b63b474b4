"""The socket on which `dpuchain-cni` hands its calls over and hears what to print, for root alone (see `cni.plugin`)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog

from dpuchain.agent.attachment import (
    INVALID_CONFIG,
    INVALID_ENVIRONMENT,
    IO_FAILURE,
    REQUIRED,
    CniError,
    Request,
    decode_request,
    version_of,
)
from dpuchain.runtime.metrics import CNI_SECONDS

LONGEST_CALL = 1 << 20
CALL_SECONDS = 55.0
"""Less than the time that the plugin waits, so that it hears the reason."""

_log = structlog.get_logger(__name__)
Answer = Callable[[Request], Awaitable[Any]]


@contextlib.asynccontextmanager
async def listen(path: Path, answer: Answer) -> AsyncIterator[None]:
    """Answer calls on `path` while the context lasts. A socket that an earlier agent left is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    server = await asyncio.start_unix_server(lambda reader, writer: _serve(reader, writer, answer), str(beside), limit=LONGEST_CALL)
    beside.chmod(0o600)
    beside.replace(path)
    async with server:
        yield


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
    try:
        writer.write(await _call(reader, writer, answer))
        await writer.drain()
    except OSError as error:
        _log.warning("a CNI caller hung up before it was answered", error=str(error))
    finally:
        writer.close()


async def _call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> bytes:
    """What to send back: the exit status and what to print."""
    body = b""
    began, command, result = time.monotonic(), "other", "refused"
    try:
        async with asyncio.timeout(CALL_SECONDS):
            body = await _body(reader)  # whoever is refused hears so only if all that he sent has been read
            _check_peer(writer.get_extra_info("socket"))
            request = decode_request(body)
            command = request.command if request.command in REQUIRED else command
            log = _log.bind(command=request.command, container=request.container_id[:12], interface=request.ifname, **_pod(request))
            try:
                made = await answer(request)
            except CniError as error:
                log.warning("CNI call failed", code=error.code, error=str(error))
                raise
            log.info("CNI call done")
            result = "ok"
            return b"0\n" if made is None else b"0\n%b\n" % msgspec.json.encode(made)
    except CniError as error:
        return _refusal(body, error)
    except TimeoutError:
        return _refusal(body, CniError(IO_FAILURE, f"the agent was not done after {CALL_SECONDS:.0f} s"))
    finally:
        CNI_SECONDS.labels(command, result).observe(time.monotonic() - began)


def _pod(request: Request) -> dict[str, str]:
    """Whose call it is; as it came, where it names no pod."""
    try:
        return {"kind": "Pod", "namespace": request.pod.namespace, "name": request.pod.name}
    except CniError:
        return {"args": request.args}


def _refusal(body: bytes, error: CniError) -> bytes:
    said = {"cniVersion": version_of(body), "code": error.code, "msg": error.message, "details": error.details}
    return b"1\n%b\n" % msgspec.json.encode(said)


async def _body(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while chunk := await reader.read(65536):
        body += chunk[: LONGEST_CALL + 1 - len(body)]
    if len(body) > LONGEST_CALL:
        raise CniError(INVALID_CONFIG, f"the call has more than {LONGEST_CALL} bytes")
    return bytes(body)


def _check_peer(connection: socket.socket) -> None:
    """Root alone may have pods wired; the mode of the socket says so too, but a directory may be shared with a container."""
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    if uid not in (0, os.geteuid()):
        raise CniError(INVALID_ENVIRONMENT, f"user {uid} may not call the agent", "run the CNI plugin as root")
