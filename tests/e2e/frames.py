"""Single frames on a rack's devices: put on one, and looked for on another."""

from __future__ import annotations

import errno
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyroute2 import netns

PACKET_IGNORE_OUTGOING, SOL_PACKET = 23, 263
PATIENCE_SECONDS = 1.0


class Tap:
    """A device in a network namespace. To be closed."""

    def __init__(self, namespace: str, device: str) -> None:
        with ThreadPoolExecutor(1) as pool:  # a thread of its own goes there; the socket stays there when the thread has ended
            self._socket = pool.submit(_opened, namespace, device).result()

    def close(self) -> None:
        self._socket.close()

    def send(self, content: bytes) -> None:
        """Put a frame on the wire; on a device that is down nothing happens."""
        for _ in range(2):  # a socket tells of its device's having been down once, though it is up again
            try:
                self._socket.send(content)
            except OSError as error:
                if error.errno != errno.ENETDOWN:
                    raise
            else:
                return

    def _received(self) -> bytes:
        """The next frame; none after a device has been down. TimeoutError, or BlockingIOError, if there is none."""
        try:
            return self._socket.recv(2048)
        except OSError as error:
            if error.errno != errno.ENETDOWN:
                raise
            return b""

    def hears(self, content: bytes, seconds: float = PATIENCE_SECONDS) -> bool:
        """Whether exactly this frame comes in, within some time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                if self._received().rstrip(b"\0") == content.rstrip(b"\0"):  # a bridge may take the padding off
                    return True
            except TimeoutError:
                return False
        return False

    def forget(self) -> None:
        """Pass over what has come in so far."""
        self._socket.settimeout(0)
        while True:
            try:
                self._received()
            except BlockingIOError:
                return


def _opened(namespace: str, device: str) -> socket.socket:
    netns.setns(str(Path("/run/netns") / namespace))
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
    opened.bind((device, 0))
    opened.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    return opened


def passes(content: bytes, source: Tap, target: Tap) -> bool:
    """Whether a frame that is put on one device is captured on the other; of three, as the first may meet a cache that has just gone."""
    target.forget()
    for _ in range(3):
        source.send(content)
        if target.hears(content):
            return True
    return False
