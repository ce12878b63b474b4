"""A load, as a process in a namespace of its own: `python -m bench.load tcp|packets|sink ADDRESS`, until it is ended."""

from __future__ import annotations

import contextlib
import os
import socket
import sys

PORT = 5001
UDP_SEGMENT = 103
"""linux/udp.h: the kernel cuts what is sent into datagrams of that size."""
SMALLEST = 18
"""Bytes of a datagram that fills the smallest Ethernet frame."""
AT_ONCE = 64
"""The most datagrams that the kernel cuts from one call (UDP_MAX_SEGMENTS)."""


def sink(own: str) -> None:
    """Take one TCP connection and read it to its end."""
    with socket.create_server((own, PORT)) as listener:
        os.write(1, b"listening\n")
        connection, _ = listener.accept()
        buffer = bytearray(1 << 18)
        while connection.recv_into(buffer):
            pass


def tcp(target: str) -> None:
    """Send on one TCP connection as much as it takes."""
    with socket.create_connection((target, PORT)) as connection:
        content = bytes(1 << 18)
        while True:
            connection.sendall(content)


def packets(target: str) -> None:
    """Send the smallest frames, as many as the kernel takes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, SMALLEST)
        sender.connect((target, PORT))
        content = bytes(SMALLEST * AT_ONCE)
        while True:
            with contextlib.suppress(ConnectionRefusedError):  # nobody listens, and its host says so now and then
                sender.send(content)


if __name__ == "__main__":
    {"sink": sink, "tcp": tcp, "packets": packets}[sys.argv[1]](sys.argv[2])
