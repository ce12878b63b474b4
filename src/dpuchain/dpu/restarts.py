"""The loop that restarts pods whose MTU is no longer their switch's: it marks nodes, evicts, and takes marks off.

Its state is what the API server shows: marks, pods and chains. A node is marked before its first eviction, so whoever takes over finds
every restart that has begun. What is kept in memory only bridges the moment until the caches show our own writes, and the words of
refusals, which the next attempt brings again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec
import structlog

from dpuchain.api.chain import ServiceChain, ServiceChainSet
from dpuchain.api.conditions import Finding
from dpuchain.api.kinds import POD, SERVICE_CHAIN, SERVICE_CHAIN_SET
from dpuchain.api.kubernetes import Pod
from dpuchain.api.meta import Object, ObjectKey, key_of
from dpuchain.api.names import DPU_FIELD_OWNER, RESTARTING_ANNOTATION
from dpuchain.chain import restarts, turns
from dpuchain.chain.expand import set_of_child
from dpuchain.chain.mtu import Claim, PodInterface, claims
from dpuchain.chain.restarts import MARK_FORMAT, Circumstances, Limit, Place
from dpuchain.dpu.world import BY_NODE, BY_SET, RESTARTING, ClusterObjects
from dpuchain.kube.cache import Change
from dpuchain.kube.client import Client
from dpuchain.kube.errors import KubeError, NotFound
from dpuchain.kube.events import EventRecorder
from dpuchain.runtime.clock import Clock

RETRY_SECONDS = 10.0
"""After how long an eviction that was refused is tried again; a change of one of the node's pods brings it sooner."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Settings:
    """How carefully pods are restarted: nodes without their service at a time, and how long one may take to come back."""

    max_unavailable: Limit = field(default_factory=lambda: Limit(1))
    patience: timedelta = timedelta(minutes=10)


