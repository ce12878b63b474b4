"""What an agent costs while nothing happens."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from bench.objects import NODE
from bench.rack import Rack
from dpuchain.api.names import OPERATOR_NAMESPACE

SECONDS = 20.0
WINDOWS = 3
USER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:dpuchain-agent"
"""All agents of a cluster are one user."""


@dataclass(frozen=True)
class Rest:
    """The most of all windows of time."""

    percent_of_a_core: float
    requests: int
    resident_mebibytes: float


def measure(rack: Rack) -> Rest:
    """Look at the agent of dpu-1. Requests are all that its API server has written down of agents, watches excepted."""
    windows = [_window(rack) for _ in range(WINDOWS)]
    return Rest(max(share for share, _ in windows), max(count for _, count in windows), rack.agent_resident_mebibytes(NODE))


def _window(rack: Rack) -> tuple[float, int]:
    ticks, requests = _ticks(rack), _requests(rack)
    time.sleep(SECONDS)
    seconds = (_ticks(rack) - ticks) / os.sysconf("SC_CLK_TCK")
    return 100 * seconds / SECONDS, _requests(rack) - requests


def _ticks(rack: Rack) -> int:
    fields = Path(f"/proc/{rack.agent_pid(NODE)}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _requests(rack: Rack) -> int:
    log = (rack.directory / "cluster-1" / "audit.log").read_text()
    events = (json.loads(line) for line in log.splitlines() if USER in line)
    requests = len([event for event in events if event["user"]["username"] == USER and event["verb"] != "watch"])
    if not requests:
        raise RuntimeError(f"the API server has written no request of {USER} down, which made some when it began")
    return requests
