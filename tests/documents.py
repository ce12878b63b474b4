"""The command blocks of a document, for the tests that do what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

FENCE = re.compile(r"(?:^<!-- not executed: (?P<reason>.+) -->\n)?^```console\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """A command, and the lines that the document shows of what it says; dots stand for whatever."""

    command: str
    shown: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """A command block, and why no test executes it; None for one that is executed."""

    steps: tuple[Step, ...]
    reason: str | None = None


def blocks(text: str) -> list[Block]:
    """All command blocks of a document in order. Not executed is what has `<!-- not executed: REASON -->` on the line above it."""
    return [Block(_steps(found["text"]), found["reason"]) for found in FENCE.finditer(text)]


def _steps(text: str) -> tuple[Step, ...]:
    lines = text.splitlines()
    found = []
    while lines:
        command = [lines.pop(0).removeprefix("# ")]
        while command[-1].endswith("\\") or ("<<END" in command[0] and command[-1] != "END"):
            command.append(lines.pop(0))
        shown = []
        while lines and not lines[0].startswith("# "):
            shown.append(lines.pop(0))
        found.append(Step("\n".join(command), tuple(line for line in shown if line.strip() != "...")))
    return tuple(found)


def command_lines(text: str) -> Iterator[str]:
    """Each command of the command blocks of a document, wherever they stand, on one line; without what is given to it from there."""
    lines = iter(text.splitlines())
    inside = False
    for line in map(str.strip, lines):
        if line.startswith("```"):
            inside = line == "```console"
        elif inside and line.startswith("# "):
            command = line.removeprefix("# ")
            while command.endswith("\\"):
                command = command[:-1] + next(lines).strip()
            yield command
