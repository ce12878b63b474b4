"""Who may read metrics, and by which certificate, given what an API server says: one that this test plays, since a real one never fails."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.unit.agent.test_access import Server

from dpuchain.kube.client import Client
from dpuchain.lab.certificates import Authority
from dpuchain.lab.scraping import scrape
from dpuchain.runtime.access import Forbidden, Unknown
from dpuchain.runtime.certificates import from_folder
from dpuchain.runtime.endpoints import ALLOWED_SECONDS, ALONE_SECONDS, REFUSED_SECONDS, Endpoints, Gate, telling
from dpuchain.runtime.metrics import nothing

KNOWN = {"authenticated": True, "user": {"username": "ann"}}
UNKNOWN = {"authenticated": False, "error": "it is too old"}


@dataclass
class World:
    """A gate, the API server that it asks, and the time."""

    server: Server
    gate: Gate = field(init=False)
    now: float = 0.0

    @property
    def asked(self) -> int:
        return len(self.server.asked.get("tokenreviews", []))


@asynccontextmanager
async def gate(token: dict[str, Any] | int = KNOWN, rights: dict[str, Any] | int = {"allowed": True}) -> AsyncIterator[World]:  # noqa: B006
    world = World(Server(token, rights))
    application = web.Application()
    application.router.add_post("/{path:.*}", world.server.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    content = {
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c"}}],
        "current-context": "x",
    }
    async with Client.from_kubeconfig(content, user_agent="tests") as client:
        world.gate = Gate(client, lambda: world.now)
        yield world
    await runner.cleanup()


async def test_who_was_let_in_is_not_asked_about_again_for_a_while() -> None:
    async with gate() as world:
        for _ in range(3):
            await world.gate.check("a")
        assert world.asked == 1
        await world.gate.check("b")
        assert world.asked == 2, "another token is another person"
        world.now = ALLOWED_SECONDS
        await world.gate.check("a")
        assert world.asked == 3
        spec = world.server.asked["subjectaccessreviews"][0]
        assert spec == {"user": "ann", "nonResourceAttributes": {"verb": "get", "path": "/metrics"}}


async def test_a_refusal_holds_for_a_shorter_while_and_a_right_that_is_taken_away_ends() -> None:
    async with gate(rights={}) as world:
        for _ in range(2):
            with pytest.raises(Forbidden, match=r"^ann may not get /metrics$"):
                await world.gate.check("a")
        assert world.asked == 1
        world.now, world.server.rights = REFUSED_SECONDS, {"allowed": True}
        await world.gate.check("a")
        world.server.token = UNKNOWN
        await world.gate.check("a")
        world.now += ALLOWED_SECONDS
        with pytest.raises(Unknown, match="it is too old"):
            await world.gate.check("a")


async def test_who_was_let_in_goes_on_while_the_api_server_is_away_and_nobody_else() -> None:
    from dpuchain.kube.errors import KubeError

    async with gate() as world:
        await world.gate.check("a")
        world.server.token = 500
        world.now = ALONE_SECONDS - 1
        await world.gate.check("a")
        with pytest.raises(KubeError):
            await world.gate.check("b")
        world.now = ALONE_SECONDS
        with pytest.raises(KubeError):
            await world.gate.check("a")


async def test_what_is_no_token_is_not_asked_about() -> None:
    async with gate() as world:
        for token in ("", "\n", "ü", "a\x00b"):
            with pytest.raises(Unknown):
                await world.gate.check(token)
        assert world.asked == 0


async def test_only_metrics_are_answered_and_only_over_https() -> None:
    async with gate() as world, telling(Endpoints(metrics="127.0.0.1:0"), world.gate, nothing) as port:
        status, text = await scrape(f"127.0.0.1:{port}", "a")
        assert (status, "dpuchain_build_info" in text) == (200, True)
        assert (await scrape(f"127.0.0.1:{port}", None))[0] == 401
        world.server.token = 500
        status, text = await scrape(f"127.0.0.1:{port}", "secret-of-ann")
        assert (status, "secret" in text) == (503, False)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\r\n\r\n")
        assert b"dpuchain" not in await reader.read()
        writer.close()


async def test_connections_that_nobody_uses_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpuchain.runtime.endpoints.IDLE_SECONDS", 0.3)
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    async with gate() as world, telling(Endpoints(metrics="127.0.0.1:0"), world.gate, nothing) as port, asyncio.timeout(20):
        for said in (b"", b"GET /metrics HTTP/1.1\r\nHo", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
            writer.write(said)
            await reader.read()  # to the end
            writer.close()


async def shown(port: int, authority: Path) -> str | None:
    """The name in the certificate that is shown; None if `authority` does not vouch for it."""
    trust = ssl.create_default_context(cafile=str(authority))
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname="metrics")
    except ssl.SSLCertVerificationError:
        return None
    found: Any = writer.get_extra_info("peercert")
    writer.close()
    return str(found["serialNumber"])


async def test_a_certificate_that_is_exchanged_is_shown_and_one_that_is_spoiled_is_not(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "a", "ours"), Authority(tmp_path / "b", "another")
    folder = tmp_path / "mounted"
    folder.mkdir()

    def mount(pair: Any) -> None:
        for source, name in ((pair.certificate, "tls.crt"), (pair.key, "tls.key")):
            shutil.copy(source, folder / f".{name}")
            (folder / f".{name}").replace(folder / name)

    mount(authority.server("first", ["metrics"]))
    trusted, distrusted = tmp_path / "a/ca.crt", tmp_path / "b/ca.crt"
    async with gate() as world, telling(Endpoints("", "127.0.0.1:0", folder), world.gate, nothing) as port:
        first = await shown(port, trusted)
        assert first is not None
        assert await shown(port, distrusted) is None
        mount(authority.server("second", ["metrics"]))
        second = await shown(port, trusted)
        assert second not in (None, first)
        (folder / "tls.key").write_text("nonsense")
        assert await shown(port, trusted) == second
        mount(other.server("third", ["metrics"]))
        assert await shown(port, trusted) is None
        assert await shown(port, distrusted) is not None


@pytest.mark.parametrize("content", [None, "", "nonsense"])
def test_a_certificate_that_cannot_be_used_is_named_without_its_content(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        for name in ("tls.crt", "tls.key"):
            (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=f"^no certificate in {tmp_path}: (?!.*nonsense)"):
        from_folder(tmp_path)
