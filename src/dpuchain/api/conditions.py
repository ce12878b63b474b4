"""The mechanics of conditions: reading one, and setting some without disturbing the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from dpuchain.api.meta import Condition

Status = Literal["True", "False", "Unknown"]


class Finding(NamedTuple):
    """What is to be said about one condition type; when it began to be so is worked out by `update`."""

    type: str
    status: Status
    reason: str
    message: str = ""


def find(conditions: Sequence[Condition], condition_type: str) -> Condition | None:
    """The condition of that type, or None where nothing has been said yet."""
    return next((c for c in conditions if c.type == condition_type), None)


def is_true(conditions: Sequence[Condition], condition_type: str, generation: int) -> bool:
    """Whether the condition is True for this generation; what was true of an older generation counts as not known."""
    condition = find(conditions, condition_type)
    return condition is not None and condition.status == "True" and condition.observed_generation >= generation


def update(conditions: Sequence[Condition], findings: Iterable[Finding], generation: int, now: datetime) -> tuple[Condition, ...]:
    """Conditions after `findings` were made about `generation`.

    A condition whose status stays keeps its `lastTransitionTime`; a type that nothing was found about stays as it is; order is kept and
    new types are appended, so that equal findings give an equal result. `now` is cut to whole seconds, as `metav1.Time` is.
    """
    result = {c.type: c for c in conditions}
    for finding in findings:
        before = result.get(finding.type)
        since = now.replace(microsecond=0) if before is None or before.status != finding.status else before.last_transition_time
        result[finding.type] = Condition(
            type=finding.type,
            status=finding.status,
            reason=finding.reason,
            message=_fit(finding.message),
            observed_generation=generation,
            last_transition_time=since,
        )
    return tuple(result.values())


def _fit(message: str) -> str:
    """`message`, cut to what the API server takes."""
    limit = 32768
    return message if len(message) <= limit else message[: limit - 1] + "…"
