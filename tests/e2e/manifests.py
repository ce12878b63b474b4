"""Manifests of the tests on a rack, as values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.e2e.conftest import Rack

API = "svc.dpu.nvidia.com/v1alpha1"
NAMESPACE = "dpf-operator-system"
ON_FIRST = {"nodeSelector": {"matchLabels": {"kubernetes.io/hostname": "dpu-1"}}}


def interface(name: str, spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A DPUServiceInterface with the label `port`; `more` is of its set."""
    template = {"metadata": {"labels": {"port": name}}, "spec": spec}
    return _object("DPUServiceInterface", name, {"template": {"spec": {"template": template, **more}}})


def chain(name: str, *switches: tuple[str, ...], **more: Any) -> dict[str, Any]:
    """A DPUServiceChain of switches of interfaces by name; `more` is of its set."""
    described = [{"ports": [{"serviceInterface": {"matchLabels": {"port": port}}} for port in switch]} for switch in switches]
    return _object("DPUServiceChain", name, {"template": {"spec": {"template": {"spec": {"switches": described}}, **more}}})


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


def apply(rack: Rack, *objects: dict[str, Any]) -> None:
    """Apply objects in the host cluster."""
    path = rack.directory / "manifests.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    rack.ok("host", "apply", "--filename", str(path))
