"""Which network device of a DPU stands for a function of its host."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dpuchain.api.interface import NicSelector

MELLANOX = "0x15b3"
BLUEFIELD = frozenset({"0xa2d6", "0xa2dc", "0xa2df"})
"""PCI device IDs of the network controllers of BlueField-2, -3 and -4 (pci.ids)."""
HOST_CONTROLLER = 1
_OF_CONTROLLER = re.compile(r"c\d+pf\d+")


@dataclass(frozen=True)
class NetDevice:
    """A network device as sysfs shows it: what is empty, sysfs does not tell.

    `switch_id` is the same for all ports of one NIC's embedded switch, `port_name` says which port of it the device is; `address`,
    `vendor` and `device` are those of the PCI function behind it.
    """

    name: str
    switch_id: str = ""
    port_name: str = ""
    address: str = ""
    vendor: str = ""
    device: str = ""


@dataclass(frozen=True)
class Function:
    """A function of the host that an interface asks for; a physical one if `vf` is None."""

    pf: int
    vf: int | None
    selector: NicSelector | None

    def __str__(self) -> str:
        virtual = "" if self.vf is None else f", VF {self.vf}"
        return f"PF {self.pf}{virtual} of controller {self.controller}"

    @property
    def controller(self) -> int:
        """Where the function is: 0 on the DPU itself, from 1 on its hosts."""
        given = self.selector.controller_number if self.selector else None
        return HOST_CONTROLLER if given is None else given

    @property
    def address(self) -> str | None:
        """Domain, bus and device of the NIC that is asked for; None for the DPU's own."""
        if self.selector is None or self.selector.type != "pci" or self.selector.pci is None:
            return None
        return self.selector.pci.address.rpartition(".")[0]

    @property
    def udev_name(self) -> str | None:
        """What BlueField's udev rules call the representor; they name those of the first host on the DPU's own NIC alone."""
        if self.controller != HOST_CONTROLLER or self.address is not None:
            return None
        return f"pf{self.pf}hpf" if self.vf is None else f"pf{self.pf}vf{self.vf}"

    def port_names(self, *, controllers_named: bool) -> tuple[str, ...]:
        """What the kernel may call the port. Before it named controllers, a host's function looked like one of the DPU's."""
        plain = f"pf{self.pf}" if self.vf is None else f"pf{self.pf}vf{self.vf}"
        local = (plain, f"{plain}hpf") if self.vf is None else (plain,)
        if self.controller == 0:
            return local
        return (f"c{self.controller}{plain}",) if controllers_named or self.controller > HOST_CONTROLLER else (f"c1{plain}", *local)


class NoRepresentorError(Exception):
    """No device stands for the function, or several do; the message says what was looked for, and where."""


def representor(function: Function, devices: Sequence[NetDevice]) -> str:
    """Name of the device that stands for `function`.

    It is the one that sysfs tells to be that port of the selected NIC. Where the NIC tells nothing of its ports, it is the one with the
    name that BlueField's udev rules give, be it there yet or not. NoRepresentorError if there is none, or more than one.
    """
    nic = [device for device in _of_nic(function, devices) if device.port_name]
    named = any(_OF_CONTROLLER.match(device.port_name) for device in nic)
    wanted = function.port_names(controllers_named=named)
    found = sorted(device.name for device in nic if device.port_name in wanted)
    where = "the DPU's NIC" if function.address is None else f"NIC {function.address}"
    if len(found) > 1:
        raise NoRepresentorError(f"multiple representors found for {function} on {where}: {', '.join(found)}; set nicSelector to choose")
    if found:
        return found[0]
    name = function.udev_name
    if name is not None and (not nic or any(device.name == name for device in devices)):
        return name
    called = f", and none is called {name}" if name is not None else ""
    raise NoRepresentorError(
        f"no representor found for {function} on {where}: no device has phys_port_name {' or '.join(wanted)}{called}; make the function "
        f"on the host, or correct the numbers"
    )


def _of_nic(function: Function, devices: Sequence[NetDevice]) -> Iterable[NetDevice]:
    """The ports of the selected NIC: those whose embedded switch has a port with the right PCI function behind it."""
    switches = {device.switch_id for device in devices if device.switch_id and _is_behind(function, device)}
    return (device for device in devices if device.switch_id in switches)


def _is_behind(function: Function, device: NetDevice) -> bool:
    if function.address is not None:
        return device.address.rpartition(".")[0] == function.address
    return device.vendor == MELLANOX and device.device in BLUEFIELD
