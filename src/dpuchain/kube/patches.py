"""The difference of two objects as a patch, and whether there is any. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from dpuchain.api.meta import Object


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7396) that turns `old` into `new`; empty if they are equal. Lists are replaced as a whole."""
    patch: dict[str, Any] = {name: None for name in old if name not in new}
    for name, value in new.items():
        before = old.get(name)
        if name in old and before == value:
            continue
        patch[name] = merge_patch(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return patch


def contains(live: Any, wanted: Any) -> bool:
    """Whether `live` has everything that `wanted` names: mappings as subsets, everything else by equality."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(name in live and contains(live[name], value) for name, value in wanted.items())
    return bool(live == wanted)


def needs_apply(wanted: Object, live: Object | None) -> bool:
    """Whether a server-side apply of `wanted` would change `live`, as far as a cache can tell.

    The spec must be equal, since we own all of it; labels, annotations, finalizers and owner references must be there, next to others'.
    """
    if live is None:
        return True
    if getattr(wanted, "spec", None) != getattr(live, "spec", None):  # as structs: a default that the server has written out is the same
        return True
    meta, live_meta = msgspec.to_builtins(wanted.metadata), msgspec.to_builtins(live.metadata)
    if not all(contains(live_meta.get(part, {}), meta.get(part, {})) for part in ("labels", "annotations")):
        return True
    return any(entry not in live_meta.get(part, []) for part in ("finalizers", "ownerReferences") for entry in meta.get(part, []))
