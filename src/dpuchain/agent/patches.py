"""Patches in OVSDB: what makes a pair of ports whole, and what removes one. Pure.

Both ends are made, mended and removed in one transaction, so there is never one of them alone by our doing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TypeAlias

from dpuchain.chain.patches import Peer
from dpuchain.chain.ports import DPF_ID, DPF_TYPE, WantedPort
from dpuchain.ovs.changes import PATCH, AddPort, DeletePort, PortChange, SetInterface
from dpuchain.ovs.rows import PortRow

PATCH_TYPES = ("patch", "ovn")
"""Values of `dpf-type` on both ends of a patch that an agent made for a ServiceInterface."""

Bridges: TypeAlias = Mapping[str, Mapping[str, PortRow]]


def additions(
    bridge: str, bridges: Bridges, wanted: Mapping[str, WantedPort], numbers: Mapping[str, int]
) -> list[tuple[WantedPort, list[PortChange]]]:
    """The changes that each wanted patch needs whose two ends are not as they should be; `numbers` are those that ports had when last
    seen.
    """
    found: list[tuple[WantedPort, list[PortChange]]] = []
    owners = {port.dpf_id for port in wanted.values()}
    for name, port in wanted.items():
        if port.peer is None or _is_right(port, port.peer, bridges[bridge].get(name), bridges.get(port.peer.bridge, {})):
            continue
        number = None if name in bridges[bridge] else numbers.get(name)
        found.append((port, [*_releases(port, port.peer, bridge, bridges, owners), *_ends(bridge, port, port.peer, number)]))
    return found


def _ends(bridge: str, port: WantedPort, peer: Peer, number: int | None) -> Iterator[PortChange]:
    """The peer comes first, so that a bridge that is not there is what the refusal is about."""
    mark = {DPF_ID: port.dpf_id}
    theirs = {**peer.external_ids, **mark}
    yield AddPort(peer.bridge, peer.name, PATCH, port.external_ids, theirs, options={"peer": port.name})
    yield AddPort(bridge, port.name, PATCH, port.external_ids, mark, ofport_request=number, options={"peer": peer.name})


def _releases(port: WantedPort, peer: Peer, bridge: str, bridges: Bridges, owners: Collection[str]) -> Iterator[PortChange]:
    """What somebody who is no owner any more has left at the places of the two ends; and the peer on a bridge that it was on before."""
    for place, rows in bridges.items():
        for name in (port.name, peer.name):
            row = rows.get(name)
            if row is None or row.external_ids.get(DPF_TYPE) not in PATCH_TYPES:
                continue
            holder = row.interface_external_ids.get(DPF_ID)
            if holder in owners and holder != port.dpf_id:
                continue
            if place != (bridge if name == port.name else peer.bridge):
                yield DeletePort(place, name, owner=holder)
            elif holder not in (None, port.dpf_id):
                yield SetInterface(name, {DPF_ID: None}, owner=holder)


def _is_right(port: WantedPort, peer: Peer, here: PortRow | None, there: Mapping[str, PortRow]) -> bool:
    other = there.get(peer.name)
    if here is None or other is None:
        return False
    return (
        _is_end(here, port, {}) and _is_end(other, port, peer.external_ids) and (_peer_of(here), _peer_of(other)) == (peer.name, port.name)
    )


def _is_end(row: PortRow, port: WantedPort, external_ids: Mapping[str, str]) -> bool:
    return (
        row.type == PATCH
        and port.external_ids.items() <= row.external_ids.items()
        and {**external_ids, DPF_ID: port.dpf_id}.items() <= row.interface_external_ids.items()
    )


def _peer_of(row: PortRow) -> str | None:
    return row.options.get("peer")


def surplus(bridge: str, bridges: Bridges, wanted: Mapping[str, WantedPort]) -> list[PortChange]:
    """The deletions of ends, on any bridge, that were made for a ServiceInterface and that none wants any more."""
    places = {(bridge, name) for name in wanted} | {(port.peer.bridge, port.peer.name) for port in wanted.values() if port.peer is not None}
    return [DeletePort(place, name, owner=mark) for place, name, mark in _marked(bridges) if (place, name) not in places]


def marks(bridges: Bridges) -> set[str]:
    """Marks of the interfaces of which an end is left on any bridge."""
    return {mark for _, _, mark in _marked(bridges)}


def _marked(bridges: Bridges) -> Iterator[tuple[str, str, str]]:
    for place, rows in bridges.items():
        for name, row in rows.items():
            mark = row.interface_external_ids.get(DPF_ID)
            if mark is not None and row.external_ids.get(DPF_TYPE) in PATCH_TYPES:
                yield place, name, mark
