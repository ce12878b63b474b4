"""What all objects share: keys, and how they cross the wire."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from dpuchain.api.chain import ServiceChain, ServiceChainSpec, Switch
from dpuchain.api.kubernetes import Metadata, Secret
from dpuchain.api.meta import ObjectKey, ObjectMeta, OwnerReference, key_of


def decoded(**metadata: Any) -> ObjectMeta:
    return msgspec.json.decode(json.dumps({"metadata": metadata}), type=Metadata).metadata


def test_key_reads_as_kubectl_writes_it() -> None:
    assert str(ObjectKey("ns", "name")) == "ns/name"
    assert str(ObjectKey("", "name")) == "name"
    assert key_of(Metadata(metadata=ObjectMeta(namespace="ns", name="name"))) == ObjectKey("ns", "name")


def test_metadata_is_read_by_the_names_of_the_wire_and_the_rest_is_passed_over() -> None:
    owner = {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": True}
    meta = decoded(
        name="n",
        resourceVersion="7",
        creationTimestamp="2026-01-02T03:04:05Z",
        ownerReferences=[owner],
        managedFields=[{"manager": "kubectl"}],
        unheardOf={"deep": 1},
    )
    assert meta.resource_version == "7"
    assert meta.creation_timestamp == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert meta.owner_references == (OwnerReference(api_version="v1", kind="Node", name="n", uid="u", controller=True),)
    assert meta.deletion_timestamp is None


def test_creation_timestamp_may_be_null_as_in_a_dry_run() -> None:
    assert decoded(name="n", creationTimestamp=None).creation_timestamp is None


def test_what_is_at_its_default_is_not_written() -> None:
    meta = ObjectMeta(name="n", labels={}, finalizers=(), generation=0)
    assert json.loads(msgspec.json.encode(meta)) == {"name": "n"}


def test_object_is_immutable() -> None:
    meta = ObjectMeta(name="n")
    with pytest.raises(AttributeError):
        meta.name = "other"  # type: ignore[misc]  # which is what is tested


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ({"switches": []}, r"\$\.spec\.switches"),
        ({"switches": [{"ports": []}]}, r"\$\.spec\.switches\[0\]\.ports"),
        ({}, r"\$\.spec"),
        ({"switches": [{"ports": [{"serviceInterface": {"matchLabels": {"a": "b"}}}], "serviceMTU": 1}]}, "serviceMTU"),
    ],
)
def test_object_that_breaks_a_bound_is_refused_by_the_struct_too(spec: dict[str, Any], place: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=place):
        msgspec.json.decode(json.dumps({"spec": spec}), type=ServiceChain)


def test_abbreviations_keep_their_case_on_the_wire() -> None:
    spec = ServiceChainSpec(switches=(Switch(ports=(), service_mtu=2000),))
    assert json.loads(msgspec.json.encode(spec)) == {"switches": [{"ports": [], "serviceMTU": 2000}]}


def test_content_of_a_secret_is_not_shown() -> None:
    secret = Secret(metadata=ObjectMeta(namespace="ns", name="s"), data={"admin.conf": "aGlkZGVu"})
    assert repr(secret) == "Secret(ns/s)"
