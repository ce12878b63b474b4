"""The only container image of the lab, made from Debian's static busybox: there is no registry to pull from and no engine to build with."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

BUSYBOX = Path("/bin/busybox")
IMAGE = "localhost/busybox:1"
"""The name under which pods use it; `localhost` stands for: made here, never pulled."""


def write_image(path: Path) -> None:
    """Write the image as an OCI archive that `ctr images import` takes. Its default command sleeps, so it serves as the pause image too."""
    layer = _layer()
    blobs: dict[str, bytes] = {}

    def add(content: bytes) -> tuple[str, int]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return f"sha256:{digest}", len(content)

    layer_digest, layer_size = add(layer)
    config = {
        "architecture": _architecture(),
        "os": "linux",
        "config": {"Cmd": ["/bin/sleep", "2147483647"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
    }
    config_digest, config_size = add(_json(config))
    kind = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": {"mediaType": f"{kind}.config.v1+json", "digest": config_digest, "size": config_size},
        "layers": [{"mediaType": f"{kind}.layer.v1.tar", "digest": layer_digest, "size": layer_size}],
    }
    manifest_digest, manifest_size = add(_json(manifest))
    entry = {
        "mediaType": f"{kind}.manifest.v1+json",
        "digest": manifest_digest,
        "size": manifest_size,
        "annotations": {"io.containerd.image.name": IMAGE, "org.opencontainers.image.ref.name": IMAGE.rpartition(":")[2]},
    }
    with tarfile.open(path, "w") as archive:
        _add_file(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add_file(archive, "index.json", _json({"schemaVersion": 2, "manifests": [entry]}))
        for digest, content in blobs.items():
            _add_file(archive, f"blobs/sha256/{digest}", content)


def _layer() -> bytes:
    """Return the root file system as a tar: busybox, a link for each of its commands, and the directories that a container expects."""
    applets = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for directory in ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        _add_file(archive, "bin/busybox", BUSYBOX.read_bytes(), mode=0o755)
        _add_file(archive, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        _add_file(archive, "etc/group", b"root:x:0:\n")
        for applet in applets:
            if applet != "busybox":
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(link)
    return buffer.getvalue()


def _add_file(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _architecture() -> str:
    # Debian's amd64 and arm64 are OCI's names too.
    return subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()
