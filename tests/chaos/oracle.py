"""What each DPU's bridge should hold, worked out from the objects and the database by the pure core, beside what it does hold."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec

from dpuchain.agent import ports as rows_of
from dpuchain.api.kinds import POD, SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.chain.ports import assign
from dpuchain.chain.resolve import NodeWorld, resolve
from dpuchain.flows.compile import ChainSwitches, compile_switches
from dpuchain.flows.explain import describe
from dpuchain.ovs.database import Database
from dpuchain.ovs.errors import OvsError
from dpuchain.ovs.openflow import OpenFlow

if TYPE_CHECKING:
    from dpuchain.api.resource import Resource
    from tests.e2e.conftest import Rack


async def differences(rack: Rack, dpu: str) -> list[str]:
    """What is wrong with a DPU, in words; nothing if its ports and flows are those that its objects ask for."""
    items = {kind.kind: _objects(rack, kind, dpu) for kind in (SERVICE_INTERFACE, SERVICE_CHAIN, POD)}
    directory = rack.directory / dpu
    database, openflow = Database(f"unix:{directory / 'db.sock'}"), OpenFlow(directory / "br-sfc.mgmt")
    try:
        async with _running(database, openflow):
            rows = database.bridges().get("br-sfc", {})
            state = await openflow.read_state()
    except (OvsError, TimeoutError) as error:
        return [f"{dpu}: {error}"]
    interfaces = items["ServiceInterface"]
    ports = assign(interfaces, rows_of.claimable(rows))
    world = NodeWorld(dpu, interfaces, items["Pod"], rows_of.by_mark(rows.values()), ports.refused, ports.vlans)
    resolutions = resolve(items["ServiceChain"], world)
    wanted = compile_switches([ChainSwitches(chain, found.switch_ports) for chain, found in resolutions.items()], world.reserved)
    found = [f"{dpu}: missing {describe(flow)}" for flow in wanted.flows - state.flows]
    found += [f"{dpu}: surplus {describe(flow)}" for flow in state.flows - wanted.flows]
    found += [f"{dpu}: port {name} is not as it should be" for name in ports.wanted if name not in rows]
    found += [f"{dpu}: port {change} should go" for change in rows_of.surplus("br-sfc", rows, ports.wanted)]
    return found


def _objects(rack: Rack, kind: Resource[Any], dpu: str) -> list[Any]:
    field = "spec.nodeName" if kind is POD else "spec.node"
    listed = json.loads(rack.ok("cluster-1", "get", kind.plural, f"--field-selector={field}={dpu}", "--output=json"))
    return [msgspec.convert(item, type=kind.type, strict=False) for item in listed["items"]]


@contextlib.asynccontextmanager
async def _running(database: Database, openflow: OpenFlow) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(part.run()) for part in (database, openflow)]
    try:
        async with asyncio.timeout(10):
            await asyncio.gather(database.synced(), openflow.synced())
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
