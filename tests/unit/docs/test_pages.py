"""What pages say of this repository is so: the versions that are pinned, and the files and names that a contributor is sent to."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
COMPATIBILITY = (ROOT / "docs" / "compatibility.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
PINNED = {
    "Kubernetes": ("kubernetes", "k8s.io/kubernetes"),
    "etcd": ("etcd", "go.etcd.io/etcd/server/v3"),
    "Helm": ("helm", "helm.sh/helm/v3"),
    "Multus": ("multus", "gopkg.in/k8snetworkplumbingwg/multus-cni.v4"),
}
PLACES = {
    "src/dpuchain/api/interface.py": ("InterfaceType", "ServiceInterfaceSpec", "RULES"),
    "src/dpuchain/chain/fields.py": ("BLOCKS",),
    "src/dpuchain/chain/ports.py": ("claim_of", "refusal"),
    "src/dpuchain/chain/resolve.py": ("place_of",),
    "src/dpuchain/chain/problems.py": ("Kind", "Problem"),
    "src/dpuchain/chain/findings.py": ("REFUSED", "WARNED"),
    "src/dpuchain/runtime/metrics.py": ("_counter", "_gauge", "_histogram", "_read"),
}
"""Files that a contributor is sent to, and what is to be found there."""


def version(folder: str, module: str) -> str:
    found = re.search(rf"^\t{re.escape(module)} v(\S+)", (ROOT / "controlplane" / folder / "go.mod").read_text(), re.MULTILINE)
    assert found
    return found[1]


@pytest.mark.parametrize("name", PINNED)
def test_versions_of_the_control_plane_are_those_that_are_built(name: str) -> None:
    assert re.search(rf"^\| {name} \| {re.escape(version(*PINNED[name]))}\b", COMPATIBILITY, re.MULTILINE)


def test_versions_of_kubernetes_are_those_of_the_charts() -> None:
    needed = []
    for chart in ("dpuchain", "dpuchain-dpu"):
        found = re.search(r'^kubeVersion: ">=(\d+\.\d+)\.0-0"$', (ROOT / "deploy/charts" / chart / "Chart.yaml").read_text(), re.MULTILINE)
        assert found
        needed.append(found[1])
    host, dpu = needed
    assert f"| {host} and newer in the host cluster, {dpu} and newer in DPU clusters |" in COMPATIBILITY


def test_version_of_python_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"| Python | {project['requires-python'].removeprefix('>=')} and newer |" in COMPATIBILITY


def test_version_of_go_is_that_of_the_modules() -> None:
    for module in (ROOT / "controlplane").glob("*/go.mod"):
        assert re.search(r"^go 1\.26\.", module.read_text(), re.MULTILINE)
    assert "| Go | 1.26 |" in COMPATIBILITY


@pytest.mark.parametrize("page", [COMPATIBILITY, CONTRIBUTING], ids=["compatibility", "contributing"])
def test_files_that_are_named_are_there(page: str) -> None:
    for path in re.findall(r"`((?:src|tests|tools|deploy|controlplane)/[\w./-]+)`", page):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("path", PLACES)
def test_names_that_a_contributor_is_sent_to_are_there(path: str) -> None:
    assert f"`{path}`" in CONTRIBUTING
    tree = ast.parse((ROOT / path).read_text())
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    defined |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for name in PLACES[path]:
        assert f"`{name}`" in CONTRIBUTING
        assert name in defined


def test_make_targets_that_a_contributor_is_sent_to_are_there() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z0-9-]+)", CONTRIBUTING)) <= targets
