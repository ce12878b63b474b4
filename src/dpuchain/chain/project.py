"""From what an operator wrote in the host cluster to the sets in the DPU clusters."""

from __future__ import annotations

from typing import Protocol

from dpuchain.api.chain import DPUServiceChain, ServiceChainSet
from dpuchain.api.fleet import DPUCluster
from dpuchain.api.interface import DPUServiceInterface, ServiceInterfaceSet
from dpuchain.api.meta import LabelSelector, Object, ObjectMeta, TemplateMeta, key_of
from dpuchain.api.names import (
    OWNER_KIND_LABEL,
    OWNER_UID_LABEL,
    SERVICE_CHAIN_SET_FINALIZER,
    SERVICE_INTERFACE_SET_FINALIZER,
)
from dpuchain.chain.selectors import matches


class _SelectsClusters(Protocol):
    @property
    def cluster_selector(self) -> LabelSelector | None: ...
    @property
    def dpu_cluster_selector(self) -> LabelSelector | None: ...


def cluster_selector(spec: _SelectsClusters) -> LabelSelector | None:
    """The selector in force: `dpuClusterSelector`, or the deprecated `clusterSelector` where the other is absent. None selects all."""
    return spec.dpu_cluster_selector if spec.dpu_cluster_selector is not None else spec.cluster_selector


def selects(spec: _SelectsClusters, cluster: DPUCluster) -> bool:
    """Whether the object whose spec this is belongs into `cluster`. A cluster that is being deleted gets nothing."""
    return cluster.metadata.deletion_timestamp is None and matches(cluster_selector(spec), cluster.metadata.labels)


def chain_set_of(chain: DPUServiceChain) -> ServiceChainSet:
    """The set that `chain` has in each selected cluster: same namespace and name."""
    template = chain.spec.template
    return ServiceChainSet(
        metadata=_set_metadata(chain, "DPUServiceChain", template.metadata, SERVICE_CHAIN_SET_FINALIZER), spec=template.spec
    )


def interface_set_of(interface: DPUServiceInterface) -> ServiceInterfaceSet:
    """The set that `interface` has in each selected cluster: same namespace and name."""
    template = interface.spec.template
    return ServiceInterfaceSet(
        metadata=_set_metadata(interface, "DPUServiceInterface", template.metadata, SERVICE_INTERFACE_SET_FINALIZER),
        spec=template.spec,
    )


def _set_metadata(owner: Object, kind: str, template: TemplateMeta, finalizer: str) -> ObjectMeta:
    return ObjectMeta(
        name=owner.metadata.name,
        namespace=owner.metadata.namespace,
        labels={**template.labels, OWNER_KIND_LABEL: kind, OWNER_UID_LABEL: owner.metadata.uid},
        annotations=dict(template.annotations),
        finalizers=(finalizer,),
    )


def is_ours(existing: Object, owner_uid: str) -> bool:
    """Whether the set `existing` was made from the host object of that uid."""
    return existing.metadata.labels.get(OWNER_UID_LABEL) == owner_uid


def owner_conflict(existing: Object | None, wanted: Object) -> str | None:
    """Why `wanted` must not be written over `existing`; None if it may.

    It may where there is nothing, where the set is ours, or where DPF's controllers made it: theirs carry the set's finalizer, which
    nobody writes by hand, and no label of ours. Whatever else bears the name is somebody else's.
    """
    if existing is None:
        return None
    labels = existing.metadata.labels
    uid = labels.get(OWNER_UID_LABEL)
    if uid == wanted.metadata.labels[OWNER_UID_LABEL]:
        return None
    if uid is None and any(finalizer in existing.metadata.finalizers for finalizer in wanted.metadata.finalizers):
        return None
    whose = f"{labels.get(OWNER_KIND_LABEL, 'object')} with uid {uid}" if uid else "somebody else, by hand or by another controller"
    return f"{key_of(existing)} exists already and was made by {whose}; delete or rename it"
