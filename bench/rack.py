"""A rack of the bench's own, raised by the command whose time is a figure."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dpuchain.lab.layout import Layout

NAMESPACE = "dpf-operator-system"


@dataclass(frozen=True)
class Rack:
    """A running rack with the example on it."""

    directory: Path
    seconds: float
    """How long `make lab` took."""

    def at(self, place: str, *command: str) -> str:
        """Run a command on a DPU or host and return what it prints."""
        return _output(str(self.directory / "bin" / place), *command)

    def kubectl(self, cluster: str, *arguments: str) -> str:
        """Run kubectl as administrator of a cluster and return what it prints."""
        tool = str(self.directory / "bin" / "kubectl")
        return _output(tool, f"--kubeconfig={self.kubeconfig(cluster)}", f"--namespace={NAMESPACE}", *arguments)

    def kubeconfig(self, cluster: str) -> Path:
        """The administrator's kubeconfig of a cluster."""
        return self.directory / f"{cluster}.kubeconfig"

    def pid(self, pattern: str) -> int:
        """Id of the process of the rack with such a command line; the rack's directory takes the place of `{}`."""
        return int(_output("pgrep", "-f", pattern.format(Layout.at(self.directory).root)).split()[0])

    def agent_pid(self, dpu: str) -> int:
        """Process id of the agent of a DPU."""
        return self.pid(f"dpuchain agent --kubeconfig={{}}/{dpu}/")

    def agent_resident_mebibytes(self, dpu: str) -> float:
        """Resident memory of the agent of a DPU."""
        status = Path(f"/proc/{self.agent_pid(dpu)}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


@contextlib.contextmanager
def raised(directory: Path) -> Iterator[Rack]:
    """A rack as `make lab` raises it; it is taken down in the end."""
    try:
        began = time.perf_counter()
        subprocess.run(["make", "lab", f"DIRECTORY={directory}"], check=True)
        yield Rack(directory.resolve(), time.perf_counter() - began)
    finally:
        subprocess.run(["make", "lab-down", f"DIRECTORY={directory}"], check=True)


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout
