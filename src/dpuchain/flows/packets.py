"""Frames that a person describes, such as `icmp src=198.51.100.1 dst=198.51.100.2`: what flows see of them, and their bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address

from dpuchain.chain.vlans import LARGEST_VLAN
from dpuchain.flows.model import VLAN_PRESENT
from dpuchain.flows.simulate import Frame

IPV4, IPV6, ARP, EXPERIMENTAL = 0x0800, 0x86DD, 0x0806, 0x88B5
"""Ethertypes; the last is for local experiments (IEEE 802)."""
TAGGED = 0x8100
SHORTEST = 60
BROADCAST = 0xFFFFFFFFFFFF
STATIONS = (0x020000000001, 0x020000000002)
"""Of source and destination where none are given: locally administered addresses that no switch has learned."""
TRANSPORTS = {"ip": None, "icmp": (1, 58), "tcp": (6, 6), "udp": (17, 17)}
"""Number of the protocol in IPv4 and in IPv6."""
USUAL = ((IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")), (IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")))
"""Addresses where none are given (RFC 5737, RFC 3849: for documentation)."""
KEYS = {
    "eth": ("src", "dst", "vlan", "type"),
    "arp": ("src", "dst", "mac-src", "mac-dst", "vlan"),
    "ip": ("src", "dst", "mac-src", "mac-dst", "vlan"),
    "icmp": ("src", "dst", "mac-src", "mac-dst", "vlan"),
    "tcp": ("src", "dst", "sport", "dport", "mac-src", "mac-dst", "vlan"),
    "udp": ("src", "dst", "sport", "dport", "mac-src", "mac-dst", "vlan"),
}
"""What may be said of a frame of each protocol."""
EXAMPLE = "such as: icmp src=198.51.100.1 dst=198.51.100.2 vlan=10"

Address = IPv4Address | IPv6Address


class FrameError(ValueError):
    """A text describes no frame; says which part of it does not, and what would."""


@dataclass(frozen=True)
class Packet:
    """A frame with its tags, the outermost first, each as `flows.simulate.Sent` has it."""

    eth_dst: int
    eth_src: int
    eth_type: int
    payload: bytes = b""
    tags: tuple[int, ...] = ()

    @property
    def frame(self) -> Frame:
        """What flows look at."""
        outer = self.tags[0] if self.tags else 0
        return Frame(self.eth_dst, self.eth_src, outer, TAGGED if len(self.tags) > 1 else self.eth_type)

    @property
    def content(self) -> bytes:
        """The bytes of the frame, without its checksum."""
        tags = b"".join(TAGGED.to_bytes(2, "big") + (tag & 0xFFF).to_bytes(2, "big") for tag in self.tags)
        head = self.eth_dst.to_bytes(6, "big") + self.eth_src.to_bytes(6, "big") + tags + self.eth_type.to_bytes(2, "big")
        return (head + self.payload).ljust(SHORTEST, b"\0")


@dataclass(frozen=True)
class Description:
    """A frame as it was described. `addresses` are those of the protocol, None for eth."""

    protocol: str
    macs: tuple[int, int]
    addresses: tuple[Address, Address] | None = None
    ports: tuple[int, int] = (49152, 80)
    vlan: int | None = None
    eth_type: int = EXPERIMENTAL

    def __str__(self) -> str:
        ends = self.addresses if self.addresses is not None else tuple(map(_mac, self.macs))
        ports = f" sport={self.ports[0]} dport={self.ports[1]}" if self.protocol in ("tcp", "udp") else ""
        tag = f" vlan={self.vlan}" if self.vlan is not None else ""
        return f"{self.protocol} src={ends[0]} dst={ends[1]}{ports}{tag}"

    @property
    def answer(self) -> Description:
        """The frame that would come back."""
        source, target = self.macs
        ends = (self.addresses[1], self.addresses[0]) if self.addresses is not None else None
        return replace(self, macs=(STATIONS[1] if target == BROADCAST else target, source), addresses=ends, ports=self.ports[::-1])

    @property
    def packet(self) -> Packet:
        """The frame."""
        tags = () if self.vlan is None else (VLAN_PRESENT | self.vlan,)
        kind, payload = self._content()
        return Packet(self.macs[1], self.macs[0], kind, payload, tags)

    def _content(self) -> tuple[int, bytes]:
        if self.addresses is None:
            return self.eth_type, b""
        source, target = self.addresses
        if self.protocol == "arp":
            macs = self.macs[0].to_bytes(6, "big"), bytes(6)
            return ARP, bytes.fromhex("0001080006040001") + macs[0] + source.packed + macs[1] + target.packed
        four = isinstance(source, IPv4Address)
        numbers = TRANSPORTS[self.protocol] or (253, 253)  # RFC 3692: for experiments
        four = isinstance(source, IPv4Address)
        segment = self._segment(source, target, numbers[not four])
        if four:
            head = bytes([0x45, 0]) + _two(20 + len(segment)) + bytes([0, 0, 0, 0, 64, numbers[0], 0, 0]) + source.packed + target.packed
            return IPV4, head[:10] + _two(_checksum(head)) + head[12:] + segment
        head = bytes([0x60, 0, 0, 0]) + _two(len(segment)) + bytes([numbers[1], 64])
        return IPV6, head + source.packed + target.packed + segment

    def _segment(self, source: Address, target: Address, number: int) -> bytes:
        """What IP carries, with its checksum."""
        pseudo = source.packed + target.packed
        ports = b"".join(map(_two, self.ports))
        match self.protocol:
            case "icmp":  # an echo request
                body, place = bytes([8 if number == 1 else 128]) + bytes(7), 2
                pseudo = b"" if number == 1 else pseudo
            case "tcp":  # a SYN
                body, place = ports + bytes(8) + bytes([0x50, 0x02, 0xFF, 0xFF]) + bytes(4), 16
            case "udp":
                body, place = ports + _two(8) + bytes(2), 6
            case _:
                return bytes(8)
        checksum = _checksum(pseudo + (_two(number) + _two(len(body)) if pseudo else b"") + body)
        return body[:place] + _two(checksum or 0xFFFF) + body[place + 2 :]


def _two(number: int) -> bytes:
    return number.to_bytes(2, "big")


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def parse(text: str) -> Description:
    """The frame that `text` describes: a protocol, then KEY=VALUE pairs, in any order. FrameError if it describes none.

    What is not said is made up: stations that no switch knows, addresses for documentation, port 80.
    """
    words = text.split()
    if not words:
        raise FrameError(f"the frame is empty; describe one, {EXAMPLE}")
    protocol, *pairs = words
    if protocol not in KEYS:
        raise FrameError(f"{protocol!r:.60} is no protocol that can be sent; use one of {', '.join(KEYS)}, {EXAMPLE}")
    given: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or key not in KEYS[protocol]:
            raise FrameError(f"{pair!r:.60} says nothing of {protocol}; use KEY=VALUE with one of {', '.join(KEYS[protocol])}")
        if key in given:
            raise FrameError(f"{key} is given twice")
        given[key] = value
    return _described(protocol, given)


def _described(protocol: str, given: dict[str, str]) -> Description:
    vlan = _number(given, "vlan", 1, LARGEST_VLAN) if "vlan" in given else None
    if protocol == "eth":
        macs = _address(given, "src", STATIONS[0]), _address(given, "dst", STATIONS[1])
        eth_type = _number(given, "type", 0x600, 0xFFFF) if "type" in given else EXPERIMENTAL
        return Description(protocol, macs, vlan=vlan, eth_type=eth_type)
    macs = _address(given, "mac-src", STATIONS[0]), _address(given, "mac-dst", BROADCAST if protocol == "arp" else STATIONS[1])
    addresses = _addresses(protocol, given)
    ports = tuple(_number(given, key, 0, 65535) if key in given else usual for key, usual in (("sport", 49152), ("dport", 80)))
    return Description(protocol, macs, addresses, (ports[0], ports[1]), vlan)


def _addresses(protocol: str, given: dict[str, str]) -> tuple[Address, Address]:
    found: dict[str, Address] = {}
    for key in ("src", "dst"):
        if key in given:
            try:
                found[key] = ip_address(given[key])
            except ValueError:
                raise FrameError(f"{key}={given[key]!r:.60} is no IP address") from None
            if isinstance(found[key], IPv6Address) and found[key].scope_id is not None:  # type: ignore[union-attr]  # just asked
                raise FrameError(f"{key}={given[key]!r:.60} names a zone, which no frame carries")
    versions = {address.version for address in found.values()}
    if len(versions) > 1:
        raise FrameError("src and dst are addresses of two versions of IP; give two of one")
    if protocol == "arp" and 6 in versions:
        raise FrameError("arp is about IPv4 addresses; use icmp for IPv6")
    usual = USUAL[6 in versions]
    return found.get("src", usual[0]), found.get("dst", usual[1])


def _number(given: dict[str, str], key: str, smallest: int, largest: int) -> int:
    text = given[key]
    if re.fullmatch("0x[0-9a-fA-F]{1,8}|[0-9]{1,8}", text) and smallest <= int(text, 16 if text[:2] == "0x" else 10) <= largest:
        return int(text, 16 if text[:2] == "0x" else 10)
    raise FrameError(f"{key}={text!r:.60} is no number from {smallest} to {largest}")


def _address(given: dict[str, str], key: str, usual: int) -> int:
    text = given.get(key)
    if text is None:
        return usual
    if not re.fullmatch("[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", text):
        raise FrameError(f"{key}={text!r:.60} is no MAC address, such as 02:00:00:00:00:01")
    return int(text.replace(":", ""), 16)


def _mac(number: int) -> str:
    return ":".join(f"{byte:02x}" for byte in number.to_bytes(6, "big"))
