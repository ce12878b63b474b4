"""A rack with a chain through a service and one beside it, the frames that are captured there, and what a person's commands say of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dpuchain.flows.packets import parse
from dpuchain.lab import control
from dpuchain.lab.layout import Layout
from tests.e2e.conftest import Outcome, run
from tests.e2e.frames import Tap, passes

if TYPE_CHECKING:
    from tests.e2e.conftest import Rack

FRAME = "icmp src=198.51.100.1 dst=198.51.100.77"


@dataclass(frozen=True)
class Path:
    """Where a frame is to come in on dpu-1, and what lies behind both of its ends."""

    begins: str
    here: Tap
    there: Tap


@dataclass(frozen=True)
class Bench:
    """A rack with the document's example, and a chain of two further ports of dpu-1 beside it."""

    rack: Rack
    host: Path
    side: Path

    def cli(self, *arguments: str) -> Outcome:
        """Run a person's command with nothing but the host cluster's kubeconfig."""
        kubeconfig = f"--kubeconfig={self.rack.directory / 'host.kubeconfig'}"
        return run(sys.executable, "-m", "dpuchain", arguments[0], kubeconfig, *arguments[1:], timeout=90)

    def trace(self, path: Path, *more: str) -> dict[str, Any]:
        """The trace of a ping from an end of a path."""
        outcome = self.cli("trace", f"--from={path.begins}", "--node=dpu-1", f"--frame={FRAME}", "--output=json", *more)
        assert outcome.output.startswith("{"), outcome.output
        found: dict[str, Any] = json.loads(outcome.output)
        assert outcome.status == (0 if found["verdict"] == "delivered" else 1)
        return found

    def captured(self, path: Path) -> bool:
        """Whether the frame that is traced arrives, and its answer too."""
        asked = parse(FRAME)
        return passes(asked.packet.content, path.here, path.there) and passes(asked.answer.packet.content, path.there, path.here)

    def told(self, path: Path, verdict: str, words: str = "") -> dict[str, Any]:
        """Wait for the trace to say so, for what an agent hears of in its own time; then it is as the captured frames are."""
        found: dict[str, Any] = {}

        def said() -> bool:
            found.update(self.trace(path))
            return bool(found["verdict"] == verdict and words in found.get("cause", ""))

        self.rack.until(said, f"{verdict} with {words!r}, but {found}", 40)
        if verdict != "unknown":
            assert self.captured(path) == (verdict == "delivered"), found
        return found

    def signal(self, process: str, number: signal.Signals) -> None:
        """Send a signal to a process of the rack, by the name that `dpuchain lab status` has for it."""
        running = asyncio.run(control.status(Layout.at(self.rack.directory)))
        os.kill(next(event.pid for event in running if event.text == process), number)

    def revive(self) -> None:
        outcome = self.rack.lab("up", "--dpus=2", "--clusters=1", "--no-example")
        assert outcome.status == 0, outcome.output

    def flow(self, *words: str) -> None:
        outcome = self.rack.at("dpu-1", "ovs-ofctl", "-O", "OpenFlow14", *words)
        assert outcome.status == 0, outcome.output

    def number(self, port: str) -> str:
        return self.rack.at("dpu-1", "ovs-vsctl", "get", "interface", port, "ofport").output.strip()


def hops(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    pending = [found["forward"], *found.get("back", [])]
    while pending:
        hop = pending.pop(0)
        yield hop
        pending = [*hop.get("onward", []), *pending]
