"""The difference of two objects as a patch, and whether there is any. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpuchain.api.meta import Object, untraced


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7396) that turns `old` into `new`; empty if they are equal. Lists are replaced as a whole."""
    patch: dict[str, Any] = {name: None for name in old if name not in new}
    for name, value in new.items():
        before = old.get(name)
        if name in old and before == value:
            continue
        patch[name] = merge_patch(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return patch


def needs_apply(wanted: Object, live: Object | None) -> bool:
    """Whether a server-side apply of `wanted` would change `live`, as far as a cache can tell.

    The spec, or the data, must be equal, since we own all of it; labels, annotations, finalizers and owner references must be there, next
    to others'. What an object says of a trace is no difference.
    """
    if live is None:
        return True
    # As structs: a default that the server has written out is the same.
    if any(getattr(wanted, part, None) != getattr(live, part, None) for part in ("spec", "data")):
        return True
    meta, live_meta = wanted.metadata, live.metadata
    if not (meta.labels.items() <= live_meta.labels.items() and untraced(meta.annotations).items() <= live_meta.annotations.items()):
        return True
    missing = [finalizer for finalizer in meta.finalizers if finalizer not in live_meta.finalizers]
    return bool(missing) or any(owner not in live_meta.owner_references for owner in meta.owner_references)
