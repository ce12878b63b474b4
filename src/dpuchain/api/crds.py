"""The custom resource definitions: what `kind_schema` says of each struct, with what only a definition has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from dpuchain.api import kinds
from dpuchain.api.resource import Resource
from dpuchain.api.schema import kind_schema

READY = {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"}
REASON = {"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].reason"}
AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
NODE = {"name": "Node", "type": "string", "jsonPath": ".spec.node"}


def _interface_columns(spec: str) -> tuple[dict[str, str], ...]:
    """Type and name of an interface whose ServiceInterfaceSpec is at the path `spec`."""
    return (
        {"name": "IfType", "type": "string", "jsonPath": f"{spec}.interfaceType"},
        {"name": "IfName", "type": "string", "jsonPath": f"{spec}['service','physical'].interfaceName"},
    )


class Definition(NamedTuple):
    """What a definition has beyond the schema. Without columns kubectl shows name and age; `selectable` are paths for field selectors."""

    resource: Resource[Any]
    short_name: str
    columns: tuple[dict[str, str], ...] = ()
    selectable: tuple[str, ...] = ()


HOST_KINDS = (
    Definition(kinds.DPU_SERVICE_CHAIN, "dpuschain", (READY, REASON, AGE)),
    Definition(kinds.DPU_SERVICE_INTERFACE, "dpusif", (*_interface_columns(".spec.template.spec.template.spec"), READY, REASON, AGE)),
    Definition(kinds.DPU_SERVICE, "dpusvc", (READY, REASON, AGE)),
    Definition(
        kinds.DPU_CLUSTER,
        "dpuc",
        (
            READY,
            {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
            {"name": "Type", "type": "string", "jsonPath": ".spec.type"},
            {"name": "MaxNodes", "type": "integer", "jsonPath": ".spec.maxNodes"},
            {"name": "Version", "type": "string", "jsonPath": ".spec.version"},
            AGE,
        ),
    ),
    Definition(kinds.DPF_OPERATOR_CONFIG, "dpfconfig", (READY, REASON, AGE)),
)
"""Kinds that people and DPF write in the host cluster."""

DPU_KINDS = (
    Definition(kinds.SERVICE_CHAIN_SET, "schainset"),
    Definition(kinds.SERVICE_INTERFACE_SET, "sifset", (*_interface_columns(".spec.template.spec"), AGE)),
    Definition(kinds.SERVICE_CHAIN, "schain", (NODE, READY, REASON, AGE), (".spec.node",)),
    Definition(kinds.SERVICE_INTERFACE, "sif", (*_interface_columns(".spec"), NODE, READY, REASON, AGE), (".spec.node",)),
)
"""Kinds that controllers make from them in each DPU cluster."""


def manifests(definitions: Iterable[Definition] = (*HOST_KINDS, *DPU_KINDS)) -> tuple[dict[str, Any], ...]:
    """The CustomResourceDefinitions, ready to be applied."""
    return tuple(_manifest(definition) for definition in definitions)


def _manifest(definition: Definition) -> dict[str, Any]:
    resource = definition.resource
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{resource.group}", "annotations": {"helm.sh/resource-policy": "keep"}},
        "spec": {
            "group": resource.group,
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "shortNames": [definition.short_name],
            },
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "versions": [_version(definition)],
        },
    }


def _version(definition: Definition) -> dict[str, Any]:
    resource = definition.resource
    version: dict[str, Any] = {
        "name": resource.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": kind_schema(resource.type)},
        "subresources": {"status": {}},
    }
    if definition.columns:
        version["additionalPrinterColumns"] = list(definition.columns)
    if definition.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in definition.selectable]
    return version
