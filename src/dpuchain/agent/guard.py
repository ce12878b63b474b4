"""What others change of ours: counted, undone at once, and, where somebody does it again and again, undone at a measured pace and told."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from prometheus_client import Counter

from dpuchain.runtime.metrics import REGISTRY

WINDOW_SECONDS = 10.0
FIGHT = 10
"""Repairs within the window that no accident explains: two writers each undo what the other does."""
PACE_SECONDS = 0.5
"""Between two repairs in a fight, so that it costs neither the switch nor us."""

REPAIRS = Counter("dpuchain_repairs", "Changes of others to our flows and ports that were undone.", ["kind"], registry=REGISTRY)


@dataclass
class Guard:
    """Remembers the repairs of late. Moments are seconds of a clock that never goes back."""

    _repairs: deque[float] = field(default_factory=deque)

    def repaired(self, kind: str, count: int, now: float) -> None:
        """`count` things of a kind (`flow`, `port`) were put right though nothing that is wanted had changed."""
        REPAIRS.labels(kind).inc(count)
        self._repairs.append(now)

    def pause(self, now: float) -> float:
        """Seconds to wait before the next repair; 0 if there is no fight."""
        if not self.fighting(now):
            return 0.0
        return max(0.0, self._repairs[-1] + PACE_SECONDS - now)

    def fighting(self, now: float) -> bool:
        """Whether somebody undoes what we do: too many repairs in the window."""
        while self._repairs and self._repairs[0] <= now - WINDOW_SECONDS:
            self._repairs.popleft()
        return len(self._repairs) >= FIGHT

    def complaint(self, now: float) -> str | None:
        """What to tell people of the fight; None if there is none. It is the same as long as the fight lasts."""
        if not self.fighting(now):
            return None
        return (
            f"somebody else keeps changing the flows or ports of dpuchain on this node: they are put right every {PACE_SECONDS:g} s only; "
            f"find out who writes to the bridge (another controller, a script) and stop it"
        )
