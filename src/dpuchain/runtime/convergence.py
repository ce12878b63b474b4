"""How long it takes from a change of an object until all of it is carried out."""

from __future__ import annotations

from dpuchain.api.meta import Object, ObjectKey, key_of
from dpuchain.runtime.clock import Clock
from dpuchain.runtime.metrics import CONVERGENCE_SECONDS


class Convergence:
    """Measures the objects of one kind. What was carried out before this process looked is not measured."""

    def __init__(self, kind: str, clock: Clock) -> None:
        self._histogram = CONVERGENCE_SECONDS.labels(kind)
        self._clock = clock
        self._begun: dict[ObjectKey, tuple[str, int, float]] = {}
        """For each object that is not ready yet the uid and generation that it is about, and the moment at which that was seen."""

    def saw(self, item: Object, observed_generation: int, *, ready: bool) -> None:
        """`item` was looked at, whose status spoke of `observed_generation` before; `ready` is whether all of it is carried out now."""
        key, version = key_of(item), (item.metadata.uid, item.metadata.generation)
        begun = self._begun.get(key)
        if begun is None or begun[:2] != version:
            if observed_generation == item.metadata.generation:
                return
            begun = self._begun[key] = (*version, self._clock.monotonic())
        if ready:
            self._histogram.observe(self._clock.monotonic() - begun[2])
            del self._begun[key]

    def forget(self, key: ObjectKey) -> None:
        """The object is gone."""
        self._begun.pop(key, None)
