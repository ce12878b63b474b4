"""Where a rack keeps its files, and whose files it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dpuchain.lab.errors import LabError
from dpuchain.lab.layout import DEEPEST_SOCKET, LONGEST_SOCKET_PATH, Layout, Shape


def test_dpus_are_spread_over_clusters_in_turn() -> None:
    shape = Shape(dpus=5, clusters=2)
    assert {name: shape.members(name) for name in shape.cluster_names} == {"cluster-1": [1, 3, 5], "cluster-2": [2, 4]}
    assert str(shape) == "5 DPUs in 2 DPU clusters"
    assert str(Shape(1, 1)) == "1 DPU in 1 DPU cluster"


@pytest.mark.parametrize(("spare", "alias"), [(0, False), (-1, True)])
def test_directory_too_long_for_sockets_gets_a_short_name(spare: int, alias: bool) -> None:
    room = LONGEST_SOCKET_PATH - len(DEEPEST_SOCKET) - spare
    layout = Layout(Path("/" + "d" * (room - 1)))
    assert (layout.root == layout.alias) is alias
    assert len(str(layout.root)) + len(DEEPEST_SOCKET) <= LONGEST_SOCKET_PATH


def test_two_directories_are_two_racks(tmp_path: Path) -> None:
    assert Layout.at(tmp_path / "one").identity != Layout.at(tmp_path / "two").identity
    (tmp_path / "link").symlink_to(tmp_path / "one")
    assert Layout.at(tmp_path / "link").identity == Layout.at(tmp_path / "one").identity


def test_somebodys_files_are_neither_used_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear")
    layout = Layout.at(tmp_path)
    with pytest.raises(LabError, match="holds files that are not a rack's"):
        layout.create(Shape())
    layout.remove()
    assert (tmp_path / "letter").read_text() == "dear"


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match="is not a directory"):
        Layout.at(tmp_path / "file").create(Shape())


def test_what_is_made_is_removed_and_what_links_lead_to_is_not(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "tool").touch()
    layout = Layout.at(tmp_path / "rack")
    layout.create(Shape(3, 2))
    assert layout.shape == Shape(3, 2)
    (layout.directory / "bin").symlink_to(tmp_path / "elsewhere")
    (layout.directory / "dpu-1").mkdir()
    layout.remove()
    assert layout.shape is None
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]
    assert (tmp_path / "elsewhere" / "tool").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"dpus": 1, "wheels": 4})])
def test_unreadable_mark_is_still_a_racks(content: str, tmp_path: Path) -> None:
    layout = Layout.at(tmp_path)
    layout.shape_file.write_text(content)
    assert layout.shape == Shape(0, 0)
    layout.remove()
    assert not tmp_path.exists()
