"""The schemas say what the structs say, the structs say what DPF's API promises, and both say it in words."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pytest
from msgspec import Meta, field, inspect

from dpuchain.api.crds import DPU_KINDS, HOST_KINDS, manifests
from dpuchain.api.meta import Model
from dpuchain.api.rules import Rule
from dpuchain.api.schema import kind_schema, struct_schema

KINDS: dict[str, type] = {d.resource.kind: d.resource.type for d in (*HOST_KINDS, *DPU_KINDS)}
TOP = {"metadata", "spec", "status"}


class Inner(Model, frozen=True, kw_only=True):
    """Inner words."""

    RULES: ClassVar[tuple[Rule, ...]] = (Rule("self.size > 1", "too small"), Rule("oldSelf.hasValue()", "too new", on_create=True))
    SCHEMA: ClassVar[dict[str, Any]] = {"x-kubernetes-map-type": "atomic"}

    size: Annotated[int, Meta(description="Size.", ge=1, le=9)] = 5


class Outer(Model, frozen=True, kw_only=True):
    """Outer words,
    on two lines.
    """

    some_name: Annotated[str, Meta(min_length=1, max_length=15, pattern="^a")]
    renamed: str = field(name="reNAMED", default="")
    choice: Literal["b", "a"] = "a"
    flag: bool | None = None
    when: datetime | None = None
    labels: Annotated[dict[str, str], Meta(min_length=1, max_length=50)] = field(default_factory=dict)
    free: dict[str, Any] | None = None
    many: Annotated[tuple[Inner, ...], Meta(min_length=1, max_length=3)] = ()
    inner: Annotated[Inner, Meta(description="Words of the field.")] = Inner()
    maybe: Inner | None = None
    amount: Annotated[int | str, Meta(extra_json_schema={"x-kubernetes-int-or-string": True})] = 0


INNER = {
    "type": "object",
    "description": "Inner words.",
    "properties": {"size": {"type": "integer", "minimum": 1, "maximum": 9, "description": "Size.", "default": 5}},
    "x-kubernetes-validations": [
        {"rule": "self.size > 1", "message": "too small"},
        {"rule": "oldSelf.hasValue()", "message": "too new", "optionalOldSelf": True},
    ],
    "x-kubernetes-map-type": "atomic",
}


def test_struct_becomes_an_object_with_its_words_and_required_fields() -> None:
    schema = struct_schema(Outer)
    assert schema["type"] == "object"
    assert schema["description"] == "Outer words, on two lines."
    assert schema["required"] == ["someName"]


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("someName", {"type": "string", "minLength": 1, "maxLength": 15, "pattern": "^a"}),
        ("reNAMED", {"type": "string"}),
        ("choice", {"type": "string", "enum": ["a", "b"], "default": "a"}),
        ("flag", {"type": "boolean"}),
        ("when", {"type": "string", "format": "date-time"}),
        ("labels", {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1, "maxProperties": 50}),
        ("free", {"type": "object"}),
        ("many", {"type": "array", "items": INNER, "minItems": 1, "maxItems": 3}),
        ("inner", {**INNER, "description": "Words of the field.", "default": {}}),
        ("maybe", INNER),
        ("amount", {"x-kubernetes-int-or-string": True}),
    ],
)
def test_field_becomes_a_property(name: str, schema: dict[str, Any]) -> None:
    assert struct_schema(Outer)["properties"][name] == schema


def test_metadata_of_a_kind_is_left_to_the_api_server_and_that_of_a_template_is_not() -> None:
    schema = kind_schema(KINDS["ServiceChainSet"])
    assert schema["properties"]["metadata"] == {"type": "object"}
    assert schema["required"] == ["spec"]
    template = schema["properties"]["spec"]["properties"]["template"]["properties"]["metadata"]
    assert template["properties"].keys() == {"labels", "annotations"}


@pytest.mark.parametrize("wrong", [float, bytes, int | bool, list[float]])
def test_type_that_no_schema_expresses_is_a_bug(wrong: Any) -> None:
    with pytest.raises(TypeError, match="no structural schema"):
        struct_schema(msgspec.defstruct("Wrong", [("value", wrong)]))


def structs(info: inspect.Type) -> Iterator[inspect.StructType]:
    """Every struct that a type is made of."""
    match info:
        case inspect.StructType():
            yield info
            for part in info.fields:
                yield from structs(part.type)
        case inspect.UnionType():
            for option in info.types:
                yield from structs(option)
        case inspect.Metadata():
            yield from structs(info.type)
        case inspect.VarTupleType():
            yield from structs(info.item_type)


@pytest.mark.parametrize("kind", KINDS)
def test_every_struct_and_every_field_is_described(kind: str) -> None:
    root = inspect.type_info(KINDS[kind])
    assert isinstance(root, inspect.StructType)
    parts = [root, *(struct for part in root.fields if part.name in TOP - {"metadata"} for struct in structs(part.type))]
    for struct in parts:
        assert (struct.cls.__doc__ or "").endswith("."), struct.cls
        fields = [part for part in struct.fields if struct is not root or part.name not in TOP]
        undescribed = [part.name for part in fields if not (_description(part) or "").endswith(".")]
        assert not undescribed, f"{struct.cls.__name__} does not describe {undescribed}"


def _description(part: inspect.Field) -> str | None:
    return (part.type.extra_json_schema or {}).get("description") if isinstance(part.type, inspect.Metadata) else None


CHAIN, SET, FLEET = "spec", "spec.template.spec", "spec.template.spec.template.spec"
CHAINS = (("ServiceChain", CHAIN), ("ServiceChainSet", SET), ("DPUServiceChain", FLEET))
INTERFACES = (("ServiceInterface", CHAIN), ("ServiceInterfaceSet", SET), ("DPUServiceInterface", FLEET))

PROMISED_OF_CHAINS: list[tuple[str, dict[str, Any]]] = [
    ("", {"required": ["switches"]}),
    ("switches", {"minItems": 1, "maxItems": 50}),
    ("switches[]", {"required": ["ports"]}),
    ("switches[].ports", {"minItems": 1, "maxItems": 50}),
    ("switches[].ports[]", {"required": ["serviceInterface"]}),
    ("switches[].serviceMTU", {"default": 1500, "minimum": 1280, "maximum": 9216}),
    ("switches[].ports[].serviceInterface", {"required": ["matchLabels"]}),
    ("switches[].ports[].serviceInterface.matchLabels", {"minProperties": 1, "maxProperties": 50}),
    ("switches[].ports[].serviceInterface.ipam.matchLabels", {"minProperties": 1, "maxProperties": 50}),
    ("switches[].ports[].serviceInterface.ipam.defaultGateway", {"type": "boolean"}),
    ("switches[].ports[].serviceInterface.ipam.setDefaultRoute", {"type": "boolean"}),
]
NUMBER = {"type": "integer", "minimum": 0, "maximum": 255}
IMMUTABLE = {"x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "virtualNetwork is immutable"}]}
PROMISED_OF_INTERFACES: list[tuple[str, dict[str, Any]]] = [
    ("", {"required": ["interfaceType"]}),
    ("interfaceType", {"enum": ["ovn", "patch", "pf", "physical", "service", "vf", "vlan"]}),
    ("physical", {"required": ["interfaceName"]}),
    ("vlan", {"required": ["vlanID", "parentInterfaceRef"]}),
    ("vf", {"required": ["pfID", "vfID"]}),
    ("vf.pfID", NUMBER),
    ("vf.vfID", NUMBER),
    ("vf.virtualNetwork", IMMUTABLE),
    ("vf.nicSelector.type", {"enum": ["dpu", "pci"]}),
    ("pf", {"required": ["pfID"]}),
    ("pf.pfID", NUMBER),
    ("pf.virtualNetwork", IMMUTABLE),
    ("pf.nicSelector.controllerNumber", NUMBER),
    ("pf.nicSelector.pci.address", {"pattern": r"^[0-9a-f]{4}:[0-9a-f]{2}:[0-1][0-9a-f]\.[0-7]{1}$"}),
    ("service", {"required": ["serviceID", "network", "interfaceName"]}),
    ("service.interfaceName", {"minLength": 1, "maxLength": 15}),
    ("service.virtualNetwork", IMMUTABLE),
    ("ovn.externalBridge", {"default": "br-ovn"}),
    ("patch", {"required": ["peerBridge"]}),
]
PROMISED: list[tuple[str, str, dict[str, Any]]] = [
    *((kind, f"{root}.{path}".rstrip("."), facts) for kind, root in CHAINS for path, facts in PROMISED_OF_CHAINS),
    *((kind, f"{root}.{path}".rstrip("."), facts) for kind, root in INTERFACES for path, facts in PROMISED_OF_INTERFACES),
    ("DPUService", "spec", {"required": ["helmChart"]}),
    ("DPUService", "spec.interfaces", {"minItems": 1, "maxItems": 50}),
    ("DPUService", "spec.helmChart.source", {"required": ["repoURL", "version"]}),
    ("DPUService", "spec.helmChart.source.repoURL", {"pattern": "^(oci://|https://).+$"}),
    ("DPUService", "spec.helmChart.source.version", {"minLength": 1}),
    ("DPUService", "spec.helmChart.values", {"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
    ("DPUCluster", "spec.maxNodes", {"default": 1000, "minimum": 1, "maximum": 3000}),
    ("DPUCluster", "spec", {"required": ["type", "version"], "x-kubernetes-preserve-unknown-fields": True}),
    ("DPUCluster", "status.phase", {"enum": ["Creating", "Failed", "NotReady", "Pending", "Ready"]}),
    ("DPUCluster", "status", {"x-kubernetes-preserve-unknown-fields": True}),
    ("DPFOperatorConfig", "spec", {"x-kubernetes-preserve-unknown-fields": True}),
    ("DPFOperatorConfig", "spec.networking.highSpeedMTU", {"default": 1500, "minimum": 1280, "maximum": 9216}),
    ("DPFOperatorConfig", "spec.networking.controlPlaneMTU", {"default": 1500, "minimum": 1280, "maximum": 9216}),
]
"""What DPF's API holds, by kind and path: manifests rely on it."""


