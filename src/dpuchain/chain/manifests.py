"""Objects applied to a fleet, or deleted from it: what was there keeps what only the API server or a controller knows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from dpuchain.api.fleet import DPFOperatorConfig, DPUCluster
from dpuchain.api.kubernetes import Metadata, Pod
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.service import DPUService
from dpuchain.chain.fleet import Fleet, Place
from dpuchain.chain.problems import Ref, ref

FACTS = (DPUCluster, Metadata, Pod)
"""What a folder tells of a world, where it is not the world that is asked: nobody applies Nodes and pods."""


@dataclass(frozen=True)
class Manifest:
    """An object, of the host cluster or of a DPU cluster."""

    item: Any
    cluster: ObjectKey | None = None

    @property
    def ref(self) -> Ref:
        """The object, by kind and key."""
        return ref(type(self.item).__name__, self.item)


def apply(fleet: Fleet, manifests: Iterable[Manifest]) -> Fleet:
    """The fleet after these were applied, in this order."""
    for manifest in manifests:
        old = present(fleet, manifest)
        fleet = fleet.changed(old, _merged(old, manifest.item), manifest.cluster)
    return fleet


def delete(fleet: Fleet, manifests: Iterable[Manifest]) -> Fleet:
    """The fleet after what these name was deleted, as far as it was there."""
    for manifest in manifests:
        old = present(fleet, manifest)
        if old is not None:
            fleet = fleet.changed(old, None, manifest.cluster)
    return fleet


def present(fleet: Fleet, manifest: Manifest) -> Any:
    """What is there of the name of a manifest's object; None if nothing is, or, of a pod, if that is not kept."""
    key = key_of(manifest.item)
    match manifest.item:
        case DPUService():
            return (fleet.services or {}).get(key)
        case DPUCluster():
            return fleet.clusters.get(key)
        case DPFOperatorConfig():
            return fleet.config if fleet.config is not None and key_of(fleet.config) == key else None
        case Metadata():
            return None if manifest.cluster is None else fleet.member(manifest.cluster).nodes.items.get(key.name)
        case Pod():
            return None
    source = fleet.sources.get(Place(manifest.cluster, *manifest.ref))
    return None if source is None else source.item


def _merged(old: Any, new: Any) -> Any:
    if old is None:
        return new
    known = old.metadata
    metadata = replace(
        new.metadata,
        uid=known.uid,
        creation_timestamp=known.creation_timestamp,
        finalizers=known.finalizers,
        owner_references=known.owner_references,
        labels={**known.labels, **new.metadata.labels},
        annotations={**known.annotations, **new.metadata.annotations},
    )
    return replace(new, metadata=metadata)
