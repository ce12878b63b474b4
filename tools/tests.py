"""Run every test: those of the whole way alone, as frames are counted there, the others in three runs beside each other, since most of them
wait most of their time. What fails is run once more, alone: two cores are shared with the clusters that the tests raise, and one that came
too late for that reason passes then. Both outcomes are printed, and what fails twice fails.

pytest-xdist would do the same, but its workers have ten seconds to end when a run is interrupted, and a rack is not taken down in ten
seconds: what it had made would stay on the machine.
"""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

ALONE = ("tests/e2e", "tests/integration/test_lab_rack.py", "tests/integration/kube/test_priority.py")
"""What is sensitive to what else the machine does, or takes all of it; less what is patient."""
PATIENT = ("tests/e2e/install", "tests/e2e/newcomer", "tests/e2e/test_trace.py")
"""Racks on which Helm, pods, a newcomer and who asks where a packet goes take their time, and no frames are counted."""
FIRST = ("tests/integration/agent", "tests/integration/cni", "tests/integration/deploy", "tests/integration/admission", "tests/unit")
"""About half of the others."""
GROUPS = {
    "alone": (*ALONE, *(f"--ignore={path}" for path in PATIENT)),
    "slow": PATIENT,
    "first": FIRST,
    "rest": ("tests", *(f"--ignore={path}" for path in (*ALONE, *FIRST))),
}


class Run:
    """One pytest, whose lines are printed as they come, behind its name, and which remembers apart from others what has failed."""

    def __init__(self, name: str, *arguments: str) -> None:
        self.name = name
        command = [sys.executable, "-m", "pytest", f"--override-ini=cache_dir=.pytest_cache/{name}", *arguments]
        # In a session of its own: a second Ctrl-C would cut its clearing up off.
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        self._printer = threading.Thread(target=self._print)
        self._printer.start()

    def _print(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            print(f"{self.name:>5} │ {line}", end="", flush=True)  # noqa: T201

    def wait(self) -> bool:
        """Wait for its end; returns whether all has passed."""
        status = self._process.wait()
        self._printer.join()
        return status == 0

    def end(self) -> None:
        """Have it take down what it has raised, and end."""
        self._process.send_signal(signal.SIGTERM)


def together(*runs: Run) -> list[str]:
    """Wait for runs that go on beside each other; returns the names of those in which something has failed."""
    try:
        return [run.name for run in runs if not run.wait()]
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("interrupted; taking down what was raised", flush=True)  # noqa: T201
        for run in runs:
            run.end()
        for run in runs:
            run.wait()
        raise


def main(arguments: Sequence[str]) -> int:
    """Return the exit status."""
    if arguments:
        print("usage: python -m tools.tests", file=sys.stderr)  # noqa: T201
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    alone, *beside = (functools.partial(Run, name, *arguments) for name, arguments in GROUPS.items())
    failed = together(alone())
    failed += together(*(run() for run in beside))
    if failed:
        print("once more, alone, what has failed:", flush=True)  # noqa: T201
    again = ("--last-failed", "--last-failed-no-failures=none")
    failed = [name for run in failed for name in together(Run(run, *again))]
    print(f"{time.monotonic() - began:.0f} s: {'failed' if failed else 'passed'}")  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
