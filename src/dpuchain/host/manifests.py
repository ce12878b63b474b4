"""What a release consists of: the manifest in Helm's record of it, object by object."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import yaml

from dpuchain.api.kubernetes import Managed, Secret
from dpuchain.api.meta import ObjectKey
from dpuchain.api.resource import Resource
from dpuchain.host.helm import HelmError
from dpuchain.kube.client import Client

UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OSError, EOFError, zlib.error, yaml.YAMLError)
"""What the layers of a record raise that is not as Helm writes it: base64, gzip, JSON, YAML, and objects without names."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True)
class Document:
    """One object of a manifest, and its text, in which each value is written as the chart has it: what it means, the API server says."""

    api_version: str
    kind: str
    key: ObjectKey
    text: str


class _ServedKind(msgspec.Struct):
    name: str
    kind: str
    namespaced: bool


class _ServedKinds(msgspec.Struct):
    resources: list[_ServedKind]


def documents(record: Secret) -> tuple[Document, ...]:
    """The objects of the release that Helm's record is of, without hooks; one that names no namespace is in the release's. HelmError if
    the record is not as Helm writes it.
    """
    try:
        content: dict[str, str] = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(record.data["release"]))))
        roots = [node for node in yaml.compose_all(content["manifest"], Loader=_LOADER) if isinstance(node, yaml.MappingNode)]
        return tuple(_document(node, content["namespace"]) for root in roots for node in _flattened(root))
    except UNREADABLE as error:
        raise HelmError(
            f"Helm's record {record.metadata.name} cannot be read ({' '.join(str(error).split())}); uninstall the release"
        ) from error


async def kinds_of(client: Client, found: Sequence[Document]) -> dict[tuple[str, str], Resource[Managed]]:
    """How the API server serves the kinds of these documents, by their `apiVersion` and `kind`. KubeError if it does not tell."""
    wanted = {(document.api_version, document.kind) for document in found}
    served = {}
    for api_version in sorted({api_version for api_version, _ in wanted}):
        group, _, version = api_version.rpartition("/")
        answer = await client.request("GET", f"/apis/{api_version}" if group else f"/api/{version}")
        for entry in msgspec.json.decode(answer, type=_ServedKinds).resources:
            if (api_version, entry.kind) in wanted and "/" not in entry.name:
                served[api_version, entry.kind] = Resource(group, version, entry.kind, entry.name, Managed, entry.namespaced)
    return served


def _flattened(node: yaml.MappingNode) -> Iterator[yaml.MappingNode]:
    """The object, or those that it lists (`kind: List`), as Helm takes them."""
    items = _fields(node).get("items")
    if items is not None and _text(node, "kind").endswith("List"):
        for item in items.value:
            yield from _flattened(item)
    else:
        yield node


def _document(node: yaml.MappingNode, namespace: str) -> Document:
    metadata = _fields(node)["metadata"]
    key = ObjectKey(_text(metadata, "namespace") or namespace, _text(metadata, "name"))
    return Document(_text(node, "apiVersion"), _text(node, "kind"), key, yaml.serialize(node, Dumper=_DUMPER))


def _fields(node: Any) -> dict[str, Any]:
    return {key.value: value for key, value in node.value}


def _text(node: Any, field: str) -> str:
    value = _fields(node).get(field)
    return value.value if value is not None else ""
