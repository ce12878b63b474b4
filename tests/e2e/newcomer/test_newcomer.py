"""A newcomer's path: each command of the README and then of the tutorial, in order, in one shell, by the letter.

What a command says is held against what the document shows of it.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.documents import Step, blocks
from tests.e2e.conftest import Rack

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENTS = ("README.md", "docs/tutorial.md")
PATIENCE_SECONDS = 30.0
END = "the command has ended with status"
VARIABLE = re.compile(r"veth\w+|0x[0-9a-f]{9,}|(?<!status )\b\d+(?:\.\d+)?\b|-[0-9a-f]{10}\b|(?<=pod example-service-)\w+")
"""What differs from one rack to the next: names of pods and their ports, cookies, numbers."""


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

    def __init__(self, folder: Path) -> None:
        # By Python's account of it: readline, which pytest loads, puts the terminal's width into the process' own environment.
        environment = {**os.environ}
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
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()


@pytest.fixture
def checkout(pytestconfig: pytest.Config) -> Iterator[Path]:
    """A folder with all that is in the root of this checkout, but a rack of its own."""
    current = subprocess.run(["make", "--question", ".venv/installed"], cwd=pytestconfig.rootpath, check=False, stdout=subprocess.DEVNULL)
    assert current.returncode == 0, (
        "the virtual environment is older than the locks, and `make lab` would replace it under this test: `make bootstrap`"
    )
    with tempfile.TemporaryDirectory(prefix="dpuchain-newcomer-") as name:
        folder = Path(name)
        for entry in pytestconfig.rootpath.iterdir():
            if entry.name != ".lab":
                (folder / entry.name).symlink_to(entry)
        try:
            yield folder
        finally:
            subprocess.run(["make", "lab-down"], cwd=folder, check=True)


@pytest.fixture
def shell(checkout: Path) -> Iterator[Shell]:
    shell = Shell(checkout)
    yield shell
    shell.close()


@pytest.mark.timeout(600)
def test_each_command_says_what_the_documents_show(shell: Shell, checkout: Path) -> None:
    for document in DOCUMENTS:
        for block in blocks((checkout / document).read_text()):
            for step in block.steps if block.reason is None else ():
                follow(shell, step, checkout)
    assert not Rack(checkout / ".lab").directory.exists()


def follow(shell: Shell, step: Step, checkout: Path) -> None:
    """Run a command; again, as a person would who looks once more, until it says what is shown."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        status, said = shell.run(step.command)
        missing = unlike(step.shown, said)
        if missing is None and (step.shown or not status):
            return
        if time.monotonic() > deadline or not step.shown or step.command.startswith("make "):
            rack = Rack(checkout / ".lab")
            state = rack.state() if (rack.directory / "host.kubeconfig").exists() else "there is no rack"
            pytest.fail(f"# {step.command}\n{said}\nended with status {status}; not said: {missing}\n{state}")
        time.sleep(0.5)
