"""Ports of pods: what the device of each says of itself, and which changes make the rows be so. Pure.

A pod's port is made once, by the CNI, and nobody calls the CNI again when somebody else takes the port away. So the device itself keeps
whose it is, as its alias in the kernel: that lasts exactly as long as the device, whatever becomes of the agent or of the database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from dpuchain.agent.ports import CONTAINER, INTERFACE, NAMESPACE, NETWORK, made_by_cni
from dpuchain.api.meta import ObjectKey
from dpuchain.chain.ports import CNI_OWNER, DPF_ID, ROUND, pod_dpf_id
from dpuchain.ovs.changes import AddPort, DeletePort, PortChange, SetInterface
from dpuchain.ovs.rows import PortRow

LONGEST_ALIAS = 255
"""Bytes (linux/if.h: IFALIASZ, less the end)."""
_MARK = "dpuchain"


@dataclass(frozen=True)
class Attachment:
    """An interface of a pod in one of the pod's sandboxes. Only the path of the network namespace may hold spaces; it is empty if it is not
    known.
    """

    pod: ObjectKey
    interface: str
    container: str
    network: str
    namespace: str

    @property
    def mark(self) -> str:
        """The dpf-id of its port."""
        return pod_dpf_id(self.pod, self.interface)

    @property
    def external_ids(self) -> dict[str, str]:
        """The external_ids of its port."""
        identity = {CONTAINER: self.container, INTERFACE: self.interface, NETWORK: self.network}
        return {**CNI_OWNER, **ROUND, **identity, **({NAMESPACE: self.namespace} if self.namespace else {})}

    @property
    def alias(self) -> str:
        """What its device says of itself, as far as the kernel has room: without the namespace, which nobody needs to know the port again;
        or nothing, where a pod has a name far longer than controllers give. Then nobody puts its port back.
        """
        words = (_MARK, str(self.pod), self.interface, self.container, self.network, self.namespace)
        texts = " ".join(words), " ".join(words[:-1]), ""
        return next(text for text in texts if len(text.encode()) <= LONGEST_ALIAS)

    @classmethod
    def of_alias(cls, alias: str) -> Attachment | None:
        """The attachment that a device speaks of; None if it speaks of none."""
        words = alias.split(" ", 5)
        if len(words) < 5 or words[0] != _MARK:
            return None
        _, pod, interface, container, network, namespace = (*words, "")[:6]
        owner, slash, name = pod.partition("/")
        return cls(ObjectKey(owner, name), interface, container, network, namespace) if slash else None

    def port(self, bridge: str, device: str) -> AddPort:
        """The change that makes its port, or makes it right."""
        return AddPort(bridge, device, external_ids=self.external_ids, interface_external_ids={DPF_ID: self.mark})


def attachments(aliases: Mapping[str, str]) -> dict[str, Attachment]:
    """By the names of the devices."""
    return {name: attachment for name, alias in aliases.items() if (attachment := Attachment.of_alias(alias)) is not None}


def additions(
    bridge: str, rows: Mapping[str, PortRow], devices: Mapping[str, Attachment], numbers: Mapping[str, int]
) -> dict[str, list[PortChange]]:
    """For each device whose port is not there, or is not marked as it was made, the changes that put it right.

    `numbers` are those that ports had when last seen.
    """
    found: dict[str, list[PortChange]] = {}
    for device, attachment in devices.items():
        row, port = rows.get(device), attachment.port(bridge, device)
        if row is None:
            found[device] = [replace(port, ofport_request=numbers.get(device))]
            continue
        holder = row.interface_external_ids.get(DPF_ID)
        if holder == attachment.mark and attachment.external_ids.items() <= row.external_ids.items():
            continue
        theirs = [SetInterface(device, {DPF_ID: None}, owner=holder)] if holder not in (None, attachment.mark) else []
        found[device] = [*theirs, replace(port, interface_type=row.type)]
    return found


def surplus(bridge: str, rows: Mapping[str, PortRow], has_device: Callable[[str], bool]) -> list[PortChange]:
    """The removal of the ports whose devices are gone, as after a reboot. None comes back: each sandbox gets new names.

    Open vSwitch tells of a device that was not there when it looked for it, and shows one that went later as a link that is down.
    """
    failing = {name: row for name, row in rows.items() if made_by_cni(row) and (row.error or row.link_state == "down")}
    dead = {name: row for name, row in failing.items() if not has_device(name)}
    return [DeletePort(bridge, name, owner=row.interface_external_ids.get(DPF_ID)) for name, row in dead.items()]
