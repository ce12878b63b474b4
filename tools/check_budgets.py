#!/usr/bin/env python3
"""Hold the budgets: a module has 400 lines, a function 60 lines and seven parameters at most. Prints what has more and exits 1."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "tests", "bench", "tools")
MODULE_LINES = 400
FUNCTION_LINES = 60
PARAMETERS = 7


def violations(source: str) -> Iterator[tuple[int, str]]:
    """Line number and text of each violation in a module. Raises SyntaxError for what is not Python."""
    lines = len(source.splitlines())
    if lines > MODULE_LINES:
        yield 1, f"module has {lines} lines, {MODULE_LINES} allowed"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _function(node)


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[int, str]]:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if lines > FUNCTION_LINES:
        yield node.lineno, f"function {node.name} has {lines} lines, {FUNCTION_LINES} allowed"
    count = _parameters(node.args)
    if count > PARAMETERS:
        yield node.lineno, f"function {node.name} has {count} parameters, {PARAMETERS} allowed"


def _parameters(arguments: ast.arguments) -> int:
    """Number of parameters; what a method is bound to is none."""
    named = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    bound = named[:1] in (["self"], ["cls"])
    return len(named) - bound + len(arguments.kwonlyargs) + sum(part is not None for part in (arguments.vararg, arguments.kwarg))


def main() -> int:
    """Return the exit status."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, text in violations(path.read_text())
    ]
    for violation in found:
        print(violation)  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
