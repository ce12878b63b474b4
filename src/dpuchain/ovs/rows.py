"""What the database says of ports, as values that do not change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from dpuchain.ovs.errors import Invalid

# Rows of the library have no type of their own: their columns are attributes, made from the schema.
Row: TypeAlias = Any

# What is read of each table. Nothing else is asked for, so statistics, which change every few seconds, wake nobody.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "Open_vSwitch": ("bridges", "cur_cfg", "next_cfg", "ovs_version", "external_ids", "other_config"),
    "Bridge": ("name", "ports", "datapath_type", "datapath_id", "fail_mode", "protocols", "external_ids"),
    "Port": ("name", "interfaces", "external_ids"),
    "Interface": (
        "name",
        "type",
        "ofport",
        "ofport_request",
        "external_ids",
        "options",
        "error",
        "link_state",
        "admin_state",
        "mtu",
        "mtu_request",
        "mac_in_use",
    ),
}


@dataclass(frozen=True)
class Absent:
    """The database was read, and this is not in it."""

    what: str


@dataclass(frozen=True)
class BridgeRow:
    """A bridge. `datapath_id` is empty until ovs-vswitchd has made it."""

    name: str
    datapath_type: str
    datapath_id: str
    fail_mode: str
    protocols: frozenset[str]
    external_ids: Mapping[str, str]


@dataclass(frozen=True)
class PortRow:
    """A port with its interface (the first by name, if it is a bond).

    `ofport` is None until ovs-vswitchd has given a number, and -1 where it could not; `error` then says why, and is empty otherwise.
    `link_state` is `up`, `down` or empty if not known. MTUs are in bytes; None stands for "not set".
    """

    name: str
    interface: str
    type: str
    ofport: int | None
    external_ids: Mapping[str, str]
    interface_external_ids: Mapping[str, str]
    error: str
    link_state: str
    admin_state: str
    mtu: int | None
    mtu_request: int | None
    ofport_request: int | None
    options: Mapping[str, str]
    mac: str


def bridge_row(row: Row) -> BridgeRow:
    """The value of a row of table Bridge."""
    return BridgeRow(
        name=row.name,
        datapath_type=row.datapath_type,
        datapath_id=_optional(row.datapath_id) or "",
        fail_mode=_optional(row.fail_mode) or "",
        protocols=frozenset(row.protocols),
        external_ids=MappingProxyType(row.external_ids),
    )


def port_row(row: Row) -> PortRow:
    """The value of a row of table Port. Invalid if it has no interface."""
    interfaces = sorted(row.interfaces, key=lambda interface: str(interface.name))
    if not interfaces:
        message = f"port {row.name} has no interface in the database"
        raise Invalid(message)
    first = interfaces[0]
    return PortRow(
        name=row.name,
        interface=first.name,
        type=first.type,
        ofport=_optional(first.ofport),
        external_ids=MappingProxyType(row.external_ids),
        interface_external_ids=MappingProxyType(first.external_ids),
        error=_optional(first.error) or "",
        link_state=_optional(first.link_state) or "",
        admin_state=_optional(first.admin_state) or "",
        mtu=_optional(first.mtu),
        mtu_request=_optional(first.mtu_request),
        ofport_request=_optional(first.ofport_request),
        options=MappingProxyType(first.options),
        mac=_optional(first.mac_in_use) or "",
    )


def _optional(values: list[Any]) -> Any:  # the type is the column's
    """The value of a column that holds one or none."""
    return values[0] if values else None
