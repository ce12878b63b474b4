"""Numbers for owners: what cookies and metadata call a chain."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from dpuchain.api.meta import ObjectKey
from dpuchain.flows.pipeline import COOKIE

LARGEST_OWNER = COOKIE["owner"].largest


def number_owners(owners: Iterable[ObjectKey], largest: int = LARGEST_OWNER) -> dict[ObjectKey, int]:
    """A number in 1..largest for each owner, no two alike.

    It is the hash of namespace and name, so it stays while other owners come and go. Where two have the same hash (three times in a
    million for 40 chains) the one that sorts later takes its next hash that is free, after all others have theirs: the numbers follow from
    the set of owners alone, and an owner whose hash is nobody else's keeps its number whatever happens. ValueError if there are more
    owners than numbers.
    """
    waiting = sorted(set(owners))
    if len(waiting) > largest:
        message = f"{len(waiting)} owners are too many; at most {largest} can be told apart"
        raise ValueError(message)
    holders: dict[int, ObjectKey] = {}
    attempt = 0
    while waiting:
        waiting = [owner for owner in waiting if holders.setdefault(_hash(owner, attempt, largest), owner) != owner]
        attempt += 1
    return {owner: number for number, owner in holders.items()}


def _hash(owner: ObjectKey, attempt: int, largest: int) -> int:
    digest = blake2b(f"{owner.namespace}\0{owner.name}\0{attempt}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % largest + 1
