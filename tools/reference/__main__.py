"""Write docs/reference, or with --check say which page there is not what would be written."""

from __future__ import annotations

import sys
from pathlib import Path

from tools.reference.api import api
from tools.reference.commands import commands
from tools.reference.metrics import metrics
from tools.reference.settings import settings
from tools.reference.told import told

DIRECTORY = Path(__file__).parents[2] / "docs" / "reference"
PAGES = {"api.md": api, "commands.md": commands, "metrics.md": metrics, "settings.md": settings, "conditions.md": told}


def main(arguments: list[str]) -> int:
    """Return the exit status."""
    wanted = {name: write() for name, write in PAGES.items()}
    there = {path.name: path.read_text() for path in DIRECTORY.glob("*.md")}
    differing = sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))
    match arguments:
        case []:
            DIRECTORY.mkdir(exist_ok=True)
            for name in differing:
                if name in wanted:
                    (DIRECTORY / name).write_text(wanted[name])
                else:
                    (DIRECTORY / name).unlink()
            return 0
        case ["--check"]:
            for name in differing:
                print(f"docs/reference/{name} is not what `python -m tools.reference` writes", file=sys.stderr)  # noqa: T201
            return 1 if differing else 0
    print("usage: python -m tools.reference [--check]", file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
