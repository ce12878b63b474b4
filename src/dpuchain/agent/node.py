"""The objects of one node, as the caches of its agent have them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dpuchain.api.chain import ServiceChain
from dpuchain.api.interface import ServiceInterface
from dpuchain.api.kinds import POD, SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.api.kubernetes import Pod
from dpuchain.kube.cache import Cache
from dpuchain.kube.client import Client


@dataclass(frozen=True)
class NodeObjects:
    """Live copies of a node's objects; nobody else's are ever received."""

    node: str
    interfaces: Cache[ServiceInterface]
    chains: Cache[ServiceChain]
    pods: Cache[Pod]

    @classmethod
    def of(cls, client: Client, node: str) -> NodeObjects:
        """The caches for `node`; each is to be run."""
        ours = f"spec.node={node}"
        return cls(
            node,
            Cache(client, SERVICE_INTERFACE, field_selector=ours),
            Cache(client, SERVICE_CHAIN, field_selector=ours),
            Cache(client, POD, field_selector=f"spec.nodeName={node}"),
        )

    @property
    def known(self) -> bool:
        """Whether all of them have been read once."""
        return self.interfaces.is_synced and self.chains.is_synced and self.pods.is_synced

    @property
    def readable(self) -> bool:
        """Whether each object could be decoded: as long as one could not, it is not known what it asks for."""
        return not (self.interfaces.invalid or self.chains.invalid)

    @property
    def problem(self) -> str | None:
        """What is in the way of knowing the node's objects; None if nothing is."""
        for cache in (self.interfaces, self.chains, self.pods):
            if cache.failing is not None:
                return f"{cache.resource.plural} cannot be read since {cache.failing.since:%Y-%m-%dT%H:%M:%SZ}: {cache.failing.error}"
            if not cache.is_synced:
                return f"{cache.resource.plural} have not been read yet"
        return None

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each change of any object."""
        self.interfaces.subscribe(lambda _: callback())
        self.chains.subscribe(lambda _: callback())
        self.pods.subscribe(lambda _: callback())
