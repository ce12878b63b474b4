"""The DPU clusters as the host cluster sees them: one connection with live caches for each DPUCluster whose kubeconfig can be used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dpuchain.api.chain import ServiceChainSet
from dpuchain.api.fleet import AgentSettings, DPUCluster
from dpuchain.api.interface import ServiceInterfaceSet
from dpuchain.api.kinds import SERVICE_CHAIN_SET, SERVICE_INTERFACE_SET
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.host.made import Made
from dpuchain.host.targets import Target, releases_of
from dpuchain.kube.cache import Cache
from dpuchain.kube.client import Client, Fence
from dpuchain.kube.secrets import client_by
from dpuchain.kube.views import agent_settings_of
from dpuchain.runtime.clusters import DpuClusters, Runner
from dpuchain.runtime.metrics import CLUSTER_UP, Reading


@dataclass(frozen=True)
class Member(Target):
    """A DPU cluster that can be spoken to: its objects, as caches have them, and how to reach it."""

    cluster: ObjectKey
    chain_sets: Cache[ServiceChainSet]
    interface_sets: Cache[ServiceInterfaceSet]
    agent_settings: Cache[AgentSettings]
    runners: list[Runner] = field(default_factory=list)
    """What else works as long as the connection lasts; to be added to by who is told of it."""

    @classmethod
    def of(cls, cluster: ObjectKey, kubeconfig: bytes, fence: Fence = lambda: None) -> Member:
        """A connection by this kubeconfig, whose writes ask `fence`; its caches are to be run. Raises InvalidKubeconfig."""
        client = client_by(kubeconfig, "dpuchain-host", fence)
        releases = releases_of(client)
        made = Made(client, releases)
        sets = Cache(client, SERVICE_CHAIN_SET), Cache(client, SERVICE_INTERFACE_SET)
        return cls(str(cluster), client, kubeconfig, releases, made, cluster, *sets, agent_settings_of(client), [made])

    @property
    def caches(self) -> tuple[Cache[Any], ...]:
        """The caches without which nothing can be said of the cluster."""
        return (self.chain_sets, self.interface_sets, self.agent_settings, *super().caches)


class Members(DpuClusters[Member]):
    """All DPU clusters."""

    def __init__(self, host: Client, clusters: Cache[DPUCluster], fence: Fence = lambda: None) -> None:
        super().__init__(host, clusters, lambda key, kubeconfig: Member.of(key, kubeconfig, fence))


def cluster_health(members: Members) -> Reading:
    """Which DPU clusters can be used."""
    return {CLUSTER_UP: {(str(key_of(cluster)),): float(problem is None) for cluster, _, problem in members}}
