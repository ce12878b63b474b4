"""What DPF's controller has left on a bridge: its flows, known by the cookie that it gives each chain's.

It programs in tables of which ours is one, so its flows go in the very bundle in which ours come. Only those of chains that are ours
now: whatever has another cookie is somebody else's, and is neither changed nor deleted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from dpuchain.api.meta import ObjectKey
from dpuchain.flows.model import Flush
from dpuchain.flows.pipeline import is_ours

_OFFSET, _PRIME, _ALL = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1


def cookie_of(chain: ObjectKey) -> int:
    """The cookie of DPF's flows of a ServiceChain: the hash of its namespace and name."""
    return fnv64a(str(chain).encode())


def fnv64a(data: bytes) -> int:
    """The hash FNV-1a of 64 bits (https://datatracker.ietf.org/doc/html/rfc9923)."""
    value = _OFFSET
    for byte in data:
        value = (value ^ byte) * _PRIME & _ALL
    return value


def superseded(chains: Iterable[ObjectKey], cookies: Collection[int]) -> tuple[Flush, ...]:
    """What removes DPF's flows of these chains, in all tables, from a bridge that has flows of these cookies; learned entries too."""
    found = {cookie_of(chain) for chain in chains}.intersection(cookies)
    return tuple(Flush(None, cookie, _ALL) for cookie in sorted(found) if not is_ours(cookie))
