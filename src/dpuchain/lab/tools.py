"""Commands that a rack leaves for people, in `bin` of its directory."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from dpuchain.lab.network import FABRIC

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpuchain.lab.dpu import Dpu
    from dpuchain.lab.layout import Layout
    from dpuchain.lab.toolchain import Toolchain


def write_tools(layout: Layout, toolchain: Toolchain, dpus: Sequence[Dpu]) -> None:
    """Link kubectl and helm, and write a command for each DPU, for each host and for the fabric that runs a command there."""
    layout.tools.mkdir()
    for tool in ("kubectl", "helm"):
        (layout.tools / tool).symlink_to(toolchain.path(tool))
    places = {dpu.name: _at_dpu(dpu) for dpu in dpus}
    for name in (*(f"host-{dpu.number}" for dpu in dpus), FABRIC):
        places[name] = _at(name, layout.identity.namespace(name), [])
    for name, script in places.items():
        path = layout.tools / name
        path.write_text(script)
        path.chmod(0o755)


def _at_dpu(dpu: Dpu) -> str:
    settings = [f"export {name}={shlex.quote(value)}" for name, value in dpu.switch.environment.items()]
    # ovs-appctl looks for a socket named after a process id, which is another after each restart.
    control = f'[ "$1" != ovs-appctl ] || {{ shift; set -- ovs-appctl -t {shlex.quote(str(dpu.switch.control))} "$@"; }}'
    return _at(dpu.name, dpu.namespace, [*settings, control])


def _at(name: str, namespace: str, preparation: list[str]) -> str:
    usage = f'[ $# -gt 0 ] || {{ echo "usage: {name} COMMAND [ARGUMENT...]   runs a command on {name}" >&2; exit 2; }}'
    return "\n".join(["#!/bin/sh", usage, *preparation, f'exec nsenter --net=/run/netns/{namespace} "$@"', ""])
