"""Whatever a release made is put right when somebody deletes or edits it, of whatever kind it is, and only then."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from structlog.testing import capture_logs

from dpuchain.api import names
from dpuchain.api.kubernetes import Metadata
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.resource import Resource
from dpuchain.host import repairs
from dpuchain.host.helm import Helm
from dpuchain.host.made import MADE_ANNOTATION
from dpuchain.host.process import run as controller
from dpuchain.kube.client import Client
from dpuchain.lab.process import run
from dpuchain.runtime.endpoints import NOWHERE
from dpuchain.runtime.metrics import RELEASE_REPAIRS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.integration.host.conftest import Fleet, World

    from dpuchain.lab.toolchain import Toolchain

RECONCILED = names.APPLICATIONS_RECONCILED
RBAC, NAMES = "rbac.authorization.k8s.io", "{{ .Release.Namespace }}"
AGAIN = [("service", "1", "superseded"), ("service", "2", "deployed")]


def kind(group: str, name: str, plural: str, *, namespaced: bool = True) -> Resource[Metadata]:
    return Resource(group, "v1", name, plural, Metadata, namespaced)


CONFIG_MAP, SECRET, SERVICE = kind("", "ConfigMap", "configmaps"), kind("", "Secret", "secrets"), kind("", "Service", "services")
ACCOUNT, DAEMON_SET = kind("", "ServiceAccount", "serviceaccounts"), kind("apps", "DaemonSet", "daemonsets")
ROLE, ROLE_BINDING = kind(RBAC, "Role", "roles"), kind(RBAC, "RoleBinding", "rolebindings")
CLUSTER_ROLE = kind(RBAC, "ClusterRole", "clusterroles", namespaced=False)
CLUSTER_ROLE_BINDING = kind(RBAC, "ClusterRoleBinding", "clusterrolebindings", namespaced=False)
NETWORK = kind("k8s.cni.cncf.io", "NetworkAttachmentDefinition", "network-attachment-definitions")

ACCESS: dict[str, Any] = {
    "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": NAMES},
    "subjects": [{"kind": "ServiceAccount", "name": "part", "namespace": NAMES}],
}
RULES: dict[str, Any] = {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}
BALANCED: dict[str, Any] = {"type": "LoadBalancer", "selector": {"app": "part"}, "ports": [{"port": 80}]}
PODS: dict[str, Any] = {
    "selector": {"matchLabels": {"app": "part"}},
    "minReadySeconds": 3,
    "template": {"metadata": {"labels": {"app": "part"}}, "spec": {"containers": [{"name": "part", "image": "part"}]}},
}
PARTS: tuple[tuple[Resource[Metadata], dict[str, Any], dict[str, Any]], ...] = (
    (CONFIG_MAP, {"data": {"mode": "inline"}}, {"data": {"mode": "forged"}}),
    (SECRET, {"stringData": {"key": "ours"}}, {"data": {"key": "Zm9yZ2Vk"}}),
    (SERVICE, {"spec": BALANCED}, {"spec": {"selector": {"app": "forged"}}}),
    (ACCOUNT, {"automountServiceAccountToken": False}, {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}),
    (ROLE, RULES, {"rules": []}),
    (ROLE_BINDING, ACCESS, {"subjects": None}),
    (CLUSTER_ROLE, RULES, {"metadata": {"annotations": {"meta.helm.sh/release-name": "forged"}}}),
    (CLUSTER_ROLE_BINDING, ACCESS, {"subjects": []}),
    (DAEMON_SET, {"spec": PODS}, {"spec": {"minReadySeconds": 7}}),
    (NETWORK, {"spec": {"config": '{"type": "ours"}'}}, {"spec": {"config": "forged"}}),
)
"""Each kind of object that the chart has, its content, and what somebody changes of it."""
EDITS = {resource: patch for resource, _, patch in PARTS}


def template() -> str:
    """The chart's only template; what is not in a namespace is named after the release's, so that tests do not meet."""
    found = []
    for resource, content, _ in PARTS:
        meta = {"name": "part"} if resource.namespaced else {"name": NAMES}
        found.append({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta, **content})
    *single, last = found
    listed = {"apiVersion": "v1", "kind": "List", "items": [last]}
    return yaml.safe_dump_all([*single, listed])


@pytest.fixture(scope="module")
def charts(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the chart `parts` and its index."""
    folder = tmp_path_factory.mktemp("parts")
    source = folder / "source" / "parts"
    (source / "templates").mkdir(parents=True)
    (source / "Chart.yaml").write_text("apiVersion: v2\nname: parts\nversion: 1.0.0\n")
    (source / "templates" / "all.yaml").write_text(template())
    packed = folder / "packed"
    fleet.background.run(run(fleet.helm, "package", str(source), "--destination", str(packed)))
    fleet.background.run(run(fleet.helm, "repo", "index", str(packed)))
    return packed


