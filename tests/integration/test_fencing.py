"""Another leads within 15 s of a leader that is stopped in the middle of its work, and that writes nothing any more when it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
import uuid
from typing import TYPE_CHECKING

import aiohttp
import pytest

from dpuchain.api.chain import (
    Port,
    ServiceChain,
    ServiceChainSet,
    ServiceChainSetSpec,
    ServiceChainSpec,
    ServiceChainTemplate,
    ServiceInterfaceReference,
    Switch,
)
from dpuchain.api.kinds import LEASE, NAMESPACE, NODE, SERVICE_CHAIN, SERVICE_CHAIN_SET
from dpuchain.api.kubernetes import Metadata
from dpuchain.api.meta import LabelSelector, ObjectKey, ObjectMeta, key_of
from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.dpu.process import LEASE as LEASE_KEY
from dpuchain.kube.cache import Cache
from dpuchain.kube.client import Client
from dpuchain.kube.errors import AlreadyExists
from dpuchain.lab.ports import ReservedPort

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from dpuchain.lab.cluster import Cluster

NODES = 250
FAILOVER = 15
"""Seconds until another leads, with the periods that a lease has by default."""
BEFORE, AFTER = 1400, 1600
"""The serviceMTU that the first leader writes, and the one that its successor does."""


def chain_set(namespace: str, mtu: int) -> ServiceChainSet:
    switch = Switch(ports=(Port(service_interface=ServiceInterfaceReference(match_labels={"port": "p0"})),), service_mtu=mtu)
    spec = ServiceChainSetSpec(
        node_selector=LabelSelector(match_labels={"test": namespace}),
        template=ServiceChainTemplate(spec=ServiceChainSpec(switches=(switch,))),
    )
    return ServiceChainSet(metadata=ObjectMeta(name="chain", namespace=namespace), spec=spec)


class Watch:
    """The children, and what was written to them."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.chains = Cache(client, SERVICE_CHAIN, namespace=namespace)
        self.leases = Cache(client, LEASE, namespace=OPERATOR_NAMESPACE)
        self.written: list[int] = []
        self._changed = asyncio.Event()
        self.chains.subscribe(lambda change: self._note(change.new))
        self.leases.subscribe(lambda _: self._changed.set())

    def _note(self, chain: ServiceChain | None) -> None:
        if chain is not None:
            self.written.append(chain.spec.switches[0].service_mtu)
        self._changed.set()

    @property
    def holder(self) -> str:
        lease = self.leases.get(LEASE_KEY)
        return lease.spec.holder_identity if lease is not None else ""

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():
                self._changed.clear()
                await self._changed.wait()


@contextlib.asynccontextmanager
async def controller(kubeconfig: Path, log: Path, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("wb") as output:
        arguments = [f"--kubeconfig={kubeconfig}", "--leader-elect", *options]
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "dpuchain", "dpu", *arguments, stderr=output)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
            process.kill()
        await process.wait()


async def until_ready(address: str) -> None:
    """Wait until a replica has read everything, and so competes."""
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                if (await session.get(f"http://{address}/readyz")).status == 200:
                    return
            await asyncio.sleep(0.05)


@pytest.mark.timeout(180)
async def test_stopped_leader_writes_nothing_when_it_goes_on(make_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    from tests.conftest import define_kinds

    cluster = await asyncio.to_thread(make_cluster, "fencing")
    await define_kinds(cluster)
    namespace = f"test-{uuid.uuid4().hex[:8]}"
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client.from_kubeconfig(cluster.kubeconfig, user_agent="tests"))
        for name in (namespace, OPERATOR_NAMESPACE):
            with contextlib.suppress(AlreadyExists):
                await client.create(NAMESPACE, Metadata(metadata=ObjectMeta(name=name)))
        labels = {"test": namespace}
        await asyncio.gather(*(client.create(NODE, Metadata(metadata=ObjectMeta(name=f"dpu-{n}", labels=labels))) for n in range(NODES)))
        watch = Watch(client, namespace)
        watching = [asyncio.ensure_future(cache.run()) for cache in (watch.chains, watch.leases)]
        stack.callback(lambda: [task.cancel() for task in watching])
        await watch.chains.synced()
        first = await stack.enter_async_context(controller(cluster.kubeconfig, tmp_path / "first.log"))
        await watch.until(lambda: bool(watch.holder))
        leader = watch.holder
        with ReservedPort("127.0.0.1") as reserved:
            address = f"127.0.0.1:{reserved.number}"
        await stack.enter_async_context(controller(cluster.kubeconfig, tmp_path / "second.log", f"--health-address={address}"))
        await until_ready(address)
        await client.create(SERVICE_CHAIN_SET, chain_set(namespace, BEFORE))
        await watch.until(lambda: len(watch.chains) > NODES // 20)
        os.kill(first.pid, signal.SIGSTOP)
        stopped = time.monotonic()
        made = len(watch.chains)
        await client.apply(SERVICE_CHAIN_SET, chain_set(namespace, AFTER), field_owner="test")
        await watch.until(lambda: watch.holder not in ("", leader))
        assert time.monotonic() - stopped <= FAILOVER
        await watch.until(lambda: len(watch.chains) == NODES and all(c.spec.switches[0].service_mtu == AFTER for c in watch.chains))
        assert made < NODES - 100, "the first leader was done before it was stopped: nothing was shown"
        watch.written.clear()
        os.kill(first.pid, signal.SIGCONT)
        assert await asyncio.wait_for(first.wait(), 30) != 0, (tmp_path / "first.log").read_text()
        probe = watch.chains.get(key_of(next(iter(watch.chains))))
        assert probe is not None
        await client.patch(SERVICE_CHAIN, key_of(probe), {"metadata": {"labels": {"probe": "yes"}}})
        await watch.until(lambda: any("probe" in chain.metadata.labels for chain in watch.chains))
        assert set(watch.written) == {AFTER}
        assert (await client.get(SERVICE_CHAIN_SET, ObjectKey(namespace, "chain"))).spec == chain_set(namespace, AFTER).spec
