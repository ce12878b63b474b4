"""Between OVSDB and the core: what a port's row says, and which changes make the rows what is wanted. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Literal, TypeAlias

from dpuchain.chain.ports import CNI_OWNER, DPF_ID, DPF_TYPE, ROUND, ObservedPort, WantedPort
from dpuchain.ovs.changes import AddPort, DeletePort, PortChange, SetInterface
from dpuchain.ovs.rows import Absent, BridgeRow, PortRow

PortType: TypeAlias = Literal["auto", "system", "dpdk"]
AUTO: PortType = "auto"
STATES = {"up": True, "down": False}
DPDK_STARTERS = ("dpdk-init", "doca-init")
"""Keys in the `other_config` of Open vSwitch that start DPDK."""
# Keys in the external_ids of a pod's port, by which the CNI's DEL, CHECK and GC know it again.
CONTAINER, INTERFACE, NAMESPACE, NETWORK = "contID", "contIface", "contNetns", "contNetwork"
CNI_KEYS = frozenset({CONTAINER, INTERFACE, NAMESPACE, NETWORK, *CNI_OWNER, *ROUND})
"""All that the CNI writes into the external_ids of a pod's port."""
OUR_TYPES = ("physical", "pf", "vf")
"""Values of `dpf-type` on ports that an agent (ours, or DPF's) made for a ServiceInterface."""


def observed(row: PortRow) -> ObservedPort:
    """What the core looks at of a port."""
    return ObservedPort(
        name=row.name,
        ofport=row.ofport if row.ofport is not None and row.ofport > 0 else None,
        dpf_id=row.interface_external_ids.get(DPF_ID),
        error=row.error or None,
        link_up=STATES.get(row.link_state),
        mtu=row.mtu,
        set_up=STATES.get(row.admin_state),
    )


def by_mark(rows: Iterable[PortRow]) -> dict[str, ObservedPort]:
    """Ports by their dpf-id; of two with the same one (a pod's sandbox that was made anew) the one with a number."""
    found: dict[str, ObservedPort] = {}
    for port in sorted((observed(row) for row in rows), key=lambda port: (port.ofport is not None, port.name)):
        if port.dpf_id is not None:
            found[port.dpf_id] = port
    return found


def made_by_cni(row: PortRow) -> bool:
    """Whether the port belongs to a pod."""
    return CNI_OWNER.items() <= row.external_ids.items()


def claimable(rows: Mapping[str, PortRow]) -> dict[str, ObservedPort]:
    """The ports that a ServiceInterface may own: all but those of pods."""
    return {name: observed(row) for name, row in rows.items() if not made_by_cni(row)}


def numbers(rows: Mapping[str, PortRow]) -> dict[str, int]:
    """The number that each port has."""
    return {name: row.ofport for name, row in rows.items() if row.ofport is not None and row.ofport > 0}


def completed(rows: Mapping[str, PortRow], numbers: Mapping[str, int]) -> dict[str, PortRow]:
    """The rows, with the number that a port had when last seen, or is to have, where the database has none and nobody else has it.

    Numbers are not kept on disk: after a restart of ovsdb-server a port has none until ovs-vswitchd, which forwards by it all the while,
    has said it again. To take that for a port without number would stop what goes on.
    """
    taken = {row.ofport for row in rows.values() if row.ofport is not None}
    result = dict(rows)
    for name, row in rows.items():
        number = numbers.get(name, row.ofport_request)
        if row.ofport is None and not row.error and number is not None and number not in taken:
            result[name] = replace(row, ofport=number)
            taken.add(number)
    return result


def pins(rows: Mapping[str, PortRow]) -> list[PortChange]:
    """The requests that keep the numbers of ports which are ours: one that is taken away and made again has the number that flows name."""
    ours = {name: row for name, row in rows.items() if DPF_ID in row.interface_external_ids}
    return [SetInterface(name, ofport_request=number) for name, number in numbers(ours).items() if ours[name].ofport_request is None]


def device_type(forced: PortType, bridge: BridgeRow | Absent, settings: Mapping[str, str]) -> str:
    """OVSDB's type for a network device: `system`, which it writes as nothing, or `dpdk`.

    Unless forced it is dpdk where Open vSwitch was told to start DPDK, or DOCA, which has it inside, and the bridge is on the userspace
    datapath.
    """
    if forced != AUTO:
        return "" if forced == "system" else forced
    userspace = isinstance(bridge, BridgeRow) and bridge.datapath_type == "netdev"
    return "dpdk" if userspace and any(settings.get(key) in ("true", "try") for key in DPDK_STARTERS) else ""


def additions(
    bridge: str, rows: Mapping[str, PortRow], wanted: Mapping[str, WantedPort], numbers: Mapping[str, int], new_type: str = ""
) -> list[tuple[WantedPort, list[PortChange]]]:
    """The changes that each wanted port needs which is not there as it should be, patches aside (see `agent.patches`).

    `numbers` are those that ports had when last seen, `new_type` is the type of a port that is made.

    A port that is there keeps its type. One whose mark names an owner that no longer wants it (`chain.ports.assign` has decided that) is
    given over without being removed, so that frames go on.
    """
    found: list[tuple[WantedPort, list[PortChange]]] = []
    for name, port in wanted.items():
        row = rows.get(name)
        if port.peer is not None:
            continue
        if row is not None and _is_right(row, port):
            continue
        changes: list[PortChange] = []
        holder = row.interface_external_ids.get(DPF_ID) if row is not None else None
        if row is not None and holder not in (None, port.dpf_id) and not made_by_cni(row):
            changes.append(SetInterface(name, {DPF_ID: None}, owner=holder))
        changes.append(
            AddPort(
                bridge,
                name,
                interface_type=row.type if row is not None else new_type,
                external_ids=port.external_ids,
                interface_external_ids={DPF_ID: port.dpf_id},
                mtu_request=port.mtu_request,
                ofport_request=None if row is not None else numbers.get(name),
            )
        )
        found.append((port, changes))
    return found


def _is_right(row: PortRow, port: WantedPort) -> bool:
    return (
        row.interface_external_ids.get(DPF_ID) == port.dpf_id
        and port.external_ids.items() <= row.external_ids.items()
        and (port.mtu_request is None or row.mtu_request == port.mtu_request)
    )


def surplus(
    bridge: str, rows: Mapping[str, PortRow], wanted: Mapping[str, WantedPort], left_behind: Collection[str] = ()
) -> list[PortChange]:
    """What is to be done to ports that were made for a ServiceInterface and that none wants any more, patches aside.

    They are deleted; those whose mark is one of `left_behind` stay, and are nobody's from then on.
    """
    found: list[PortChange] = []
    for name, row in rows.items():
        owner = row.interface_external_ids.get(DPF_ID)
        if name in wanted or row.external_ids.get(DPF_TYPE) not in OUR_TYPES or owner is None:
            continue
        found.append(SetInterface(name, {DPF_ID: None}, owner=owner) if owner in left_behind else DeletePort(bridge, name, owner=owner))
    return found
