"""The ports of the node's pods, remembered as the CNI made them. Pure but for the memory.

What a pod's port is called and how it is marked, nobody can work out from objects: it follows from the sandbox that the CNI was called
for. So a port that somebody takes away or marks otherwise is put back as it was seen, as long as the agent lives.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace

from dpuchain.agent.ports import CNI_KEYS, made_by_cni
from dpuchain.api.meta import ObjectKey
from dpuchain.chain.ports import DPF_ID
from dpuchain.ovs.changes import AddPort, PortChange, SetInterface
from dpuchain.ovs.rows import PortRow


class PodPorts:
    """Remembers the ports of pods. The names of their devices are never given twice, so a name stands for one attachment."""

    def __init__(self, has_device: Callable[[str], bool]) -> None:
        """`has_device` tells whether the kernel has a device of that name: a port without one is not worth putting back."""
        self._has_device = has_device
        self._known: dict[str, PortRow] = {}
        self._released: set[str] = set()

    def release(self, *names: str) -> None:
        """The CNI itself takes these away: they are not put back."""
        self._released.update(names)
        for name in names:
            self._known.pop(name, None)

    def look(self, rows: Mapping[str, PortRow]) -> None:
        """Remember what is new on the bridge, as far as it is the CNI's word, and the number that each port has."""
        self._released &= rows.keys()
        for name, row in rows.items():
            known = self._known.get(name)
            if known is not None:
                self._known[name] = replace(known, ofport=row.ofport or known.ofport)
            elif name not in self._released and made_by_cni(row) and pod_of(row) is not None:
                self._known[name] = replace(row, external_ids={key: row.external_ids[key] for key in CNI_KEYS & row.external_ids.keys()})

    def repairs(
        self, bridge: str, rows: Mapping[str, PortRow], pods: Collection[ObjectKey]
    ) -> list[tuple[ObjectKey, str, list[PortChange]]]:
        """Pod, name and the changes that put it right, of each port that is gone or marked otherwise. The ports of a pod that is not among
        `pods` any more, or without a device, are forgotten.
        """
        found = []
        for name, before in list(self._known.items()):
            row, pod = rows.get(name), pod_of(before)
            if row is not None and _is_right(row, before):
                continue
            if pod is None or pod not in pods or not self._has_device(name):
                del self._known[name]
                continue
            found.append((pod, name, list(_repair(bridge, row, before))))
        return found


def pod_of(row: PortRow) -> ObjectKey | None:
    """The pod whose port it is, by its mark; None if the mark names none."""
    namespace, _, rest = row.interface_external_ids.get(DPF_ID, "").partition("/")
    name, _, interface = rest.partition("/")
    return ObjectKey(namespace, name) if namespace and name and interface else None


def _is_right(row: PortRow, before: PortRow) -> bool:
    return (
        before.external_ids.items() <= row.external_ids.items()
        and row.interface_external_ids.get(DPF_ID) == before.interface_external_ids[DPF_ID]
    )


def _repair(bridge: str, row: PortRow | None, before: PortRow) -> Iterator[PortChange]:
    mark = before.interface_external_ids[DPF_ID]
    holder = row.interface_external_ids.get(DPF_ID) if row is not None else None
    if holder not in (None, mark):
        yield SetInterface(before.name, {DPF_ID: None}, owner=holder)
    yield AddPort(
        bridge,
        before.name,
        interface_type=before.type if row is None else row.type,
        external_ids=before.external_ids,
        interface_external_ids={DPF_ID: mark},
        ofport_request=before.ofport if row is None and before.ofport is not None and before.ofport > 0 else None,
    )
