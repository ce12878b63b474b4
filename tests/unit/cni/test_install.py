"""The plugin is put where it is to be, whole, once, and it runs there."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from click.testing import CliRunner

from dpuchain.cli import main
from dpuchain.cni.install import NAME, install

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_installed_runs_with_nothing_else_of_ours(tmp_path: Path) -> None:
    assert install(tmp_path, sys.executable)
    answer = subprocess.run([tmp_path / NAME], env={"CNI_COMMAND": "VERSION"}, capture_output=True, check=True)
    assert "1.1.0" in json.loads(answer.stdout)["supportedVersions"]
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_second_time_writes_nothing_and_a_changed_one_is_replaced(tmp_path: Path) -> None:
    install(tmp_path, sys.executable)
    before = (tmp_path / NAME).stat().st_ino
    assert not install(tmp_path, sys.executable)
    assert (tmp_path / NAME).stat().st_ino == before
    (tmp_path / NAME).chmod(0o644)
    assert install(tmp_path, sys.executable)
    assert install(tmp_path, "/usr/bin/python3")
    assert (tmp_path / NAME).read_text().startswith("#!/usr/bin/python3 -IS\n")


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    for arguments, words in (
        ([f"--directory={tmp_path / 'absent'}"], "does not exist"),
        ([f"--directory={tmp_path}", "--python=python3"], "'python3' is no absolute path"),
    ):
        outcome = CliRunner().invoke(main, ["cni", "install", *arguments])
        assert outcome.exit_code == 2
        assert words in outcome.output
    assert not list(tmp_path.iterdir())
