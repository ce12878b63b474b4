"""The tutorial, done by the letter: each command of it in order in one shell, and what it says against what the tutorial shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Rack

TUTORIAL = Path("docs/tutorial.md")
MADE_BY_THE_TEST = ("make ", "export ")
PATIENCE_SECONDS = 30.0
END = "the command has ended with status"
VARIABLE = re.compile(r"veth\w+|0x[0-9a-f]{9,}|(?<!status )\b\d+(?:\.\d+)?\b|-[0-9a-f]{10}\b|(?<=pod example-service-)\w+")
"""What differs from one rack to the next: names of pods and their ports, cookies, numbers."""


@dataclass(frozen=True)
class Step:
    """A command, and the lines that the tutorial shows of what it says; dots stand for whatever."""

    command: str
    shown: tuple[str, ...]


def steps(text: str) -> Iterator[Step]:
    """All commands of the tutorial in order."""
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        lines = block.splitlines()
        while lines:
            command = [lines.pop(0).removeprefix("# ")]
            while command[-1].endswith("\\") or ("<<END" in command[0] and command[-1] != "END"):
                command.append(lines.pop(0))
            shown = []
            while lines and not lines[0].startswith("# "):
                shown.append(lines.pop(0))
            yield Step("\n".join(command), tuple(line for line in shown if line.strip() != "..."))


def pattern(line: str) -> re.Pattern[str]:
    """What a line of output must be like to be the one that is shown."""
    parts = [re.escape(part) for part in VARIABLE.split(line)]
    whole = r"[\w.-]+".join(parts).replace(re.escape("..."), ".*")
    return re.compile(re.sub(r"(\\ )+", r"\\s+", whole).replace("packets", "packets?"))


def unlike(shown: tuple[str, ...], said: str) -> str | None:
    """The first line that is shown and was not said after the ones before it; None if there is none."""
    lines = iter(said.splitlines())
    return next((line for line in shown if not any(pattern(line).search(other) for other in lines)), None)


class Shell:
    """A shell in which one command after the other is run."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._process = subprocess.Popen(
            ["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=folder
        )

    def run(self, command: str) -> tuple[int, str]:
        """Status and output of a command."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\nstatus=$?; echo; echo {END} $status\n")
        self._process.stdin.flush()
        said = []
        while not (line := self._process.stdout.readline()).startswith(END):
            assert line, "the shell has ended"
            said.append(line)
        return int(line.split()[-1]), "".join(said)

    def close(self) -> None:
        """End it, and what it has started."""
        self.run("kill $(jobs -p)")
        self._process.communicate(timeout=30)


@pytest.fixture
def shell(rack: Rack, tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[Shell]:
    (tmp_path / "examples").symlink_to(pytestconfig.rootpath / "examples")
    path = f"{Path(sys.executable).parent}:{rack.directory / 'bin'}:{os.environ['PATH']}"
    shell = Shell({**os.environ, "PATH": path, "KUBECONFIG": str(rack.directory / "host.kubeconfig")}, tmp_path)
    yield shell
    shell.close()


def test_each_command_says_what_the_tutorial_shows(rack: Rack, shell: Shell, pytestconfig: pytest.Config) -> None:
    example = str(pytestconfig.rootpath / "examples/01-bump-in-the-wire/chain.yaml")
    rack.ok("host", "apply", "--filename", example)
    rack.ok("host", "wait", "--for=condition=Ready", "dpuservicechain,dpuservice", "--all", "--timeout=90s")
    for step in steps((pytestconfig.rootpath / TUTORIAL).read_text()):
        if not step.command.startswith(MADE_BY_THE_TEST):
            follow(shell, step)
    rack.ok("host", "delete", "--filename", example, "--timeout=120s")
    rack.ok("host", "delete", "secret/dpuchain-admission-certificates")
    rack.ok("cluster-1", "wait", "--for=delete", "pod", "--all", "--timeout=60s")


def follow(shell: Shell, step: Step) -> None:
    """Run a command; again, as a person would who looks once more, until it says what is shown."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        status, said = shell.run(step.command)
        missing = unlike(step.shown, said)
        if missing is None and (step.shown or not status):
            return
        if time.monotonic() > deadline or not step.shown:
            pytest.fail(f"# {step.command}\n{said}\nended with status {status}; not said: {missing}")
        time.sleep(0.5)
