"""What devices say of themselves is known as soon as they say it, though the kernel is asked only after it has told of a change."""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import TYPE_CHECKING

import pytest

from dpuchain.agent.netlink import Aliases, KernelError, set_alias
from dpuchain.lab.process import run as command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def make(name: str) -> None:
    await command("ip", "link", "add", name, "type", "veth", "peer", f"{name}p")
    await command("ip", "link", "set", name, "up")


@pytest.fixture
async def device() -> AsyncIterator[str]:
    name = f"a{secrets.token_hex(4)}"
    await make(name)
    yield name
    await command("ip", "link", "del", name)


async def test_each_change_is_seen_by_who_looks_after_it(device: str) -> None:
    aliases = Aliases(re.compile(f"{device}|{device}new"))
    assert await aliases.read() == {}
    await asyncio.to_thread(set_alias, device, "first")
    assert await aliases.read() == {device: "first"}
    await command("ip", "link", "set", device, "name", f"{device}new")
    assert await aliases.read() == {f"{device}new": "first"}
    await command("ip", "link", "set", f"{device}new", "name", device)
    await command("ip", "link", "del", device)
    assert await aliases.read() == {}
    await make(device)
    await asyncio.to_thread(set_alias, device, "second")
    assert await aliases.read() == {device: "second"}


async def test_of_a_device_that_is_down_the_kernel_tells_when_it_comes_up(device: str) -> None:
    aliases = Aliases(re.compile(device))
    await command("ip", "link", "set", device, "down")
    assert await aliases.read() == {}
    await asyncio.to_thread(set_alias, device, "first")
    await command("ip", "link", "set", device, "up")
    assert await aliases.read() == {device: "first"}


async def test_what_could_not_be_asked_is_asked_again(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unable(*_: object) -> str:
        raise KernelError("no")

    aliases = Aliases(re.compile(device))
    await asyncio.to_thread(set_alias, device, "first")
    with monkeypatch.context() as broken:
        broken.setattr("dpuchain.agent.netlink._alias", unable)
        with pytest.raises(KernelError):
            await aliases.read()
    assert await aliases.read() == {device: "first"}
