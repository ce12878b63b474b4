"""The page of what is told of objects: conditions with their reasons, and Events."""

from __future__ import annotations

from tools.reference.text import code, page, table

from dpuchain.api.vocabulary import ANNOTATIONS, CONDITIONS, EVENTS, REASONS
from dpuchain.kube.events import BURST, SECONDS

_CONDITIONS = """
Each has `observedGeneration`; one of an older generation says nothing of the object as it is now. `Ready` sums up the others of its
object: it is True only when all are, which evidence has shown. Wait for one with `kubectl wait --for=condition=Ready
dpuservicechain/NAME`.
"""
_EVENTS = f"""`kubectl describe` and `kubectl events --for KIND/NAME` show them. The same Event once more is counted up, not written again.
Of one object there are {BURST} at once at most, and one more every {SECONDS / 60:.0f} minutes.
"""


def told() -> str:
    """The page."""
    of_kinds = ((kind, code(name), text) for kind, held in CONDITIONS.items() for name, text in held.items())
    conditions = table(("kind", "condition", "when it is True"), of_kinds)
    reasons = table(("reason", ""), ((code(name), text) for name, text in REASONS.items()))
    events = table(("reason", "type", "of", ""), ((code(name), event.type, event.of, event.text) for name, event in EVENTS.items()))
    annotations = table(("annotation", "on", ""), ((code(name), *said) for name, said in ANNOTATIONS.items()))
    return page(
        "Conditions, Events and annotations",
        f"## Conditions\n\n{_CONDITIONS.strip()}\n\n{conditions}",
        f"## Reasons of conditions\n\n{reasons}",
        f"## Events\n\n{_EVENTS}\n{events}",
        f"## Annotations that people may set\n\n{annotations}",
    )
