"""Container images as OCI archives, made without an engine: `ctr images import` and every registry tool take them.

An archive is the same, byte for byte, if its layers and its configuration are.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

KIND = "application/vnd.oci.image"


def write_archive(path: Path, name: str, layers: Sequence[bytes], configuration: Mapping[str, Any], architecture: str) -> None:
    """Write an image of that name (`REPOSITORY:TAG`), whose layers are tars, and whose `configuration` says what runs in it and how."""
    blobs: dict[str, bytes] = {}

    def add(content: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"mediaType": f"{KIND}.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    described = [add(layer, "layer.v1.tar") for layer in layers]
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": configuration,
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in described]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{KIND}.manifest.v1+json",
        "config": add(_json(config), "config.v1+json"),
        "layers": described,
    }
    annotations = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    entry = {**add(_json(manifest), "manifest.v1+json"), "annotations": annotations}
    with tarfile.open(path, "w") as archive:
        add_file(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        add_file(archive, "index.json", _json({"schemaVersion": 2, "manifests": [entry]}))
        for digest, content in blobs.items():
            add_file(archive, f"blobs/sha256/{digest}", content)


def add_file(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    """Put a file of root's, without a time, into a tar."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
