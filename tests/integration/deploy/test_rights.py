"""What the charts grant: an agent whose token is bound to its node writes what is its own, and nothing else goes through for anybody."""

from __future__ import annotations

import asyncio
import json
import uuid
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.deploy.conftest import Helm, apply

from dpuchain.api.access import SERVICE_ACCOUNT
from dpuchain.api.kinds import NODE, SECRET_METADATA, SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.api.kubernetes import Metadata
from dpuchain.api.meta import ObjectKey, ObjectMeta
from dpuchain.api.names import ADMISSION_CERTIFICATES_NAME, OPERATOR_NAMESPACE, SERVICE_CHAIN_FINALIZER
from dpuchain.host.helm import Helm as Runner
from dpuchain.host.uninstallation import run
from dpuchain.kube.client import Client
from dpuchain.kube.errors import Denied, Invalid, KubeError, NotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dpuchain.lab.cluster import Cluster

SWITCHES = [{"ports": [{"serviceInterface": {"matchLabels": {"port": name}}} for name in ("p0", "p1")]}]
GRANTS = (
    *("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"),
    *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
)
OTHERS_FINALIZER = "example.com/somebody"
POLICY_SECONDS = 30.0
"""Within which an API server has heard of a policy that was made or changed."""


@dataclass(frozen=True)
class Objects:
    """A chain on our node and one on another, in a namespace of the test's own; and who may do what to them."""

    admin: Client
    agent: Client
    unbound: Client
    namespace: str
    node: str

    async def make(self, name: str, node: str) -> None:
        body = {
            "apiVersion": SERVICE_CHAIN.api_version,
            "kind": "ServiceChain",
            "metadata": {"name": name, "namespace": self.namespace, "finalizers": [SERVICE_CHAIN_FINALIZER, OTHERS_FINALIZER]},
            "spec": {"node": node, "switches": SWITCHES},
        }
        await self.admin.request("POST", SERVICE_CHAIN.path(self.namespace), body=json.dumps(body).encode())

    async def patch(self, who: Client, name: str, patch: dict[str, Any], subresource: str = "") -> None:
        await who.patch(SERVICE_CHAIN, ObjectKey(self.namespace, name), patch, subresource=subresource)

    async def conditions(self, name: str) -> list[str]:
        found = await self.admin.get(SERVICE_CHAIN, ObjectKey(self.namespace, name))
        return [condition.message for condition in found.status.conditions]


def status(message: str = "as the agent says") -> dict[str, Any]:
    times = {"lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}
    return {"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Success", "message": message, **times}]}}


async def as_account(admin: Client, cluster: Cluster, account: str, bound: dict[str, str] | None = None) -> Client:
    """A client with a token of a service account, bound to an object or to none."""
    spec: dict[str, Any] = {"expirationSeconds": 600, **({"boundObjectRef": bound} if bound else {})}
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    path = SERVICE_ACCOUNT.path(OPERATOR_NAMESPACE, account, "token")
    answer = json.loads(await admin.request("POST", path, body=json.dumps(request).encode()))
    content = cluster.admin.kubeconfig("cluster")
    content["users"] = [{"name": "cluster", "user": {"token": answer["status"]["token"]}}]
    return Client.from_kubeconfig(content, user_agent="tests")


@pytest.fixture
async def objects(client: Client, namespace: str, api_server: Cluster, helm: Helm) -> AsyncIterator[Objects]:
    await apply(client, [item for item in await helm.rendered("dpuchain-dpu", "--set=crds.install=false") if item["kind"] in GRANTS])
    node = f"node-{uuid.uuid4().hex[:8]}"
    made = await client.create(NODE, Metadata(metadata=ObjectMeta(name=node)))
    bound = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": made.metadata.uid}
    async with AsyncExitStack() as stack:
        agent = await stack.enter_async_context(await as_account(client, api_server, "dpuchain-agent", bound))
        unbound = await stack.enter_async_context(await as_account(client, api_server, "dpuchain-agent"))
        found = Objects(client, agent, unbound, namespace, node)
        await found.make("ours", node)
        await found.make("theirs", "another")
        async with asyncio.timeout(POLICY_SECONDS):
            while True:  # the API server tells nobody that it has heard of a policy
                try:
                    await found.patch(agent, "theirs", status("too early"), "status")
                except (Denied, Invalid):
                    break
                await asyncio.sleep(0.1)
        yield found
        for name in ("ours", "theirs"):
            with suppress(NotFound):
                await found.patch(client, name, {"metadata": {"finalizers": None}})
        await client.delete(NODE, ObjectKey("", node))


async def test_agent_writes_status_and_lets_go_of_what_is_its_own(objects: Objects) -> None:
    await objects.patch(objects.agent, "ours", status(), "status")
    assert await objects.conditions("ours") == ["as the agent says"]
    await objects.admin.delete(SERVICE_CHAIN, ObjectKey(objects.namespace, "ours"))
    await objects.patch(objects.agent, "ours", {"metadata": {"finalizers": [OTHERS_FINALIZER]}})
    left = await objects.admin.get(SERVICE_CHAIN, ObjectKey(objects.namespace, "ours"))
    assert left.metadata.finalizers == (OTHERS_FINALIZER,)


