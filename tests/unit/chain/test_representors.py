"""Which device stands for a function of the host, among made-up devices: no BlueField was at hand."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dpuchain.api.interface import NicSelector
from dpuchain.chain.representors import Function, NetDevice, NoRepresentorError, representor

FIRST, SECOND = "0000:03:00.0", "0000:03:00.1"


def port(name: str, port_name: str, switch: str = "a", address: str = FIRST, device: str = "0xa2dc") -> NetDevice:
    return NetDevice(name, switch, port_name, address, "0x15b3", device)


def selector(**about: Any) -> NicSelector:
    return msgspec.convert({"type": "dpu"} | about, NicSelector)


def pci(address: str, **about: Any) -> NicSelector:
    return selector(type="pci", pci={"address": address}, **about)


# What a BlueField-3 with two ports shows: an embedded switch for each, the host's functions behind controller 1.
BLUEFIELD = (
    port("p0", "p0"),
    port("p1", "p1", "b", SECOND),
    port("pf0hpf", "c1pf0"),
    port("pf1hpf", "c1pf1", "b", SECOND),
    port("eth7", "c1pf0vf3"),
    port("pf0vf4", "c1pf0vf4"),
    port("eth9", "c2pf0vf3"),
    port("en3f0pf0sf0", "pf0sf0"),
    port("local", "pf0vf3"),
    NetDevice("oob_net0", address="0000:0c:00.0", vendor="0x15b3", device="0xffff"),
    NetDevice("veth1"),
)
CARD = (port("card_p0", "p0", "z", "0000:81:00.0", "0x1021"), port("card_vf", "pf0vf3", "z", "0000:81:00.0", "0x1021"))


@pytest.mark.parametrize(
    ("pf", "vf", "chosen", "name"),
    [
        (0, None, None, "pf0hpf"),
        (1, None, None, "pf1hpf"),
        (0, 3, None, "eth7"),
        (0, 4, None, "pf0vf4"),
        (0, 3, selector(), "eth7"),
        (0, 3, selector(controllerNumber=1), "eth7"),
        (0, 3, selector(controllerNumber=2), "eth9"),
        (0, 3, selector(controllerNumber=0), "local"),
        (0, 3, pci("0000:03:00.1"), "eth7"),
        (1, None, pci(FIRST), "pf1hpf"),
        (0, 3, pci("0000:81:00.0"), "card_vf"),
    ],
)
def test_the_port_of_the_selected_nic_is_found(pf: int, vf: int | None, chosen: NicSelector | None, name: str) -> None:
    assert representor(Function(pf, vf, chosen), (*CARD, *BLUEFIELD)) == name


@pytest.mark.parametrize(("vf", "port_name"), [(None, "pf0"), (None, "pf0hpf"), (3, "pf0vf3")])
def test_kernels_that_do_not_name_controllers(vf: int | None, port_name: str) -> None:
    assert representor(Function(0, vf, None), (port("p0", "p0"), port("some", port_name))) == "some"


@pytest.mark.parametrize(("pf", "vf", "name"), [(0, None, "pf0hpf"), (1, 12, "pf1vf12")])
def test_where_nothing_is_told_of_the_nic_the_names_of_udev_hold(pf: int, vf: int | None, name: str) -> None:
    for devices in ((), CARD, (NetDevice("p0", vendor="0x15b3", device="0xa2dc"),)):
        assert representor(Function(pf, vf, None), devices) == name


def test_a_device_with_the_name_of_udev_is_taken_though_it_tells_nothing() -> None:
    assert representor(Function(0, 5, None), (*BLUEFIELD, NetDevice("pf0vf5"))) == "pf0vf5"


def test_several_are_listed() -> None:
    other = port("twin", "c1pf0vf3", "y", "0000:04:00.0")
    words = r"multiple representors found for PF 0, VF 3 of controller 1 on the DPU's NIC: eth7, twin; set nicSelector to choose"
    with pytest.raises(NoRepresentorError, match=words):
        representor(Function(0, 3, None), (*BLUEFIELD, other))
    assert representor(Function(0, 3, pci(FIRST)), (*BLUEFIELD, other)) == "eth7"


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            Function(0, 9, None),
            (
                "no representor found for PF 0, VF 9 of controller 1 on the DPU's NIC: no device has phys_port_name c1pf0vf9, and none is "
                "called pf0vf9"
            ),
        ),
        (
            Function(2, None, selector(controllerNumber=3)),
            "PF 2 of controller 3 on the DPU's NIC: no device has phys_port_name c3pf2; make",
        ),
        (Function(0, None, selector(controllerNumber=0)), "no device has phys_port_name pf0 or pf0hpf; make the function on the host"),
        (Function(0, 3, pci("0000:99:00.0")), "PF 0, VF 3 of controller 1 on NIC 0000:99:00: no device has phys_port_name"),
    ],
)
def test_none_says_what_was_looked_for_and_where(function: Function, words: str) -> None:
    with pytest.raises(NoRepresentorError) as caught:
        representor(function, BLUEFIELD)
    assert words in str(caught.value)
