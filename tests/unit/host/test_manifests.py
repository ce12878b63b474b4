"""What is read of the manifest in Helm's record."""

from __future__ import annotations

import base64
import gzip
import json

import pytest

from dpuchain.api.kubernetes import Secret
from dpuchain.api.meta import ObjectKey, ObjectMeta
from dpuchain.host.helm import HelmError
from dpuchain.host.manifests import documents

MANIFEST = """---
# Source: chart/templates/one.yaml
apiVersion: v1
kind: ConfigMap
metadata: {name: 123, labels: &same {a: b}}
data:
  plain: y
  day: 2020-01-01
  station: 10:20:30:40:50:55
  text: |
    line
    ---
---
# Source: chart/templates/nothing.yaml

---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: listed, namespace: elsewhere}
- apiVersion: rbac.authorization.k8s.io/v1
  kind: ClusterRole
  metadata: {name: wide}
"""


def record(content: bytes) -> Secret:
    return Secret(metadata=ObjectMeta(name="sh.helm.release.v1.service.v1"), data={"release": base64.b64encode(content).decode()})


def written(manifest: str) -> Secret:
    content = json.dumps({"name": "service", "namespace": "dpf", "manifest": manifest}).encode()
    return record(base64.b64encode(gzip.compress(content)))


def test_objects_of_a_manifest_are_known_by_kind_and_key_whatever_holds_them() -> None:
    found = documents(written(MANIFEST))
    assert [(document.api_version, document.kind, document.key) for document in found] == [
        ("v1", "ConfigMap", ObjectKey("dpf", "123")),
        ("v1", "Service", ObjectKey("elsewhere", "listed")),
        ("rbac.authorization.k8s.io/v1", "ClusterRole", ObjectKey("dpf", "wide")),
    ]


def test_values_are_passed_on_as_the_chart_has_them() -> None:
    text = documents(written(MANIFEST))[0].text
    for line in ("plain: y", "day: 2020-01-01", "station: 10:20:30:40:50:55"):
        assert f"  {line}\n" in text


def test_chart_without_objects_has_none() -> None:
    assert documents(written("")) == documents(written("---\n# nothing\n")) == ()


@pytest.mark.parametrize(
    "secret",
    [
        Secret(),
        record(b"!"),
        record(base64.b64encode(b"not compressed")),
        record(base64.b64encode(gzip.compress(b"not JSON"))),
        record(base64.b64encode(gzip.compress(b"{}"))),
        written("a: [\n"),
        written("kind: ConfigMap\n"),
        written("kind: ConfigMap\nmetadata: none\n"),
        written("kind: List\nitems: none\n"),
    ],
)
def test_record_that_helm_did_not_write_is_an_error_that_names_it(secret: Secret) -> None:
    with pytest.raises(HelmError, match=rf"Helm's record {secret.metadata.name} cannot be read .*; uninstall the release"):
        documents(secret)
