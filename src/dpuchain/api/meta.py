"""What every Kubernetes object has: its key, its metadata, its conditions and the selectors that pick it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Protocol

import msgspec
from msgspec import Meta, field

from dpuchain.api.names import TRACEPARENT_ANNOTATION


class Model(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A part of an object: immutable, camelCase on the wire, fields at their default left out, unknown fields ignored."""


class ObjectKey(NamedTuple):
    """Namespace and name of an object within one cluster and one kind; the namespace is empty for a cluster-scoped kind."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class OwnerReference(Model, frozen=True, kw_only=True):
    """The object without which this one has no reason to exist."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(Model, frozen=True, kw_only=True):
    """The parts of `metadata` that dpuchain reads or writes. Without `managedFields`, since it is most of an object's size."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None


class Object(Protocol):
    """Whatever has metadata: the bound of every generic function over objects."""

    @property
    def metadata(self) -> ObjectMeta:
        """The object's metadata."""


def key_of(item: Object) -> ObjectKey:
    """Key of `item` within its cluster and kind."""
    return ObjectKey(item.metadata.namespace, item.metadata.name)


def untraced(annotations: dict[str, str]) -> dict[str, str]:
    """The annotations as they are compared: without that of a trace, which tells of a write and not of the object."""
    if TRACEPARENT_ANNOTATION not in annotations:
        return annotations
    return {name: value for name, value in annotations.items() if name != TRACEPARENT_ANNOTATION}


class TemplateMeta(Model, frozen=True, kw_only=True):
    """Labels and annotations that a template gives to what is made from it."""

    labels: Annotated[dict[str, str], Meta(description="Labels set on each object made from the template.")] = field(default_factory=dict)
    annotations: Annotated[dict[str, str], Meta(description="Annotations set on each object made from the template.")] = field(
        default_factory=dict
    )


class LabelSelectorRequirement(Model, frozen=True, kw_only=True):
    """One expression of a label selector, as `metav1.LabelSelectorRequirement`."""

    key: Annotated[str, Meta(description="Label key that the expression looks at.")]
    operator: Annotated[
        Literal["In", "NotIn", "Exists", "DoesNotExist"],
        Meta(description="How the label is compared with the values: In, NotIn, Exists or DoesNotExist."),
    ]
    values: Annotated[tuple[str, ...], Meta(description="Values for In and NotIn; must be empty for Exists and DoesNotExist.")] = ()


class LabelSelector(Model, frozen=True, kw_only=True):
    """Kubernetes' label selector: every label and every expression must hold; an empty one selects everything."""

    SCHEMA: ClassVar[dict[str, Any]] = {"x-kubernetes-map-type": "atomic"}

    match_labels: Annotated[dict[str, str], Meta(description="Labels that must be there with exactly these values.")] = field(
        default_factory=dict
    )
    match_expressions: Annotated[tuple[LabelSelectorRequirement, ...], Meta(description="Expressions that must all hold.")] = ()


class Condition(Model, frozen=True, kw_only=True):
    """One observed fact about an object, as `metav1.Condition`."""

    type: Annotated[str, Meta(description="What the condition speaks of, in CamelCase.", max_length=316)]
    status: Annotated[Literal["True", "False", "Unknown"], Meta(description="True, False, or Unknown.")]
    reason: Annotated[str, Meta(description="One word for programs: why the status is what it is.", min_length=1, max_length=1024)]
    message: Annotated[str, Meta(description="For people: what is wrong, where, and what to do next.", max_length=32768)] = ""
    observed_generation: Annotated[int, Meta(description="Generation of the object that the condition was derived from.", ge=0)] = 0
    last_transition_time: Annotated[datetime, Meta(description="When the status changed last.")]


class WithConditions(Protocol):
    """A status that carries conditions."""

    @property
    def conditions(self) -> Sequence[Condition]:
        """The conditions, one a type."""
