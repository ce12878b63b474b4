"""Every manifest of our charts against the schemas that the API server publishes: no field that it does not know, none of a wrong type."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from tests.integration.deploy.conftest import CHARTS, Helm, apply
from tests.integration.deploy.test_charts import OFF

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dpuchain.kube.client import Client

Schema = dict[str, Any]


class Published:
    """The schemas of an API server, one document for each group and version, as `/openapi/v3` has them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._documents: dict[str, Schema] = {}

    async def complaints(self, item: Mapping[str, Any]) -> list[str]:
        """What is wrong with an object; its kind must be one of the API server's."""
        version = item["apiVersion"]
        group, _, name = version.rpartition("/")
        document = await self._document(f"apis/{version}" if group else f"api/{version}")
        asked = {"group": group, "version": name, "kind": item["kind"]}
        schemas = document["components"]["schemas"]
        key = next(key for key, schema in schemas.items() if asked in schema.get("x-kubernetes-group-version-kind", ()))
        root = {"$ref": f"#/components/schemas/{key}", "components": document["components"]}
        errors = jsonschema.Draft4Validator(root).iter_errors(item)
        return [f"{item['kind']} {item['metadata']['name']}: {'.'.join(map(str, e.absolute_path))}: {e.message}" for e in errors]

    async def _document(self, path: str) -> Schema:
        if path not in self._documents:
            document = json.loads(await self._client.request("GET", f"/openapi/v3/{path}"))
            for schema in document["components"]["schemas"].values():
                _close(schema)
            self._documents[path] = document
        return self._documents[path]


def _close(schema: Schema) -> None:
    """Have a schema refuse what it does not name, as a strict API server does, and take what Kubernetes means by its own words."""
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        for word in ("type", "oneOf", "anyOf"):
            schema.pop(word, None)
        schema["type"] = ["integer", "string"]
        return
    # An object that has a schema of its own is told of as one of several, with a default.
    for part in (*schema.get("allOf", ()), *schema.get("oneOf", ()), *schema.get("anyOf", ())):
        _close(part)
    properties = schema.get("properties")
    if properties is not None:
        for part in properties.values():
            _close(part)
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            _close(schema[word])


@pytest.fixture
def published(client: Client) -> Published:
    return Published(client)


@pytest.mark.parametrize("chart", CHARTS)
@pytest.mark.parametrize("off", [False, True], ids=["all", "all-off"])
async def test_manifests_are_as_the_published_schemas_say(helm: Helm, published: Published, chart: str, off: bool) -> None:
    items = await helm.rendered(chart, *([f"--set={option}" for option in OFF[chart]] if off else []))
    complaints = [complaint for item in items for complaint in await published.complaints(item)]
    assert not complaints, "\n".join(complaints)
    assert len(items) > 10


async def test_schemas_name_what_is_wrong(helm: Helm, published: Published) -> None:
    """The check itself can fail: at an unknown field, a wrong type and a missing one, however deep."""
    (deployment,) = [
        item for item in await helm.rendered("dpuchain") if item["metadata"]["name"] == "dpuchain-host" and item["kind"] == "Deployment"
    ]
    assert not await published.complaints(deployment)

    def spoiled(change: Any) -> dict[str, Any]:
        item = copy.deepcopy(deployment)
        change(item["spec"]["template"]["spec"])
        return item

    wrong = {
        "readOnlyRootFileSystem": spoiled(lambda pod: pod["containers"][0]["securityContext"].update(readOnlyRootFileSystem=True)),
        "'two' is not of type 'integer'": {**deployment, "spec": {**deployment["spec"], "replicas": "two"}},
        "'name' is a required property": spoiled(lambda pod: pod["containers"][0].pop("name")),
    }
    for words, item in wrong.items():
        assert any(words in complaint for complaint in await published.complaints(item)), words


async def test_our_own_kinds_are_published_too(client: Client, published: Published) -> None:
    chain = {
        "apiVersion": "svc.dpu.nvidia.com/v1alpha1",
        "kind": "ServiceChain",
        "metadata": {"name": "chain", "namespace": "default"},
        "spec": {"node": "dpu-1", "switches": [{"ports": [{"serviceInterface": {"matchLabels": {"port": "p0"}}}]}]},
    }
    assert not await published.complaints(chain)
    spec: Any = {**chain, "spec": {"node": 1, "switch": []}}
    assert len(await published.complaints(spec)) >= 2
    await apply(client, [chain], dry_run=True)
