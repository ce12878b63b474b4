"""The page that says by which test each statement of the document is proved names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "conformance.md"
SECTIONS = (
    "Introduction",
    "How to use",
    "Constraints",
    "Why this matters",
    "Error messages",
    "Common causes",
    "How to avoid",
    "DPUClusterSelector",
)
"""The sections of the document, in its order."""
PROOF = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> list[list[str]]:
    """The cells of each row of the page's table."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def defined_in(path: Path) -> set[str]:
    """The tests that a file defines."""
    found = {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return {name for name in found if name.startswith("test_")}


@pytest.mark.parametrize("row", rows(), ids=lambda row: str(row[1]))
def test_each_statement_has_a_proof_that_exists(row: list[str]) -> None:
    _, _, proof = row
    named = PROOF.findall(proof)
    assert proof == "<br>".join(f"`{path}::{name}`" for path, name in named)
    assert named
    for path, name in named:
        assert (ROOT / path).is_file(), path
        assert name in defined_in(ROOT / path)


def test_every_section_has_its_statements_in_the_order_of_the_document() -> None:
    assert tuple(dict.fromkeys(row[0] for row in rows())) == SECTIONS


def test_no_statement_stands_twice() -> None:
    statements = [row[1] for row in rows()]
    assert sorted(set(statements)) == sorted(statements)


def test_page_is_found_from_the_readme_and_the_architecture() -> None:
    assert "(docs/conformance.md)" in (ROOT / "README.md").read_text()
    assert "(conformance.md)" in (ROOT / "docs" / "architecture.md").read_text()


def test_proofs_that_the_page_on_scaling_names_exist() -> None:
    named = PROOF.findall((ROOT / "docs" / "scaling.md").read_text())
    assert named
    assert [f"{path}::{name}" for path, name in named if name not in defined_in(ROOT / path)] == []
