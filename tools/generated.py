"""Files of the repository that are made from its code: writing them, and saying which of them is not what would be written."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Generated(NamedTuple):
    """A folder whose files of this pattern (one level, no others) are to be these, by name; and the command that writes them."""

    directory: Path
    pattern: str
    files: Mapping[str, str]
    command: str

    def differing(self) -> list[str]:
        """Names of the files that are missing, differ from what would be written, or would not be written at all."""
        present = {path.name: path.read_text() for path in self.directory.glob(self.pattern)}
        return sorted(name for name in self.files.keys() | present.keys() if self.files.get(name) != present.get(name))

    def write(self) -> None:
        """Make the folder hold the files and no other of the pattern."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for name in self.differing():
            if name in self.files:
                (self.directory / name).write_text(self.files[name])
            else:
                (self.directory / name).unlink()

    def main(self, arguments: list[str]) -> int:
        """Write the files, or with --check say which there is not what would be written; returns the exit status."""
        match arguments:
            case []:
                self.write()
                return 0
            case ["--check"]:
                differing = self.differing()
                for name in differing:
                    print(f"{self.directory.relative_to(ROOT)}/{name} is not what `{self.command}` writes", file=sys.stderr)  # noqa: T201
                return 1 if differing else 0
        print(f"usage: {self.command} [--check]", file=sys.stderr)  # noqa: T201
        return 2
