"""What a trace tells of a frame's way: values, as an agent sends them and a person's command shows them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from dpuchain.api.meta import Model


class Departure(Model, frozen=True):
    """A device that a frame leaves by, with the tags that it has then, as `flows.simulate.Sent` has them. `called` is the interface that
    is there, as people call it; empty if there is none.
    """

    port: str
    tags: tuple[int, ...] = ()
    called: str = ""

    def __str__(self) -> str:
        name = self.port if self.called in ("", self.port) else f"{self.called} ({self.port})"
        return " ".join([name, *(f"with VLAN {tag & 0xFFF}" for tag in self.tags)])


class Answer(Model, frozen=True):
    """What the switch says: where the frame leaves, the bridges that it passes, and the rules that it meets."""

    departures: tuple[Departure, ...] = ()
    bridges: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()


class Hop(Model, frozen=True, kw_only=True):
    """One step of a way.

    A `switch` of a chain has two answers: `ours`, which the compiled flows give, and `theirs`, the switch's own with the `rules` that it
    met; `differs` says in which respect they are not one. A `service` passes frames on as it likes. A `bridge` is another one of the DPU,
    behind a patch. At an `end` the frame leaves the DPU, or stays in a service; at `lost` it is no more; at `unsure` nobody can say.
    `interface` is the ServiceInterface that a frame enters a switch by, or that an answer from an end would come in by.
    """

    kind: Literal["switch", "service", "bridge", "end", "lost", "unsure"]
    name: str
    enters: str = ""
    interface: str = ""
    ours: tuple[Departure, ...] = ()
    theirs: tuple[Departure, ...] = ()
    rules: tuple[str, ...] = ()
    differs: str = ""
    problems: tuple[str, ...] = ()
    onward: tuple[Hop, ...] = ()

    def walk(self) -> Iterator[Hop]:
        """The hop and all that come after it."""
        yield self
        for hop in self.onward:
            yield from hop.walk()


class Probe(Model, frozen=True, kw_only=True):
    """Frames that were sent through a service: taken as come in by `begins`, and caught where they came back, at one of `ends`.

    Latencies are in milliseconds, as the agent measures them, with its own way to the switch and back. `skipped` says why none was sent.
    """

    begins: str
    through: str = ""
    ends: tuple[str, ...] = ()
    sent: int = 0
    received: int = 0
    least: float | None = None
    mean: float | None = None
    most: float | None = None
    skipped: str = ""

    @property
    def lost(self) -> int:
        """How many did not come back."""
        return self.sent - self.received


class Trace(Model, frozen=True, kw_only=True):
    """What became of a frame, and of its answer from each end that it reached. `begins` is the interface that it came in by."""

    node: str
    begins: str
    frame: str
    verdict: Literal["delivered", "dropped", "unknown"]
    sentence: str
    cause: str = ""
    forward: Hop
    back: tuple[Hop, ...] = ()
    probes: tuple[Probe, ...] = ()
    """Of a live trace, one for each switch that a way enters."""
