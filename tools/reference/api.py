"""The page of the kinds: each field with its type, default and bounds, from the schemas that the API server holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from tools.reference.text import code, page, table

from dpuchain.api.crds import DPU_KINDS, HOST_KINDS, Definition
from dpuchain.api.schema import Schema, kind_schema

_BOUNDS = {
    "minimum": "≥ {}",
    "maximum": "≤ {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minProperties": "at least {} entries",
    "maxProperties": "at most {} entries",
    "pattern": "matches `{}`",
    "format": "{}",
}
_INTRODUCTION = """
What the API server holds of each kind. A field that is not listed is named in a warning when an object is applied, and not kept.
`deploy/crds` has the same as CustomResourceDefinitions, and `dpuchain crds` prints them.
"""


def api() -> str:
    """The page."""
    host = "\n".join(_kind(definition) for definition in HOST_KINDS)
    dpu = "\n".join(_kind(definition) for definition in DPU_KINDS)
    in_host = "## Kinds of the host cluster\n\nPeople and DPF write these.\n"
    in_dpu = "## Kinds of a DPU cluster\n\nThe controllers make these from them.\n"
    return page("API", _INTRODUCTION.strip() + "\n", in_host, host, in_dpu, dpu)


def _kind(definition: Definition) -> str:
    resource = definition.resource
    schema = kind_schema(resource.type)
    properties = {name: part for name, part in schema["properties"].items() if name not in ("apiVersion", "kind", "metadata")}
    rows = [row for name, part in properties.items() for row in _rows(name, part, required=name in schema.get("required", ()))]
    facts = f"`apiVersion: {resource.api_version}`; short name `{definition.short_name}`."
    selectable = f" Field selectors: {', '.join(code(path) for path in definition.selectable)}." if definition.selectable else ""
    rules = "".join(f"- {path}: {message}\n" for path, message in _rules("", schema))
    held = f"\nWhat is refused besides:\n\n{rules}" if rules else ""
    head = ("field", "type", "default", "bounds", "")
    return f"### {resource.kind}\n\n{schema['description']} {facts}{selectable}\n\n{table(head, rows)}{held}"


def _rows(path: str, schema: Schema, *, required: bool) -> Iterator[tuple[str, ...]]:
    text = schema.get("description", "")
    default = json.dumps(schema["default"]) if "default" in schema else ""
    yield code(path), _type(schema) + (", required" if required else ""), code(default), _bounds(schema), text
    inner = schema.get("items", schema)
    below = f"{path}[]" if "items" in schema else path
    for name, part in inner.get("properties", {}).items():
        yield from _rows(f"{below}.{name}", part, required=name in inner.get("required", ()))


def _type(schema: Schema) -> str:
    if "items" in schema:
        return f"list of {_type(schema['items'])}"
    if "additionalProperties" in schema:
        return f"map of {_type(schema['additionalProperties'])}"
    return "integer or string" if schema.get("x-kubernetes-int-or-string") else str(schema.get("type", "any"))


def _bounds(schema: Schema) -> str:
    found = [form.format(schema[keyword]) for keyword, form in _BOUNDS.items() if keyword in schema]
    values: Iterable[Any] = schema.get("enum", ())
    return "; ".join([*(["one of " + ", ".join(code(value) for value in values)] if values else []), *found])


def _rules(path: str, schema: Schema) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield code(path or "the object"), f"{rule['message']} ({code(rule['rule'])})"
    inner = schema.get("items", schema)
    below = f"{path}[]" if "items" in schema else path
    if inner is not schema:
        yield from _rules(below, inner)
        return
    for name, part in inner.get("properties", {}).items():
        yield from _rules(f"{below}.{name}".lstrip("."), part)
