"""What a process tells over HTTP."""

from __future__ import annotations

import socket

import aiohttp
import pytest

from dpuchain.runtime.health import Checks, serve


async def fetch(port: int, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}{path}") as response:
        return response.status, await response.text()


async def test_alive_and_ready() -> None:
    async with serve("127.0.0.1:0", {"a": lambda: None, "b": lambda: None}) as port:
        assert await fetch(port, "/healthz") == (200, "ok\n")
        assert await fetch(port, "/readyz") == (200, "ok\n")


async def test_not_ready_names_each_check_that_fails_until_it_no_longer_does() -> None:
    problems: dict[str, str | None] = {"server": "cannot be reached", "switch": "no bridge", "rest": None}
    checks: Checks = {name: lambda name=name: problems[name] for name in problems}  # type: ignore[misc]
    async with serve("127.0.0.1:0", checks) as port:
        assert await fetch(port, "/readyz") == (503, "server: cannot be reached\nswitch: no bridge\n")
        assert await fetch(port, "/healthz") == (200, "ok\n"), "who is not ready is not restarted for it"
        problems["server"] = None
        assert await fetch(port, "/readyz") == (503, "switch: no bridge\n")
        problems["switch"] = None
        assert await fetch(port, "/readyz") == (200, "ok\n")


async def test_an_address_in_brackets() -> None:
    async with serve("[::1]:0", {}) as port:
        assert await fetch(port, "/healthz", "[::1]") == (200, "ok\n")


async def test_no_address_serves_nothing() -> None:
    async with serve("", {}) as port:
        assert port == 0


@pytest.mark.parametrize("address", ["8080", "localhost", "host:", "host:http", "127.0.0.1:65536", "127.0.0.1:-1"])
async def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT, such as"):
        async with serve(address, {}):
            pass


async def test_a_port_that_is_taken_is_an_error_and_one_that_was_served_is_free_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match=str(taken.getsockname()[1])):
        async with serve(f"127.0.0.1:{taken.getsockname()[1]}", {}):
            pass
    async with serve("127.0.0.1:0", {}) as port:
        pass
    async with serve(f"127.0.0.1:{port}", {}) as again:
        assert again == port
