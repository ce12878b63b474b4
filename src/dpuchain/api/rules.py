"""Validations that the API server holds, written in CEL beside the structs that they belong to."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from msgspec import Meta

from dpuchain.api.meta import Condition


class Rule(NamedTuple):
    """One `x-kubernetes-validations` entry: a CEL expression over `self`, and what to tell who breaks it."""

    expression: str
    message: str


IMMUTABLE_NETWORK = [{"rule": "self == oldSelf", "message": "virtualNetwork is immutable"}]

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
