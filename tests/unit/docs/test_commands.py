"""What the documents have people type is there: commands with their options, targets of make, and values of the charts."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
import yaml
from tests.documents import command_lines

from dpuchain.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md"), *ROOT.glob("*/README.md")])
CHARTS = {name: ROOT / "deploy" / "charts" / name / "values.yaml" for name in ("dpuchain", "dpuchain-dpu")}
CODE = re.compile(r"`((?:kubectl dpuchain|dpuchain|make) [^`\n]+)`")
END_OF_COMMAND = {"|", "||", "&&", ";", "&", ">", "2>", "<"}
SET = re.compile(r"--set(?:-string)?[= ]([\w.]+)=")


def typed(text: str) -> Iterator[str]:
    """Each command of a document: those of its blocks, and those that stand in a sentence."""
    yield from command_lines(text)
    yield from CODE.findall(text)


def words_of(line: str) -> Iterator[list[str]]:
    """The simple commands of a line of a shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if word in END_OF_COMMAND or set(word) <= set("();<>|&"):
            yield words
            words = []
        else:
            words.append(word)
    yield words


def parsed(command: click.Command, words: list[str]) -> None:
    """Raise click.UsageError if the command has no such subcommand or option."""
    context = click.Context(command, info_name=command.name)
    if isinstance(command, click.Group):
        name, *rest = command.make_parser(context).parse_args(words)[1] or ("",)
        inner = command.get_command(context, name)
        if inner is None and name and not name.isupper():  # which stands for any
            raise click.UsageError(f"no command {name!r}")
        if inner is not None:
            parsed(inner, rest)
        return
    command.make_parser(context).parse_args(words)


def paths(values: Any, prefix: str = "") -> Iterator[str]:
    """Each path into a chart's values."""
    for key, value in values.items() if isinstance(values, dict) else ():
        yield f"{prefix}{key}"
        yield from paths(value, f"{prefix}{key}.")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_options_are_there(document: Path) -> None:
    for line in typed(document.read_text()):
        for words in words_of(line):
            try:
                if words[:1] == ["dpuchain"]:
                    parsed(main, words[1:])
                elif words[:2] == ["kubectl", "dpuchain"]:
                    parsed(main, words[2:])
            except click.BadOptionUsage as error:
                if words[-1] != error.option_name:  # a sentence leaves the argument out
                    pytest.fail(f"{document}: `{line}`: {error.format_message()}")
            except click.UsageError as error:
                pytest.fail(f"{document}: `{line}`: {error.format_message()}")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_targets_of_make_are_there(document: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for line in typed(document.read_text()):
        for words in words_of(line):
            targets = [word for word in words[1:] if "=" not in word and not word.startswith("-")] if words[:1] == ["make"] else ()
            for target in targets:
                assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), f"{document}: `{line}`"


def test_values_that_are_set_are_there() -> None:
    own, dpu = (set(paths(yaml.safe_load(path.read_text()))) for path in CHARTS.values())
    known = own | dpu | {f"dpu.values.{path}" for path in dpu}
    found = {(path.name, name) for path in DOCUMENTS for name in SET.findall(path.read_text())}
    assert found
    assert [(document, name) for document, name in sorted(found) if name not in known] == []
