"""Who hears, on every device of a DPU, those that come later among them, which stream's frames pass there."""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyroute2 import netns

from dpuchain.lab.traffic import BODY, ETHERTYPE, HEADER, MARK, SO_RCVBUFFORCE

ETH_P_ALL = 3
"""linux/if_ether.h: of any type, sent or received."""
SO_ATTACH_FILTER = 26
ONLY_STREAMS = b"".join(  # linux/filter.h: load the half-word at 12; if it is the type, take the frame; else nothing of it
    struct.pack("=HBBI", *instruction) for instruction in ((0x28, 0, 0, 12), (0x15, 0, 1, ETHERTYPE), (6, 0, 0, 0xFFFF), (6, 0, 0, 0))
)


class Ear:
    """Hears until it is closed, which must be before the namespace goes: it would stay, with all that is in it."""

    def __init__(self, namespace: str) -> None:
        with ThreadPoolExecutor(1) as pool:  # a thread of its own goes there; the socket stays there when the thread has ended
            self._socket = pool.submit(_opened, namespace).result()
        self._lock = threading.Lock()
        self._heard: dict[tuple[str, int], int] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def take(self) -> dict[tuple[str, int], int]:
        """How many frames were heard since this was last asked, by device and number of their stream."""
        with self._lock:
            heard, self._heard = self._heard, {}
        return heard

    def close(self) -> None:
        """Hear no more."""
        self._closed = True
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while not self._closed:
            try:
                frame, (device, *_) = self._socket.recvfrom(2048)
            except TimeoutError:
                continue
            if not device:  # it went before it could be named, as a pod's does
                continue
            if len(frame) < HEADER.size + BODY.size or HEADER.unpack_from(frame)[2] != ETHERTYPE:
                continue
            mark, stream, _number = BODY.unpack_from(frame, HEADER.size)
            if mark == MARK:
                with self._lock:
                    key = device, stream // 2
                    self._heard[key] = self._heard.get(key, 0) + 1


def _opened(namespace: str) -> socket.socket:
    netns.setns(str(Path("/run/netns") / namespace))
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    program = ctypes.create_string_buffer(ONLY_STREAMS)
    opened.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(ONLY_STREAMS) // 8, ctypes.addressof(program)))
    opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 23)
    opened.settimeout(0.1)
    return opened