async def begin(world: World, charts: Path, kubeconfig: bytes | None = None) -> None:
    """Ask for a service with one object of each kind in one DPU cluster."""
    shutil.copytree(charts, world.fleet.charts / world.namespace)
    await world.add_cluster("north", kubeconfig)
    await world.add_service(source={"repoURL": world.repository, "chart": "parts", "version": "1.0.0"})


async def installed(world: World, charts: Path, kubeconfig: bytes | None = None) -> None:
    await begin(world, charts, kubeconfig)
    await world.told(world.services, "service", RECONCILED, "True")


def key_in(world: World, resource: Resource[Metadata]) -> ObjectKey:
    return world.key("part") if resource.namespaced else ObjectKey("", world.namespace)


async def content_of(world: World, resource: Resource[Metadata]) -> dict[str, Any]:
    """What the API server has of the chart's object of a kind, without what it notes itself."""
    found: dict[str, Any] = json.loads(await world.north.client.request("GET", resource.path(*key_in(world, resource))))
    content = {name: value for name, value in found.items() if name != "status"}
    content["metadata"] = {name: found["metadata"][name] for name in ("labels", "annotations")}
    if resource is SERVICE:
        content["spec"] = {name: found["spec"][name] for name in BALANCED if name != "ports"}
    return content


async def edit(world: World, resource: Resource[Metadata], patch: dict[str, Any]) -> None:
    await world.north.client.patch(resource, key_in(world, resource), patch)


async def delete(world: World, resource: Resource[Metadata]) -> None:
    await world.north.client.delete(resource, key_in(world, resource))


async def put_right(world: World, before: Mapping[Resource[Metadata], dict[str, Any]]) -> None:
    """Wait until a release was put right by one Helm run, and see that objects of it are what they were."""

    def ended() -> bool:
        (*_, last) = sorted(world.north.records, key=key_of)
        return world.north.revisions == AGAIN and MADE_ANNOTATION in last.metadata.annotations

    await world.until(ended, "put right by one Helm run")
    await world.told(world.services, "service", RECONCILED, "True")
    assert {resource: await content_of(world, resource) for resource in before} == before


@pytest.mark.parametrize("deed", ["edit", "delete"])
async def test_all_that_was_done_while_nobody_looked_is_put_right_by_one_run(
    world: World, charts: Path, start: Callable[..., asyncio.Task[None]], deed: str
) -> None:
    first = start()
    await installed(world, charts)
    before = {resource: await content_of(world, resource) for resource, _, _ in PARTS}
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    for resource, _, patch in PARTS:
        await (edit(world, resource, patch) if deed == "edit" else delete(world, resource))
    counted = RELEASE_REPAIRS._value.get()
    start()
    await put_right(world, before)
    assert RELEASE_REPAIRS._value.get() == counted + 1


@pytest.mark.parametrize("resource", [CONFIG_MAP, SERVICE, CLUSTER_ROLE, NETWORK], ids=lambda resource: str(resource.kind))
@pytest.mark.usefixtures("controller")
async def test_object_that_somebody_edited_is_put_right(world: World, charts: Path, resource: Resource[Metadata]) -> None:
    await installed(world, charts)
    before = {resource: await content_of(world, resource)}
    await edit(world, resource, EDITS[resource])
    await put_right(world, before)


@pytest.mark.parametrize("resource", [SERVICE, CLUSTER_ROLE_BINDING, NETWORK], ids=lambda resource: str(resource.kind))
@pytest.mark.usefixtures("controller")
async def test_object_that_somebody_deleted_is_made_again(world: World, charts: Path, resource: Resource[Metadata]) -> None:
    await installed(world, charts)
    before = {resource: await content_of(world, resource)}
    await delete(world, resource)
    await put_right(world, before)


@pytest.mark.usefixtures("controller")
async def test_what_controllers_write_and_others_add_makes_nobody_run_helm(world: World, charts: Path) -> None:
    await installed(world, charts)
    counted = RELEASE_REPAIRS._value.get()
    client, service = world.north.client, key_in(world, SERVICE)
    for turn in range(3):
        await edit(world, CONFIG_MAP, {"metadata": {"annotations": {"leader": str(turn)}}, "data": {"lease": str(turn)}})
        balancer = {"status": {"loadBalancer": {"ingress": [{"ip": f"192.0.2.{turn}"}]}}}
        await client.patch(SERVICE, service, balancer, subresource="status")
        await edit(world, SERVICE, {"metadata": {"finalizers": [f"example.com/turn-{turn}"]}})
        await edit(world, ACCOUNT, {"secrets": [{"name": f"token-{turn}"}]})
        await edit(world, DAEMON_SET, {"spec": {"template": {"metadata": {"annotations": {"restartedAt": str(turn)}}}}})
    await edit(world, SERVICE, {"metadata": {"finalizers": None}})
    await world.add_service("probe", serviceID="probe")
    await world.told(world.services, "probe", RECONCILED, "True")
    assert [entry for entry in world.north.revisions if entry[0] == "service"] == [("service", "1", "deployed")]
    assert RELEASE_REPAIRS._value.get() == counted
    await edit(world, CONFIG_MAP, {"data": {"mode": "forged"}})
    await world.until(lambda: set(AGAIN) < set(world.north.revisions), "put right at once, as it was the first time")
    data = (await content_of(world, CONFIG_MAP))["data"]
    assert data == {"mode": "inline", "lease": "2"}, "what others add stays"


