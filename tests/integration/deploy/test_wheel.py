"""The wheel in an environment with nothing but what it asks for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dpuchain.lab.manifests import operator_configuration
from dpuchain.runtime.version import VERSION

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "01-bump-in-the-wire" / "chain.yaml"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the programs of an environment in which the wheel was installed."""
    folder = tmp_path_factory.mktemp("wheel")
    uv = str(Path(sys.executable).parent / "uv")
    build = ("build", "--quiet", "--wheel", "--no-build-isolation", f"--python={sys.executable}", f"--out-dir={folder}", str(ROOT))
    subprocess.run([uv, *build], check=True)
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    subprocess.run([uv, "venv", "--quiet", f"--python={sys.executable}", str(environment)], check=True)
    install = ("pip", "install", "--quiet", f"--python={environment / 'bin' / 'python'}")
    requirements = ("--no-deps", "--require-hashes", f"--requirement={ROOT / 'requirements.runtime.lock'}")
    subprocess.run([uv, *install, *requirements], check=True)
    subprocess.run([uv, *install, "--no-deps", str(wheel)], check=True)
    return environment / "bin"


def printed(program: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, cwd=program.parent)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("program", ["dpuchain", "kubectl-dpuchain"])
def test_programs_teach(programs: Path, program: str) -> None:
    status, text = printed(programs / program, "--help")
    assert status == 0
    assert "describe" in text


@pytest.mark.parametrize("command", ["admission", "agent", "check", "cni", "crds", "describe", "dpu", "host", "plan", "trace"])
def test_every_command_can_be_imported_from_what_the_wheel_asks_for(programs: Path, command: str) -> None:
    status, text = printed(programs / "dpuchain", command, "--help")
    assert (status, text.partition(" ")[0]) == (0, "Usage:"), text


@pytest.mark.parametrize("program", ["dpuchain", "kubectl-dpuchain"])
def test_programs_tell_their_version(programs: Path, program: str) -> None:
    assert printed(programs / program, "--version") == (0, f"{program.replace('-', ' ')} {VERSION}\n")


def test_users_of_the_library_get_its_types(programs: Path) -> None:
    assert list(programs.parent.glob("lib/python3*/site-packages/dpuchain/py.typed"))


def test_definitions_are_printed(programs: Path) -> None:
    status, text = printed(programs / "dpuchain", "crds")
    assert status == 0
    assert {item["kind"] for item in yaml.safe_load_all(text)} == {"CustomResourceDefinition"}


def test_plan_works_without_any_cluster(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "example.yaml").write_text(EXAMPLE.read_text())
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(operator_configuration()))
    status, text = printed(programs / "dpuchain", "plan", f"--filename={tmp_path}", "--against=nothing")
    assert status == 2, text
    assert "example-chain" in text


def test_locks_agree() -> None:
    """What a user gets is what the tests have run with."""

    def pins(name: str) -> set[str]:
        return {line.removesuffix(" \\") for line in (ROOT / name).read_text().splitlines() if "==" in line and not line.startswith(" ")}

    assert pins("requirements.runtime.lock") < pins("requirements.lock")
