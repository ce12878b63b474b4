"""The only container image of the lab, made from Debian's static busybox: there is no registry to pull from and no engine to build with."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

from dpuchain.lab.oci import add_file, write_archive

BUSYBOX = Path("/bin/busybox")
IMAGE = "localhost/busybox:1"
"""The name under which pods use it; `localhost` stands for: made here, never pulled."""


def write_image(path: Path) -> None:
    """Write the image as an OCI archive that `ctr images import` takes. Its default command sleeps, so it serves as the pause image too."""
    write_archive(path, IMAGE, [_layer()], {"Cmd": ["/bin/sleep", "2147483647"], "Env": ["PATH=/bin"]}, architecture())


def _layer() -> bytes:
    """Return the root file system as a tar: busybox, a link for each of its commands, and the directories that a container expects."""
    applets = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for directory in ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        add_file(archive, "bin/busybox", BUSYBOX.read_bytes(), mode=0o755)
        add_file(archive, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        add_file(archive, "etc/group", b"root:x:0:\n")
        for applet in applets:
            if applet != "busybox":
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(link)
    return buffer.getvalue()


def architecture() -> str:
    """This machine's, by the name that images have for it."""
    # Debian's amd64 and arm64 are OCI's names too.
    return subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()
