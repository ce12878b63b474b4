"""`dpuchain plan` on folders of manifests: exit statuses, errors, and the text itself at two widths.

SNAPSHOTS=write makes the files in `snapshots` anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from dpuchain.cli import live, main

SNAPSHOTS = Path(__file__).parent / "snapshots"
EXAMPLE = Path(__file__).parents[3] / "examples" / "01-bump-in-the-wire" / "chain.yaml"
NAMESPACE = "dpf-operator-system"
API = "svc.dpu.nvidia.com/v1alpha1"


def manifest(kind: str, name: str, spec: Any = None, api: str = API, **metadata: Any) -> dict[str, Any]:
    content = {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE, **metadata}}
    return content if spec is None else {**content, "spec": spec}


def interface(name: str, port: str) -> dict[str, Any]:
    template = {"metadata": {"labels": {"port": name}}, "spec": {"interfaceType": "physical", "physical": {"interfaceName": port}}}
    return manifest("DPUServiceInterface", name, {"template": {"spec": {"template": template}}})


def chain(name: str, *ports: str, **about: Any) -> dict[str, Any]:
    switch = {"ports": [{"serviceInterface": {"matchLabels": {"port": port}}} for port in ports]}
    return manifest("DPUServiceChain", name, {"template": {"spec": {"template": {"spec": {"switches": [switch]}}, **about}}})


CLUSTER = manifest("DPUCluster", "north", {"type": "static", "version": "v1"}, "provisioning.dpu.nvidia.com/v1alpha1")
CONFIG = manifest("DPFOperatorConfig", "dpfoperatorconfig", {"networking": {"highSpeedMTU": 9216}}, "operator.dpu.nvidia.com/v1alpha1")
ZONED = {"nodeSelector": {"matchLabels": {"zone": "b"}}}


def node(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels, "resourceVersion": "7"}, "status": {"x": 1}}


def write(path: Path, *documents: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump_all(documents))
    return path


def run(*arguments: object, width: int = 160) -> Result:
    return CliRunner().invoke(main, ["plan", *map(str, arguments)], env={"COLUMNS": str(width), "NO_COLOR": "1"})


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A folder with a fleet of 321 nodes, two uplinks and a chain."""
    folder = tmp_path / "world"
    write(folder / "fleet.yaml", CLUSTER, CONFIG, interface("p0", "p0"), interface("hpf", "pf0hpf"), chain("wire", "p0", "hpf"))
    write(folder / "clusters" / "north" / "nodes.yaml", *(node(f"dpu-{n:03}", zone="a" if n % 3 else "b") for n in range(321)))
    return folder


def test_nothing_to_do_ends_with_0(world: Path, tmp_path: Path) -> None:
    same = write(tmp_path / "same.yaml", chain("wire", "p0", "hpf"))
    result = run("-f", same, "--against", world)
    assert (result.exit_code, result.output) == (0, "nothing to do\n")


def test_default_that_is_written_out_is_no_change(world: Path, tmp_path: Path) -> None:
    written = chain("wire", "p0", "hpf")
    written["spec"]["template"]["spec"]["template"]["spec"]["switches"][0]["serviceMTU"] = 1500
    result = run("-f", write(tmp_path / "same.yaml", written), "--against", world)
    assert (result.exit_code, result.output) == (0, "nothing to do\n")


def test_changes_end_with_2_and_are_grouped(world: Path, tmp_path: Path) -> None:
    result = run("-f", write(tmp_path / "less.yaml", chain("wire", "p0", "hpf", **ZONED)), "--against", world)
    assert result.exit_code == 2
    assert "hpf on 214 DPUs no longer reaches p0" in result.output
    assert "214 nodes: dpu-001, dpu-002, dpu-004 and 211 more" in result.output


def test_conflicts_end_with_1(world: Path, tmp_path: Path) -> None:
    result = run("-f", write(tmp_path / "second.yaml", interface("second", "p0")), "--against", world)
    assert result.exit_code == 1
    assert "port p0 is owned by ServiceInterface dpf-operator-system/p0-" in result.output
    assert "DPUServiceInterface dpf-operator-system/p0, DPUServiceInterface dpf-operator-system/second in DPUCluster" in result.output


def test_one_service_id_of_two_services_is_a_conflict_with_its_nodes(world: Path, tmp_path: Path) -> None:
    source = {"repoURL": "https://charts.example", "version": "1.0.0", "chart": "c"}
    services = [manifest("DPUService", name, {"helmChart": {"source": source}, "serviceID": "fw"}) for name in ("fw", "ids")]
    result = run("-f", write(tmp_path / "services.yaml", *services), "--against", world, width=1000)
    assert result.exit_code == 1
    where = f"in DPUCluster {NAMESPACE}/north on nodes dpu-000, dpu-001, dpu-002 and 318 more"
    assert f"DPUService {NAMESPACE}/fw, DPUService {NAMESPACE}/ids {where}: DPUServices" in result.output
    assert result.output.count("Helm release") == 1, "the other's is not installed"


