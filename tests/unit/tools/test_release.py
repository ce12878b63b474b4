"""One version everywhere; packages, layers and bills of materials that do not depend on where and when they are made."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml
from tools import build_image, stamp_version
from tools.bill import DEBIAN, bill
from tools.build_release import SUMS, sums
from tools.package_chart import CHARTS, package

from dpuchain.runtime.version import VERSION

ROOT = Path(__file__).parents[3]
SITE = Path("site")
GO = Path("go")


def test_there_is_one_version() -> None:
    assert stamp_version.stamped() == {}
    assert stamp_version.version() == VERSION == build_image.labels()["org.opencontainers.image.version"]


def test_another_version_goes_everywhere(tmp_path: Path) -> None:
    for name in ("pyproject.toml", *stamp_version.PLACES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text().replace(f'version = "{VERSION}"', 'version = "7.8.9"'))
    changed = stamp_version.stamped(tmp_path)
    assert changed.keys() == stamp_version.PLACES.keys()
    for name, text in changed.items():
        assert VERSION not in text
        if name.endswith("Chart.yaml"):
            assert (yaml.safe_load(text)["version"], yaml.safe_load(text)["appVersion"]) == ("7.8.9", "7.8.9")
        else:
            assert 'org.opencontainers.image.version="7.8.9"' in text


def test_containerfile_and_image_agree() -> None:
    """Both are filled by the same tool; what runs in them, as whom, and what they say of themselves is written twice."""
    text = (ROOT / "Containerfile").read_text()
    last = text.rpartition("\nFROM ")[2]
    entrypoint = re.search(r"^ENTRYPOINT (.*)$", last, re.MULTILINE)
    user = re.search(r"^USER (.*)$", last, re.MULTILINE)
    assert entrypoint is not None
    assert user is not None
    configuration = build_image.configuration()
    assert json.loads(entrypoint[1]) == configuration["Entrypoint"]
    assert user[1] == configuration["User"]
    assert dict(re.findall(r'(org\.opencontainers\S+)="([^"]*)"', last)) == configuration["Labels"]
    assert re.findall(r"^COPY .*$", last, re.MULTILINE) == ["COPY --from=build /image /"]
    assert last.startswith("scratch\n")
    assert "-m tools.build_image --root /image --architecture" in text


def test_charts_are_packed_the_same_from_anywhere(tmp_path: Path) -> None:
    for chart in CHARTS.iterdir():
        copy = tmp_path / "elsewhere" / f"other-{chart.name}"
        shutil.copytree(chart, copy)
        for path in copy.rglob("*"):
            os.utime(path, (1, 1))
            path.chmod(0o700)
        first, second = package(chart, tmp_path / "first"), package(copy, tmp_path / "second")
        assert first.name == second.name == f"{chart.name}-{VERSION}.tgz"
        assert first.read_bytes() == second.read_bytes()
        with tarfile.open(first) as archive:
            packed = {name.partition("/")[2] for name in archive.getnames()}
            assert all(entry.isreg() for entry in archive)
        assert {"Chart.yaml", "values.yaml", "values.schema.json"} < packed
        assert {path.name for path in (ROOT / "deploy/crds").iterdir()} == {name[11:] for name in packed if name.startswith("files/crds/")}


def test_layers_do_not_show_where_and_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    made = []
    for place, names, mode in (("here", ["a", "b"], 0o644), ("there", ["b", "a"], 0o600)):
        root, seen = tmp_path / place, set[str]()
        root.mkdir()
        for name in names:
            (root / name).write_text(name)
            (root / name).chmod(mode)
        (root / "link").symlink_to("a")
        first = build_image.layer(root, seen)
        (root / "c").write_text("c")
        made.append((first, build_image.layer(root, seen)))
    assert made[0] == made[1]
    (tmp_path / "second.tar").write_bytes(made[0][1])
    with tarfile.open(tmp_path / "second.tar") as archive:
        assert [(entry.name, entry.mtime, entry.uid) for entry in archive] == [("c", 86400, 0)]


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """An image's files with a package of each kind."""
    root = tmp_path / "root"
    (root / DEBIAN).mkdir(parents=True)
    (root / DEBIAN / "libc6").write_text("Package: libc6\nArchitecture: arm64\nVersion: 2.36-9+deb12u14\nDescription: GNU\n of C\n")
    (root / SITE / "Some_Thing-1.2.dist-info").mkdir(parents=True)
    (root / SITE / "Some_Thing-1.2.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: Some_Thing\nVersion: 1.2\n")
    program = shutil.which("gofmt") or str(Path(subprocess.check_output(["go", "env", "GOROOT"], text=True).strip()) / "bin/gofmt")
    shutil.copy(program, root / GO)
    return root


def test_bill_names_what_is_in_the_image(filled: Path) -> None:
    text = bill(filled, SITE, GO, "1.0", 86400)
    found = json.loads(text)
    assert (found["bomFormat"], found["specVersion"], found["metadata"]["timestamp"]) == ("CycloneDX", "1.6", "1970-01-02T00:00:00+00:00")
    urls = {part["purl"] for part in found["components"]}
    assert {"pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=arm64&distro=debian-12", "pkg:pypi/some-thing@1.2"} < urls
    assert any(url.startswith("pkg:golang/stdlib@1.26.") for url in urls)
    assert bill(filled, SITE, GO, "1.0", 86400) == text
    assert json.loads(bill(filled, SITE, GO, "1.0", 86401))["serialNumber"] != found["serialNumber"]


def test_checksums_are_what_sha256sum_checks(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("b")
    (tmp_path / "a").write_text("a")
    (tmp_path / SUMS).write_text(sums(tmp_path))
    said = subprocess.run(["sha256sum", "--check", SUMS], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said == "a: OK\nb: OK\n"
