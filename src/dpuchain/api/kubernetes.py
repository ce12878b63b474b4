"""The parts used of Kubernetes' own kinds, and of Multus' NetworkAttachmentDefinition."""

from __future__ import annotations

import hashlib
from datetime import datetime

from msgspec import Raw, field
from msgspec.structs import force_setattr

from dpuchain.api.meta import Model, ObjectMeta


class Metadata(Model, frozen=True, kw_only=True):
    """Any object of which only the metadata is looked at (`PartialObjectMetadata`)."""

    metadata: ObjectMeta = ObjectMeta()


class FieldManager(Model, frozen=True, kw_only=True):
    """Who set which fields of an object, and when. Of the fields only a digest is kept, since they are most of an object's size."""

    manager: str = ""
    subresource: str = ""
    time: datetime | None = None
    fields: Raw = field(default=Raw(), name="fieldsV1")

    def __post_init__(self) -> None:
        force_setattr(self, "fields", Raw(hashlib.sha256(bytes(self.fields)).hexdigest()[:16].encode()))


class ManagedMeta(ObjectMeta, frozen=True, kw_only=True):
    """Metadata with who set which fields of the object."""

    managed_fields: tuple[FieldManager, ...] = ()


class Managed(Model, frozen=True, kw_only=True):
    """Any object of which only the metadata is looked at, and who set its fields (`PartialObjectMetadata`)."""

    metadata: ManagedMeta = ManagedMeta()


class Secret(Model, frozen=True, kw_only=True):
    """A Secret; values are base64 on the wire."""

    metadata: ObjectMeta = ObjectMeta()
    type: str = ""
    data: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Secret({self.metadata.namespace}/{self.metadata.name})"


class PodCondition(Model, frozen=True, kw_only=True):
    """A condition of a Pod or a Node, which has no `observedGeneration`."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


class PodSpec(Model, frozen=True, kw_only=True):
    """The parts used of a Pod's spec."""

    node_name: str = ""


class PodStatus(Model, frozen=True, kw_only=True):
    """The parts used of a Pod's status."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: tuple[PodCondition, ...] = ()


class Pod(Model, frozen=True, kw_only=True):
    """A Pod: its labels, its node and whether it is ready."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def ready(self) -> bool:
        """Whether the kubelet says that the pod serves: condition Ready is True."""
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)


class NodeStatus(Model, frozen=True, kw_only=True):
    """The parts used of a Node's status."""

    conditions: tuple[PodCondition, ...] = ()


class Node(Model, frozen=True, kw_only=True):
    """A Node: whether its kubelet says that it is ready."""

    metadata: ObjectMeta = ObjectMeta()
    status: NodeStatus = NodeStatus()

    @property
    def ready(self) -> bool:
        """Whether condition Ready is True."""
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)


class DaemonSetStatus(Model, frozen=True, kw_only=True):
    """The counters of a DaemonSet."""

    observed_generation: int = 0
    desired_number_scheduled: int = 0
    current_number_scheduled: int = 0
    updated_number_scheduled: int = 0
    number_ready: int = 0
    number_unavailable: int = 0


class DaemonSet(Model, frozen=True, kw_only=True):
    """A DaemonSet: how many of its pods are there and ready, and who set its fields."""

    metadata: ManagedMeta = ManagedMeta()
    status: DaemonSetStatus = DaemonSetStatus()


class LeaseSpec(Model, frozen=True, kw_only=True):
    """Who holds a lease, since when, for how long."""

    holder_identity: str = ""
    lease_duration_seconds: int = 0
    acquire_time: datetime | None = None
    renew_time: datetime | None = None
    lease_transitions: int = 0


class Lease(Model, frozen=True, kw_only=True):
    """A lease that replicas of a controller compete for."""

    metadata: ObjectMeta = ObjectMeta()
    spec: LeaseSpec = LeaseSpec()


class ObjectReference(Model, frozen=True, kw_only=True):
    """The object that an event is about."""

    api_version: str
    kind: str
    namespace: str = ""
    name: str
    uid: str = ""


class EventSource(Model, frozen=True, kw_only=True):
    """Which component saw the event."""

    component: str = ""
    host: str = ""


class Event(Model, frozen=True, kw_only=True):
    """A Kubernetes Event (core/v1)."""

    metadata: ObjectMeta = ObjectMeta()
    involved_object: ObjectReference
    type: str
    reason: str
    message: str
    source: EventSource = EventSource()
    count: int = 1
    first_timestamp: datetime | None = None
    last_timestamp: datetime | None = None
