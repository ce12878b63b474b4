#!/usr/bin/env python3
"""Build the container image without an engine: Debian's Python, the locked packages, Helm and our wheel, as an OCI archive.

    python -m tools.build_image [--architecture amd64|arm64] DIRECTORY     writes DIRECTORY/dpuchain-VERSION-ARCHITECTURE.tar,
                                                                           and its bill of materials, .cdx.json
    python -m tools.build_image --root ROOT                                fills a folder instead, for the Containerfile

Two builds of one commit are equal byte for byte, as long as Debian's archive has the same packages.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tools.bill import DEBIAN, bill
from tools.stamp_version import version

from dpuchain.lab.images import architecture as this_architecture
from dpuchain.lab.oci import write_archive
from dpuchain.lab.toolchain import Toolchain

HERE = Path(__file__).parents[1]
SUITE = "bookworm"
PACKAGES = ("python3.11-minimal", "libpython3.11-stdlib", "ca-certificates")
"""Debian's, with all that they need; no shell, no package manager."""
UNUSED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/info",
    "var/cache",
    "var/lib/apt",
    "var/log",
)
PROGRAMS = ("usr/bin/python3.11", "usr/bin/helm")
"""All of usr/bin and bin that stays."""
LIBRARY = Path("usr/lib/python3.11")
SITE = Path("usr/lib/python3/dist-packages")
HELM = Path("usr/bin/helm")
ENTRYPOINT = ["/usr/bin/python3.11", "-m", "dpuchain"]
NOBODY = 65532
CHARTS = Path("usr/share/dpuchain/charts")
"""Where the host controller finds the chart that it installs in DPU clusters."""
TRIPLES = {"amd64": "x86_64-unknown-linux-gnu", "arm64": "aarch64-unknown-linux-gnu"}
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
RECORD = f"""mkdir -p "$1/{DEBIAN}"
for package in "$1"/var/cache/apt/archives/*.deb; do
    dpkg-deb --field "$package" >"$1/{DEBIAN}/$(dpkg-deb --field "$package" Package)"
done"""
"""Writes down which packages were unpacked, since they are not installed and dpkg knows nothing of them."""


def moment() -> int:
    """The time that all files get: of the last commit, in seconds since 1970."""
    told = os.environ.get("SOURCE_DATE_EPOCH") or _run("git", "-C", str(HERE), "log", "-1", "--format=%ct")
    return int(told)


def _run(*command: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})})
    if done.returncode:
        sys.exit(f"{' '.join(command[:3])} failed: {done.stderr[-2000:]}")
    return done.stdout


def debian(root: Path, architecture: str) -> None:
    """Fill `root` with Debian's packages, less what an image does not need."""
    if shutil.which("mmdebstrap") is None:
        sys.exit("mmdebstrap is not installed: run `make bootstrap`")
    archive = root.parent / "debian.tar"
    options = ["--mode=root", "--variant=extract", f"--include={','.join(PACKAGES)}", f"--architectures={architecture}"]
    options += [f"--extract-hook={RECORD}"]
    _run("mmdebstrap", *options, SUITE, str(archive), environment={"SOURCE_DATE_EPOCH": str(moment())})
    with tarfile.open(archive) as tar:
        tar.extractall(root, filter="fully_trusted")
    archive.unlink()
    for name in UNUSED:
        shutil.rmtree(root / name, ignore_errors=True)
    for folder in ("bin", "sbin", "usr/bin", "usr/sbin"):
        for path in (root / folder).glob("*"):
            if str(path.relative_to(root)) not in PROGRAMS:
                path.unlink()
    (root / "run").mkdir(exist_ok=True)
    (root / "var/run").symlink_to("../run")  # what a CNI call names is below /var/run
    _compile(root, LIBRARY)
    authorities = sorted((root / "usr/share/ca-certificates/mozilla").glob("*.crt"))
    (root / CERTIFICATES).parent.mkdir(parents=True, exist_ok=True)
    (root / CERTIFICATES).write_text("".join(path.read_text() for path in authorities))
    (root / "etc/passwd").write_text(f"root:x:0:0::/:\nnobody:x:{NOBODY}:{NOBODY}::/:\n")
    (root / "etc/group").write_text(f"root:x:0:\nnobody:x:{NOBODY}:\n")


def dependencies(root: Path, architecture: str) -> None:
    """Put the locked packages in, and Helm."""
    uv = [str(HERE / ".venv/bin/uv"), "pip", "install", "--quiet", f"--target={root / SITE}", f"--python={sys.executable}"]
    platform = [f"--python-platform={TRIPLES[architecture]}", "--python-version=3.11"]
    _run(*uv, *platform, "--no-deps", "--require-hashes", "--requirement", str(HERE / "requirements.runtime.lock"))
    _tidy(root / SITE)
    _compile(root, SITE)
    toolchain = Toolchain(architecture="" if architecture == this_architecture() else architecture)
    asyncio.run(toolchain.provide("helm", report=print))
    (root / HELM).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(toolchain.path("helm"), root / HELM)
    (root / HELM).chmod(0o755)


