"""Frames that a person describes: what of a description counts, and what is told of a wrong one."""

from __future__ import annotations

import pytest

from dpuchain.flows.model import VLAN_PRESENT
from dpuchain.flows.packets import BROADCAST, Description, FrameError, Packet, parse


def test_ping_is_an_echo_request_between_the_addresses() -> None:
    content = parse("icmp src=198.51.100.1 dst=198.51.100.2").packet.content
    assert content[12:14] == b"\x08\x00"
    assert (content[14], content[23], content[34]) == (0x45, 1, 8)
    assert (content[26:30], content[30:34]) == (bytes([198, 51, 100, 1]), bytes([198, 51, 100, 2]))
    assert len(content) == 60


@pytest.mark.parametrize(
    ("text", "ethertype", "protocol"),
    [
        ("ip", 0x0800, 253),
        ("icmp", 0x0800, 1),
        ("tcp sport=1 dport=2", 0x0800, 6),
        ("udp", 0x0800, 17),
        ("icmp dst=2001:db8::9", 0x86DD, 58),
        ("tcp src=2001:db8::9", 0x86DD, 6),
    ],
)
def test_protocol_is_in_the_header(text: str, ethertype: int, protocol: int) -> None:
    content = parse(text).packet.content
    assert int.from_bytes(content[12:14], "big") == ethertype
    assert content[23 if ethertype == 0x0800 else 20] == protocol


def test_ports_and_addresses_are_where_they_belong_and_change_places_in_the_answer() -> None:
    asked = parse("udp src=192.0.2.7 dst=192.0.2.8 sport=1000 dport=53 mac-src=02:00:00:00:00:0a mac-dst=02:00:00:00:00:0b")
    there, back = asked.packet.content, asked.answer.packet.content
    assert (there[34:36], there[36:38]) == ((1000).to_bytes(2, "big"), (53).to_bytes(2, "big"))
    assert (there[:6], there[6:12], there[26:30], there[34:36]) == (back[6:12], back[:6], back[30:34], back[36:38])


def test_arp_goes_to_everyone_and_its_answer_to_who_asked() -> None:
    asked = parse("arp src=192.0.2.7 dst=192.0.2.8")
    assert asked.packet.eth_dst == BROADCAST
    assert asked.answer.packet.eth_dst == asked.packet.eth_src
    assert asked.answer.packet.eth_src != BROADCAST


@pytest.mark.parametrize(
    "text",
    ["icmp", "icmp src=198.51.100.1 dst=198.51.100.2", "tcp", "udp sport=7 dport=9", "icmp dst=2001:db8::9", "tcp src=::1", "udp dst=::2"],
)
def test_checksums_are_right(text: str) -> None:
    """The sum over what a checksum covers, itself included, is all ones (RFC 1071)."""
    content = parse(text).packet.content[14:]
    four = content[0] >> 4 == 4
    protocol, head = (content[9], 20) if four else (content[6], 40)
    segment = content[head : head + {1: 8, 58: 8, 6: 20, 17: 8}[protocol]]
    addresses = content[12:20] if four else content[8:40]
    pseudo = b"" if protocol == 1 else addresses + bytes([0, protocol]) + len(segment).to_bytes(2, "big")
    for covered in [pseudo + segment, *([content[:20]] if four else [])]:
        assert sum(int.from_bytes(covered[at : at + 2], "big") for at in range(0, len(covered), 2)) % 0xFFFF == 0


def test_tags_are_before_the_ethertype_and_flows_see_the_outer_one() -> None:
    packet = Packet(1, 2, 0x0800, tags=(VLAN_PRESENT | 10, VLAN_PRESENT | 7))
    assert packet.content[12:22].hex() == "8100000a810000070800"
    assert (packet.frame.vlan_vid, packet.frame.eth_type) == (VLAN_PRESENT | 10, 0x8100)
    assert parse("eth vlan=10 type=0x88b5").packet.frame.vlan_vid == VLAN_PRESENT | 10


@pytest.mark.parametrize("text", ["icmp", "eth", "arp src=192.0.2.1", "tcp dport=443 vlan=7", "udp src=2001:db8::1 sport=0"])
def test_what_is_printed_of_a_frame_describes_it(text: str) -> None:
    described = parse(text)
    assert parse(str(described)).packet.content == described.packet.content


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the frame is empty; describe one, such as: icmp src="),
        ("sctp", "'sctp' is no protocol that can be sent; use one of eth, arp, ip, icmp, tcp, udp"),
        ("icmp dport=80", "'dport=80' says nothing of icmp; use KEY=VALUE with one of src, dst, mac-src, mac-dst, vlan"),
        ("icmp src", "'src' says nothing of icmp"),
        ("icmp src=1.2.3.4 src=1.2.3.5", "src is given twice"),
        ("icmp src=1.2.3", "src='1.2.3' is no IP address"),
        ("icmp src=fe80::1%eth0", "names a zone, which no frame carries"),
        ("icmp src=1.2.3.4 dst=2001:db8::1", "two versions of IP"),
        ("arp dst=2001:db8::1", "arp is about IPv4 addresses"),
        ("tcp dport=65536", "dport='65536' is no number from 0 to 65535"),
        ("icmp vlan=0", "vlan='0' is no number from 1 to 4094"),
        ("eth type=5", "type='5' is no number from 1536 to 65535"),
        ("eth src=1.2.3.4", "src='1.2.3.4' is no MAC address, such as 02:00:00:00:00:01"),
    ],
)
def test_wrong_description_is_told_with_the_part_that_is_wrong(text: str, words: str) -> None:
    with pytest.raises(FrameError) as caught:
        parse(text)
    assert words in str(caught.value)


def test_description_is_a_value() -> None:
    assert parse("eth") == Description("eth", parse("eth").macs)
