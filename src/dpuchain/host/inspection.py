"""What a Helm run left: whether everything that the release consists of is there, as Helm made it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import structlog

from dpuchain.api.kinds import SECRET
from dpuchain.api.kubernetes import Managed, Metadata
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.resource import Resource
from dpuchain.chain.release import Release
from dpuchain.host.helm import FIELD_MANAGER
from dpuchain.host.made import NEVER_AGAIN, Traces, described, is_contested, path_of, read, trace, traces_of
from dpuchain.host.manifests import documents, kinds_of
from dpuchain.kube.client import APPLY_PATCH, Client, decode
from dpuchain.kube.errors import Denied, Invalid, NotFound

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Drift:
    """What a release was to be, as far as it was noted, and what it was before Helm ran."""

    noted: Traces
    found: Traces


@dataclass(frozen=True)
class Part:
    """One object that a release consists of, as its manifest has it."""

    resource: Resource[Managed]
    key: ObjectKey
    text: str


@dataclass(frozen=True)
class Inspection:
    """The traces of what a release made, and the objects that others had their hands on while Helm ran."""

    traces: Traces
    disturbed: list[str]


async def inspect(client: Client, release: Release, record: Metadata, drift: Drift) -> Inspection:
    """Look at what Helm made when it wrote this record, and put right what it does not. KubeError or HelmError if that is not possible.

    Helm compares a custom resource with nothing but what it wrote itself before, so it misses what others have changed of it.
    """
    parts = await _parts(client, record)
    made = await read(client, release, parts)
    for kind, name in list(_missed(parts, made, drift)):
        del made[kind][name]
        applied = await _apply(client, parts[kind][name])
        if applied is not None:
            made[kind][name] = applied
    traces = {kind: dict.fromkeys(names, "") for kind, names in parts.items()} | traces_of(made)
    disturbed = []
    for kind, items in made.items():
        for name in parts[kind]:
            if name not in items or is_contested(items[name], record.metadata.creation_timestamp):
                traces[kind][name] = ""
                disturbed.append(described(kind, name))
    return Inspection(traces, disturbed)


async def _apply(client: Client, part: Part) -> Managed | None:
    """Have an object be what the manifest says, in Helm's name; returns it as it is then, or None if that is refused."""
    path, query = part.resource.path(*part.key), {"fieldManager": FIELD_MANAGER, "force": "true"}
    try:
        return decode(part.resource, await client.request("PATCH", path, body=part.text.encode(), content_type=APPLY_PATCH, query=query))
    except (Denied, Invalid, NotFound) as error:
        _log.warning("what somebody changed cannot be put right", object=str(part.key), error=str(error))
        return None


async def _parts(client: Client, record: Metadata) -> dict[str, dict[str, Part]]:
    """What the release consists of, by kind and name."""
    found = documents(await client.get(SECRET, key_of(record)))
    served = await kinds_of(client, found)
    parts: dict[str, dict[str, Part]] = {}
    for document in found:
        resource = served.get((document.api_version, document.kind))
        if resource is not None and path_of(resource) not in NEVER_AGAIN:
            key = document.key if resource.namespaced else ObjectKey("", document.key.name)
            parts.setdefault(path_of(resource), {})[str(key)] = Part(resource, key, document.text)
    return parts


def _missed(parts: Mapping[str, Mapping[str, Part]], made: Mapping[str, Mapping[str, Managed]], drift: Drift) -> Iterator[tuple[str, str]]:
    """Kind and name of what was not as it is to be, and is after Helm's run what it was before."""
    for kind in parts.keys() & made.keys() & drift.noted.keys() & drift.found.keys():
        noted, found = drift.noted[kind], drift.found[kind]
        for name in parts[kind].keys() & made[kind].keys():
            if trace(made[kind][name]) == found.get(name) != noted.get(name):
                yield kind, name
