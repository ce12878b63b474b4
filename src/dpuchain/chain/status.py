"""What to say of an object, given what is below it: conditions and counters of every level, in DPF's words."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from heapq import nsmallest

from dpuchain.api import names
from dpuchain.api.conditions import Finding, find
from dpuchain.api.meta import Condition, Object, ObjectKey, key_of

LISTED = 10
"""Objects that a message names before it only counts."""

_SEVERITY = {names.AWAITING_DELETION: 3, names.FAILURE: 2, names.RETRYING: 1, names.PENDING: 1}


def good(condition: str, message: str = "") -> Finding:
    """The condition holds."""
    return Finding(condition, "True", names.SUCCESS, message)


def error(condition: str, message: str) -> Finding:
    """The condition does not hold because something is wrong."""
    return Finding(condition, "False", names.ERROR, f"Error occurred: {message}")


def pending(condition: str, message: str) -> Finding:
    """The condition does not hold yet."""
    return Finding(condition, "False", names.PENDING, message)


def awaiting_deletion(condition: str, message: str) -> Finding:
    """The object is being deleted and waits for what is below it."""
    return Finding(condition, "False", names.AWAITING_DELETION, message)


def with_ready(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """`findings` and, before them, the Ready that sums them up.

    True if all hold. Else its reason is the gravest of theirs (an Error counts as Pending, as in DPF), and its message lists them and then
    tells each one's cause.
    """
    failing = [finding for finding in findings if finding.status != "True"]
    if not failing:
        return (good(names.READY), *findings)
    gravest = max(failing, key=lambda finding: _SEVERITY.get(finding.reason, 0))
    reason = gravest.reason if _SEVERITY.get(gravest.reason, 0) > 1 else names.PENDING
    lines = ["The following conditions are not ready:", *(f"* {finding.type}" for finding in failing)]
    lines += [finding.message for finding in failing if finding.message]
    return (Finding(names.READY, "False", reason, "\n".join(lines)), *findings)


def interface_findings(problem: str | None) -> tuple[Finding, ...]:
    """Of a ServiceInterface whose port is there and up (None), or is not, for the reason given."""
    condition = names.INTERFACE_RECONCILED
    return with_ready([good(condition) if problem is None else error(condition, problem)])


def chain_findings(problems: Sequence[str], flows_missing: str | None) -> tuple[Finding, ...]:
    """Of a ServiceChain, from the problems of its resolution and what the read-back of its flows showed to be missing (None: nothing)."""
    condition = names.CHAIN_RECONCILED
    found = [*problems, *([flows_missing] if flows_missing else [])]
    return with_ready([error(condition, "\n".join(found)) if found else good(condition)])


@dataclass(frozen=True)
class Unready:
    """An object below that is not ready: where it is, as lines such as "Object: ns/name", and why."""

    where: tuple[str, ...]
    cause: str


def describe_unready(header: str, unready: Collection[Unready], more: int = 0) -> str:
    """The first ten of `unready`, in an order that does not change, and how many more there are, `more` of them not among these."""
    lines = [header]
    for entry in nsmallest(LISTED, unready, key=lambda entry: entry.where):
        first, *others = entry.where
        lines.append(f"* {first}")
        lines += [f"  {line}" for line in others]
        lines += [f"  {line}" for line in entry.cause.splitlines()]
    more += max(len(unready) - LISTED, 0)
    if more:
        lines.append(f"* and {more} more")
    return "\n".join(lines)


NOT_READY = "Objects are not ready:"


def cause_of(item: Object, conditions: Sequence[Condition]) -> str | None:
    """Why `item` is not ready, from its conditions; None if it is. What was observed of an older generation does not count."""
    ready = find(conditions, names.READY)
    if ready is None:
        return "nothing has been reported of it yet"
    if ready.observed_generation != item.metadata.generation:
        return "Reconciliation is in progress"
    if ready.status == "True":
        return None
    failing = [c for c in conditions if c.type != names.READY and c.status != "True" and c.message]
    return "\n".join(_body(c.message) for c in failing) or ready.message or ready.reason


def _body(message: str) -> str:
    """A message without the words that every message of its kind begins with, for quoting it one level up."""
    for head in (f"{NOT_READY}\n", "Error occurred: "):
        message = message.removeprefix(head)
    return message


@dataclass(frozen=True)
class Standing:
    """How the object of a set on a node stands: whether it is there as it should be, and why it is not ready (None: it is)."""

    item: ObjectKey
    node: str
    applied: bool
    cause: str | None


def standing(wanted: Object, node: str, live: Object | None, conditions: Sequence[Condition], *, up_to_date: bool) -> Standing:
    """Of the object `wanted`, given the one that is there (None if there is none), its conditions, and whether it is as wanted."""
    if live is None:
        return Standing(key_of(wanted), node, applied=False, cause="not created yet")
    if live.metadata.deletion_timestamp is not None:
        return Standing(key_of(wanted), node, applied=False, cause=f"is being deleted, and made again when it is gone; {ON_AGENT}")
    cause = cause_of(live, conditions) if up_to_date else "Reconciliation is in progress"
    return Standing(key_of(wanted), node, up_to_date, cause)


ON_AGENT = "its agent has not removed it from the switch yet; if the node is gone for good, delete the Node"
"""What an object of a node that is being deleted waits for."""


@dataclass(frozen=True)
class Tally:
    """The objects of a set, counted: those that should be, those that are there as they should be, those too many, those not ready."""

    wanted: int
    applied: int
    surplus: int
    unready: int
    first: Sequence[Standing]
    """Of those that are not ready the first by name, LISTED at most: of the thousands that there may be, words are made of these alone."""

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be done and all is ready."""
        return self.applied == self.wanted and not self.surplus and not self.unready


