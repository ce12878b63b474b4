"""Validations that the API server holds, written in CEL beside the structs that they belong to."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from msgspec import Meta

from dpuchain.api.meta import Condition


class Rule(NamedTuple):
    """One `x-kubernetes-validations` entry: a CEL expression over `self`, and what to tell who breaks it.

    An expression over `oldSelf` is held on updates only; with `on_create` on creations too, and `oldSelf` is then an optional value.
    """

    expression: str
    message: str
    on_create: bool = False

    def as_schema(self) -> dict[str, Any]:
        """The entry as a schema has it."""
        entry = {"rule": self.expression, "message": self.message}
        return {**entry, "optionalOldSelf": True} if self.on_create else entry


PRESERVE = {"x-kubernetes-preserve-unknown-fields": True}
"""Keyword of what the API server is to keep although no schema names it."""

CONDITIONS = Annotated[
    tuple[Condition, ...],
    Meta(
        description="What is known about the object, one condition a type.",
        extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]
"""Type of the `conditions` of every status."""

NAME_LENGTH = Rule("self.metadata.name.size() <= 63", "name length can't be bigger than 63 chars")
"""Names become label values in the DPU clusters, which have at most 63 characters."""