@pytest.mark.parametrize(("kind", "path", "facts"), PROMISED)
def test_what_dpf_promises_is_in_the_schema(kind: str, path: str, facts: dict[str, Any]) -> None:
    schema = kind_schema(KINDS[kind])
    for step in path.split("."):
        schema = schema["properties"][step.removesuffix("[]")]
        schema = schema["items"] if step.endswith("[]") else schema
    assert {keyword: schema.get(keyword) for keyword in facts} == facts


@pytest.mark.parametrize("kind", [kind for kind, _ in INTERFACES])
def test_block_of_each_type_but_ovn_is_held_by_a_rule(kind: str) -> None:
    schema = kind_schema(KINDS[kind])["properties"]["spec"]
    while "template" in schema["properties"]:
        schema = schema["properties"]["template"]["properties"]["spec"]
    types = set(schema["properties"]["interfaceType"]["enum"])
    assert {rule["message"] for rule in schema["x-kubernetes-validations"]} == {
        f"for interfaceType={name}, {name} must be set" for name in types - {"ovn"}
    }


def test_definitions_are_kept_by_helm_and_have_names_of_their_own() -> None:
    made = manifests()
    assert len(made) == len(KINDS)
    names = [
        name for m in made for name in (m["spec"]["names"]["singular"], m["spec"]["names"]["plural"], *m["spec"]["names"]["shortNames"])
    ]
    assert len(set(names)) == len(names)
    for manifest in made:
        assert manifest["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
        assert manifest["metadata"]["name"] == f"{manifest['spec']['names']['plural']}.{manifest['spec']['group']}"
        assert manifest["spec"]["versions"][0]["subresources"] == {"status": {}}
