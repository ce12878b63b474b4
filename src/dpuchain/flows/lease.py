"""Flows that end by themselves unless they are renewed. Pure.

For those who would rather have nothing forwarded than what was wanted before an agent died, or before it heard no more of what is wanted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import msgspec

from dpuchain.flows.compile import CLASSIFY
from dpuchain.flows.model import Action, Flow, FlowChanges, FlowState, Learn
from dpuchain.flows.pipeline import LEARNED_SECONDS

MARGIN_SECONDS = 10
"""How much later the other flows end than those that bring frames in."""
LONGEST_SECONDS = 0xFFFF - MARGIN_SECONDS
"""OpenFlow has 16 bits for a timeout (A.3.4.1)."""


def leased(state: FlowState, seconds: int | None) -> FlowState:
    """`state` with flows that end so many seconds after they were last written or renewed; None: with flows that stay.

    Open vSwitch lets flows go one by one, as it comes to look at them. So those of the first table that bring frames in end first, and all
    others, among them those that keep ports and VLANs apart, only when nothing can come to them any more.
    """
    if seconds is None and not any(flow.hard_timeout for flow in state.flows):
        return state
    return FlowState(frozenset(_leased(flow, seconds) for flow in state.flows), state.learned)


def _leased(flow: Flow, seconds: int | None) -> Flow:
    if seconds is None:
        return msgspec.structs.replace(flow, hard_timeout=0, actions=_learning(flow.actions, LEARNED_SECONDS))
    first = min(seconds, LONGEST_SECONDS)
    last = first + MARGIN_SECONDS
    brings_in = flow.table == CLASSIFY and flow.actions
    actions = _learning(flow.actions, min(last, LEARNED_SECONDS))
    return msgspec.structs.replace(flow, hard_timeout=first if brings_in else last, actions=actions)


def _learning(actions: Iterable[Action], seconds: int) -> tuple[Action, ...]:
    return tuple(
        msgspec.structs.replace(action, hard_timeout=seconds) if isinstance(action, Learn) and action.hard_timeout != seconds else action
        for action in actions
    )


def renewed(changes: FlowChanges, desired: FlowState) -> FlowChanges:
    """`changes`, which lead to `desired`, with each other flow renewed: all end counted from one moment, or the order would not hold."""
    written = {flow.key for flow in (*changes.add, *changes.modify)}
    rest = (flow for flow in desired.flows if flow.key not in written)
    return replace(changes, renew=tuple(sorted(rest, key=lambda flow: flow.key.order())))
