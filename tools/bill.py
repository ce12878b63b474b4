"""The bill of materials of an image (CycloneDX), read from what is in it: Debian's packages, Python's, and the Go modules of Helm.

The same image has the same bill, byte for byte: its number comes of its content, and its time is the image's.
"""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from email.parser import HeaderParser
from importlib.metadata import distributions
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

DEBIAN = Path("var/lib/dpkg/status.d")
"""One file a package, as scanners of images without dpkg look for them."""


def bill(root: Path, site: Path, helm: Path, version: str, moment: int) -> str:
    """The bill of the image whose files are below `root`: Python's packages in `site`, Helm at `helm`, both below it too."""
    image = Component(name="dpuchain", version=version, type=ComponentType.CONTAINER, bom_ref="image")
    found = {*_debian(root / DEBIAN), *_python(root / site), *_go(root / helm)}
    urls = sorted(found, key=PackageURL.to_string)
    parts = [Component(name=url.name, version=url.version, purl=url, bom_ref=url.to_string()) for url in urls]
    names = "\n".join(part.bom_ref.value or "" for part in parts)
    bom = Bom(components=parts, serial_number=uuid.uuid5(uuid.NAMESPACE_OID, f"dpuchain {version} {moment}\n{names}"))
    bom.metadata.timestamp = datetime.fromtimestamp(moment, UTC)
    bom.metadata.component = image
    bom.register_dependency(image, parts)
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def _debian(folder: Path) -> Iterator[PackageURL]:
    for path in folder.iterdir():
        fields = HeaderParser().parsestr(path.read_text())
        where = {"arch": fields["Architecture"], "distro": "debian-12"}
        yield PackageURL("deb", "debian", fields["Package"], fields["Version"], qualifiers=where)


def _python(site: Path) -> Iterator[PackageURL]:
    for distribution in distributions(path=[str(site)]):
        yield PackageURL("pypi", None, distribution.metadata["Name"].lower().replace("_", "-"), distribution.version)


def _go(program: Path) -> Iterator[PackageURL]:
    """What `go version -m` tells: the Go version, then a line with kind, module, version and sum for each module."""
    told = subprocess.run(["go", "version", "-m", str(program)], check=True, capture_output=True, text=True).stdout
    first, *lines = told.splitlines()
    yield PackageURL("golang", None, "stdlib", first.rpartition(" ")[2].removeprefix("go"))
    for line in lines:
        match line.split():
            case ["mod" | "dep", module, version, *_]:
                namespace, _, name = module.rpartition("/")
                yield PackageURL("golang", namespace or None, name, version)
