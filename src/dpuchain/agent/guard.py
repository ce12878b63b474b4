"""What others change of ours: counted, told, undone at once, and, where somebody does it again and again, undone at a measured pace."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from dpuchain.agent.evidence import Subject
from dpuchain.runtime.metrics import REPAIRS

WINDOW_SECONDS = 10.0
FIGHT = 10
"""Repairs within the window that no accident explains: two writers each undo what the other does."""
PACE_SECONDS = 0.5
"""Between two repairs in a fight, so that it costs neither the switch nor us."""


@dataclass(frozen=True)
class Complaint:
    """What to tell people of a fight, and whose ports it is about, if it is about ports."""

    text: str
    subjects: frozenset[Subject]


@dataclass
class Guard:
    """Remembers the repairs of late. Moments are seconds of a clock that never goes back."""

    _repairs: deque[tuple[float, frozenset[Subject]]] = field(default_factory=deque)
    _callbacks: list[Callable[[Subject], None]] = field(default_factory=list)

    def subscribe(self, callback: Callable[[Subject], None]) -> None:
        """Call `callback` with each object of which something was put right, as long as there is no fight: its condition tells of that."""
        self._callbacks.append(callback)

    def repaired(self, counts: Mapping[str, int], subjects: Collection[Subject], now: float) -> None:
        """So many things of each kind, which are `subjects`', were put right though nothing that is wanted had changed."""
        for kind, count in counts.items():
            REPAIRS.labels(kind).inc(count)
        self._repairs.append((now, frozenset(subjects)))
        if not self.fighting(now):
            for callback in self._callbacks:
                for subject in subjects:
                    callback(subject)

    def pause(self, now: float) -> float:
        """Seconds to wait before the next repair; 0 if there is no fight."""
        if not self.fighting(now):
            return 0.0
        return max(0.0, self._repairs[-1][0] + PACE_SECONDS - now)

    def fighting(self, now: float) -> bool:
        """Whether somebody undoes what we do: too many repairs in the window."""
        while self._repairs and self._repairs[0][0] <= now - WINDOW_SECONDS:
            self._repairs.popleft()
        return len(self._repairs) >= FIGHT

    def complaint(self, now: float) -> Complaint | None:
        """What to tell people of the fight; None if there is none. It is the same as long as the fight is about the same ports."""
        if not self.fighting(now):
            return None
        text = (
            f"somebody else keeps changing the flows or ports of dpuchain on this node: they are put right every {PACE_SECONDS:g} s only; "
            f"find out who writes to the bridge (another controller, a script) and stop it"
        )
        return Complaint(
            text, frozenset(subject for _, subjects in self._repairs for subject in subjects if subject.kind != "ServiceChain")
        )
