#!/usr/bin/env python3
"""Package our Helm charts: the same bytes each time for the same files, which `helm package` does not give.

python -m tools.package_chart DIRECTORY     writes DIRECTORY/NAME-VERSION.tgz of each
"""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
from pathlib import Path

import yaml

CHARTS = Path(__file__).parents[1] / "deploy" / "charts"


def package(chart: Path, directory: Path) -> Path:
    """Write the archive of the chart in the folder `chart`; links in it become the files that they point to."""
    facts = yaml.safe_load((chart / "Chart.yaml").read_text())
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(_files(chart)):
            content = path.read_bytes()
            entry = tarfile.TarInfo(f"{facts['name']}/{path.relative_to(chart)}")
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    target = directory / f"{facts['name']}-{facts['version']}.tgz"
    directory.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(buffer.getvalue(), mtime=0))
    return target


def _files(folder: Path) -> list[Path]:
    """All files below a folder, those in linked folders too, which rglob leaves out."""
    found: list[Path] = []
    for path in folder.iterdir():
        found += _files(path) if path.is_dir() else [path]
    return found


def main() -> None:
    """Package them all."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tools.package_chart DIRECTORY")
    for chart in sorted(CHARTS.iterdir()):
        print(package(chart, Path(sys.argv[1])))  # noqa: T201


if __name__ == "__main__":
    main()
