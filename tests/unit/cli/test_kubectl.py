"""The plugin of kubectl: its commands, and what completes them."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

from click.testing import CliRunner

from dpuchain.cli.kubectl import FOR_PEOPLE, completions, plugin

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_programs_have_the_names_that_kubectl_looks_for(pytestconfig: pytest.Config) -> None:
    scripts = tomllib.loads((pytestconfig.rootpath / "pyproject.toml").read_text())["project"]["scripts"]
    assert {"kubectl-dpuchain", "kubectl_complete-dpuchain"} <= scripts.keys()


def test_commands_for_people_are_shown_and_processes_are_not() -> None:
    shown = CliRunner().invoke(plugin, ["--help"], prog_name="kubectl dpuchain").output
    assert "Usage: kubectl dpuchain [OPTIONS] COMMAND" in shown
    assert all(f"  {name} " in shown for name in FOR_PEOPLE)
    assert "agent " not in shown.partition("Commands:")[2].split("\n")[0]
    assert CliRunner().invoke(plugin, ["agent"]).exit_code == 2


def test_commands_kinds_and_options_are_completed() -> None:
    assert [line.partition("\t")[0] for line in completions(["des"])] == ["describe"]
    assert completions(["describe", ""]) == ["chain", "interface", "service", "node"]
    assert [line.partition("\t")[0] for line in completions(["describe", "chain", "--na"])] == ["--namespace"]


def test_names_are_not_completed_without_a_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    assert completions(["describe", "chain", "ex"]) == []
