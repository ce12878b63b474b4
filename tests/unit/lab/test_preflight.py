"""What the machine lacks is said in one line with its remedy."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from dpuchain.lab import cgroups, preflight
from dpuchain.lab.errors import LabError
from dpuchain.lab.layout import Layout, Shape
from dpuchain.lab.toolchain import Toolchain

TWO = Shape(dpus=2)
PACKAGES = Path(__file__).parents[3] / "tools" / "packages.sh"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that has everything."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda program: program)
    monkeypatch.setattr(cgroups, "hierarchies", lambda: [tmp_path])
    _free(monkeypatch, 100)


def _free(monkeypatch: pytest.MonkeyPatch, gigabytes: float) -> None:
    usage = SimpleNamespace(free=int(gigabytes * preflight.GIGABYTE))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


def problem(tmp_path: Path, shape: Shape = TWO) -> str:
    with pytest.raises(LabError) as caught:
        preflight.check_machine(Layout.at(tmp_path / "rack"), shape)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
    return str(caught.value)


def test_machine_with_everything(machine: None, tmp_path: Path) -> None:
    preflight.check_machine(Layout.at(tmp_path / "not" / "yet" / "there"), Shape())


def test_no_root(machine: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "run the same command as root" in problem(tmp_path)


def test_missing_packages_are_all_named_at_once(machine: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None if program in {"runc", "ovs-vswitchd"} else program)
    assert "apt-get install openvswitch-switch runc" in problem(tmp_path)


def test_each_package_that_is_asked_for_is_one_that_bootstrap_installs() -> None:
    assert set(preflight.PACKAGES.values()) <= set(PACKAGES.read_text().replace('"', " ").split())


def test_no_control_groups(machine: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cgroups, "hierarchies", list)
    assert "no control group can be made" in problem(tmp_path)


def test_no_room_for_a_rack(machine: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _free(monkeypatch, 0.5)
    assert "a rack needs 1 GB" in problem(tmp_path)
    assert "0.5 GB are free" in problem(tmp_path)


def test_more_clusters_than_dpus(machine: None, tmp_path: Path) -> None:
    assert "ask for no more clusters than DPUs" in problem(tmp_path, Shape(dpus=1, clusters=2))


async def test_no_room_to_build_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    _free(monkeypatch, 5)
    with pytest.raises(LabError, match="building etcd needs 6 GB"):
        await preflight.check_build(Toolchain(tmp_path), "etcd")


async def test_no_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match=r"Go is not installed(?s:.*)install Go 1\.26"):
        await preflight.check_build(Toolchain(tmp_path), "etcd")
