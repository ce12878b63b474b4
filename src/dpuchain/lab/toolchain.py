"""The real control plane, built from Go modules once and kept outside the checkout.

Each folder of `controlplane/` is a group of tools with one dependency tree. A group is built into a directory named after everything that
the result depends on, so a changed module file builds anew and a second checkout finds what the first one built.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dpuchain.lab.errors import LabError
from dpuchain.lab.process import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Report = Callable[[str], None]

SOURCES = Path(__file__).parents[3] / "controlplane"
BUILD_TIMEOUT = 3600.0


@dataclass(frozen=True, eq=False)
class Group:
    """Tools that share one module file: binary name to Go package, and the variables stamped with the version of `module`."""

    name: str
    packages: Mapping[str, str]
    module: str = ""
    stamps: tuple[str, ...] = field(default=())

    def version(self) -> str:
        """Return the version of `module` in the group's go.mod, such as `v1.36.2`; empty if the group stamps none."""
        if not self.module:
            return ""
        found = re.search(rf"^\s*(?:require\s+)?{re.escape(self.module)}\s+(v\S+)", self._file("go.mod").decode(), re.MULTILINE)
        if not found:
            raise LabError(f"{SOURCES / self.name / 'go.mod'} does not require {self.module}")
        return found[1]

    def flags(self) -> str:
        """Return the linker flags: no symbols, and the version, without which the tools call themselves `v0.0.0-master`."""
        return " ".join(["-s -w", *(f"-X {stamp}={self.version()}" for stamp in self.stamps)])

    def key(self, go: str, architecture: str = "") -> str:
        """Return the name of the group's directory in the cache, which changes with whatever changes the binaries."""
        facts = [
            go,
            *([architecture] if architecture else []),
            *FLAGS,
            self.flags(),
            *(f"{tool}={package}" for tool, package in sorted(self.packages.items())),
        ]
        digest = hashlib.sha256("\n".join(facts).encode() + self._file("go.mod") + self._file("go.sum"))
        return f"{self.name}-{digest.hexdigest()[:16]}"

    def _file(self, name: str) -> bytes:
        return (SOURCES / self.name / name).read_bytes()


# No path of the machine is in a binary, so two machines build the same bytes.
FLAGS = ("-trimpath", "-ldflags")