def test_conflict_that_stands_is_told_of_what_is_applied_and_not_of_anything_else(world: Path, tmp_path: Path) -> None:
    write(world / "second.yaml", interface("second", "p0"))
    assert run("-f", write(tmp_path / "again.yaml", interface("second", "p0")), "--against", world).exit_code == 1
    assert run("-f", write(tmp_path / "else.yaml", interface("p7", "p7")), "--against", world).exit_code == 2


def test_delete(world: Path, tmp_path: Path) -> None:
    result = run("-f", write(tmp_path / "gone.yaml", interface("p0", "p0")), "--against", world, "--delete", "-o", "json")
    assert result.exit_code == 2
    found = json.loads(result.output)
    assert found["paths"] == [{"from": "hpf", "to": "p0", "action": "cut", "dpus": 321}]
    assert {"action": "delete", "kind": "port", "name": "p0"} in found["nodes"][0]["ports"]


def test_json_has_all_flows_by_name(world: Path) -> None:
    found = json.loads(run("-f", world, "--against", "nothing", "-o", "json").output)
    (group,) = found["nodes"]
    assert len(group["nodes"]) == 321
    assert group["flows"] == {
        "added": [
            "chain=dpf-operator-system/wire, table=0, priority=1000, in_port=p0 actions=output:pf0hpf",
            "chain=dpf-operator-system/wire, table=0, priority=1000, in_port=pf0hpf actions=output:p0",
        ],
        "removed": [],
        "total": 2,
    }
    assert found["changes"]
    assert found["conflicts"] == found["errors"] == []


def test_diff_shows_what_differs(world: Path, tmp_path: Path) -> None:
    wider = write(tmp_path / "wide.yaml", chain("wire", "p0", "hpf", **ZONED))
    lines = run("-f", wider, "--against", world, "-o", "diff").output.splitlines()
    assert "--- host cluster: DPUServiceChain dpf-operator-system/wire" in lines
    assert "+      nodeSelector:" in lines
    assert "-chain=dpf-operator-system/wire, table=0, priority=1000, in_port=p0 actions=output:pf0hpf" in lines


def test_standard_input_and_lists_of_kubectl_are_read(world: Path) -> None:
    content = json.dumps({"apiVersion": "v1", "kind": "List", "items": [interface("p7", "p7"), interface("p8", "p8")]})
    result = CliRunner().invoke(main, ["plan", "-f", "-", "--against", str(world), "-o", "json"], input=content)
    assert result.exit_code == 2
    assert [item["name"] for item in json.loads(result.output)["clusters"][0]["objects"]] == [f"{NAMESPACE}/p7", f"{NAMESPACE}/p8"]


def test_kinds_of_others_are_counted(world: Path, tmp_path: Path) -> None:
    result = run(
        "-f", write(tmp_path / "x.yaml", manifest("ConfigMap", "x", api="v1"), manifest("ConfigMap", "y", api="v1")), "--against", world
    )
    assert (result.exit_code, result.output) == (0, "not looked at: 2 ConfigMap\nnothing to do\n")


BROKEN = interface("p0", "p0")
BROKEN_SPEC = BROKEN["spec"]["template"]["spec"]["template"]["spec"]


def broken(**spec: Any) -> dict[str, Any]:
    content = json.loads(json.dumps(BROKEN))
    content["spec"]["template"]["spec"]["template"]["spec"] = spec
    return dict(content)