@pytest.mark.parametrize(
    ("patch", "subresource", "words"),
    [
        ({"spec": {"node": "another"}}, "", "an agent writes nothing of an object but its status"),
        ({"spec": {"switches": [{"serviceMTU": 9000, **SWITCHES[0]}]}}, "", "an agent writes nothing of an object but its status"),
        ({"metadata": {"labels": {"a": "b"}}}, "", "an agent writes nothing of an object but its status"),
        ({"metadata": {"annotations": {"a": "b"}}}, "", "an agent writes nothing of an object but its status"),
        ({"metadata": {"finalizers": [OTHERS_FINALIZER]}}, "", "takes its own finalizer off what is being deleted"),
        ({"metadata": {"finalizers": None}}, "", "takes its own finalizer off what is being deleted"),
        ({"metadata": {"finalizers": [SERVICE_CHAIN_FINALIZER, OTHERS_FINALIZER, "example.com/more"]}}, "", "its own finalizer"),
    ],
)
async def test_agent_writes_nothing_else_of_its_own_objects(objects: Objects, patch: dict[str, Any], subresource: str, words: str) -> None:
    with pytest.raises((Denied, Invalid), match=words):
        await objects.patch(objects.agent, "ours", patch, subresource)


async def test_agent_takes_nobody_elses_finalizer_off(objects: Objects) -> None:
    await objects.admin.delete(SERVICE_CHAIN, ObjectKey(objects.namespace, "ours"))
    for finalizers in ([SERVICE_CHAIN_FINALIZER], []):
        with pytest.raises((Denied, Invalid), match="and no other"):
            await objects.patch(objects.agent, "ours", {"metadata": {"finalizers": finalizers}})


async def test_agent_writes_no_objects_of_other_nodes(objects: Objects) -> None:
    before = await objects.conditions("theirs")
    for patch, subresource in ((status("no"), "status"), ({"metadata": {"finalizers": [OTHERS_FINALIZER]}}, "")):
        with pytest.raises((Denied, Invalid), match=f"the agent of node {objects.node} may not write objects of other nodes"):
            await objects.patch(objects.agent, "theirs", patch, subresource)
    assert await objects.conditions("theirs") == before


async def test_token_that_is_bound_to_no_node_writes_nothing(objects: Objects) -> None:
    with pytest.raises((Denied, Invalid), match="its token is bound to no node"):
        await objects.patch(objects.unbound, "ours", status("no"), "status")
    assert await objects.conditions("ours") == []


