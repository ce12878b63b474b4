"""An image of a later version: the same, but for what says which it is."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import yaml

from dpuchain.lab.charts import OURS
from dpuchain.lab.oci import add_file, write_archive

if TYPE_CHECKING:
    from pathlib import Path

VERSION = "99.0.0"


def write_images(source: Path, image: Path, later: Path) -> None:
    """Write the image in `source` with one layer alone, which is unpacked sooner; and one that says that it is of `VERSION`."""
    with tarfile.open(source) as archive:

        def content(name: str) -> bytes:
            member = archive.extractfile(name)
            assert member is not None, name
            return member.read()

        def blob(described: dict[str, Any]) -> bytes:
            return content("blobs/" + described["digest"].replace(":", "/"))

        (entry,) = json.loads(content("index.json"))["manifests"]
        manifest = json.loads(blob(entry))
        config = json.loads(blob(manifest["config"]))
        layer = _joined([blob(layer) for layer in manifest["layers"]])
    name = entry["annotations"]["io.containerd.image.name"]
    write_archive(image, name, [layer], config["config"], config["architecture"])
    chart = yaml.safe_load((OURS / "dpuchain-dpu" / "Chart.yaml").read_text())
    changed = io.BytesIO()
    with tarfile.open(fileobj=changed, mode="w") as archive:
        described = yaml.safe_dump({**chart, "version": VERSION, "appVersion": VERSION})
        add_file(archive, "usr/share/dpuchain/charts/dpuchain-dpu/Chart.yaml", described.encode())
    write_archive(later, f"{name.rpartition(':')[0]}:{VERSION}", [layer, changed.getvalue()], config["config"], config["architecture"])


def _joined(layers: list[bytes]) -> bytes:
    """One tar of several, of which none takes away or writes again what another has."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as joined:
        for layer in layers:
            with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
                for member in archive:
                    joined.addfile(member, archive.extractfile(member) if member.isreg() else None)
    return buffer.getvalue()
