"""A relay between clients and an API server, that misbehaves when it is told to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from dpuchain.lab.cluster import Cluster

WAIT = 30.0
"""Seconds after which what a test waits for will not come any more."""


class Relay:
    """Passes bytes between clients and an API server, until it is told to misbehave."""

    def __init__(self, address: str, port: int) -> None:
        self.target = (address, port)
        self.port = 0
        self.accepted = 0
        self.refusing = False
        self._came = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.drop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until_accepted(self, count: int) -> None:
        """Wait until so many connections have come."""
        async with asyncio.timeout(WAIT):
            while self.accepted < count:
                self._came.clear()
                await self._came.wait()

    def kubeconfig(self, cluster: Cluster) -> dict[str, Any]:
        """The cluster's, but by way of the relay."""
        content: dict[str, Any] = msgspec.json.decode(cluster.kubeconfig.read_bytes())
        content["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{self.port}"
        return content

    def drop(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def refuse(self) -> None:
        """Reset every connection, and each new one at once."""
        self.refusing = True
        self.drop()

    def half_close(self) -> None:
        """Send nothing more to anybody, and say so."""
        for writer in self._writers:
            if writer.can_write_eof():
                writer.write_eof()

    def stall(self) -> None:
        """Keep all bytes back, without a word."""
        self._flowing.clear()

    def lose(self) -> None:
        """Keep back all bytes of the connections that there are, for ever and without a word; new ones work."""
        self._flowing.clear()
        self._flowing = asyncio.Event()
        self._flowing.set()

    def resume(self) -> None:
        self.refusing = False
        self._flowing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._came.set()
        if self.refusing:
            writer.transport.abort()
            return
        upstream, uplink = await asyncio.open_connection(*self.target)
        self._writers |= {writer, uplink}
        for source, sink in ((reader, uplink), (upstream, writer)):
            task = asyncio.create_task(self._pass(source, sink, self._flowing))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, flowing: asyncio.Event) -> None:
        try:
            while data := await source.read(65536):
                await flowing.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()
