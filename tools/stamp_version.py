#!/usr/bin/env python3
"""Write the version of pyproject.toml into the charts and the Containerfile, or with --check say which of them has another."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parents[1]
CHART = re.compile(r"^((?:version|appVersion): )(\S+)$", re.MULTILINE)
PLACES = {
    "deploy/charts/dpuchain/Chart.yaml": CHART,
    "deploy/charts/dpuchain-dpu/Chart.yaml": CHART,
    "Containerfile": re.compile(r'(org\.opencontainers\.image\.version=)("[^"]*")'),
}


def version(root: Path = HERE) -> str:
    """The version of what is in the folder `root`."""
    found: str = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    return found


def stamped(root: Path = HERE) -> dict[str, str]:
    """What each of the files would be with the right version, by its name below `root`, if it is not so already."""
    wanted = version(root)
    changed = {}
    for name, pattern in PLACES.items():
        text = (root / name).read_text()
        new = pattern.sub(lambda found: found[1] + (f'"{wanted}"' if found[2].startswith('"') else wanted), text)
        if new != text:
            changed[name] = new
    return changed


def main(arguments: list[str]) -> int:
    """Return the exit status."""
    match arguments:
        case []:
            for name, text in stamped().items():
                (HERE / name).write_text(text)
            return 0
        case ["--check"]:
            wrong = stamped()
            for name in wrong:
                print(f"{name} has another version than pyproject.toml: run `python tools/stamp_version.py`", file=sys.stderr)  # noqa: T201
            return 1 if wrong else 0
    print("usage: stamp_version.py [--check]", file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
