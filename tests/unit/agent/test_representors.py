"""What is read of a DPU's devices: sysfs trees made for the purpose, since no BlueField was at hand."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dpuchain.agent.netlink import KernelError
from dpuchain.agent.representors import Devices, read_devices
from dpuchain.chain.representors import NetDevice

ECPF = "devices/pci0000:00/0000:00:00.0/0000:03:00.0"


@pytest.fixture
def add(tmp_path: Path) -> Callable[..., Path]:
    """Return `add(name, behind, files)`: a device of the tree under `tmp_path`, behind a PCI function or something below one."""
    (tmp_path / "class/net").mkdir(parents=True)
    function = tmp_path / ECPF
    function.mkdir(parents=True)
    (function / "vendor").write_text("0x15b3\n")
    (function / "device").write_text("0xa2dc\n")

    def add(name: str, behind: str | None = None, **files: str) -> Path:
        home = tmp_path / (behind or "devices/virtual") / "net" / name
        home.mkdir(parents=True)
        for file, content in files.items():
            (home / file).write_text(f"{content}\n")
        if behind is not None:
            (home / "device").symlink_to(os.path.relpath(tmp_path / behind, home))
        link = tmp_path / "class/net" / name
        link.symlink_to(os.path.relpath(home, link.parent))
        return home

    return add


def test_devices_are_read_with_what_is_behind_them(add: Callable[..., Path], tmp_path: Path) -> None:
    add("pf0vf3", ECPF, phys_switch_id="5c25", phys_port_name="c1pf0vf3")
    add("en3f0pf0sf0", f"{ECPF}/mlx5_core.sf.2", phys_switch_id="5c25", phys_port_name="pf0sf0")
    add("veth1")
    bluefield = ("0000:03:00.0", "0x15b3", "0xa2dc")
    assert read_devices(tmp_path) == (
        NetDevice("en3f0pf0sf0", "5c25", "pf0sf0", *bluefield),
        NetDevice("pf0vf3", "5c25", "c1pf0vf3", *bluefield),
        NetDevice("veth1"),
    )


def test_a_file_that_cannot_be_read_tells_nothing(add: Callable[..., Path], tmp_path: Path) -> None:
    """Drivers that know no switch fail the read (EOPNOTSUPP); a directory in the file's place fails it too."""
    (add("eth0", ECPF) / "phys_switch_id").mkdir()
    (device,) = read_devices(tmp_path)
    assert (device.switch_id, device.port_name, device.vendor) == ("", "", "0x15b3")


def test_a_device_that_vanishes_while_it_is_read(add: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "class/net/gone").symlink_to("../../devices/virtual/net/gone")
    assert read_devices(tmp_path) == (NetDevice("gone"),)


def test_no_sysfs_is_not_taken_for_no_devices(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match=r"list .*class/net: No such file or directory"):
        read_devices(tmp_path)


def test_the_devices_of_this_machine() -> None:
    assert NetDevice("lo") in read_devices(Path("/sys"))


async def test_a_device_that_appears_is_told_of_when_the_kernel_tells(
    add: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, heard, waiting = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Events:
        def __enter__(self) -> Events:
            return self

        def __exit__(self, *_: object) -> None: ...

        async def next(self) -> None:
            waiting.set()
            await heard.wait()
            heard.clear()

    monkeypatch.setattr("dpuchain.agent.representors.LinkEvents", Events)
    devices = Devices(tmp_path)
    devices.subscribe(told.set)
    task = asyncio.create_task(devices.run())
    async with asyncio.timeout(10):
        await waiting.wait()
        waiting.clear()
        heard.set()
        await waiting.wait()
        assert not told.is_set(), "nothing has changed"
        add("pf0vf3")
        heard.set()
        await told.wait()
    assert devices.present == (NetDevice("pf0vf3"),)
    task.cancel()
    await asyncio.wait([task])