def application(root: Path) -> None:
    """Put our wheel in, and the chart of DPU clusters."""
    shutil.copytree(HERE / "deploy/charts/dpuchain-dpu", root / CHARTS / "dpuchain-dpu")
    with tempfile.TemporaryDirectory() as folder:
        uv = str(HERE / ".venv/bin/uv")
        environment = {"SOURCE_DATE_EPOCH": str(moment())}
        build = [uv, "build", "--wheel", "--no-build-isolation", f"--python={sys.executable}", f"--out-dir={folder}", str(HERE)]
        _run(*build, environment=environment)
        (wheel,) = Path(folder).glob("*.whl")
        _run(uv, "pip", "install", "--quiet", "--no-deps", f"--target={root / SITE}", f"--python={sys.executable}", str(wheel))
    _tidy(root / SITE)
    _compile(root, SITE / "dpuchain")


def _tidy(site: Path) -> None:
    """Take away what differs from build to build."""
    for pattern in ("**/direct_url.json", "**/uv_cache.json", "**/INSTALLER", "**/RECORD", "**/REQUESTED", "**/.lock"):
        for path in site.glob(pattern):
            path.unlink()
    shutil.rmtree(site / "bin", ignore_errors=True)


def _compile(root: Path, place: Path) -> None:
    """Compile the modules at `place` ahead, since the root file system is read-only; what no Python can compile is not used.

    In a process of its own, since what was compiled before in the same one shows in the result.
    """
    where = ["-s", str(root), "-p", "/"]
    command = [sys.executable, "-I", "-m", "compileall", "-qq", "--invalidation-mode=unchecked-hash", *where, str(root / place)]
    subprocess.run(command, check=False)


def layer(root: Path, before: set[str]) -> bytes:
    """A tar of what `root` has and the layers `before` it have not, in one order, of one time, with plain modes. Adds to `before`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(root.rglob("*")):
            name = str(path.relative_to(root))
            if name not in before:
                before.add(name)
                entry = archive.gettarinfo(path, name)
                entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = moment(), 0, 0, "", ""
                if not entry.issym() and not entry.mode & 0o7000:  # /tmp keeps its sticky bit
                    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
                with path.open("rb") if entry.isreg() else io.BytesIO() as content:
                    archive.addfile(entry, content)
    return buffer.getvalue()


def labels() -> dict[str, str]:
    """What the image says of itself (https://github.com/opencontainers/image-spec, annotations)."""
    prefix = "org.opencontainers.image"
    title = {f"{prefix}.title": "dpuchain", f"{prefix}.version": version(), f"{prefix}.licenses": "Apache-2.0"}
    return {**title, f"{prefix}.description": "Service function chaining for DPUs: controllers, agent, admission and CNI plugin."}


def configuration() -> dict[str, Any]:
    """What runs in the image, and as whom; only the agent's pod says otherwise."""
    return {"Entrypoint": ENTRYPOINT, "User": f"{NOBODY}:{NOBODY}", "WorkingDir": "/", "Labels": labels()}


def fill(root: Path, architecture: str) -> Iterator[None]:
    """Fill the folder `root`, in steps; what each adds is a layer of the image."""
    root.mkdir(exist_ok=True)
    steps: dict[str, Callable[[], None]] = {
        "Debian's packages": partial(debian, root, architecture),
        "locked packages and Helm": partial(dependencies, root, architecture),
        "dpuchain": partial(application, root),
    }
    for step, work in steps.items():
        print(f"{architecture}: {step}", flush=True)
        work()
        yield


def image(directory: Path, architecture: str) -> Path:
    """Write the image and its bill of materials into a folder."""
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / f"dpuchain-{version()}-{architecture}.tar"
    with tempfile.TemporaryDirectory(prefix="dpuchain-image-") as folder:
        root, seen = Path(folder) / "root", set[str]()
        layers = [layer(root, seen) for _ in fill(root, architecture)]
        target.with_suffix(".cdx.json").write_text(bill(root, SITE, HELM, version(), moment()))
    write_archive(target, f"docker.io/dpuchain/dpuchain:{version()}", layers, configuration(), architecture)
    return target


def main() -> None:
    """Build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, nargs="?", help="where the archive is written")
    parser.add_argument("--root", type=Path, help="fill this folder instead")
    parser.add_argument("--architecture", choices=sorted(TRIPLES), default=this_architecture())
    options = parser.parse_args()
    if (options.directory is None) == (options.root is None):
        parser.error("name a DIRECTORY, or --root")
    if sys.version_info[:2] != (3, 11):
        sys.exit("the image's Python is 3.11, and modules are compiled for it: make PYTHON=python3.11 bootstrap")
    if options.root is None:
        target = image(options.directory, options.architecture)
        print(f"{target} ({target.stat().st_size / 1e6:.0f} MB)")
    else:
        for _ in fill(options.root, options.architecture):
            pass


if __name__ == "__main__":
    main()
