"""How br-sfc and another bridge are patched together: the two ports of a pair and their names, which are DPF's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dpuchain.api.interface import Ovn, ServiceInterface
from dpuchain.api.meta import key_of


@dataclass(frozen=True)
class Peer:
    """The other end of a patch: a port of another bridge."""

    bridge: str
    name: str
    external_ids: Mapping[str, str] = field(default_factory=dict)


def patch_of(interface: ServiceInterface, bridge: str) -> tuple[str, Peer] | None:
    """Name of the port on `bridge`, and its peer, of an interface that is a patch; None for another type."""
    spec = interface.spec
    if spec.interface_type == "ovn":
        other = (spec.ovn or Ovn()).external_bridge
        return f"puplink{_short(bridge)}to{_short(other)}", Peer(other, f"puplink{_short(other)}to{_short(bridge)}")
    if spec.interface_type != "patch" or spec.patch is None:
        return None
    other, name = spec.patch.peer_bridge, spec.patch.peer_patch_name
    if name is not None:
        return f"p_{_short(bridge)}_to_{name}", Peer(other, name, spec.patch.peer_external_ids)
    digest = f"{_fnv32a(str(key_of(interface)).encode()):08x}"
    peer = Peer(other, f"p_{_short(other)}_to_{_short(bridge)}_{digest}", spec.patch.peer_external_ids)
    return f"p_{_short(bridge)}_to_{_short(other)}_{digest}", peer


def _short(bridge: str) -> str:
    return bridge.replace("-", "")


def _fnv32a(data: bytes) -> int:
    """The 32-bit FNV-1a hash (RFC 9923)."""
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value