@dataclass(frozen=True)
class SetSummary:
    """Status of a set."""

    findings: tuple[Finding, ...]
    number_applied: int
    number_ready: int


def summarize_set(reconciled: str, ready: str, tally: Tally, *, problem: str | None = None, further: Sequence[Finding] = ()) -> SetSummary:
    """Of a set, from its objects. `reconciled` and `ready` are its condition types; `problem` is what keeps its objects from working.
    `further` was found about the set otherwise, and is part of what Ready sums up.

    A set that selects no node is Ready, since nothing is missing, and says so.
    """
    missing = tally.wanted - tally.applied
    if problem is not None:
        first = error(reconciled, problem)
    elif missing or tally.surplus:
        first = pending(reconciled, f"{missing} objects are still to be written and {tally.surplus} to be deleted")
    else:
        first = good(reconciled, "" if tally.wanted else "no node is selected")
    entries = [Unready((f"Object: {s.item}", f"Node: {s.node}"), s.cause or "") for s in tally.first]
    second = pending(ready, describe_unready(NOT_READY, entries, tally.unready - len(entries))) if tally.unready else good(ready)
    return SetSummary(with_ready([first, second, *further]), tally.applied, tally.wanted - tally.unready)


@dataclass(frozen=True)
class InCluster:
    """An object of the host cluster in one DPU cluster: what went wrong there (None: nothing), and whether the set there is ready."""

    cluster: ObjectKey
    item: ObjectKey
    error: str | None
    cause: str | None
    """Why the set is not ready; None if it is."""
    up_to_date: bool


def summarize_clusters(
    reconciled: str, ready: str, clusters: Sequence[InCluster], stale: Sequence[ObjectKey], problem: str | None = None
) -> tuple[Finding, ...]:
    """Of a DPUServiceChain or DPUServiceInterface, from its sets in the selected clusters.

    `stale` are clusters that are no longer selected and still have the set. `problem` is an error of the object itself, because of which
    nothing is written. An object that no cluster is selected for is not Ready, as nothing carries it out.
    """
    failing = [Unready((f"Cluster: {c.cluster}",), c.error) for c in clusters if c.error is not None]
    if problem is not None:
        first = error(reconciled, problem)
    elif failing:
        first = error(reconciled, describe_unready("not written to all DPU clusters:", failing))
    elif stale:
        entries = [Unready((f"Cluster: {cluster}",), "") for cluster in stale]
        first = pending(reconciled, describe_unready("Stale objects still exist across non matching DPUClusters:", entries))
    elif not clusters:
        first = pending(reconciled, "no DPUCluster is selected: create one, or change spec.dpuClusterSelector")
    elif not all(c.up_to_date for c in clusters):
        first = pending(reconciled, "Reconciliation is in progress")
    else:
        first = good(reconciled)
    unready = [
        Unready((f"Cluster: {c.cluster}", f"Object: {c.item}"), c.error or c.cause or "")
        for c in clusters
        if c.cause is not None or c.error is not None
    ]
    if unready:
        second = pending(ready, describe_unready(NOT_READY, unready))
    elif problem is not None or not clusters:
        second = pending(ready, f"{reconciled} is not True")
    else:
        second = good(ready)
    return with_ready([first, second])


def awaiting(conditions: Sequence[str], remaining: Sequence[Unready]) -> tuple[Finding, ...]:
    """Of an object that is being deleted, as long as `remaining` is not gone."""
    message = describe_unready(f"{len(remaining)} objects still exist across all DPU clusters", remaining)
    return with_ready([awaiting_deletion(condition, message) for condition in conditions])
