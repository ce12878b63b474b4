"""Fixtures of the whole suite: real API servers and private Open vSwitch instances, with the end of their logs in each failure."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from dpuchain.lab.cluster import Cluster
from dpuchain.lab.openvswitch import OpenVSwitch
from dpuchain.lab.toolchain import Toolchain

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

T = TypeVar("T")
RUNNING: list[Cluster | OpenVSwitch] = []
"""What runs for tests now; the end of its logs is added to the report of a test that fails."""


class Background:
    """An event loop in a thread that lives as long as the session: the tests' loops come and go, the processes belong to this one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="background", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="session")
def background() -> Iterator[Background]:
    background = Background()
    yield background
    background.close()


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    return Toolchain()


@pytest.fixture(scope="session")
def control_plane(background: Background, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One running etcd and API server for the whole session; a test makes a namespace of its own in it."""
    cluster = Cluster("shared", tmp_path_factory.mktemp("shared"), toolchain)
    background.run(cluster.start())
    RUNNING.append(cluster)
    yield cluster
    RUNNING.remove(cluster)
    background.run(cluster.stop())


@pytest.fixture(scope="module")
def make_cluster(
    background: Background, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Cluster]]:
    """Return `make_cluster(name, controller_manager=False, scheduler=False)`; what it makes runs until the module's tests are done."""
    made: list[Cluster] = []

    def make(name: str, *, controller_manager: bool = False, scheduler: bool = False) -> Cluster:
        cluster = Cluster(name, tmp_path_factory.mktemp(name), toolchain)
        background.run(cluster.start(controller_manager=controller_manager, scheduler=scheduler))
        made.append(cluster)
        RUNNING.append(cluster)
        return cluster

    yield make
    for cluster in reversed(made):
        RUNNING.remove(cluster)
        background.run(cluster.stop())


@pytest.fixture
def make_ovs(background: Background, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., OpenVSwitch]]:
    """Return `make_ovs(dummy=True)`: a private Open vSwitch with an empty br-sfc. `dummy=False` takes real devices and needs root."""
    made: list[OpenVSwitch] = []

    def make(*, dummy: bool = True) -> OpenVSwitch:
        switch = OpenVSwitch("ovs", tmp_path_factory.mktemp("ovs"), dummy=dummy)
        background.run(switch.start())
        made.append(switch)
        RUNNING.append(switch)
        return switch

    yield make
    for switch in reversed(made):
        RUNNING.remove(switch)
        background.run(switch.stop())


@pytest.fixture
def ovs(make_ovs: Callable[..., OpenVSwitch]) -> OpenVSwitch:
    """A private Open vSwitch with dummy devices and an empty br-sfc."""
    return make_ovs()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Add the end of every running part's log to a failure."""
    report = yield
    if report.failed:  # type: ignore[attr-defined]  # pluggy's wrappers are typed by what they yield, not by what they are sent
        for part in RUNNING:
            report.sections += [(f"end of {name}'s log", text) for name, text in part.log_tails().items()]  # type: ignore[attr-defined]
    return report
