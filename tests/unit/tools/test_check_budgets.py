"""The budgets: what is just within them passes, what is just beyond is named."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

TOOL = Path(__file__).parents[3] / "tools" / "check_budgets.py"


@pytest.fixture(scope="module")
def tool() -> Any:
    return SimpleNamespace(**runpy.run_path(str(TOOL)))


def function(lines: int, parameters: str = "") -> str:
    return f"async def work({parameters}):\n" + "    pass\n" * (lines - 1)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1\n" * 400, []),
        ("x = 1\n" * 401, [(1, "module has 401 lines, 400 allowed")]),
        (function(60), []),
        ("\n" + function(61), [(2, "function work has 61 lines, 60 allowed")]),
        (function(2, "a, b, /, c, d, *, e, f, g"), []),
        (function(2, "self, a, b, c, d, e, f, g"), []),
        (function(2, "a, b, c, d, e, f, g, h"), [(1, "function work has 8 parameters, 7 allowed")]),
        (function(2, "a, b, c, d, e, f, *g, **h"), [(1, "function work has 8 parameters, 7 allowed")]),
        ("class C:\n    def f(self):\n" + "        pass\n" * 60, [(2, "function f has 61 lines, 60 allowed")]),
    ],
)
def test_violations(tool: Any, source: str, expected: list[tuple[int, str]]) -> None:
    assert list(tool.violations(source)) == expected
