"""How large the image is, and how soon its processes listen: from the image's own files as the root, which is what a node has of it.

No rack: no API server and no Open vSwitch either, since a process listens before it has reached them.
"""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tools import build_image

from dpuchain.lab.images import architecture

RUNS = 10
PATIENCE = 30.0
KUBECONFIG = "kubeconfig"
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
AGENT = ("agent", "--node=bench", "--address=", "--cni-socket=/run/cni.sock")
PROCESSES: Mapping[str, tuple[int, tuple[str, ...]]] = {"host": (build_image.NOBODY, ("host",)), "agent": (0, AGENT)}
"""Each with its user and its arguments."""


def measure() -> tuple[int, dict[str, list[float]]]:
    """Bytes of all layers, and the seconds that each start has taken, by what was started."""
    with tempfile.TemporaryDirectory(prefix="dpuchain-bench-") as directory:
        root, seen = Path(directory) / "root", set[str]()
        size = sum(len(build_image.layer(root, seen)) for _ in build_image.fill(root, architecture()))
        (root / KUBECONFIG).write_text(json.dumps(_nowhere()))
        (root / KUBECONFIG).chmod(0o644)
        (root / "sys/class/net").mkdir(parents=True)  # no device, in the place of the kernel's
        Path(directory).chmod(0o755)
        taken = {"dpuchain --help": [_help(root) for _ in range(RUNS)]}
        return size, taken | {f"{name} started → listens": [_listens(root, *how) for _ in range(RUNS)] for name, how in PROCESSES.items()}


def _nowhere() -> dict[str, object]:
    """The kubeconfig of an API server that does not answer."""
    cluster = {"name": "nowhere", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "nowhere", "context": {"cluster": "nowhere", "user": "nobody"}}
    user = {"name": "nobody", "user": {"token": "none"}}
    return {"clusters": [cluster], "contexts": [context], "users": [user], "current-context": "nowhere"}


def _command(root: Path, user: int, *arguments: str) -> list[str]:
    return ["chroot", f"--userspec={user}:{user}", str(root), *build_image.ENTRYPOINT, *arguments]


def _help(root: Path) -> float:
    began = time.perf_counter()
    subprocess.run(_command(root, build_image.NOBODY, "--help"), check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    return time.perf_counter() - began


def _listens(root: Path, user: int, arguments: tuple[str, ...]) -> float:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    began = time.perf_counter()
    with _running(_command(root, user, *arguments, f"--kubeconfig=/{KUBECONFIG}", f"--health-address=127.0.0.1:{port}")) as process:
        while time.perf_counter() < began + PATIENCE:
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", port)) == 0:
                    return time.perf_counter() - began
            if process.poll() is not None:
                break
            time.sleep(0.001)
    raise RuntimeError(f"`dpuchain {arguments[0]}` does not listen: {process.stderr and process.stderr.read()}")


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
