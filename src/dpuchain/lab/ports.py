"""TCP ports that nobody else can take between being chosen and being used."""

from __future__ import annotations

import socket
from typing import Self

from dpuchain.lab.errors import LabError


class ReservedPort:
    """A free port of an address, held by a bound socket that never listens; the server that gets it must bind with SO_REUSEPORT."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            self._socket.bind((address, 0))
        except OSError as error:
            self._socket.close()
            raise LabError(f"no TCP port can be had on {address} ({error.strerror})", f"give this machine the address {address}") from error
        self.number: int = self._socket.getsockname()[1]

    def release(self) -> None:
        """Give the port back."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
