"""The page of the charts' values: what each is by default, what it may be, and what it is for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from tools.reference.text import code, page, table

CHARTS = Path(__file__).parents[2] / "deploy" / "charts"
_INTRODUCTION = """
What `helm install --set` and `--values` may say; `values.schema.json` of each chart refuses anything else before something is written.
The options of the processes themselves, and their environment variables, are in [the command line](commands.md).
"""


def settings() -> str:
    """The page."""
    return page("Settings of the charts", _INTRODUCTION.strip() + "\n", *(_chart(name) for name in ("dpuchain", "dpuchain-dpu")))


def _chart(name: str) -> str:
    text = (CHARTS / name / "values.yaml").read_text()
    schema = json.loads((CHARTS / name / "values.schema.json").read_text())
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    rows = list(_rows("", root, schema, schema.get("definitions", {}), text.splitlines()))
    return f"## {name}\n\n{table(('value', 'default', 'may be', ''), rows)}"


def _rows(path: str, node: yaml.MappingNode, schema: Any, definitions: Mapping[str, Any], lines: list[str]) -> Iterator[tuple[str, ...]]:
    for key, value in node.value:
        name = f"{path}.{key.value}".lstrip(".")
        part = _resolved(schema.get("properties", {}).get(key.value, {}), definitions)
        if isinstance(value, yaml.MappingNode) and value.value and not value.flow_style:
            yield from _rows(name, value, part, definitions, lines)
        else:
            default = yaml.SafeLoader("")
            content = default.construct_object(value, deep=True)
            yield code(name), code(json.dumps(content)), _may_be(part), _comment(lines, key.start_mark.line)


def _resolved(schema: Any, definitions: Mapping[str, Any]) -> Any:
    return definitions[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema


def _may_be(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(code(value) for value in schema["enum"])
    kind = schema.get("type", "any")
    kinds = " or ".join(kind) if isinstance(kind, list) else kind
    bounds = [f"{word} {schema[key]}" for key, word in (("minimum", "≥"), ("maximum", "≤")) if key in schema]
    return " ".join([kinds, *bounds, *([f"like {code(schema['pattern'])}"] if "pattern" in schema else [])])


def _comment(lines: list[str], number: int) -> str:
    """What stands after a value, or in the line above it."""
    _, found, text = lines[number].partition("  # ")
    if found:
        return text.strip()
    below = [lines[index].strip() for index in (number - 1, number + 1) if 0 <= index < len(lines)]
    return next((line.removeprefix("# ") for line in below if line.startswith("# ") and number > 1), "")
