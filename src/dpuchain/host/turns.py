"""The loop that gives DPU clusters their turn to restart pods for a new serviceMTU, one after the other.

Whose turn it is stands in a Lease of the host cluster; the sets of that cluster carry it to the DPU cluster's controller. Whoever takes
over reads both. The Lease is remembered as it was last read or written, and is only written if it is still so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from dpuchain.api.chain import ServiceChainSet
from dpuchain.api.fleet import DPUCluster
from dpuchain.api.kinds import LEASE, SERVICE_CHAIN_SET
from dpuchain.api.kubernetes import Lease, LeaseSpec
from dpuchain.api.meta import ObjectKey, ObjectMeta, key_of
from dpuchain.api.names import HOST_FIELD_OWNER, OPERATOR_NAMESPACE, RESTART_TURN_ANNOTATION
from dpuchain.chain import turns
from dpuchain.chain.project import is_from
from dpuchain.host.members import Member, Members
from dpuchain.kube.cache import Change
from dpuchain.kube.client import Client
from dpuchain.kube.errors import KubeError, NotFound
from dpuchain.runtime.clock import Clock
from dpuchain.runtime.controller import Controller

TURN = ObjectKey(OPERATOR_NAMESPACE, "dpuchain-restart-turn")
"""The Lease whose holder is the DPUCluster that has the turn, and the one key of the loop."""

_log = structlog.get_logger(__name__)


class Turns:
    """Lets one DPU cluster at a time begin restarts, as `chain.turns` decides."""

    def __init__(self, client: Client, members: Members, host: str, clock: Clock) -> None:
        """`host` is the identity of the host cluster, whose sets alone are concerned."""
        self._client = client
        self._members = members
        self._host = host
        self._controller: Controller[ObjectKey] = Controller("restart turns", self.reconcile, clock=clock, kind="Lease")
        self._lease: Lease | None = None
        self._holder: ObjectKey | None = None
        self._awaited: str | None = None
        """What those who wait are told; of `_holder`."""
        self._report: Callable[[ObjectKey], None] = lambda key: None

    def subscribe(self, report: Callable[[ObjectKey], None]) -> None:
        """Call `report` with each set about which there is another `remark`."""
        self._report = report

    async def run(self) -> None:
        """Work until cancelled."""
        await self._controller.run()

    def joined(self, member: Member) -> None:
        """The sets of a cluster can be followed."""
        member.chain_sets.subscribe(self._set_changed)

    def cluster_changed(self, _before: DPUCluster | None, _after: DPUCluster | None) -> None:
        """A DPUCluster came, went, changed, or can be used or not."""
        self.look_at_all()

    def look_at_all(self) -> None:
        """Look whether there is a next step."""
        self._controller.enqueue(TURN)

    def _set_changed(self, change: Change[ServiceChainSet]) -> None:
        if turns.decisive(change.old) != turns.decisive(change.new):
            self.look_at_all()

    def remark(self, cluster: ObjectKey, chain_set: ServiceChainSet) -> str | None:
        """Whom a set's cluster waits for before it may begin restarts; None if it waits for nobody."""
        return self._awaited if turns.waits(chain_set) and cluster != self._holder else None

    async def reconcile(self, _key: ObjectKey) -> None:
        """Do the next step. No request if there is none."""
        lease = self._lease if self._lease is not None else await self._read()
        self._lease = None  # as long as it is not known what became of our write
        members = {key_of(cluster): member for cluster, member, _ in self._members if member is not None}
        clusters = self._clusters(_holder_of(lease))
        holder, writes = turns.decide(_holder_of(lease), clusters)
        if holder != _holder_of(lease):
            lease = await self._record(lease, holder)
        self._lease = lease
        self._tell(holder, clusters)
        outcomes = await asyncio.gather(*(_write(members[write.cluster], write) for write in writes))
        for error in filter(None, outcomes):
            raise error

    def _clusters(self, holder: ObjectKey | None) -> list[turns.Cluster]:
        """Every DPUCluster that there is. One of which something cannot be read is not gone, and that of `holder` not known to be done."""
        found = {key: turns.Cluster(key, f"cannot be read: {error}", ()) for key, error in self._members.clusters.invalid.items()}
        for cluster, member, trouble in self._members:
            key = key_of(cluster)
            doubt = _doubt(member) if key == holder else None
            sets = member.chain_sets if member is not None else ()
            found[key] = turns.Cluster(key, trouble or doubt, [item for item in sets if is_from(item, self._host)])
        return list(found.values())

    async def _read(self) -> Lease:
        """The Lease; without a version if there is none."""
        try:
            return await self._client.get(LEASE, TURN)
        except NotFound:
            return Lease(metadata=ObjectMeta(name=TURN.name, namespace=TURN.namespace))

    async def _record(self, lease: Lease, holder: ObjectKey | None) -> Lease:
        """Write who has the turn from now on. Conflict if the Lease is not as it was."""
        identity = str(holder) if holder is not None else ""
        if lease.metadata.resource_version:
            guard = {"resourceVersion": lease.metadata.resource_version}
            written = await self._client.patch(LEASE, TURN, {"metadata": guard, "spec": {"holderIdentity": identity}})
        else:
            made = Lease(metadata=lease.metadata, spec=LeaseSpec(holder_identity=identity))
            written = await self._client.create(LEASE, made, field_owner=HOST_FIELD_OWNER)
        _log.info("the turn to restart pods is another's", cluster=identity or "(nobody)")
        return written

    def _tell(self, holder: ObjectKey | None, clusters: list[turns.Cluster]) -> None:
        """Have those who wait say whom for, where that is not what they say."""
        awaited = next((turns.awaited(cluster) for cluster in clusters if cluster.key == holder), None)
        if (holder, awaited) != (self._holder, self._awaited):
            self._holder, self._awaited = holder, awaited
            for cluster in clusters:
                for item in filter(turns.waits, cluster.sets):
                    self._report(key_of(item))


def _doubt(member: Member | None) -> str | None:
    """What is not known of a cluster's sets, as words after its name; None if they are known."""
    errors = member.chain_sets.invalid.values() if member is not None else ()
    return next((f"has a set that cannot be read: {error}" for error in errors), None)


def _holder_of(lease: Lease) -> ObjectKey | None:
    namespace, _, name = lease.spec.holder_identity.rpartition("/")
    return ObjectKey(namespace, name) if name else None


async def _write(member: Member, write: turns.Write) -> KubeError | None:
    """Give a set the annotation, or take it off, if it is as it was when that was decided; returns why that is not possible now."""
    meta = write.item.metadata
    guard = {"uid": meta.uid, "resourceVersion": meta.resource_version}
    patch = {"metadata": {**guard, "annotations": {RESTART_TURN_ANNOTATION: write.value}}}
    try:
        await member.client.patch(SERVICE_CHAIN_SET, key_of(write.item), patch)
    except NotFound as error:
        _log.debug("the set vanished meanwhile", set=str(key_of(write.item)), error=str(error))
    except KubeError as error:
        return error
    return None
