"""What is wrong, in the words that users see, and what programs ask of it: its kind, and the objects that it is between."""

from __future__ import annotations

from typing import Literal, NamedTuple, Self

from dpuchain.api.meta import Object, ObjectKey, key_of

Kind = Literal[
    "port",  # a port that two interfaces want
    "vlan",  # a VLAN of a port that two interfaces want
    "switch",  # an interface that is to be in two switches, or twice in one
    "several",  # a selector that picks several interfaces
    "mtu",  # a serviceMTU above the highSpeedMTU
    "service",  # an interface that a service cannot have: another's, or with another serviceID
    "identity",  # a serviceID that two services have where their pods may meet
    "impossible",  # what no world makes right: a value, or two objects that do not fit each other
    "dead",  # a field that has no effect
    "name",  # a set's name that somebody else has taken in a DPU cluster
    "none",  # a selector or a reference that nothing answers to yet
    "device",  # what the DPU itself lacks: a device, a number, a link, a pod's readiness
    "follows",  # what is wrong because something else is, which is told on its own
]


class Ref(NamedTuple):
    """An object, by its kind and its key."""

    kind: str
    key: ObjectKey

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"


def ref(kind: str, item: Object) -> Ref:
    """The object `item`, which is of that kind."""
    return Ref(kind, key_of(item))


class Problem(str):
    """A text that knows its kind, the objects that it names, and what they are at odds about (a port, a selector); equal by its text."""

    kind: Kind
    between: tuple[Ref, ...]
    about: str

    def __new__(cls, text: str, kind: Kind, *between: Ref, about: str = "") -> Self:
        """The problem in `text`."""
        problem = super().__new__(cls, text)
        problem.kind, problem.between, problem.about = kind, between, about
        return problem