class Restarts:
    """Restarts the pods of one set of chains at a time, since the limit holds for all nodes of the cluster together."""

    def __init__(self, client: Client, objects: ClusterObjects, settings: Settings, clock: Clock) -> None:
        self._client = client
        self._objects = objects
        self._settings = settings
        self._clock = clock
        self._events = EventRecorder(client, DPU_FIELD_OWNER)
        self._claims: dict[str, dict[PodInterface, Claim]] = {}
        """By node, as long as no chain or interface of the node changes."""
        self._written: dict[ObjectKey, tuple[str, ServiceChain]] = {}
        """Chains after our last write, with the version before it: a cache that shows that one is behind."""
        self._evicted: set[str] = set()
        self._refused: dict[str, str] = {}
        self._told: dict[ObjectKey, Finding] = {}
        self._look: Callable[[ObjectKey], None] = lambda key: None
        self._report: Callable[[ObjectKey], None] = lambda key: None

    def subscribe(self, look: Callable[[ObjectKey], None], report: Callable[[ObjectKey], None]) -> None:
        """Call `look` with each set whose restarts may have to go on, and `report` with each whose `finding` is another by then."""
        self._look, self._report = look, report
        self._objects.chain_sets.subscribe(lambda change: look(change.key))
        self._objects.chains.subscribe(self._chain_changed)
        self._objects.interfaces.subscribe(self._child_changed)
        self._objects.pods.subscribe(self._pod_changed)
        self._objects.nodes.subscribe(self._node_changed)

    def _pod_changed(self, change: Change[Pod]) -> None:
        old, new = change.old, change.new
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid or new.metadata.deletion_timestamp is not None):
            self._evicted.discard(old.metadata.uid)  # the cache shows it by now
            self._refused.pop(old.metadata.uid, None)
        for pod in (old, new):
            if pod is not None:
                self._look_at_node(pod.spec.node_name)

    def _child_changed(self, change: Change[Any]) -> None:
        if _wires_otherwise(change):
            for node in {child.spec.node or "" for child in (change.old, change.new) if child is not None}:
                self._claims.pop(node, None)
                if self._concerned(node):
                    self._look_at_node(node)

    def _chain_changed(self, change: Change[ServiceChain]) -> None:
        self._child_changed(change)
        if _is_marked(change.old) != _is_marked(change.new):
            self._look_at_all()
        elif change.new is not None and self._concerned(change.new.spec.node or ""):
            key = set_of_child(change.new)
            if key is not None:
                self._look(key)

    def _concerned(self, node: str) -> bool:
        """Whether there is or was a pod on the node that chains may concern."""
        return bool(self._objects.pods.by_index(BY_NODE, node)) or any(map(_is_marked, self._objects.chains.by_index(BY_NODE, node)))

    def _node_changed(self, change: Change[Any]) -> None:
        if change.old is None or change.new is None:  # a share of all nodes is another number now
            self._look_at_all()

    def _look_at_node(self, node: str) -> None:
        """Have the sets looked at whose chains are on a node."""
        for chain in self._objects.chains.by_index(BY_NODE, node):
            key = set_of_child(chain)
            if key is not None:
                self._look(key)

    def _look_at_all(self) -> None:
        for item in self._objects.chain_sets:
            self._look(key_of(item))

    def finding(self, parent: ServiceChainSet) -> Finding:
        """Where the restarts of a set stand."""
        found = restarts.finding(self._places(key_of(parent)), self._circumstances(parent))
        self._told[key_of(parent)] = found
        return found

    async def reconcile(self, key: ObjectKey) -> float | None:
        """Do the next steps for one set; returns after how many seconds to look again though nothing changes."""
        parent = self._objects.chain_sets.get(key)
        if parent is None or parent.metadata.deletion_timestamp is not None:
            self._told.pop(key, None)
            return None
        about = self._circumstances(parent)
        plan = restarts.plan(self._places(key), about)
        if plan.begin:  # the API server has the last word on that: a cache that is behind may show a turn that is over
            try:
                parent = await self._client.get(SERVICE_CHAIN_SET, key)
            except NotFound:
                return None
            about = self._circumstances(parent)
            plan = restarts.plan(self._places(key), about)
        for chain in plan.end:
            await self._mark(chain, None)
        for chain in plan.begin:
            await self._mark(chain, about.now.strftime(MARK_FORMAT))
        for pod in plan.evict:
            await self._evict(pod)
        places, about = self._places(key), self._circumstances(parent)
        if restarts.finding(places, about) != self._told.get(key):
            self._report(key)
        refused = any(pod.metadata.uid in self._refused for pod in plan.evict)
        times = [restarts.next_deadline(places, about), RETRY_SECONDS if refused else None]
        return min((time for time in times if time is not None), default=None)

    def _circumstances(self, parent: ServiceChainSet) -> Circumstances:
        limit, problem = restarts.limit_of(parent, self._settings.max_unavailable)
        return Circumstances(
            busy=frozenset(self._busy()),
            limit=limit.of(len(self._objects.nodes)),
            now=self._clock.now(),
            patience=self._settings.patience,
            refused=self._refused,
            problem=problem,
            turn=turns.has_turn(parent),
        )

    def _busy(self) -> Iterable[str]:
        """The nodes that are marked, for whichever set. A chain that is being deleted holds nobody up."""
        marked = {key_of(chain): self._newest(chain) for chain in self._objects.chains.by_index(RESTARTING, True)}
        marked |= {key: chain for key, (_, chain) in self._written.items() if self._objects.chains.get(key) is not None}
        for chain in marked.values():
            if _is_marked(chain) and chain.metadata.deletion_timestamp is None:
                yield chain.spec.node or ""

    def _places(self, key: ObjectKey) -> list[Place]:
        """The nodes on which the set's chain concerns pods, or concerned some when their restart began."""
        marked = (chain.spec.node for chain in self._objects.chains.by_index(RESTARTING, True))
        nodes = {*self._objects.pods.index_values(BY_NODE), *marked, *(chain.spec.node for _, chain in self._written.values())}
        found = []
        for cached in self._objects.chains.by_index(BY_SET, key) if nodes else ():
            chain = self._newest(cached)
            if chain.metadata.deletion_timestamp is None and chain.spec.node in nodes:
                pods = self._objects.pods.by_index(BY_NODE, chain.spec.node)
                if pods or _is_marked(chain):
                    found.append(restarts.look(chain, self._claims_on(chain.spec.node or ""), pods, self._evicted))
        return found

    def _claims_on(self, node: str) -> dict[PodInterface, Claim]:
        if node not in self._claims:
            chains, interfaces = (cache.by_index(BY_NODE, node) for cache in (self._objects.chains, self._objects.interfaces))
            self._claims[node] = claims(chains, interfaces)  # type: ignore[arg-type]  # of a loop over both kinds only their union is known
        return self._claims[node]

    def _newest(self, chain: ServiceChain) -> ServiceChain:
        """`chain` as it is since our last write."""
        if not self._written:
            return chain
        before, written = self._written.get(key_of(chain), ("", chain))
        if before == chain.metadata.resource_version:
            return written
        self._written.pop(key_of(chain), None)
        return chain

    async def _mark(self, chain: ServiceChain, mark: str | None) -> None:
        meta = chain.metadata
        guard = {"uid": meta.uid, "resourceVersion": meta.resource_version}
        patch = {"metadata": {**guard, "annotations": {RESTARTING_ANNOTATION: mark}}}
        try:
            written = await self._client.patch(SERVICE_CHAIN, key_of(chain), patch)
        except NotFound:
            return
        self._written[key_of(chain)] = (meta.resource_version, written)
        _log.info(
            "restarting the pods of a node" if mark else "the pods of a node are back", node=chain.spec.node, chain=str(key_of(chain))
        )

    async def _evict(self, pod: Pod) -> None:
        """Evict a pod, unless it is another by now. A refusal is remembered, not raised: others are not to wait for it."""
        key, uid = key_of(pod), pod.metadata.uid
        path = POD.path(key.namespace, key.name, "eviction")
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": key.name, "namespace": key.namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        try:
            await self._client.request("POST", path, body=msgspec.json.encode(eviction))
        except NotFound as error:
            _log.debug("not there to be evicted", pod=str(key), error=str(error))
            return
        except KubeError as error:
            reason = str(error).rpartition(f"{path}: ")[2]
            self._refused[uid] = f"pod {key} cannot be evicted: {reason} It is tried again; its PodDisruptionBudget must allow it"
            _log.warning("eviction refused", pod=str(key), error=reason)
            return
        self._evicted.add(uid)
        self._refused.pop(uid, None)
        _log.info("evicted", pod=str(key), node=pod.spec.node_name)
        message = "evicted, since the MTU of its interfaces is no longer that of the ServiceChain"
        await self._events.record(POD, pod, "Normal", "ServiceMTUChanged", message, self._clock.now())


def _is_marked(chain: ServiceChain | None) -> bool:
    return chain is not None and RESTARTING_ANNOTATION in chain.metadata.annotations


def _wires_otherwise(change: Change[Any]) -> bool:
    """Whether a change of a ServiceChain or ServiceInterface may put a pod's interface on another switch."""

    def decisive(item: Object | None) -> Any:
        if item is None:
            return None
        meta = item.metadata
        return meta.uid, meta.labels, meta.deletion_timestamp, getattr(item, "spec", None)

    return bool(decisive(change.old) != decisive(change.new))
