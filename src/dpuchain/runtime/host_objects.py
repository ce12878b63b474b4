"""The objects of the host cluster, as caches have them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dpuchain.api.chain import DPUServiceChain
from dpuchain.api.fleet import DEFAULT_HIGH_SPEED_MTU, DPFOperatorConfig, DPUCluster
from dpuchain.api.interface import DPUServiceInterface
from dpuchain.api.kinds import DPF_OPERATOR_CONFIG, DPU_CLUSTER, DPU_SERVICE, DPU_SERVICE_CHAIN, DPU_SERVICE_INTERFACE
from dpuchain.api.meta import ObjectKey
from dpuchain.api.names import OPERATOR_CONFIG_NAME, OPERATOR_NAMESPACE
from dpuchain.api.service import DPUService
from dpuchain.kube.cache import Cache, problem_of
from dpuchain.kube.client import Client

OPERATOR_CONFIG = ObjectKey(OPERATOR_NAMESPACE, OPERATOR_CONFIG_NAME)


@dataclass(frozen=True)
class HostObjects:
    """Live copies of what operators write."""

    chains: Cache[DPUServiceChain]
    interfaces: Cache[DPUServiceInterface]
    services: Cache[DPUService]
    clusters: Cache[DPUCluster]
    configs: Cache[DPFOperatorConfig]

    @classmethod
    def of(cls, client: Client) -> HostObjects:
        """The caches of the host cluster; each is to be run."""
        return cls(
            Cache(client, DPU_SERVICE_CHAIN),
            Cache(client, DPU_SERVICE_INTERFACE),
            Cache(client, DPU_SERVICE),
            Cache(client, DPU_CLUSTER),
            Cache(client, DPF_OPERATOR_CONFIG, namespace=OPERATOR_NAMESPACE),
        )

    def __iter__(self) -> Iterator[Cache[Any]]:
        return iter((self.chains, self.interfaces, self.services, self.clusters, self.configs))

    async def synced(self) -> None:
        """Return when all have been read once."""
        for cache in self:
            await cache.synced()

    @property
    def problem(self) -> str | None:
        """What is in the way of knowing the host cluster's objects; None if nothing is."""
        return problem_of(self)

    @property
    def config(self) -> DPFOperatorConfig | None:
        """The configuration of the installation; None if there is none."""
        return self.configs.get(OPERATOR_CONFIG)

    @property
    def high_speed_mtu(self) -> int:
        """The bound of every serviceMTU: that of the DPFOperatorConfig, or its default where there is none."""
        config = self.config
        return config.spec.networking.high_speed_mtu if config is not None else DEFAULT_HIGH_SPEED_MTU
