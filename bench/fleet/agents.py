"""`python -m bench.fleet.agents`: the agents of many DPUs in one process. Each is the real one, with its own connections to the API server.

What they share is what costs time to make and nothing to share: the interpreter, and the TLS context of the kubeconfig.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from bench.fleet.switch import BRIDGE, FixedDevices, MemoryDatabase, MemoryOpenFlow, NoPods
from dpuchain.agent.process import Doors, Settings, run
from dpuchain.kube.client import Client
from dpuchain.kube.kubeconfig import Endpoint, read
from dpuchain.runtime.metrics import REGISTRY
from dpuchain.runtime.process import run as run_process

BOOKMARK = b'{"type":"BOOKMARK"'


@dataclass
class Received:
    """Bytes that watches have brought: of objects, and of bookmarks."""

    objects: int = 0
    bookmarks: int = 0


class CountingClient(Client):
    """A client that counts what its watches bring."""

    def __init__(self, endpoint: Endpoint, *, user_agent: str) -> None:
        super().__init__(endpoint, user_agent=user_agent)
        self.received = Received()

    async def stream(self, path: str, *, query: Mapping[str, str], accept: str | None, silence: float) -> AsyncGenerator[bytes, None]:
        """As the client's, each line counted."""
        async for line in super().stream(path, query=query, accept=accept, silence=silence):
            if line.startswith(BOOKMARK):
                self.received.bookmarks += len(line)
            else:
                self.received.objects += len(line)
            yield line


@dataclass
class Agents:
    """The agents of some nodes, and what can be asked of them over HTTP."""

    endpoint: Endpoint
    directory: Path
    devices: FixedDevices
    clients: dict[str, CountingClient] = field(default_factory=dict)
    switches: dict[str, MemoryOpenFlow] = field(default_factory=dict)

    async def run(self, node: str) -> None:
        """The agent of one node, until cancelled."""
        self.clients[node] = client = CountingClient(self.endpoint, user_agent="dpuchain-agent")
        self.switches[node] = openflow = MemoryOpenFlow()
        settings = Settings(node, BRIDGE, "memory", Path("memory"), self.directory / f"{node}.sock")
        await run(client, settings, Doors(MemoryDatabase, lambda _: openflow, lambda _: self.devices, NoPods))

    async def changed(self, request: web.Request) -> web.Response:
        """Of how many agents the flows have changed since a moment of the machine's monotonic clock, and when the last of them did."""
        since = float(request.query["since"])
        moments = [switch.changed for switch in self.switches.values() if switch.changed > since]
        return web.json_response({"count": len(moments), "last": max(moments, default=since)})

    async def received(self, request: web.Request) -> web.Response:
        """Bytes that watches have brought one node's agent of objects; 0 if it runs elsewhere."""
        client = self.clients.get(request.query["node"])
        return web.json_response({"objects": 0 if client is None else client.received.objects})

    async def passes(self, _: web.Request) -> web.Response:
        """How many passes over their switches the agents have made, and the seconds that all of them took."""
        name, labels = "dpuchain_reconcile_seconds", {"controller": "switch"}
        values = {what: REGISTRY.get_sample_value(f"{name}_{what}", labels) for what in ("count", "sum")}
        return web.json_response(values)

    async def tasks(self, _: web.Request) -> web.Response:
        """How many tasks the process has."""
        return web.json_response({"tasks": len(asyncio.all_tasks())})


async def _main(arguments: argparse.Namespace) -> None:
    agents = Agents(read(arguments.kubeconfig), arguments.directory, FixedDevices(arguments.devices))
    application = web.Application()
    application.add_routes([web.get(f"/{ask.__name__}", ask) for ask in (agents.changed, agents.received, agents.passes, agents.tasks)])
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(arguments.socket)).start()
        async with asyncio.TaskGroup() as group:
            for node in arguments.nodes:
                group.create_task(agents.run(node))
    finally:
        await runner.cleanup()


def main() -> None:
    """Run the agents until told to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--directory", type=Path, required=True, help="for their CNI sockets")
    parser.add_argument("--socket", type=Path, required=True, help="where to answer")
    parser.add_argument("--devices", nargs="*", default=[], help="names of each DPU's network devices")
    parser.add_argument("nodes", nargs="+")
    arguments = parser.parse_args()
    run_process(lambda: _main(arguments), log_level="warning")


if __name__ == "__main__":
    main()
