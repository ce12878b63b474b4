"""All commands of README and tutorial are known to the test that does them: none hides in another form, none is left out unsaid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.documents import Block, Step, blocks
from tests.e2e.newcomer.test_newcomer import DOCUMENTS

ROOT = Path(__file__).parents[3]
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^\s*(?:```|~~~)", re.MULTILINE)
NO_COMMANDS = {"", "yaml"}
"""What the opening fence of a block that shows something says."""
COMMAND = re.compile(r"^[#$] ?(?:make|dpuchain|kubectl|helm)\b", re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_block_is_one_of_commands_or_of_something_that_is_shown(document: str) -> None:
    text = (ROOT / document).read_text()
    found = BLOCK.findall(text)
    assert 2 * len(found) == len(FENCE.findall(text))
    assert {kind for kind, _ in found} <= NO_COMMANDS | {"console"}
    assert [kind for kind, _ in found].count("console") == len(blocks(text))
    for kind, content in found:
        assert content.startswith("# ") if kind == "console" else not COMMAND.search(content)


def test_only_the_end_of_the_rack_in_the_middle_of_the_path_is_not_executed() -> None:
    left_out = [
        step.command for document in DOCUMENTS for block in blocks((ROOT / document).read_text()) if block.reason for step in block.steps
    ]
    assert left_out == ["make lab-down"]
    last = blocks((ROOT / DOCUMENTS[-1]).read_text())[-1]
    assert last == Block((Step("make lab-down", ()),))


def test_a_block_is_executed_unless_a_reason_stands_on_the_line_above() -> None:
    block = "```console\n# one \\\n  two\nsaid\n...\n# cat <<END\n# no command\nEND\n```\n"
    steps = (Step("one \\\n  two", ("said",)), Step("cat <<END\n# no command\nEND", ()))
    assert blocks(f"text\n{block}") == [Block(steps)]
    assert blocks(f"<!-- not executed: a reason -->\n{block}") == [Block(steps, "a reason")]
    assert blocks(f"<!-- not executed: a reason -->\n\n{block}") == [Block(steps)]
    assert blocks(f"<!-- not executed: -->\n{block}") == [Block(steps)]
