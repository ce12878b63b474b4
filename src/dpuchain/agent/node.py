"""The objects of one node, as the caches of its agent have them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from dpuchain.api.chain import ServiceChain
from dpuchain.api.fleet import AgentSettings
from dpuchain.api.interface import ServiceInterface
from dpuchain.api.kinds import POD, SERVICE_CHAIN, SERVICE_INTERFACE
from dpuchain.api.kubernetes import Pod
from dpuchain.api.meta import untraced
from dpuchain.kube.cache import Cache, Change, problem_of
from dpuchain.kube.client import Client
from dpuchain.kube.views import agent_settings_of
from dpuchain.ovs.errors import Unreachable
from dpuchain.runtime.tracing import Changes

SPREAD_SECONDS = 10.0
"""Over which the agents of a cluster spread their lists after its API server was started anew; until then each works with what it knows."""


@dataclass(frozen=True)
class NodeObjects:
    """Live copies of a node's objects; nobody else's are ever received."""

    node: str
    interfaces: Cache[ServiceInterface]
    chains: Cache[ServiceChain]
    pods: Cache[Pod]
    settings: Cache[AgentSettings]
    changes: Changes = field(default_factory=lambda: Changes("carry out", passing=(Unreachable,)))
    """Of interfaces and chains."""

    @classmethod
    def of(cls, client: Client, node: str) -> NodeObjects:
        """The caches for `node`; each is to be run."""
        ours = f"spec.node={node}"
        objects = cls(
            node,
            Cache(client, SERVICE_INTERFACE, field_selector=ours),
            Cache(client, SERVICE_CHAIN, field_selector=ours),
            Cache(client, POD, field_selector=f"spec.nodeName={node}"),
            agent_settings_of(client),
        )
        for cache in objects:
            cache.spread = SPREAD_SECONDS
        return objects

    def __iter__(self) -> Iterator[Cache[Any]]:
        return iter((self.interfaces, self.chains, self.pods, self.settings))

    async def relist(self) -> None:
        """Read all of them anew: nothing that is known afterwards is older than this call."""
        await asyncio.gather(*(cache.relist() for cache in self))

    @property
    def known(self) -> bool:
        """Whether all of them have been read, and the settings could be understood or had been once."""
        settings = not self.settings.invalid or len(self.settings) > 0
        return settings and all(cache.is_synced for cache in self)

    @property
    def secure_flow_deletion(self) -> float | None:
        """Seconds that the API server may be away until all flows go; None if they stay."""
        return next((item.secure_flow_deletion_seconds for item in self.settings), None)

    @property
    def readable(self) -> bool:
        """Whether each object could be decoded: as long as one could not, it is not known what it asks for."""
        return not (self.interfaces.invalid or self.chains.invalid)

    @property
    def problem(self) -> str | None:
        """What is in the way of knowing the node's objects; None if nothing is."""
        if (problem := problem_of(self)) is not None or self.known:
            return problem
        return "; ".join(map(str, self.settings.invalid.values()))

    def subscribe(self, callback: Callable[[], None], vanished: Callable[[], None]) -> None:
        """Call `callback` after each change from which something may follow for the switch, or `vanished` if there is time for that.

        From a status nothing follows, most of them being our own words; nor from the end of a chain that was being deleted. For one that
        vanished without having been, nobody waits to hear that its flows are gone.
        """

        def look(change: Change[Any]) -> None:
            if not _says_the_same(change):
                callback()

        def look_at_chain(change: Change[ServiceChain]) -> None:
            if change.new is not None:
                look(change)
            elif change.old is not None and change.old.metadata.deletion_timestamp is None:
                vanished()

        self.interfaces.subscribe(look)
        self.chains.subscribe(look_at_chain)
        self.pods.subscribe(lambda _: callback())
        for cache in (self.interfaces, self.chains):  # what can be decoded again may say what it said before
            cache.subscribe_failing(callback)


def _says_the_same(change: Change[Any]) -> bool:
    """Whether an object differs from what it was in its status alone, or in what it says of a trace."""
    if change.old is None or change.new is None:
        return False
    before, after = (
        replace(item.metadata, resource_version="", annotations=untraced(item.metadata.annotations)) for item in (change.old, change.new)
    )
    return bool(change.old.spec == change.new.spec) and before == after
