"""What others change or delete of a release: counted, and put right at once, or ever more slowly where somebody goes on."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

FIRST_PAUSE, LONGEST_PAUSE = 10.0, 600.0
"""Seconds between the first repair of a release and the second, doubled with each further one; after twice the longest all is forgotten."""


@dataclass
class Pace:
    """When releases may be repaired. Moments are seconds of a clock that never goes back."""

    _repaired: dict[Hashable, tuple[int, float]] = field(default_factory=dict)

    def pause(self, release: Hashable, now: float) -> float:
        """Seconds until the release may be repaired; 0 if it may be now."""
        count, last = self._repaired.get(release, (0, now))
        if now - last > 2 * LONGEST_PAUSE:
            self.forget(release)
            return 0.0
        return max(0.0, last + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(count - 1, 32)) - now) if count else 0.0

    def repaired(self, release: Hashable, now: float) -> None:
        """Helm runs for the release because of what others do to it."""
        count, _ = self._repaired.get(release, (0, now))
        self._repaired[release] = (count + 1, now)

    def forget(self, release: Hashable) -> None:
        """The release is no more, or another."""
        self._repaired.pop(release, None)