GROUPS = {
    group.name: group
    for group in (
        Group(
            "kubernetes",
            {
                tool: f"k8s.io/kubernetes/cmd/{tool}"
                for tool in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")
            },
            "k8s.io/kubernetes",
            ("k8s.io/component-base/version.gitVersion", "k8s.io/client-go/pkg/version.gitVersion"),
        ),
        Group("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}),
        Group("helm", {"helm": "helm.sh/helm/v3/cmd/helm"}, "helm.sh/helm/v3", ("helm.sh/helm/v3/internal/version.version",)),
        Group("multus", {"multus": "gopkg.in/k8snetworkplumbingwg/multus-cni.v4/cmd/multus"}),
        Group("cni", {"cnitool": "github.com/containernetworking/cni/cnitool"}),
    )
}
GROUP_OF = {tool: group for group in GROUPS.values() for tool in group.packages}
ASSETS = ("kube-apiserver", "etcd", "kubectl")
"""What a directory in KUBEBUILDER_ASSETS holds; these are not built when it is set."""


def cache_directory() -> Path:
    """Return where built tools are kept: below XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "dpuchain" / "controlplane"


class Toolchain:
    """The tools as files, for this machine's architecture or for the one that is named as Go names it.

    `path` may be asked only for tools that `provide` has made sure of.
    """

    def __init__(self, cache: Path | None = None, architecture: str = "") -> None:
        self._cache = cache or cache_directory()
        self._architecture = architecture
        self._paths: dict[str, Path] = {}

    def path(self, tool: str) -> str:
        """Return the absolute path of a provided tool."""
        return str(self._paths[tool])

    async def provide(self, *tools: str, report: Report = lambda _: None) -> None:
        """Make sure that these tools exist, building the groups that are not in the cache. Raises `LabError`."""
        assets = os.environ.get("KUBEBUILDER_ASSETS")
        wanted = []
        for tool in tools:
            if assets and tool in ASSETS:
                self._paths[tool] = _asset(Path(assets), tool)
            elif tool not in self._paths:
                wanted.append(tool)
        if wanted:
            go = await go_version()
            for group in dict.fromkeys(GROUP_OF[tool] for tool in wanted):
                directory = self._cache / group.key(go, self._architecture)
                if not directory.is_dir():
                    await self._build(group, directory, report)
                self._paths.update({tool: directory / tool for tool in group.packages if tool not in self._paths})

    async def unbuilt(self, *tools: str) -> list[str]:
        """Return the names of the groups that `provide` would have to build for these tools. Raises `LabError` without the right Go."""
        assets = ASSETS if os.environ.get("KUBEBUILDER_ASSETS") else ()
        go = await go_version()
        groups = dict.fromkeys(GROUP_OF[tool] for tool in tools if tool not in assets)
        return [group.name for group in groups if not (self._cache / group.key(go, self._architecture)).is_dir()]

    async def _build(self, group: Group, target: Path, report: Report) -> None:
        """Build beside `target` and rename, under a lock, so that a half-built group is never seen and two checkouts build once."""
        self._cache.mkdir(parents=True, exist_ok=True)
        with (self._cache / f"{target.name}.lock").open("w") as lock:
            await _locked(lock.fileno(), lambda: report(f"waiting for another build of {group.name}"))
            if target.is_dir():
                return
            with _scratch(self._cache, target.name) as scratch:
                for number, (tool, package) in enumerate(group.packages.items(), start=1):
                    report(f"building {group.name} {number}/{len(group.packages)}: {tool}")
                    await _go_build(group, package, scratch / tool, self._architecture)
                scratch.rename(target)


async def go_version() -> str:
    """Return what `go version` calls itself. Raises `LabError` if it is not Go 1.26."""
    if not shutil.which("go"):
        raise LabError("Go is not installed or not in PATH", "install Go 1.26 from https://go.dev/dl/ and put its bin directory into PATH")
    # The toolchain that is installed and no other: a go.mod must not make it fetch one.
    version = (await run("go", "version", environment={"GOTOOLCHAIN": "local"})).strip()
    found = re.search(r"go1\.(\d+)", version)
    if not found or int(found[1]) != 26:
        reason = "the JSON of Go 1.27 breaks the API server's OpenAPI" if found and int(found[1]) > 26 else "Kubernetes 1.36 needs it"
        raise LabError(f"Go 1.26 is needed ({reason}), found `{version}`", "install Go 1.26 and put it first in PATH")
    return version


async def _go_build(group: Group, package: str, output: Path, architecture: str) -> None:
    arguments = ["go", "-C", str(SOURCES / group.name), "build", *FLAGS, group.flags(), "-o", str(output), package]
    # Go's temporary files lie beside the result, so that those of a build that was killed are removed with it.
    environment = {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0", "GOTMPDIR": str(output.parent)}
    if architecture:
        environment["GOARCH"] = architecture
    await run(*arguments, environment=environment, timeout=BUILD_TIMEOUT)


async def _locked(descriptor: int, waiting: Callable[[], None]) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        await asyncio.to_thread(fcntl.flock, descriptor, fcntl.LOCK_EX)


@contextlib.contextmanager
def _scratch(cache: Path, name: str) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)  # gone if the build was renamed into its place


def _asset(directory: Path, tool: str) -> Path:
    path = directory / tool
    if not os.access(path, os.X_OK):
        raise LabError(
            f"KUBEBUILDER_ASSETS is {directory}, which holds no executable {tool}", "complete that directory or unset the variable"
        )
    return path
