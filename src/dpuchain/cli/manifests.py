"""Manifests read from files: objects, or what is wrong with them, by file, document, object and field.

Objects of a DPU cluster lie in a folder `clusters/NAME`, where NAME is that of its DPUCluster; where there is only one, anywhere.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import yaml

from dpuchain.api import kinds
from dpuchain.api.fleet import DPUCluster
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.resource import Resource
from dpuchain.api.validate import faults
from dpuchain.chain.manifests import Manifest

HOST_KINDS: tuple[Resource[Any], ...] = (
    kinds.DPU_SERVICE_CHAIN,
    kinds.DPU_SERVICE_INTERFACE,
    kinds.DPU_SERVICE,
    kinds.DPU_CLUSTER,
    kinds.DPF_OPERATOR_CONFIG,
)
MEMBER_KINDS: tuple[Resource[Any], ...] = (
    kinds.SERVICE_CHAIN_SET,
    kinds.SERVICE_INTERFACE_SET,
    kinds.SERVICE_CHAIN,
    kinds.SERVICE_INTERFACE,
    kinds.NODE,
    kinds.POD,
)
OURS = {resource.kind: resource for resource in (*HOST_KINDS, *MEMBER_KINDS)}
FOLDER = "clusters"
SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class Document:
    """One object in a file, as it stands there."""

    origin: str
    """File and document, in words."""
    folder: str | None
    """The DPU cluster by whose folder it lies."""
    content: Mapping[str, Any]


@dataclass
class Reading:
    """What was read: objects, what is wrong, and the kinds of objects that have nothing to do with chains."""

    manifests: list[Manifest] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


def read(paths: Iterable[Path], namespace: str, known: Iterable[ObjectKey] = ()) -> Reading:
    """All objects in files and folders; `-` is standard input. `known` are DPUClusters besides those that are read."""
    reading = Reading()
    documents = [document for path in paths for document in _documents(path, reading)]
    converted = [(document, resource, item) for document in documents for resource, item in _convert(document, namespace, reading)]
    clusters = dict.fromkeys([*known, *(key_of(item) for _, _, item in converted if isinstance(item, DPUCluster))])
    for document, resource, item in converted:
        if resource in HOST_KINDS:
            reading.manifests.append(Manifest(item))
            continue
        cluster = _cluster_of(document.folder, list(clusters))
        if isinstance(cluster, str):
            reading.faults.append(f"{document.origin}, {resource.kind} {key_of(item)}: {cluster}")
        else:
            reading.manifests.append(Manifest(item, cluster))
    return reading


def _cluster_of(folder: str | None, clusters: list[ObjectKey]) -> ObjectKey | str:
    """The DPU cluster of an object, or why that cannot be told."""
    found = [key for key in clusters if folder is None or key.name == folder]
    if len(found) == 1:
        return found[0]
    if folder is not None:
        what = "there is no DPUCluster" if not found else f"there are {len(found)} DPUClusters"
        return f"it lies in {FOLDER}/{folder}, but {what} of that name"
    if not found:
        return "there is no DPUCluster that it could be in; add one"
    return f"there are {len(found)} DPUClusters; put it into {FOLDER}/NAME, where NAME is that of its DPUCluster"


def _documents(path: Path, reading: Reading) -> Iterator[Document]:
    if str(path) == "-":
        yield from _in_text("standard input", None, sys.stdin.read(), reading)
        return
    files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file()) if path.is_dir() else [path]
    for file in files:
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reading.faults.append(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}")
            continue
        yield from _in_text(str(file), _folder(file.parent.parts), text, reading)


def _folder(parts: tuple[str, ...]) -> str | None:
    """The part after the last `clusters`."""
    places = [position for position, part in enumerate(parts[:-1]) if part == FOLDER]
    return parts[places[-1] + 1] if places else None


def _in_text(name: str, folder: str | None, text: str, reading: Reading) -> Iterator[Document]:
    try:
        found = list(yaml.safe_load_all(text))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        reading.faults.append(f"{name}{where}: not YAML: {getattr(error, 'problem', None) or error}")
        return
    for number, content in enumerate(found, start=1):
        origin = f"{name}, document {number}"
        for position, item in enumerate(_flattened(content), start=1):
            place = f"{origin}, item {position}" if item is not content else origin
            if isinstance(item, Mapping):
                yield Document(place, folder, item)
            elif item is not None:
                reading.faults.append(f"{place}: a Kubernetes object is a mapping with apiVersion, kind and metadata; this is not")


def _flattened(content: Any) -> list[Any]:
    if isinstance(content, Mapping) and content.get("kind") in ("List", *(f"{kind}List" for kind in OURS)):
        items = content.get("items")
        return items if isinstance(items, list) else []
    return [content]


def _convert(document: Document, namespace: str, reading: Reading) -> Iterator[tuple[Resource[Any], Any]]:
    kind, version = document.content.get("kind"), document.content.get("apiVersion")
    resource = OURS.get(kind) if isinstance(kind, str) else None
    if resource is None:
        if not isinstance(kind, str) or not isinstance(version, str):
            reading.faults.append(f"{document.origin}: apiVersion and kind must be set")
        else:
            reading.ignored.append(f"{document.origin}, {kind}")
        return
    title = f"{document.origin}, {kind} {_name(document.content)}"
    if version != resource.api_version:
        reading.faults.append(f"{title}: apiVersion: {version!r} is not {resource.api_version}")
        return
    checked = resource not in (kinds.NODE, kinds.POD)  # what Kubernetes itself wrote has fields that nobody here knows
    wrong = [f"{title}: {fault}" for fault in faults(resource.type, document.content)] if checked else []
    if wrong:
        reading.faults += wrong
        return
    try:
        item = msgspec.convert(_pruned(document.content), resource.type, strict=False)
    except msgspec.ValidationError as error:
        reading.faults.append(f"{title}: {error}")
        return
    if resource.namespaced and not item.metadata.namespace:
        item = msgspec.structs.replace(item, metadata=msgspec.structs.replace(item.metadata, namespace=namespace))
    yield resource, item


def _pruned(content: Any) -> Any:
    """Without what is null, which an API server takes for what is not there, and without status; times as text, as JSON has them."""
    plain = json.loads(json.dumps(content, default=str))
    return _without_null({name: value for name, value in plain.items() if name != "status" or plain.get("kind") in ("Pod", "Node")})


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_null(item) for name, item in value.items() if item is not None}
    return [_without_null(item) for item in value] if isinstance(value, list) else value


def _name(content: Mapping[str, Any]) -> str:
    metadata = content.get("metadata")
    if not isinstance(metadata, Mapping):
        return "(without a name)"
    parts = [str(metadata[part]) for part in ("namespace", "name") if metadata.get(part)]
    return "/".join(parts) or "(without a name)"
