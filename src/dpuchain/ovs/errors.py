"""What can go wrong with Open vSwitch. Every error of the library, of sockets and of the protocol is mapped to one of these."""

from __future__ import annotations


class OvsError(Exception):
    """Root of the tree. `retryable` says whether the same request may succeed later without anyone changing it."""

    retryable = False


class Unreachable(OvsError):  # the name is a state, beside `Absent`
    """There is no connection, or it ended before the answer came: whether the request was carried out is not known."""

    retryable = True


class Rejected(OvsError):  # as above
    """Open vSwitch, or a rule of ours about what belongs to whom, refused the request; nothing of it was carried out.

    `code` names the reason: `type/code` of an OpenFlow error, the word of an OVSDB error, or `Claimed` and `WrongBridge` for ports.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Invalid(OvsError):  # as above
    """What came from Open vSwitch could not be understood."""
