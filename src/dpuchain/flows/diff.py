"""The least that makes one state of a bridge into another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from dpuchain.flows.compile import FORWARD, LEARNED
from dpuchain.flows.model import Flow, FlowChanges, FlowState, Flush, Load
from dpuchain.flows.pipeline import COOKIE, HINT, LARGEST_PORT, LEARNED_KIND, METADATA, OURS, OURS_MASK, ROUND, cookie, round_of

_EXACTLY = (1 << COOKIE.width) - 1
_NOWHERE = (-1, -1)


def diff(actual: FlowState, desired: FlowState) -> FlowChanges:
    """What has to be done to a bridge in state `actual` so that its flows are those of `desired`; nothing if they are already.

    Entries that the switch learned are never added. Those that point at a port which is, in `desired`, no port of their switch are
    deleted: one by one where `actual` shows them, and by their cookie for every port that leaves its switch, since entries may have been
    learned after `actual` was read. The cookie does not tell the VLANs of a port apart: those that stay learn anew.

    What another round has left goes by its round, for the same reason, and because its tables may mean something else.
    """
    if actual.flows == desired.flows and not actual.learned:
        return FlowChanges()
    have = {flow.key: flow for flow in actual.flows if round_of(flow.cookie) == ROUND}
    want = {flow.key: flow for flow in desired.flows}
    members = _members(desired.flows)
    flush = {_entries_behind(place) for place in _members(have.values()) - members}
    flush |= {_round(number) for number in {round_of(flow.cookie) for flow in actual.flows} - {ROUND}}
    flushed = {pattern.cookie for pattern in flush}
    stale = [flow for flow in actual.learned if flow.cookie not in flushed and not _is_true(flow, members)]
    return FlowChanges(
        add=_ordered(flow for key, flow in want.items() if key not in have),
        modify=_ordered(flow for key, flow in want.items() if key in have and have[key] != flow),
        delete=_ordered([*(flow for key, flow in have.items() if key not in want), *stale]),
        flush=tuple(sorted(flush, key=lambda pattern: pattern.cookie)),
    )


def shortfalls(actual: FlowState, desired: FlowState) -> dict[int, tuple[int, int]]:
    """For the number of each owner whose flows are not as desired: how many are missing, and how many are there that should not be."""
    absent = Counter(COOKIE["owner"].read(flow.cookie) for flow in desired.flows - actual.flows)
    alien = Counter(COOKIE["owner"].read(flow.cookie) for flow in actual.flows - desired.flows)
    return {number: (absent[number], alien[number]) for number in absent | alien}


def _ordered(flows: Iterable[Flow]) -> tuple[Flow, ...]:
    return tuple(sorted(flows, key=lambda flow: flow.key.order()))


def _members(flows: Iterable[Flow]) -> set[tuple[int, int]]:
    """Switch and port, as the hint has it, of every flow that sends to one port of a switch."""
    return {_place(flow) for flow in flows if flow.table == FORWARD} - {_NOWHERE}


def _place(flow: Flow) -> tuple[int, int]:
    """Switch and port that a flow of `forward` is for; `_NOWHERE` for one that floods or that is not of our making."""
    match flow.match:
        case ((METADATA.name, mark, None), (HINT.name, hint, None)) if 0 < HINT["port"].read(hint) <= LARGEST_PORT:
            return mark, hint
    return _NOWHERE


def _entries_behind(place: tuple[int, int]) -> Flush:
    mark, hint = place
    return Flush(LEARNED, cookie(LEARNED_KIND, METADATA["owner"].read(mark), HINT["port"].read(hint)), _EXACTLY)


def _round(number: int) -> Flush:
    field = COOKIE["round"]
    return Flush(None, OURS | field.place(number), OURS_MASK | field.mask)


def _is_true(entry: Flow, members: set[tuple[int, int]]) -> bool:
    """Whether a learned entry points at a port of the switch that learned it."""
    marks = [value for field, value, mask in entry.match if field == METADATA.name and mask is None]
    hints = [action.value for action in entry.actions if isinstance(action, Load) and action.field == HINT.name]
    return entry.table == LEARNED and len(marks) == 1 and len(hints) == 1 and (marks[0], hints[0]) in members
