"""From the structs of this package to the OpenAPI v3 schemas that Kubernetes calls structural.

What a struct says is what the API server holds: types, bounds, patterns and enumerations come from the annotations, descriptions from
`Meta` and docstrings, defaults from the fields, CEL rules from `RULES`, and any further keyword of the struct itself from `SCHEMA`.
"""

from __future__ import annotations

import inspect as python
from typing import Any

from msgspec import NODEFAULT, inspect

Schema = dict[str, Any]

_IMPLIED: dict[str, Schema] = {
    "apiVersion": {"type": "string", "description": "Group and version of the kind, such as svc.dpu.nvidia.com/v1alpha1."},
    "kind": {"type": "string", "description": "Kind of the object."},
    "metadata": {"type": "object"},
}
"""What every kind has and the API server itself validates: it takes no more of a schema for `metadata` than this."""


def kind_schema(cls: type) -> Schema:
    """Schema of a whole object, whose struct has `metadata`, `spec` and perhaps `status`."""
    schema = struct_schema(cls)
    return {**schema, "properties": {**_IMPLIED, **{n: p for n, p in schema["properties"].items() if n != "metadata"}}}


def struct_schema(cls: type) -> Schema:
    """Schema of a struct. TypeError for a field of a type that a structural schema cannot express: a bug in the struct."""
    return _of(inspect.type_info(cls))


def _of(info: inspect.Type) -> Schema:
    match info:
        case inspect.Metadata():
            return {**_of(info.type), **(info.extra_json_schema or {})}
        case inspect.StructType():
            return _struct(info)
        case inspect.UnionType():
            return _union(info)
        case inspect.VarTupleType():
            return {"type": "array", "items": _of(info.item_type), **_bounds(info, "Items")}
        case inspect.DictType():
            values = {} if isinstance(info.value_type, inspect.AnyType) else {"additionalProperties": _of(info.value_type)}
            return {"type": "object", **values, **_bounds(info, "Properties")}
    return _scalar(info)


def _scalar(info: inspect.Type) -> Schema:
    match info:
        case inspect.StrType():
            return {"type": "string", **_bounds(info, "Length"), **_given(pattern=info.pattern)}
        case inspect.LiteralType():
            return {"type": "string", "enum": list(info.values)}
        case inspect.IntType():
            return {"type": "integer", **_given(minimum=info.ge, maximum=info.le)}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.DateTimeType():
            return {"type": "string", "format": "date-time"}
    raise TypeError(f"no structural schema for {info}")


def _union(info: inspect.UnionType) -> Schema:
    """Schema of `X | None`, which is that of X; of `int | str`, which the field's own keywords describe, nothing."""
    match [part for part in info.types if not isinstance(part, inspect.NoneType)]:
        case [only]:
            return _of(only)
        case [inspect.IntType(), inspect.StrType()]:
            return {}
    raise TypeError(f"no structural schema for {info}")


def _struct(info: inspect.StructType) -> Schema:
    required = [field.encode_name for field in info.fields if field.required]
    rules = [rule.as_schema() for rule in getattr(info.cls, "RULES", ())]
    return {
        "type": "object",
        "description": " ".join(python.cleandoc(info.cls.__doc__ or "").split()),
        "properties": {field.encode_name: _field(field) for field in info.fields},
        **({"required": required} if required else {}),
        **({"x-kubernetes-validations": rules} if rules else {}),
        **getattr(info.cls, "SCHEMA", {}),
    }


def _field(field: inspect.Field) -> Schema:
    schema = _of(field.type)
    default = _default(field, schema)
    return schema if default is None else {**schema, "default": default}


def _default(field: inspect.Field, schema: Schema) -> object:
    """The default that the API server is to fill in; None where absent and default mean the same to a reader.

    A part that may be left out but has defaults inside is filled in as empty, since a default inside of what is absent is not applied.
    """
    default = field.default
    if isinstance(default, str | int) and default:
        return default
    has_defaults = any("default" in part for part in schema.get("properties", {}).values())
    return {} if has_defaults and default is not NODEFAULT and default is not None and field.encode_name != "status" else None


def _bounds(info: inspect.StrType | inspect.VarTupleType | inspect.DictType, of: str) -> Schema:
    return _given(**{f"min{of}": info.min_length, f"max{of}": info.max_length})


def _given(**keywords: object) -> Schema:
    return {name: value for name, value in keywords.items() if value is not None}
