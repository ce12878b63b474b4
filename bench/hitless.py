"""Frames lost of 4,000 a second in each direction, while there happens what `tests/e2e/hitless.py` lists."""

from __future__ import annotations

from tests.e2e.conftest import Rack as Tested
from tests.e2e.hitless import EVENTS, during, wired

from bench.rack import Rack
from dpuchain.lab.example import MANIFEST

RUNS = 3


def lost(rack: Rack) -> dict[str, int]:
    """The most of all runs, by what happens. The example goes, and whatever else the bench has made."""
    rack.kubectl("host", "delete", f"--filename={MANIFEST}", "--timeout=120s")
    for kind in ("servicechain", "serviceinterface"):
        rack.kubectl("cluster-1", "delete", kind, "--all", "--timeout=60s")
    tested = Tested(rack.directory)
    with wired(tested):
        return {name: max(during(tested, happens).lost for _ in range(RUNS)) for name, happens in EVENTS.items()}
