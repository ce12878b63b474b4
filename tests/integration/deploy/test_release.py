"""A release is the same, byte for byte, whichever folder it is built in.

The images are compared by `make release-check`, since to build each twice takes longer than all that is here; what their equality rests
on is in tests/unit/tools/test_release.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tools.build_release import SUMS

from dpuchain.runtime.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
BUILD = "import sys; from pathlib import Path; from tools.build_release import build; build(Path(sys.argv[1]), [])"


@pytest.fixture
def builds(tmp_path: Path) -> Iterator[list[Path]]:
    """What two copies of the source make, which differ in where they are, how old, and who may read them."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    names = [name for name in tracked.split("\0") if name and (ROOT / name).exists()]
    made = []
    for place, umask, moment in (("here", 0o022, 1_000_000_000), ("there/further", 0o077, 1_500_000_000)):
        source = tmp_path / place
        for name in names:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name, follow_symlinks=False)
            if not (source / name).is_symlink():
                (source / name).chmod((source / name).stat().st_mode & ~umask)
                os.utime(source / name, (moment, moment))
        output = source / "output"
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
        subprocess.run([sys.executable, "-c", BUILD, str(output)], cwd=source, env=environment, umask=umask, check=True)
        made.append(output)
    yield made
    for output in made:
        shutil.rmtree(output.parent)


def test_two_folders_make_the_same(builds: list[Path]) -> None:
    first, second = ({path.name: path.read_bytes() for path in output.iterdir()} for output in builds)
    names = {f"dpuchain-{VERSION}-py3-none-any.whl", f"dpuchain-{VERSION}.tgz", f"dpuchain-dpu-{VERSION}.tgz", SUMS}
    assert first.keys() == second.keys() == names
    assert [name for name in names if first[name] != second[name]] == []
