"""Where a rack keeps its files, and what shape it has."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from dpuchain.lab.errors import LabError
from dpuchain.lab.identity import Identity

LONGEST_SOCKET_PATH = 107
"""Bytes that fit into a Unix socket's address on Linux."""
DEEPEST_SOCKET = "/dpu-99/kubelet/pod-resources/kubelet.sock"
SHORT_NAMES = Path("/var/lib")
"""Not /run: containerd and kubelet have a /run of their own."""
HOST = "host"


@dataclass(frozen=True)
class Shape:
    """How many DPUs a rack has and how many DPU clusters they are spread over, in turn."""

    dpus: int = 2
    clusters: int = 1

    def __str__(self) -> str:
        return f"{_count(self.dpus, 'DPU')} in {_count(self.clusters, 'DPU cluster')}"

    @property
    def cluster_names(self) -> list[str]:
        """The names of the DPU clusters."""
        return [f"cluster-{number}" for number in range(1, self.clusters + 1)]

    def members(self, cluster: str) -> list[int]:
        """Return the numbers of the DPUs that are nodes of a cluster."""
        return [number for number in range(1, self.dpus + 1) if self.cluster_of(number) == cluster]

    def cluster_of(self, number: int) -> str:
        """Return the name of the cluster that DPU `number` is a node of."""
        return self.cluster_names[(number - 1) % self.clusters]


@dataclass(frozen=True)
class Layout:
    """The files of the rack whose directory this is; made by `at`, which makes the path absolute."""

    directory: Path

    @classmethod
    def at(cls, directory: Path) -> Layout:
        """Return the layout of a directory, which need not exist."""
        return cls(directory.resolve())

    @property
    def identity(self) -> Identity:
        """The identity in all names that the rack leaves on the machine."""
        return Identity.of(self.directory)

    @property
    def root(self) -> Path:
        """The directory under a name that is short enough for the sockets in it: its own if that will do, else an alias."""
        fits = len(f"{self.directory}{DEEPEST_SOCKET}".encode()) <= LONGEST_SOCKET_PATH
        return self.directory if fits else self.alias

    @property
    def alias(self) -> Path:
        """The symbolic link that stands for a directory with a long name."""
        return SHORT_NAMES / self.identity.cgroup

    @property
    def tools(self) -> Path:
        """Commands for people: kubectl, helm, and one for each DPU and host that runs a command there."""
        return self.directory / "bin"

    @property
    def supervisor_socket(self) -> Path:
        """Where the supervisor answers."""
        return self.root / "supervisor.sock"

    @property
    def supervisor_log(self) -> Path:
        """What the supervisor writes."""
        return self.directory / "supervisor.log"

    @property
    def targets(self) -> Path:
        """The file that tells a Prometheus where our processes answer `/metrics`."""
        return self.root / "metrics.json"

    @property
    def shape_file(self) -> Path:
        """The mark of a directory that is a rack's: its shape."""
        return self.directory / "rack.json"

    def kubeconfig(self, cluster: str) -> Path:
        """The administrator's kubeconfig of a cluster; the host cluster's name is `host`."""
        return self.directory / f"{cluster}.kubeconfig"

    def part(self, name: str) -> Path:
        """The directory of a cluster or DPU."""
        return self.root / name

    @property
    def shape(self) -> Shape | None:
        """The shape of the rack that was last raised here; None if there is no rack."""
        try:
            return Shape(**json.loads(self.shape_file.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            return Shape(0, 0)  # cut off while it was written: a rack, of which nothing is known

    def create(self, shape: Shape) -> None:
        """Make the directory and its alias. Raises `LabError` if something that is not a rack's is there already."""
        self.check_free()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.shape_file.write_text(json.dumps(asdict(shape)))
        if self.root == self.alias:
            self.alias.symlink_to(self.directory)

    def check_free(self) -> None:
        """Raise `LabError` if the directory has files and no rack's mark: then it is somebody's, and no rack may fill and remove it."""
        if self.directory.exists() and not self.directory.is_dir():
            raise LabError(f"{self.directory} is not a directory", "name another with --directory")
        if self.directory.is_dir() and any(self.directory.iterdir()) and not self.shape_file.exists():
            raise LabError(f"{self.directory} holds files that are not a rack's", "name an empty or new directory with --directory")

    def remove(self) -> None:
        """Remove the directory and its alias; does nothing if it is not a rack's."""
        with contextlib.suppress(FileNotFoundError):
            self.alias.unlink()
        if self.shape_file.exists():
            for entry in self.directory.iterdir():
                if entry != self.shape_file:  # the mark goes last: what is left of an interrupted removal is still known for a rack
                    shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
            shutil.rmtree(self.directory)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
