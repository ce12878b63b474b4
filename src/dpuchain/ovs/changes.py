"""Changes to ports, and how each becomes part of a transaction.

A port belongs to who wrote its interface's `dpf-id` first. A change that names another owner is refused, and the transaction carries the
condition that the interface's `external_ids` are still those that were looked at, so that of two who come at once one is refused too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from dpuchain.ovs.errors import Rejected
from dpuchain.ovs.rows import Row

OWNER_KEY = "dpf-id"
PATCH = "patch"


@dataclass(frozen=True)
class AddPort:
    """Make a port with an interface of its name on `bridge`; one that is there already is changed to be as said.

    `interface_type` is OVSDB's, empty for a network device of the system. Of both `external_ids` only the named keys are written. Options
    are written whole; None leaves what is there. Refused: `WrongBridge` if another bridge has the port, `Claimed` if another `dpf-id` has
    it, `WrongType` if a patch would have to become another kind of port, or the other way round.
    """

    bridge: str
    name: str
    interface_type: str = ""
    external_ids: Mapping[str, str] = field(default_factory=dict)
    interface_external_ids: Mapping[str, str] = field(default_factory=dict)
    mtu_request: int | None = None
    ofport_request: int | None = None
    options: Mapping[str, str] | None = None


@dataclass(frozen=True)
class DeletePort:
    """Remove a port from `bridge`; nothing happens if the bridge has none of that name.

    With `owner`, refused as `Claimed` if the port's `dpf-id` is another one.
    """

    bridge: str
    name: str
    owner: str | None = None


@dataclass(frozen=True)
class SetInterface:
    """Change an interface. A key of `external_ids` whose value is None is removed; the others are written, and keys not named stay.

    Refused: `NoInterface` if there is none, `Claimed` if `owner`, or a `dpf-id` to be written, differs from the one that it has.
    """

    name: str
    external_ids: Mapping[str, str | None] = field(default_factory=dict)
    mtu_request: int | None = None
    ofport_request: int | None = None
    owner: str | None = None


PortChange: TypeAlias = AddPort | DeletePort | SetInterface


class Composer:
    """Puts changes into one open transaction of the library. Rows that the transaction makes are seen by the changes after it."""

    def __init__(self, transaction: Any, tables: Any) -> None:  # objects of the library have no type
        self._transaction = transaction
        self._tables = tables
        self._by_name = {name: {row.name: row for row in tables[name].rows.values()} for name in ("Bridge", "Port", "Interface")}

    def compose(self, change: PortChange) -> None:
        """Add one change. Rejected if it must not be made."""
        match change:
            case AddPort():
                self._add_port(change)
            case DeletePort():
                self._delete_port(change)
            case SetInterface():
                self._set_interface(change)

    def _add_port(self, change: AddPort) -> None:
        bridge = self._by_name["Bridge"].get(change.bridge)
        if bridge is None:
            message = f"failed to get bridge {change.bridge}: it does not exist, so port {change.name} cannot be added to it; create it"
            raise Rejected("NoBridge", message)
        port = self._by_name["Port"].get(change.name)
        if port is None:
            port, interface = self._insert(bridge, change)
        else:
            interface = self._existing(bridge, port, change)
        _merge(port, change.external_ids)
        _merge(interface, change.interface_external_ids)
        _set(interface, "type", change.interface_type)
        if change.options is not None:
            _set(interface, "options", dict(change.options))
        _request(interface, change.mtu_request, change.ofport_request)

    def _insert(self, bridge: Row, change: AddPort) -> tuple[Row, Row]:
        interface = self._transaction.insert(self._tables["Interface"])
        interface.name = change.name
        interface.type = change.interface_type
        interface.external_ids = {}
        interface.options = {}
        port = self._transaction.insert(self._tables["Port"])
        port.name = change.name
        port.external_ids = {}
        port.interfaces = [interface]
        bridge.addvalue("ports", port)
        self._by_name["Interface"][change.name] = interface
        self._by_name["Port"][change.name] = port
        return port, interface

    def _existing(self, bridge: Row, port: Row, change: AddPort) -> Row:
        if port not in bridge.ports:
            message = f"port {change.name} already exists on a bridge other than {change.bridge}"
            raise Rejected("WrongBridge", message)
        interface = self._interface_of(port)
        if interface.type != change.interface_type and PATCH in (interface.type, change.interface_type):
            message = f"port {change.name} of bridge {change.bridge} is there already, of type {interface.type or 'system'}; remove it"
            raise Rejected("WrongType", message)
        _check_owner(interface, change.interface_external_ids.get(OWNER_KEY))
        return interface

    def _interface_of(self, port: Row) -> Row:
        return next((interface for interface in port.interfaces if interface.name == port.name), port.interfaces[0])

    def _delete_port(self, change: DeletePort) -> None:
        bridge, port = self._by_name["Bridge"].get(change.bridge), self._by_name["Port"].get(change.name)
        if bridge is None or port is None or port not in bridge.ports:
            return
        _check_owner(self._interface_of(port), change.owner)
        bridge.delvalue("ports", port)
        # Rows that no bridge refers to are deleted by the database itself.
        del self._by_name["Port"][change.name]

    def _set_interface(self, change: SetInterface) -> None:
        interface = self._by_name["Interface"].get(change.name)
        if interface is None:
            message = f"interface {change.name} does not exist"
            raise Rejected("NoInterface", message)
        _check_owner(interface, change.owner)
        _check_owner(interface, change.external_ids.get(OWNER_KEY))
        _merge(interface, change.external_ids)
        _request(interface, change.mtu_request, change.ofport_request)


def _check_owner(interface: Row, owner: str | None) -> None:
    if owner is None:
        return
    holder = interface.external_ids.get(OWNER_KEY)
    if holder not in (None, owner):
        message = f"port {interface.name} belongs to {holder}; {owner} cannot have it as long as {holder} exists"
        raise Rejected("Claimed", message)
    _verify(interface, "external_ids")


def _verify(row: Row, column: str) -> None:
    if row._data is not None:  # noqa: SLF001  # how the library itself tells a row that this transaction makes, which it cannot verify
        row.verify(column)


def _merge(row: Row, changes: Mapping[str, str | None]) -> None:
    merged = {key: value for key, value in {**row.external_ids, **changes}.items() if value is not None}
    if merged != row.external_ids:
        _verify(row, "external_ids")
        _write(row, "external_ids", merged)


def _set(row: Row, column: str, value: object) -> None:
    if getattr(row, column, None) != value:
        _write(row, column, value)


def _request(interface: Row, mtu: int | None, number: int | None) -> None:
    for column, value in (("mtu_request", mtu), ("ofport_request", number)):
        if value is not None:
            _set(interface, column, [value])


def _write(row: Row, column: str, value: object) -> None:
    setattr(row, column, value)
    # The library logs and drops a value that the schema does not allow.
    if getattr(row, column, None) != value:
        message = f"{row.name}: {column} cannot be {value}; the database's schema does not allow it"
        raise Rejected("constraint violation", message)