SPEC = "spec.template.spec.template.spec"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (broken(interfaceType="pf", pf={"pfID": "zero"}), f"{SPEC}.pf.pfID: 'zero' is a string; give an integer"),
        (broken(interfaceType="pf", pf={"pfID": 256}), f"{SPEC}.pf.pfID: 256 lies outside 0..255"),
        (broken(interfaceType="pf"), f"{SPEC}: for interfaceType=pf, pf must be set"),
        (broken(interfaceType="wire"), f"{SPEC}.interfaceType: 'wire' is not one of ovn, patch, pf, physical"),
        (broken(interfaceType="physical", phsyical={}), f"{SPEC}.phsyical: unknown field; did you mean physical?"),
        (
            broken(interfaceType="physical", physical={"interfaceName": "p0", "mtu": 1}),
            f"{SPEC}.physical.mtu: unknown field; there are: interfaceName",
        ),
        (broken(interfaceType="physical", physical={}), f"{SPEC}.physical.interfaceName: must be set"),
        ({**BROKEN, "spec": None}, "spec: must be set"),
        ({**BROKEN, "apiVersion": "svc.dpu.nvidia.com/v1"}, "apiVersion: 'svc.dpu.nvidia.com/v1' is not svc.dpu.nvidia.com/v1alpha1"),
        ({**BROKEN, "metadata": {"name": "x" * 64}}, "name length can't be bigger than 63 chars"),
        ({**BROKEN, "metadata": {}}, "metadata.name: must be set"),
        ({**BROKEN, "metadata": {"name": "p0", "labels": {"a": 1}}}, "metadata.labels[a]: 1 is a number; write key and value in quotes"),
        (chain("wire"), "switches[0].ports: has 0 items; give at least 1"),
        (node("dpu-1"), "there are 2 DPUClusters; put it into clusters/NAME"),
        ("text", "a Kubernetes object is a mapping"),
        ({"kind": "X"}, "apiVersion and kind must be set"),
    ],
)
def test_errors_name_file_document_object_field_value_and_remedy(document: Any, words: str, tmp_path: Path) -> None:
    other = manifest("DPUCluster", "south", {"type": "static", "version": "v1"}, "provisioning.dpu.nvidia.com/v1alpha1")
    path = write(tmp_path / "bad.yaml", CLUSTER, other, document)
    result = run("-f", path, "--against", "nothing", width=1000)
    assert result.exit_code == 1
    assert words in result.output
    assert f"{path}, document 3" in result.output
    if isinstance(document, dict) and document.get("metadata", {}).get("name") == "p0":
        assert "DPUServiceInterface" in result.output


@pytest.mark.parametrize(("text", "words"), [("a: [", "line 1: not YAML"), ("\0", "not YAML"), ("a: 2024-99-99", "not YAML")])
def test_what_is_not_yaml_is_told(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    result = run("-f", path, "--against", "nothing", width=1000)
    assert result.exit_code == 1
    assert words in result.output


def test_missing_file_and_missing_cluster_are_told(tmp_path: Path) -> None:
    assert "cannot be read: No such file or directory" in run("-f", tmp_path / "x.yaml", "--against", "nothing", width=1000).output
    write(tmp_path / "clusters" / "west" / "nodes.yaml", node("dpu-1"))
    assert (
        "it lies in clusters/west, but there is no DPUCluster of that name"
        in run("-f", tmp_path, "--against", "nothing", width=1000).output
    )


def test_cluster_that_cannot_be_reached_is_an_error(world: Path, tmp_path: Path) -> None:
    missing = tmp_path / "kubeconfig"
    result = run("-f", world, "--kubeconfig", missing, width=1000)
    assert result.exit_code == 1
    assert str(missing) in result.output


@pytest.mark.parametrize(("context", "namespace"), [(None, "team"), ("bare", "default")])
def test_namespace_of_objects_that_name_none_is_the_contexts(context: str | None, namespace: str, tmp_path: Path) -> None:
    contexts = [{"name": "full", "context": {"cluster": "c", "namespace": "team"}}, {"name": "bare", "context": {"cluster": "c"}}]
    clusters = [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}]
    path = write(tmp_path / "kubeconfig", {"clusters": clusters, "contexts": contexts, "current-context": "full"})
    assert live.namespace(path, context) == namespace


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("name", ["example", "conflict", "cut"])
def test_text(name: str, width: int, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "example":
        write(Path("fleet/fleet.yaml"), CLUSTER, CONFIG, node("dpu-1", **{"kubernetes.io/os": "linux"}), node("dpu-2"))
        result = run("-f", "fleet", "-f", EXAMPLE, "--against", "nothing", width=width)
    elif name == "conflict":
        write(Path("second.yaml"), interface("second", "p0"), chain("other", "second", "p9"))
        result = run("-f", "second.yaml", "--against", "world", width=width)
    else:
        write(Path("less.yaml"), chain("wire", "p0", "hpf", **ZONED))
        result = run("-f", "less.yaml", "--against", "world", width=width)
    assert all(len(line) <= width for line in result.output.splitlines())
    path = SNAPSHOTS / f"{name}-{width}.txt"
    if os.environ.get("SNAPSHOTS") == "write":
        path.write_text(result.output)
    assert result.output == path.read_text()


def test_colours_are_for_terminals_that_want_them(world: Path) -> None:
    assert "\x1b[" not in run("-f", world, "--against", "nothing").output
