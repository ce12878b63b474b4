#!/usr/bin/env python3
"""Build a release of the commit that is checked out: wheel, charts, an image with its bill of materials for each architecture, checksums.

    python -m tools.build_release DIRECTORY

Two builds of one commit are equal byte for byte, wherever they are done: docs/release.md.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from tools.build_image import HERE, TRIPLES, image, moment
from tools.package_chart import CHARTS, package

SUMS = "SHA256SUMS"


def build(directory: Path, architectures: list[str]) -> None:
    """Fill an empty folder."""
    wheel(directory)
    for chart in sorted(CHARTS.iterdir()):
        package(chart, directory)
    for architecture in architectures:
        image(directory, architecture)
    (directory / SUMS).write_text(sums(directory))


def wheel(directory: Path) -> None:
    """Write the wheel."""
    uv = [str(Path(sys.executable).parent / "uv"), "build", "--quiet", "--wheel", "--no-build-isolation", "--no-create-gitignore"]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(moment())}
    subprocess.run([*uv, f"--python={sys.executable}", f"--out-dir={directory}", str(HERE)], check=True, env=environment)


def sums(directory: Path) -> str:
    """The checksums of all files, as `sha256sum --check` reads them."""
    files = sorted(path for path in directory.iterdir() if path.name != SUMS)
    lines = []
    for path in files:
        with path.open("rb") as content:
            lines.append(f"{hashlib.file_digest(content, 'sha256').hexdigest()}  {path.name}\n")
    return "".join(lines)


def main() -> None:
    """Build it all."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tools.build_release DIRECTORY")
    changed = subprocess.run(["git", "-C", HERE, "status", "--porcelain"], check=True, capture_output=True, text=True).stdout
    if changed:
        sys.exit(f"a release is what is committed; these are not:\n{changed}")
    directory = Path(sys.argv[1])
    if directory.exists() and any(directory.iterdir()):
        sys.exit(f"{directory} is not empty: remove what an earlier build has left there")
    build(directory, sorted(TRIPLES))
    print((directory / SUMS).read_text(), end="")  # noqa: T201


if __name__ == "__main__":
    main()
