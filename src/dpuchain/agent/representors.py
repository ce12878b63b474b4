"""The DPU's network devices as sysfs shows them, read again whenever the kernel tells of a change."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

from dpuchain.agent.netlink import KernelError, LinkEvents
from dpuchain.chain.representors import NetDevice

_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


def read_devices(root: Path) -> tuple[NetDevice, ...]:
    """The devices under `root`, which is /sys on a DPU, by name. KernelError if they cannot be listed.

    One whose name is not text is left out: neither an object nor Open vSwitch's database could name it.
    """
    try:
        names = sorted(entry.name for entry in (root / "class/net").iterdir() if _is_text(entry.name))
    except OSError as error:
        raise KernelError(f"list {root / 'class/net'}: {error.strerror}") from error
    return tuple(_device(root / "class/net" / name) for name in names)


def _is_text(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _device(path: Path) -> NetDevice:
    """One device. What its driver does not tell, or no longer tells because the device is going, is empty."""
    function = _function(path / "device")
    return NetDevice(
        name=path.name,
        switch_id=_text(path / "phys_switch_id"),
        port_name=_text(path / "phys_port_name"),
        address=function.name if function else "",
        vendor=_text(function / "vendor") if function else "",
        device=_text(function / "device") if function else "",
    )


def _function(link: Path) -> Path | None:
    """Directory of the PCI function behind a device; a subfunction's is some levels up."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # a loop is the latter before Python 3.13
        return None
    return next((path for path in (target, *target.parents) if _PCI_ADDRESS.fullmatch(path.name)), None)


def _text(path: Path) -> str:
    """Content of a file of sysfs. Reading one that the driver does not support fails, and that depends on driver and kernel how.

    What is not text in it is replaced: it equals nothing that is looked for.
    """
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


class Devices:
    """The devices as they were when last read. `run` reads them again after each event until cancelled."""

    def __init__(self, root: Path) -> None:
        """KernelError if they cannot be listed."""
        self._root = root
        self._callbacks: list[Callable[[], None]] = []
        self.present = read_devices(root)

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each change."""
        self._callbacks.append(callback)

    async def run(self) -> None:
        """Follow the kernel's events. One that comes while the devices are being read has them read again."""
        with LinkEvents() as events:
            while True:
                present = await asyncio.to_thread(read_devices, self._root)
                if present != self.present:
                    self.present = present
                    for callback in self._callbacks:
                        callback()
                await events.next()
