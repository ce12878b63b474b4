"""From what an operator wrote in the host cluster to the sets in the DPU clusters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec.structs import replace

from dpuchain.api.chain import DPUServiceChain, ServiceChainSet
from dpuchain.api.fleet import AgentSettings, AgentSettingsData, DPFOperatorConfig, DPUCluster
from dpuchain.api.interface import DPUServiceInterface, ServiceInterfaceSet
from dpuchain.api.meta import LabelSelector, Object, ObjectMeta, TemplateMeta, key_of
from dpuchain.api.names import (
    AGENT_SETTINGS_NAME,
    HOST_LABEL,
    OPERATOR_NAMESPACE,
    OWNER_KIND_LABEL,
    OWNER_UID_LABEL,
    SERVICE_CHAIN_SET_FINALIZER,
    SERVICE_INTERFACE_SET_FINALIZER,
)
from dpuchain.api.service import DPUService, DPUServiceSpec
from dpuchain.chain.selectors import matches
from dpuchain.chain.template import metadata_of


class _SelectsClusters(Protocol):
    @property
    def cluster_selector(self) -> LabelSelector | None: ...
    @property
    def dpu_cluster_selector(self) -> LabelSelector | None: ...


def cluster_selector(spec: _SelectsClusters) -> LabelSelector | None:
    """The selector in force: `dpuClusterSelector`, or the deprecated `clusterSelector` where the other is absent. None selects all."""
    return spec.dpu_cluster_selector if spec.dpu_cluster_selector is not None else spec.cluster_selector


def selects(selector: LabelSelector | None, cluster: DPUCluster) -> bool:
    """Whether an object with this selector belongs into `cluster`. A cluster that is being deleted gets nothing."""
    return cluster.metadata.deletion_timestamp is None and matches(selector, cluster.metadata.labels)


def concerns(item: DPUServiceChain | DPUServiceInterface | DPUService, before: DPUCluster | None, after: DPUCluster | None) -> bool:
    """Whether it matters for `item` that a DPUCluster joins (None before), leaves (None after), changes, or can be used or not, in which
    case it is the same before and after.

    What is being deleted waits for all clusters, and so may a service whose release in a cluster is no longer wanted.
    """
    if item.metadata.deletion_timestamp is not None:
        return True
    service = isinstance(item.spec, DPUServiceSpec)
    selector = item.spec.dpu_cluster_selector if isinstance(item.spec, DPUServiceSpec) else cluster_selector(item.spec)
    was, will = (cluster is not None and selects(selector, cluster) for cluster in (before, after))
    return was != will or (before is after and (will or service))


def chain_set_of(chain: DPUServiceChain, host: str) -> ServiceChainSet:
    """The set that `chain` has in each selected cluster: same namespace and name. `host` is the identity of the host cluster."""
    template = chain.spec.template
    return ServiceChainSet(
        metadata=_set_metadata(chain, "DPUServiceChain", host, template.metadata, SERVICE_CHAIN_SET_FINALIZER), spec=template.spec
    )


def interface_set_of(interface: DPUServiceInterface, host: str) -> ServiceInterfaceSet:
    """The set that `interface` has in each selected cluster: same namespace and name. `host` is the identity of the host cluster."""
    template = interface.spec.template
    return ServiceInterfaceSet(
        metadata=_set_metadata(interface, "DPUServiceInterface", host, template.metadata, SERVICE_INTERFACE_SET_FINALIZER),
        spec=template.spec,
    )


def agent_settings(config: DPFOperatorConfig | None, host: str) -> AgentSettings | None:
    """What the agents of every DPU cluster are told; None if that is nothing. ValueError if the configuration makes no sense."""
    milliseconds = config.secure_flow_deletion_milliseconds if config is not None else None
    if milliseconds is None:
        return None
    metadata = ObjectMeta(name=AGENT_SETTINGS_NAME, namespace=OPERATOR_NAMESPACE, labels={HOST_LABEL: host})
    return AgentSettings(metadata=metadata, data=AgentSettingsData(secure_flow_deletion_milliseconds=str(milliseconds)))


def _set_metadata(owner: Object, kind: str, host: str, template: TemplateMeta, finalizer: str) -> ObjectMeta:
    labels = {OWNER_KIND_LABEL: kind, OWNER_UID_LABEL: owner.metadata.uid, HOST_LABEL: host}
    return replace(metadata_of(owner.metadata.namespace, template, labels, finalizer), name=owner.metadata.name)


def is_ours(existing: Object, wanted: Object) -> bool:
    """Whether the set `existing` was made from the object that `wanted` is made from, or from an earlier one of that name, of this host
    cluster, which is gone: two of one name cannot be.
    """
    has, wants = existing.metadata.labels, wanted.metadata.labels
    return _same(has, wants, OWNER_UID_LABEL) or _same(has, wants, HOST_LABEL, OWNER_KIND_LABEL)


def _same(has: Mapping[str, str], wants: Mapping[str, str], *labels: str) -> bool:
    return all(has.get(label) == wants[label] for label in labels)


def is_from(existing: Object, host: str) -> bool:
    """Whether the set `existing` was made from an object of the host cluster with this identity, be that there still or not."""
    return existing.metadata.labels.get(HOST_LABEL) == host


def owner_conflict(existing: Object | None, wanted: Object) -> str | None:
    """Why `wanted` must not be written over `existing`; None if it may.

    It may where there is nothing, where the set is ours, or where DPF's controllers made it: theirs carry the set's finalizer, which
    nobody writes by hand, and no label of ours. Whatever else bears the name is somebody else's.
    """
    if existing is None or is_ours(existing, wanted):
        return None
    labels = existing.metadata.labels
    uid = labels.get(OWNER_UID_LABEL)
    if uid is None and any(finalizer in existing.metadata.finalizers for finalizer in wanted.metadata.finalizers):
        return None
    whose = "somebody else, by hand or by another controller"
    if uid is not None:
        whose = f"{labels.get(OWNER_KIND_LABEL, 'object')} with uid {uid} of host cluster {labels.get(HOST_LABEL, '(not told)')}"
    return f"{key_of(existing)} exists already and was made by {whose}; delete or rename it"
