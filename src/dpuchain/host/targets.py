"""A cluster that releases are installed in: each DPU cluster, and the host cluster itself for services that are deployed there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dpuchain.api.kinds import SECRET_METADATA
from dpuchain.api.kubernetes import Metadata
from dpuchain.host.helm import Access
from dpuchain.host.made import Made
from dpuchain.kube.cache import Cache
from dpuchain.kube.client import Client

HOST_CLUSTER = "(the host cluster)"


@dataclass(frozen=True)
class Target:
    """How a cluster is reached, by us and by Helm, and what its releases are and made, as caches have it."""

    name: str
    client: Client
    access: Access = field(repr=False)
    releases: Cache[Metadata]
    made: Made

    @classmethod
    def of_host(cls, client: Client, access: Access) -> Target:
        """The host cluster; its caches are to be run."""
        releases = releases_of(client)
        return cls(HOST_CLUSTER, client, access, releases, Made(client, releases))

    @property
    def where(self) -> str:
        """The cluster, as a line of a message."""
        return f"Cluster: {self.name}"

    @property
    def caches(self) -> tuple[Cache[Any], ...]:
        """The caches without which nothing can be said of the cluster."""
        return (self.made.daemon_sets, self.releases)

    @property
    def settled(self) -> bool:
        """Whether it is known that the cluster's objects are known, or why they are not."""
        return all(cache.is_synced or cache.failing is not None for cache in self.caches)

    @property
    def problem(self) -> str | None:
        """Why the cluster's objects are not known; None if they are."""
        for cache in self.caches:
            if cache.failing is not None:
                return str(cache.failing)
        if not all(cache.is_synced for cache in self.caches):
            return "is being read for the first time"
        return None


def releases_of(client: Client) -> Cache[Metadata]:
    """Helm's records of its releases, without their content."""
    return Cache(client, SECRET_METADATA, label_selector="owner=helm", metadata_only=True)
