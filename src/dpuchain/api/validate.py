"""Manifests held against the schemas of this package, as an API server would hold them: what is wrong, at which field, and the remedy.

CEL rules are held as far as they speak of the object alone and in the few forms that ours have; the API server has the last word.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from dpuchain.api.schema import Schema, kind_schema

IDENTITY = ("apiVersion", "kind", "metadata")


class Fault(NamedTuple):
    """Something wrong with a field."""

    field: str
    text: str

    def __str__(self) -> str:
        return f"{self.field}: {self.text}"


def faults(cls: type, manifest: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with a manifest of the kind whose struct is `cls`. Its status is not looked at: it is not the user's to write."""
    schema = kind_schema(cls)
    content = {name: value for name, value in manifest.items() if name != "status"}
    return list(_metadata(content.get("metadata"))) + list(_of("", content, schema))


def _metadata(metadata: Any) -> Iterator[Fault]:
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        yield Fault("metadata.name", "must be set; give the object a name")
        return
    for field in ("labels", "annotations"):
        for key, value in (metadata.get(field) or {}).items():
            if not isinstance(value, str):
                yield Fault(f"metadata.{field}[{key}]", f"{value!r} is {_type_of(value)}; write it in quotes")


def _of(path: str, value: Any, schema: Schema) -> Iterator[Fault]:
    kind = schema.get("type")
    if kind is not None and not _is(value, kind):
        yield Fault(path, f"{value!r} is {_type_of(value)}; give {_article(kind)}")
        return
    if kind == "object":
        yield from _object(path, value, schema)
    elif kind == "array":
        yield from _bounds(path, len(value), schema, "Items", "items")
        for position, item in enumerate(value):
            yield from _of(f"{path}[{position}]", item, schema["items"])
    elif kind == "string":
        yield from _string(path, value, schema)
    elif kind == "integer":
        yield from _number(path, value, schema)


def _object(path: str, value: Mapping[str, Any], schema: Schema) -> Iterator[Fault]:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if value.get(name) is None:
            yield Fault(_join(path, name), f"must be set: {properties[name].get('description', 'it has no default')}")
    yield from _bounds(path, len(value), schema, "Properties", "entries")
    for name, item in value.items():
        where = _join(path, str(name))
        if name in properties:
            if item is not None and not (not path and name in IDENTITY):
                yield from _of(where, item, properties[name])
        elif "additionalProperties" in schema:
            yield from _of(f"{path}[{name}]", item, schema["additionalProperties"])
        elif properties and "x-kubernetes-preserve-unknown-fields" not in schema:
            yield Fault(where, f"unknown field; {_hint(str(name), properties)}")
    for rule in schema.get("x-kubernetes-validations", ()):
        if _breaks(rule["rule"], value):
            yield Fault(path or "metadata", rule["message"])


def _hint(name: str, properties: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, properties, n=1)
    return f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(properties))}"


def _bounds(path: str, count: int, schema: Schema, of: str, what: str) -> Iterator[Fault]:
    if count < schema.get(f"min{of}", 0):
        yield Fault(path, f"has {count} {what}; give at least {schema[f'min{of}']}")
    if count > schema.get(f"max{of}", count):
        yield Fault(path, f"has {count} {what}; give at most {schema[f'max{of}']}")


def _string(path: str, value: str, schema: Schema) -> Iterator[Fault]:
    if "enum" in schema and value not in schema["enum"]:
        yield Fault(path, f"{value!r} is not one of {', '.join(schema['enum'])}")
    if "pattern" in schema and re.search(schema["pattern"], value) is None:
        yield Fault(path, f"{value!r} does not match {schema['pattern']}: {schema.get('description', '')}".rstrip(": "))
    if len(value) < schema.get("minLength", 0):
        yield Fault(path, "must not be empty")
    if len(value) > schema.get("maxLength", len(value)):
        yield Fault(path, f"{value!r} has {len(value)} characters; give at most {schema['maxLength']}")


def _number(path: str, value: int, schema: Schema) -> Iterator[Fault]:
    least, most = schema.get("minimum", value), schema.get("maximum", value)
    if not least <= value <= most:
        yield Fault(path, f"{value} lies outside {least}..{most}")


def _is(value: Any, kind: str) -> bool:
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, {"object": Mapping, "array": list, "string": str, "boolean": bool}[kind])


_TYPES: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "a boolean"),
    ((int, float), "a number"),
    (str, "a string"),
    (list, "a list"),
    (Mapping, "a mapping"),
    (type(None), "empty"),
)


def _type_of(value: Any) -> str:
    return next((name for kind, name in _TYPES if isinstance(value, kind)), f"a {type(value).__name__}")


def _article(kind: str) -> str:
    return {"object": "a mapping", "array": "a list", "string": "a string (write it in quotes)", "boolean": "true or false"}.get(
        kind, "an integer"
    )


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


_HAS = re.compile(r"(!?)has\(self\.(\w+)\)")
_DIFFERS = re.compile(r"self\.(\w+) != '([^']*)'")
_SIZE = re.compile(r"self\.metadata\.name\.size\(\) <= (\d+)")


def _breaks(rule: str, value: Mapping[str, Any]) -> bool:
    """Whether `value` breaks a rule that is an alternative of forms which are known here."""
    answers = [_answer(part.strip(), value) for part in rule.split("||")]
    return all(answer is False for answer in answers)


def _answer(expression: str, value: Mapping[str, Any]) -> bool | None:
    """Whether `expression` holds; None if its form is not known."""
    if found := _HAS.fullmatch(expression):
        return (value.get(found[2]) is not None) != bool(found[1])
    if found := _DIFFERS.fullmatch(expression):
        return value.get(found[1]) != found[2]
    if found := _SIZE.fullmatch(expression):
        return len(value.get("metadata", {}).get("name", "")) <= int(found[1])
    return None