NS = OPERATOR_NAMESPACE
DPF = "/apis/svc.dpu.nvidia.com/v1alpha1/namespaces/{namespace}"
REFUSED = {
    "dpuchain-agent": [
        ("POST", f"{DPF}/servicechains"),
        ("DELETE", f"{DPF}/servicechains/ours"),
        ("DELETE", f"{DPF}/serviceinterfaces"),
        ("PATCH", f"{DPF}/servicechainsets/x"),
        ("GET", f"{DPF}/servicechainsets"),
        ("GET", "/api/v1/secrets"),
        ("GET", f"/api/v1/namespaces/{NS}/secrets"),
        ("GET", f"/api/v1/namespaces/{NS}/configmaps/other"),
        ("PATCH", f"/api/v1/namespaces/{NS}/configmaps/dpuchain-agent"),
        ("POST", f"/api/v1/namespaces/{NS}/pods"),
        ("DELETE", f"/api/v1/namespaces/{NS}/pods/x"),
        ("POST", f"/api/v1/namespaces/{NS}/pods/x/eviction"),
        ("POST", f"/api/v1/namespaces/{NS}/pods/x/exec"),
        ("PATCH", "/api/v1/nodes/x"),
        ("GET", "/api/v1/nodes/x/proxy"),
        ("POST", f"/api/v1/namespaces/{NS}/serviceaccounts/dpuchain-dpu/token"),
        ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
        ("DELETE", f"/api/v1/namespaces/{NS}/events/x"),
        ("POST", f"/apis/coordination.k8s.io/v1/namespaces/{NS}/leases"),
        ("DELETE", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/dpuchain-agent"),
    ],
    "dpuchain-dpu": [
        ("POST", f"{DPF}/servicechainsets"),
        ("DELETE", f"{DPF}/servicechainsets/x"),
        ("PATCH", f"{DPF}/servicechains/ours/status"),
        ("GET", "/api/v1/secrets"),
        ("GET", "/api/v1/configmaps"),
        ("POST", f"/api/v1/namespaces/{NS}/pods"),
        ("DELETE", f"/api/v1/namespaces/{NS}/pods/x"),
        ("POST", f"/api/v1/namespaces/{NS}/pods/x/exec"),
        ("PATCH", "/api/v1/nodes/x"),
        ("PATCH", f"/apis/coordination.k8s.io/v1/namespaces/{NS}/leases/another"),
        ("POST", f"/api/v1/namespaces/{NS}/serviceaccounts/dpuchain-agent/token"),
        ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
    ],
    "dpuchain-host": [
        ("POST", f"{DPF}/dpuservicechains"),
        ("DELETE", f"{DPF}/dpuservicechains/x"),
        ("POST", f"/api/v1/namespaces/{NS}/secrets"),
        ("PATCH", f"/api/v1/namespaces/{NS}/secrets/x"),
        ("PATCH", "/apis/provisioning.dpu.nvidia.com/v1alpha1/namespaces/x/dpuclusters/x"),
        ("PATCH", "/apis/operator.dpu.nvidia.com/v1alpha1/namespaces/x/dpfoperatorconfigs/x"),
        ("POST", f"/api/v1/namespaces/{NS}/pods"),
        ("GET", "/api/v1/namespaces/default"),
        ("PATCH", f"/apis/coordination.k8s.io/v1/namespaces/{NS}/leases/another"),
        ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
    ],
    "dpuchain-uninstall": [
        ("DELETE", f"{DPF}/dpuservicechains/x"),
        ("PATCH", "/apis/provisioning.dpu.nvidia.com/v1alpha1/namespaces/x/dpuclusters/x"),
        ("GET", "/api/v1/secrets"),
        ("POST", f"/api/v1/namespaces/{NS}/secrets"),
        ("DELETE", f"/api/v1/namespaces/{NS}/secrets/another"),
        ("DELETE", f"/apis/coordination.k8s.io/v1/namespaces/{NS}/leases/another"),
        ("DELETE", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/another"),
        ("POST", f"/api/v1/namespaces/{NS}/pods"),
        ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
    ],
    "dpuchain-admission": [
        ("PATCH", f"{DPF}/dpuservicechains/x"),
        ("PATCH", f"{DPF}/dpuservicechains/x/status"),
        ("PATCH", f"/api/v1/namespaces/{NS}/secrets/x"),
        ("DELETE", f"/api/v1/namespaces/{NS}/secrets/dpuchain-admission-certificates"),
        ("POST", "/api/v1/namespaces/default/secrets"),
        ("PATCH", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/another"),
        ("DELETE", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/dpuchain-admission"),
        ("POST", f"/api/v1/namespaces/{NS}/pods"),
        ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
    ],
}


@pytest.mark.parametrize("account", REFUSED)
async def test_what_is_not_needed_is_refused(client: Client, namespace: str, api_server: Cluster, helm: Helm, account: str) -> None:
    """Even with a service's charts allowed nowhere: that grant is the operator's choice, and is tried by who makes it."""
    for chart, options in (("dpuchain", ("--set=deployInCluster.enabled=false",)), ("dpuchain-dpu", ())):
        await apply(client, [item for item in await helm.rendered(chart, "--set=crds.install=false", *options) if item["kind"] in GRANTS])
    with suppress(NotFound):  # another test's
        await client.request("DELETE", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/dpuchain-host-services")
    async with await as_account(client, api_server, account) as who:
        for method, path in REFUSED[account]:
            content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
            body = None if method in ("GET", "DELETE") else b"{}"
            with pytest.raises(KubeError) as refused:
                await who.request(method, path.format(namespace=namespace), body=body, content_type=content_type)
            assert "is forbidden: User" in str(refused.value), (method, path, refused.value)


async def test_interfaces_are_held_as_chains_are(objects: Objects) -> None:
    where = SERVICE_INTERFACE.path(objects.namespace)
    body = {"apiVersion": SERVICE_INTERFACE.api_version, "kind": "ServiceInterface", "metadata": {"name": "theirs"}}
    spec = {"node": "another", "interfaceType": "physical", "physical": {"interfaceName": "p0"}}
    await objects.admin.request("POST", where, body=json.dumps({**body, "spec": spec}).encode())
    with pytest.raises((Denied, Invalid), match="may not write objects of other nodes"):
        await objects.agent.patch(SERVICE_INTERFACE, ObjectKey(objects.namespace, "theirs"), status("no"), subresource="status")


async def test_uninstallation_has_the_rights_that_it_needs(client: Client, api_server: Cluster, helm: Helm) -> None:
    await apply(client, [item for item in await helm.rendered("dpuchain", "--set=crds.install=false") if item["kind"] in GRANTS])
    certificates = ObjectKey(OPERATOR_NAMESPACE, ADMISSION_CERTIFICATES_NAME)
    await client.create(SECRET_METADATA, Metadata(metadata=ObjectMeta(name=certificates.name, namespace=certificates.namespace)))
    await run(await as_account(client, api_server, "dpuchain-uninstall"), Runner(helm.program, {}), "uninstall", keep=True)
    with pytest.raises(NotFound):
        await client.get(SECRET_METADATA, certificates)
