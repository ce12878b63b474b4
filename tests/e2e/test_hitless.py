"""Frames that pass while everything around them changes: none is lost on a path that stays, none turns up where it does not belong."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.e2e import hitless
from tests.e2e.hitless import EVENTS, pid_of, ready, revive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Rack

ATTEMPTS = 3


@pytest.fixture(scope="module")
def wired(rack: Rack) -> Iterator[Rack]:
    with hitless.wired(rack):
        yield rack


@pytest.mark.parametrize("event", EVENTS)
def test_no_frame_is_lost_and_no_flow_changed_in_the_end(wired: Rack, event: str) -> None:
    """It is done up to three times: forwarding shares two cores with everything else here, and a busy machine may lose a frame by itself.
    What is lost because of what happens is lost each time (76 to 102 of 8,000 where flows are deleted before others are added).
    """
    before = [wired.flows(dpu) for dpu in ("dpu-1", "dpu-2")]
    outcomes = []
    for _ in range(ATTEMPTS):
        outcomes.append(hitless.during(wired, EVENTS[event]))
        assert [wired.flows(dpu) for dpu in ("dpu-1", "dpu-2")] == before
        if outcomes[-1].lost == 0:
            return
    pytest.fail(f"frames are lost each time: {outcomes}")


def test_killed_database_changes_no_flow(wired: Rack) -> None:
    """What remains afterwards; not the frames meanwhile: while its database is away, ovs-vswitchd's main thread does nothing, and that
    is the thread which forwards here. On a DPU forwarding has threads of its own: see `tests/integration/agent/test_dpdk.py`.
    """
    flows = [wired.flows(dpu) for dpu in ("dpu-1", "dpu-2")]
    hitless.ended("-KILL", "ovsdb-server {}/dpu-1/", "ovsdb-server {}/dpu-2/")(wired)
    assert [wired.flows(dpu) for dpu in ("dpu-1", "dpu-2")] == flows
    assert wired.reached()


def test_killed_switch_forwards_again_without_the_api(wired: Rack) -> None:
    flows = wired.flows("dpu-1")
    api = str(pid_of(wired, hitless.API_SERVER[0]))
    wired.at("fabric", "kill", "-STOP", api)
    with ThreadPoolExecutor() as pool:
        try:
            wired.at("fabric", "kill", "-KILL", str(pid_of(wired, "ovs-vswitchd unix:{}/dpu-1/")))
            reviving = pool.submit(revive, wired)
            wired.until(lambda: wired.at("dpu-1", "ovs-appctl", "version").status == 0, "running again")
            wired.until(lambda: wired.flows("dpu-1") == flows, "programmed again")
            assert wired.ping()
        finally:
            wired.at("fabric", "kill", "-CONT", api)
        reviving.result()
    ready(wired, "dpuservicechain/wire")
