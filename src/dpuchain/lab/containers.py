"""The containers of a DPU. They outlive the runtime that has started them, and are found by the bundles that it keeps on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpuchain.lab.cgroups import ControlGroup

if TYPE_CHECKING:
    from pathlib import Path

NAMESPACE = "k8s.io"
"""containerd's name for what belongs to Kubernetes; a container without a parent group is in a group of this name, under its id."""


def state(dpu: Path) -> Path:
    """Where the container runtime of the DPU in a directory keeps what a reboot ends."""
    return dpu / "containerd" / "state"


def end(dpu: Path) -> None:
    """Kill the containers of the DPU in a directory and remove their control groups. Its containerd and the shims must have ended."""
    bundles = state(dpu) / "io.containerd.runtime.v2.task" / NAMESPACE
    for bundle in bundles.glob("*"):
        group = ControlGroup(f"{NAMESPACE}/{bundle.name}")
        group.kill()
        group.remove()
