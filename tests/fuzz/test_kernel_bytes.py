"""Invariant: whatever the kernel answers about network devices, by netlink or in sysfs, reading it ends with values that can be written
into an object and compared, or with a `KernelError`; nothing else.
"""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from dpuchain.agent.netlink import KernelError, Link, alias_in, link_in
from dpuchain.agent.pods import LONGEST_ALIAS, Attachment, attachments
from dpuchain.agent.representors import read_devices
from dpuchain.api.interface import NicSelector
from dpuchain.api.meta import ObjectKey
from dpuchain.chain.representors import Function, NoRepresentorError, representor

HEADER = struct.Struct("=IHHII")  # length, type, flags, number, port (linux/netlink.h)
DEVICE = struct.Struct("=BBHiII")  # family, padding, type, index, flags, change (linux/rtnetlink.h: ifinfomsg)
ATTRIBUTE = struct.Struct("=HH")
GET_LINK, NEW_LINK = 18, 16
IFNAME, MTU, ADDRESS, IFALIAS = 3, 4, 1, 20


@pytest.fixture(scope="module")
def loopback() -> bytes:
    """What the kernel says of the loopback device."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.bind((0, 0))
        kernel.send(HEADER.pack(HEADER.size + DEVICE.size, GET_LINK, 1, 1, 0) + DEVICE.pack(0, 0, 0, 1, 0, 0))
        return kernel.recv(65536)


def read(data: bytes) -> list[Link]:
    """The devices in an answer, as the agent reads them; the library takes the answer apart, and drops what it cannot."""
    found = []
    for message in MarshalRtnl().parse(data):
        if message["header"]["type"] != NEW_LINK:
            continue
        msgspec.json.encode(alias_in(message))
        Attachment.of_alias(alias_in(message))
        with suppress(KernelError):
            found.append(link_in(message))
    for link in found:
        assert isinstance(link.mtu, int)
        msgspec.json.encode([link.name, link.mac])
    return found


def answer(*attributes: tuple[int, bytes], flags: int = 0x10003) -> bytes:
    body = DEVICE.pack(0, 0, 1, 7, flags, 0)
    for kind, value in attributes:
        body += (ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value).ljust((ATTRIBUTE.size + len(value) + 3) & ~3, b"\0")
    return HEADER.pack(HEADER.size + len(body), NEW_LINK, 0, 1, 0) + body


def test_the_answer_that_is_changed_is_a_good_one(loopback: bytes) -> None:
    (link,) = read(loopback)
    assert (link.name, link.mac, link.up) == ("lo", "00:00:00:00:00:00", True)
    assert read(answer((IFNAME, b"eth0\0"), (ADDRESS, bytes(6)), (MTU, struct.pack("=I", 1500)))) == [
        Link("eth0", "00:00:00:00:00:00", 1500, up=True, carrier=True)
    ]


@given(st.lists(st.tuples(st.integers(HEADER.size, 1400), st.integers(0, 255)), min_size=1, max_size=6))
def test_an_answer_with_changed_bytes(loopback: bytes, changes: list[tuple[int, int]]) -> None:
    data = bytearray(loopback)
    for position, value in changes:
        data[HEADER.size + position % (len(data) - HEADER.size)] = value
    read(bytes(data))


ATTRIBUTES = st.tuples(st.sampled_from([IFNAME, MTU, ADDRESS, IFALIAS, 18, 99]), st.binary(max_size=40))


@given(st.lists(ATTRIBUTES, max_size=6), st.integers(0, 2**32 - 1))
@example([(IFNAME, b"\xff\xfe\0"), (ADDRESS, bytes(6)), (MTU, bytes(4)), (IFALIAS, b"dpuchain \xff")], 0)
@example([(IFNAME, b""), (MTU, b""), (ADDRESS, b"")], 0)
def test_an_answer_of_any_attributes(attributes: list[tuple[int, bytes]], flags: int) -> None:
    read(answer(*attributes, flags=flags))


@given(
    st.text(max_size=40) | st.lists(st.sampled_from(["dpuchain", "ns/pod", "eth1", "c", "net", "/run/netns/a b", "", "/"])).map(" ".join)
)
def test_an_alias_of_anything(alias: str) -> None:
    """It is of nobody, or of an attachment; and one that we wrote is that of which it was written."""
    attachment = Attachment.of_alias(alias)
    assert attachment is None or isinstance(attachment.port("br-sfc", "veth0").interface_external_ids["dpf-id"], str)


WORDS = st.text("abcdefgh0123456789-.", min_size=1, max_size=60)


@given(WORDS, WORDS, st.text("abc0.-_", min_size=1, max_size=15), WORDS, WORDS, st.just("") | WORDS.map("/run/netns/{}".format))
def test_an_alias_that_we_wrote(owner: str, name: str, interface: str, container: str, network: str, namespace: str) -> None:
    attachment = Attachment(ObjectKey(owner, name), interface, container, network, namespace)
    assert len(attachment.alias.encode()) <= LONGEST_ALIAS
    found = attachments({"veth0": attachment.alias})
    if attachment.alias:
        assert found["veth0"].mark == attachment.mark
        assert found["veth0"].external_ids.items() <= attachment.external_ids.items()
    else:
        assert not found


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


NAMES = st.binary(min_size=1, max_size=15).filter(lambda name: name not in (b".", b"..") and b"/" not in name and b"\0" not in name)
TEXTS = st.binary(max_size=30) | st.sampled_from([b"p0\n", b"pf0vf3\n", b"c1pf0vf3", b"c1pf0\n", b"0x15b3\n", b"0xa2dc"]) | st.none()


@given(
    st.dictionaries(NAMES, st.tuples(TEXTS, TEXTS, TEXTS, TEXTS, st.booleans()), max_size=4),
    st.integers(0, 3),
    st.none() | st.integers(0, 5),
)
@example({b"\xff": (b"1", b"pf0hpf", b"0x15b3", b"0xa2dc", True), b"ok": (b"1", b"pf0hpf", b"0x15b3", b"0xa2dc", True)}, 0, None)
def test_sysfs_of_anything(
    directory: Path, devices: dict[bytes, tuple[bytes | None, bytes | None, bytes | None, bytes | None, bool]], pf: int, vf: int | None
) -> None:
    with tempfile.TemporaryDirectory(dir=directory) as root:
        Path(root, "class/net").mkdir(parents=True)
        for number, (name, (switch, port, vendor, device, loop)) in enumerate(devices.items()):
            place, function = Path(root, "class/net", os.fsdecode(name)), Path(root, f"devices/0000:0{number}:00.0")
            place.mkdir(parents=True)
            function.mkdir(parents=True)
            (place / "device").symlink_to("device" if loop and device is None else function)
            files = {place / "phys_switch_id": switch, place / "phys_port_name": port, function / "vendor": vendor}
            for path, content in {**files, function / "device": device}.items():
                if content is not None:
                    path.write_bytes(content)
        found = read_devices(Path(root))
    assert len(found) <= len(devices)
    for selector in (None, NicSelector(type="dpu", controller_number=0)):
        function_wanted = Function(pf, vf, selector)
        try:
            chosen = representor(function_wanted, found)
        except NoRepresentorError as error:
            msgspec.json.encode(str(error))
            continue
        assert chosen == function_wanted.udev_name or chosen in {each.name for each in found}
        msgspec.json.encode(chosen)
