"""How often something may be done: at once while it is done seldom, at a measured pace when it would be done all the time."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass
class TokenBuckets:
    """A token bucket for each key: `burst` at once, and one more every `seconds`. Moments are those of a clock that never goes back."""

    burst: int
    seconds: float
    _full: dict[Hashable, float] = field(default_factory=dict)
    """For each key the moment at which its bucket is, or was, full again."""

    def wait(self, key: Hashable, now: float) -> float:
        """Seconds until the next may be done; 0 if it may be done now."""
        return max(0.0, self._full.get(key, now) - (self.burst - 1) * self.seconds - now)

    def take(self, key: Hashable, now: float) -> None:
        """It is being done."""
        self._full[key] = max(self._full.get(key, now), now) + self.seconds

    def trim(self, now: float) -> None:
        """Forget the keys whose buckets are full again, which changes nothing."""
        self._full = {key: moment for key, moment in self._full.items() if moment > now}

    def forget(self, key: Hashable) -> None:
        """The key is no more."""
        self._full.pop(key, None)
