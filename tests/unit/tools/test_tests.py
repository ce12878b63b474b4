"""The runner of the tests: nothing is left out, and who is interrupted clears up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tools.tests import ALONE, FIRST, GROUPS, PATIENT

ROOT = Path(__file__).parents[3]
RUNNER = """
import sys
from tools import tests
tests.GROUPS = {name: (f"--rootdir={sys.argv[1]}", "-p", "no:cacheprovider", "-s", f"test_{name}.py") for name in sys.argv[2:]}
sys.exit(tests.main([]))
"""
TEST = """
import signal, sys, time, pytest
signal.signal(signal.SIGTERM, signal.default_int_handler)

@pytest.fixture
def raised():
    yield
    time.sleep(1)
    print("cleared up", flush=True)

def test_something(raised):
    print("it runs", flush=True)
    {}
"""


def start(folder: Path, **bodies: str) -> subprocess.Popen[str]:
    """Have the runner run modules with one test each, the first of them alone."""
    for name, body in bodies.items():
        (folder / f"test_{name}.py").write_text(TEST.format(body))
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-c", RUNNER, str(folder), *bodies]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_what_is_named_is_there_and_the_rest_is_everything_else() -> None:
    named = (*ALONE, *PATIENT, *FIRST)
    assert all((ROOT / path).exists() for path in named)
    assert all(path.startswith(ALONE) for path in PATIENT)
    assert GROUPS["rest"] == ("tests", *(f"--ignore={path}" for path in named if path not in PATIENT))


def test_failure_of_any_run_is_one_of_all(tmp_path: Path) -> None:
    runner = start(tmp_path, alone="pass", rest="assert False")
    text, _ = runner.communicate(timeout=60)
    assert runner.returncode == 1
    assert " rest │ FAILED" in text
    assert "once more, alone" in text


def test_who_is_interrupted_waits_until_all_is_cleared_up(tmp_path: Path) -> None:
    runner = start(tmp_path, alone="pass", first="time.sleep(60)", rest="time.sleep(60)")
    assert runner.stdout is not None
    said = []
    for line in runner.stdout:
        said.append(line)
        if sum("it runs" in line for line in said) == 3:
            runner.send_signal(signal.SIGINT)
    assert runner.wait(timeout=30) != 0
    assert sum("cleared up" in line for line in said) == 3, "".join(said)
