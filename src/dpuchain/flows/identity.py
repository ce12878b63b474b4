"""Numbers for owners: what cookies and metadata call a chain."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from dpuchain.api.meta import ObjectKey
from dpuchain.flows.pipeline import COOKIE

LARGEST_OWNER = COOKIE["owner"].largest


def number_owners(owners: Iterable[ObjectKey], largest: int = LARGEST_OWNER) -> dict[ObjectKey, int]:
    """A number in 1..largest for each owner, no two alike.

    It is the hash of namespace and name, so it stays while other owners come and go. Should two have the same hash (once in a million for
    40 chains), the one that sorts later takes its next hash: the numbers follow from the set of owners alone, and only that one's change
    when the other goes. ValueError if there are more owners than numbers.
    """
    numbers: dict[ObjectKey, int] = {}
    taken: set[int] = set()
    for owner in sorted(set(owners)):
        if len(taken) >= largest:
            message = f"{owner}: no number is left; at most {largest} owners are possible"
            raise ValueError(message)
        attempt = 0
        number = _hash(owner, attempt, largest)
        while number in taken:
            attempt += 1
            number = _hash(owner, attempt, largest)
        taken.add(number)
        numbers[owner] = number
    return numbers


def _hash(owner: ObjectKey, attempt: int, largest: int) -> int:
    digest = blake2b(f"{owner.namespace}\0{owner.name}\0{attempt}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % largest + 1
