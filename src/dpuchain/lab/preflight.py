"""What this machine must have before a rack can be raised, each said in one line with its remedy."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from dpuchain.lab.cgroups import ControlGroup
from dpuchain.lab.errors import LabError
from dpuchain.lab.images import BUSYBOX
from dpuchain.lab.machine import DEBIAN_PLUGINS
from dpuchain.lab.toolchain import cache_directory

if TYPE_CHECKING:
    from dpuchain.lab.layout import Layout, Shape
    from dpuchain.lab.toolchain import Toolchain

PACKAGES = {
    "ovs-vswitchd": "openvswitch-switch",
    "containerd": "containerd",
    "runc": "runc",
    str(BUSYBOX): "busybox-static",
    "ethtool": "ethtool",
    "ip": "iproute2",
    "iptables": "iptables",
    str(DEBIAN_PLUGINS / "bridge"): "containernetworking-plugins",
    "nsenter": "util-linux",
    "ps": "procps",
}
"""Debian's package of each program that a rack needs; their full list is in tools/packages.sh."""
GIGABYTE = 1 << 30
RACK_SPACE = 1
BUILD_SPACE = 6
"""Gigabytes that the build of the control plane needs, with the build cache of Go."""


def check_machine(layout: Layout, shape: Shape) -> None:
    """Raise `LabError` for the first thing that a rack of this shape would lack on this machine."""
    if os.geteuid() != 0:
        raise LabError("a rack needs root: it makes network namespaces and containers", "run the same command as root")
    if shape.clusters > shape.dpus:
        raise LabError(f"{shape.clusters} clusters cannot each have one of {shape.dpus} DPUs", "ask for no more clusters than DPUs")
    missing = [package for program, package in PACKAGES.items() if not shutil.which(program)]
    if missing:
        raise LabError(f"missing Debian packages: {' '.join(missing)}", f"apt-get install {' '.join(missing)}")
    ControlGroup.probe()
    _check_space(layout.directory, RACK_SPACE, "a rack")


async def check_build(toolchain: Toolchain, *tools: str) -> None:
    """Raise `LabError` if tools must be built first and there is no room to do so."""
    unbuilt = await toolchain.unbuilt(*tools)
    if unbuilt:
        _check_space(cache_directory(), BUILD_SPACE, f"building {', '.join(unbuilt)}")


def _check_space(directory: Path, gigabytes: int, purpose: str) -> None:
    there = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < gigabytes * GIGABYTE:
        raise LabError(f"{purpose} needs {gigabytes} GB below {there}, and {free / GIGABYTE:.1f} GB are free", "make room there")
