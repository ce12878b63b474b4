"""`python -m tests.chaos --seed N --minutes M`: raise a rack, harm it in random ways, and see it right itself each time.

Two streams of numbered frames run all the while: host-1 with host-2 through both DPUs, and between two further ports of dpu-1. After each
fault the world must come to rest as the pure core says it should, and no frame may ever have been seen where it does not belong.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

from dpuchain.lab.layout import Layout
from dpuchain.lab.traffic import End, Stream
from tests.chaos.faults import DPUS, FAULTS
from tests.chaos.oracle import differences
from tests.e2e.conftest import Rack
from tests.e2e.manifests import ON_FIRST, apply, chain, interface

PATIENCE = 90.0
"""Seconds that the world may take to be right again; a process waits up to 30 between two attempts at what is away."""
PAIRS = (("x0", "x1"), ("x2", "x3"), ("x4", "x5"))


def main() -> None:
    """Run until the time is over or something stays wrong; then end with status 1 and say after which fault."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dpuchain-chaos-") as folder:
        rack = Rack(Path(folder) / "rack")
        try:
            prepare(rack)
            sys.exit(run(rack, Random(arguments.seed), arguments.minutes))
        finally:
            rack.lab("down")


def prepare(rack: Rack) -> None:
    """Raise the rack, with a chain through both DPUs and one beside it."""
    outcome = rack.lab("up", "--dpus=2", "--no-example", timeout=900)
    assert outcome.status == 0, outcome.output
    for first, second in PAIRS:
        rack.at("dpu-1", "ip", "link", "add", first, "type", "veth", "peer", "name", second)
        for device in (first, second):
            rack.at("dpu-1", "ip", "link", "set", device, "up")
    apply(
        rack,
        interface("p0", {"interfaceType": "physical", "physical": {"interfaceName": "p0"}}),
        interface("pf0hpf", {"interfaceType": "pf", "pf": {"pfID": 0}}),
        *(interface(name, {"interfaceType": "physical", "physical": {"interfaceName": name}}, **ON_FIRST) for name in ("x0", "x2", "x4")),
        chain("wire", ("p0", "pf0hpf")),
        chain("side", ("x0", "x2"), **ON_FIRST),
    )
    rack.ok("host", "wait", "--for=condition=Ready", "dpuservicechain", "--all", "--timeout=60s")


def run(rack: Rack, chance: Random, minutes: float) -> int:
    """Harm and wait, again and again; returns the exit status."""
    ends = Layout.at(rack.directory).identity
    hosts = Stream(End(ends.namespace("host-1"), "pf0"), End(ends.namespace("host-2"), "pf0"), number=1, rate=1000)
    beside = Stream(End(ends.namespace("dpu-1"), "x1"), End(ends.namespace("dpu-1"), "x3"), number=2, rate=500)
    began, count = time.monotonic(), 0
    with hosts, beside:
        while time.monotonic() - began < 60 * minutes:
            done = chance.choice(FAULTS)(rack, chance)
            count += 1
            harmed = time.monotonic()
            left = settle(rack)
            print(f"{count:4}  {time.monotonic() - harmed:5.1f} s  {done}", flush=True)  # noqa: T201
            if left:
                print("\n".join(["still wrong:", *left, rack.state()]), flush=True)  # noqa: T201
                return 1
    assert hosts.outcome is not None
    assert beside.outcome is not None
    print(f"{count} faults; hosts {hosts.outcome}; beside {beside.outcome}")  # noqa: T201
    return 1 if hosts.outcome.alien + beside.outcome.alien else 0


def settle(rack: Rack) -> list[str]:
    """Bring back what has died and wait until the world is right; returns what is still wrong after too long."""
    outcome = rack.lab("up", "--dpus=2", "--no-example")
    if outcome.status:
        return [outcome.output]
    deadline = time.monotonic() + PATIENCE
    while True:
        wrong = asyncio.run(_wrong(rack))
        if not wrong or time.monotonic() > deadline:
            return wrong
        time.sleep(0.5)


async def _wrong(rack: Rack) -> list[str]:
    found = [problem for dpu in DPUS for problem in await differences(rack, dpu)]
    for kind in ("dpuservicechains", "dpuserviceinterfaces"):
        for item in rack.items("host", kind):
            ready: dict[str, Any] = next((c for c in item.get("status", {}).get("conditions", []) if c["type"] == "Ready"), {})
            if ready.get("status") != "True" or ready.get("observedGeneration") != item["metadata"]["generation"]:
                found.append(f"{kind}/{item['metadata']['name']}: {ready.get('message', 'nothing said')}")
    return found


if __name__ == "__main__":
    main()
