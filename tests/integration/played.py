"""A DPU cluster in which the controller is real, and kubelets, DaemonSets and agents are played by the test."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from dpuchain.api.chain import ServiceChain, ServiceChainSet
from dpuchain.api.conditions import Finding, find
from dpuchain.api.interface import ServiceInterfaceSet
from dpuchain.api.kinds import NODE, POD, SERVICE_CHAIN, SERVICE_CHAIN_SET, SERVICE_INTERFACE, SERVICE_INTERFACE_SET
from dpuchain.api.kubernetes import Metadata, Pod
from dpuchain.api.meta import ObjectKey, ObjectMeta, key_of
from dpuchain.api.names import RESTARTING_ANNOTATION
from dpuchain.chain.expand import child_name
from dpuchain.dpu.process import run
from dpuchain.kube.cache import Cache
from dpuchain.kube.client import Client
from dpuchain.kube.errors import NotFound
from dpuchain.kube.writes import StatusReporter
from dpuchain.runtime.endpoints import NOWHERE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from dpuchain.dpu.restarts import Settings

NODES = ("a", "b", "c")
OURS = (SERVICE_CHAIN_SET, SERVICE_INTERFACE_SET, SERVICE_CHAIN, SERVICE_INTERFACE)


class PlayedCluster:
    """Three nodes, each with a pod of service fw (eth1 on the chain's first switch) and one of service lb (eth1 on its second)."""

    def __init__(self, client: Client, namespace: str, kubeconfig: Any) -> None:
        self.client = client
        self.namespace = namespace
        self.sets = Cache(client, SERVICE_CHAIN_SET, namespace=namespace)
        self.chains = Cache(client, SERVICE_CHAIN, namespace=namespace)
        self.interfaces = Cache(client, SERVICE_INTERFACE, namespace=namespace)
        self.pods = Cache(client, POD, namespace=namespace)
        self.caches: tuple[Cache[Any], ...] = (self.sets, self.chains, self.interfaces, self.pods)
        self.controller: asyncio.Task[None] | None = None
        self._kubeconfig = kubeconfig
        self._changed = asyncio.Event()
        self._reporter: StatusReporter[ServiceChain] = StatusReporter(client, SERVICE_CHAIN, "agent")
        self._generation = 0
        for cache in self.caches:
            cache.subscribe(lambda _: self._changed.set())

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(15):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pods = [f"{p.metadata.name} {'leaving' if p.metadata.deletion_timestamp else ''}" for p in self.pods]
            pytest.fail(f"not {what}:\n{self.message}\nmarked: {self.marked}\npods: {pods}")

    def start(self, settings: Settings | None = None) -> None:
        client = Client.from_kubeconfig(self._kubeconfig, user_agent="dpu")
        self.controller = asyncio.ensure_future(run(client, NOWHERE, None, settings))

    async def stop(self) -> None:
        if self.controller is not None:
            self.controller.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.controller
            self.controller = None

    def node(self, name: str) -> str:
        return f"{name}-{self.namespace}"

    def pod(self, name: str, service: str = "fw") -> Pod | None:
        """The pod of a service on a node: the one that stays, where there are two."""
        found = [
            p for p in self.pods if (p.spec.node_name, p.metadata.labels.get("svc.dpu.nvidia.com/service")) == (self.node(name), service)
        ]
        return min(found, key=lambda p: p.metadata.deletion_timestamp is not None, default=None)

    def chain(self, name: str) -> ServiceChain | None:
        return self.chains.get(ObjectKey(self.namespace, child_name("chain", self.node(name))))

    def leaving(self, service: str = "fw") -> set[str]:
        """The nodes whose pod is on its way out."""
        return {n for n in NODES if (p := self.pod(n, service)) is not None and p.metadata.deletion_timestamp is not None}

    @property
    def marked(self) -> set[str]:
        return {n for n in NODES if (c := self.chain(n)) is not None and RESTARTING_ANNOTATION in c.metadata.annotations}

    @property
    def condition(self) -> Any:
        item = self.sets.get(ObjectKey(self.namespace, "chain"))
        return find(item.status.conditions, "ServiceMTUApplied") if item is not None else None

    @property
    def message(self) -> str:
        return self.condition.message if self.condition is not None else ""

    async def told(self, status: str, words: str = "") -> None:
        await self.until(
            lambda: self.condition is not None and self.condition.status == status and words in self.message, f"{status}: {words}"
        )

    async def build(self) -> None:
        """Nodes, sets and their children, and pods that are right."""
        await self.furnish()
        await self.set_mtu(1500)
        await self.fill()

    async def furnish(self) -> None:
        """All but the chain and the pods."""
        await self.client.request("POST", f"/api/v1/namespaces/{self.namespace}/serviceaccounts", body=b'{"metadata": {"name": "default"}}')
        for name in NODES:
            labels = {"test": self.namespace}
            await self.client.create(NODE, Metadata(metadata=ObjectMeta(name=self.node(name), labels=labels)))
        for service in ("fw", "lb"):
            block = {"serviceID": service, "network": "n", "interfaceName": "eth1"}
            template = {"metadata": {"labels": {"of": service}}, "spec": {"interfaceType": "service", "service": block}}
            spec = {"nodeSelector": {"matchLabels": {"test": self.namespace}}, "template": template}
            meta = {"name": service, "namespace": self.namespace}
            await self.client.create(SERVICE_INTERFACE_SET, msgspec.convert({"metadata": meta, "spec": spec}, ServiceInterfaceSet))

    async def fill(self) -> None:
        """Pods that are right, and what the agents say of the chain then."""
        for name in NODES:
            for service in ("fw", "lb"):
                await self.make_pod(name, 1500, service)
                await self.serve(name, service)
            await self.report(name, ready=True)
        await self.told("True")

    async def set_mtu(self, mtu: int, *, annotations: dict[str, str] | None = None) -> None:
        ports = [[{"serviceInterface": {"matchLabels": {"of": service}}}] for service in ("fw", "lb")]
        switches = [{"ports": ports[0], "serviceMTU": mtu}, {"ports": ports[1], "serviceMTU": 1500}]
        spec = {"nodeSelector": {"matchLabels": {"test": self.namespace}}, "template": {"spec": {"switches": switches}}}
        meta = {"name": "chain", "namespace": self.namespace, "annotations": annotations or {}}
        await self.client.apply(SERVICE_CHAIN_SET, msgspec.convert({"metadata": meta, "spec": spec}, ServiceChainSet), field_owner="test")

    async def make_pod(self, name: str, mtu: int, service: str = "fw") -> None:
        self._generation += 1
        networks = json.dumps([{"interface": "eth1", "mtu": mtu}])
        owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": service, "uid": service, "controller": True}
        meta = {
            "name": f"{service}-{name}-{self._generation}",
            "labels": {"svc.dpu.nvidia.com/service": service},
            "annotations": {"k8s.v1.cni.cncf.io/network-status": networks},
            "ownerReferences": [owner],
        }
        spec = {"nodeName": self.node(name), "containers": [{"name": "c", "image": "i"}]}
        path = POD.path(self.namespace)
        await self.client.request("POST", path, body=json.dumps({"metadata": meta, "spec": spec}).encode())
        await self.until(lambda: (p := self.pod(name, service)) is not None and p.metadata.name == meta["name"], "made")

    async def serve(self, name: str, service: str = "fw", *, ready: bool = True) -> None:
        """Say of a pod what its kubelet would."""
        pod = self.pod(name, service)
        assert pod is not None
        conditions = [{"type": "Ready", "status": str(ready)}]
        await self.client.patch(POD, key_of(pod), {"status": {"phase": "Running", "conditions": conditions}}, subresource="status")

    async def report(self, name: str, *, ready: bool) -> None:
        """Say of a node's chain, as it is now, what its agent would."""
        await self.until(lambda: self.chain(name) is not None, "there")
        chain = self.chain(name)
        assert chain is not None
        finding = Finding("Ready", "True" if ready else "False", "Success" if ready else "Error", "" if ready else "told by the agent")
        await self._reporter.report(chain, [finding], datetime.now(UTC))

    async def change_mtu(self, mtu: int, **about: Any) -> None:
        """Change the first switch's serviceMTU; each agent sees it and finds its pod outdated."""
        await self.set_mtu(mtu, **about)
        await self.see(mtu)

    async def see(self, mtu: int) -> None:
        """The agents see that the first switch has another serviceMTU."""
        await self.until(lambda: all((c := self.chain(n)) is not None and c.spec.switches[0].service_mtu == mtu for n in NODES), "changed")
        for name in NODES:
            await self.report(name, ready=False)

    async def mark(self, name: str, moment: str) -> None:
        """Have a node's restart begun at another moment."""
        chain = self.chain(name)
        assert chain is not None
        await self.client.patch(SERVICE_CHAIN, key_of(chain), {"metadata": {"annotations": {RESTARTING_ANNOTATION: moment}}})

    async def end(self, name: str) -> None:
        """The kubelet ends a pod that is on its way out."""
        pod = self.pod(name)
        assert pod is not None
        assert pod.metadata.deletion_timestamp is not None
        body = b'{"gracePeriodSeconds": 0}'
        await self.client.request("DELETE", POD.path(self.namespace, pod.metadata.name), body=body)
        await self.until(lambda: self.pods.get(key_of(pod)) is None, "gone")

    async def bring_back(self, name: str, mtu: int) -> None:
        """The whole way of one node: the pod ends, another comes, serves, and the chain is Ready."""
        await self.end(name)
        await self.make_pod(name, mtu)
        await self.serve(name)
        await self.report(name, ready=True)


@contextlib.asynccontextmanager
async def played(client: Client, namespace: str, kubeconfig: Any) -> AsyncIterator[PlayedCluster]:
    """One with its controller at work, nothing in it yet; it is empty afterwards."""
    cluster = PlayedCluster(client, namespace, kubeconfig)
    async with asyncio.TaskGroup() as group:
        watches = [group.create_task(cache.run()) for cache in cluster.caches]
        cluster.start()
        yield cluster
        await cluster.stop()
        for kind in OURS:
            for item in (await client.list(kind, namespace=namespace)).items:
                with contextlib.suppress(NotFound):
                    await client.patch(kind, key_of(item), {"metadata": {"finalizers": None}})
                    await client.delete(kind, key_of(item))
        for pod in (await client.list(POD, namespace=namespace)).items:
            await client.request("DELETE", POD.path(namespace, pod.metadata.name), body=b'{"gracePeriodSeconds": 0}')
        for name in NODES:
            with contextlib.suppress(NotFound):
                await client.delete(NODE, ObjectKey("", cluster.node(name)))
        for watch in watches:
            watch.cancel()
