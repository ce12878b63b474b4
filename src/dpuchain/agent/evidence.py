"""What a pass over the switch has shown of each object of the node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from dpuchain.api.meta import Object, ObjectKey, key_of

Kind = Literal["ServiceInterface", "ServiceChain", "Pod"]


class Subject(NamedTuple):
    """An object of the node. Of pods only Events tell."""

    kind: Kind
    key: ObjectKey


@dataclass(frozen=True)
class Verdict:
    """What was found of the object with this uid, as its spec was in this generation. Without problems it works."""

    uid: str
    generation: int
    problems: tuple[str, ...] = ()
    flows_missing: str | None = None

    @property
    def works(self) -> bool:
        """Whether nothing is wrong: what Ready, the metrics and the traces say."""
        return not self.problems and not self.flows_missing


@dataclass(frozen=True)
class Evidence:
    """Verdicts on the objects that are there, and the uids of those that are being deleted and of which nothing is left on the switch."""

    verdicts: Mapping[Subject, Verdict] = field(default_factory=dict)
    released: Mapping[Subject, str] = field(default_factory=dict)

    def verdict(self, kind: Kind, item: Object) -> Verdict | None:
        """The verdict on an object in its present generation; None if there is none yet: the pass that makes it is on its way."""
        found = self.verdicts.get(Subject(kind, key_of(item)))
        return found if found is not None and (found.uid, found.generation) == (item.metadata.uid, item.metadata.generation) else None

    def changed_since(self, earlier: Evidence) -> set[Subject]:
        """The objects of which something else is to be said than `earlier`."""
        differing = {subject for subject, verdict in self.verdicts.items() if earlier.verdicts.get(subject) != verdict}
        return differing | {subject for subject, uid in self.released.items() if earlier.released.get(subject) != uid}
