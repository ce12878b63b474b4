"""Ending and removing whatever a rack has left on the machine, found by the rack's identity alone: whoever made it may be long dead."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dpuchain.lab import containers
from dpuchain.lab.cgroups import ControlGroup
from dpuchain.lab.network import SERVER, Network

if TYPE_CHECKING:
    from dpuchain.lab.layout import Layout


async def end(layout: Layout) -> None:
    """Kill all processes of the rack, the supervisor included, and remove its network and control groups; its files stay."""
    group = ControlGroup(layout.identity.cgroup)
    await asyncio.to_thread(group.kill)
    for machine in (*layout.directory.glob("dpu-*/"), layout.directory / SERVER):
        await asyncio.to_thread(containers.end, machine)
    await Network(layout.identity).remove()
    group.remove()


async def remove(layout: Layout) -> None:
    """Leave nothing of the rack: as `end`, and its files are removed too."""
    await end(layout)
    await asyncio.to_thread(layout.remove)