@pytest.mark.parametrize("resource", [SERVICE, NETWORK], ids=lambda resource: str(resource.kind))
async def test_somebody_who_is_as_fast_as_helm_is_told_of(
    world: World, charts: Path, resource: Resource[Metadata], tmp_path: Path, toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody changes an object whenever Helm has run, before anybody can look at what Helm made."""
    monkeypatch.setattr(repairs, "FIRST_PAUSE", 3.0)
    fleet, script = world.fleet, tmp_path / "helm"
    patch = [toolchain.path("kubectl"), "--namespace", world.namespace, "patch", f"{resource.plural}.{resource.group}".rstrip("."), "part"]
    patch += ["--type", "merge", "--patch", json.dumps(EDITS[resource])]
    script.write_text(f'#!/bin/sh\n{fleet.helm} "$@" && if [ -e {tmp_path}/insist ]; then {shlex.join(patch)}; fi\n')
    script.chmod(0o755)
    (tmp_path / "insist").touch()
    door = Helm(str(script), {world.repository: f"{fleet.url}/{world.namespace}"}, fleet.host.kubeconfig)
    task = asyncio.ensure_future(controller(Client.from_kubeconfig(fleet.host.kubeconfig, user_agent="host"), door, NOWHERE, None))
    name = f"{resource.plural} {world.key('part')}"
    await begin(world, charts)
    await world.told(world.services, "service", RECONCILED, "False", f"somebody else changes or deletes {name} again and again")
    (tmp_path / "insist").unlink()
    await world.told(world.services, "service", RECONCILED, "True")
    content = await content_of(world, resource)
    task.cancel()
    await asyncio.wait([task])
    assert (content["spec"]["selector"] == {"app": "part"}) if resource is SERVICE else ("ours" in content["spec"]["config"])


LIMITED = [
    {"apiGroups": [""], "resources": ["namespaces", "secrets", "services", "configmaps", "pods"], "verbs": ["*"]},
    {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["get", "create", "patch", "delete"]},
    {"apiGroups": ["apps", RBAC, "k8s.cni.cncf.io", names.SERVICE_GROUP], "resources": ["*"], "verbs": ["*"]},
]
"""Enough for the chart, and for all of its kinds to be followed but one."""


async def bind(world: World, user: str, role: str) -> None:
    """Give a user the rights of a role everywhere."""
    subjects = [{"kind": "User", "name": user, "apiGroup": RBAC}]
    reference = {"kind": "ClusterRole", "name": role, "apiGroup": RBAC}
    content = {"metadata": {"name": f"{user}-{role}"}, "roleRef": reference, "subjects": subjects}
    await world.north.client.request("POST", CLUSTER_ROLE_BINDING.path(), body=json.dumps(content).encode())


@pytest.mark.usefixtures("controller")
async def test_kind_that_may_not_be_read_is_told_once_and_not_taken_for_gone(world: World, charts: Path, tmp_path: Path) -> None:
    user = f"{world.namespace}-user"
    limited = {"metadata": {"name": user}, "rules": LIMITED}
    await world.north.client.request("POST", CLUSTER_ROLE.path(), body=json.dumps(limited).encode())
    await bind(world, user, user)
    kubeconfig = world.fleet.members["north"].write_kubeconfig(tmp_path / "limited", user)
    with capture_logs() as logs:
        await installed(world, charts, kubeconfig.read_bytes())
        await delete(world, SERVICE)
        await world.until(lambda: set(AGAIN) <= set(world.north.revisions), "put right")
        await delete(world, ACCOUNT)
        await world.add_service("probe", serviceID="probe")
        await world.told(world.services, "probe", RECONCILED, "True")
    assert [entry["kind"] for entry in logs if "cannot be kept up to date" in entry["event"]] == ["serviceaccounts"]
    assert [entry for entry in world.north.revisions if entry[0] == "service"] == AGAIN
    await bind(world, user, "cluster-admin")
    await world.until(lambda: ("service", "3", "deployed") in world.north.revisions, "taken up as soon as it may be read")
    assert (await content_of(world, ACCOUNT))["automountServiceAccountToken"] is False
