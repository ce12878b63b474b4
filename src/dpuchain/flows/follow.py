"""The whole way of a frame on a DPU, forward and back, and the verdict on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from dpuchain.api.interface import ServiceInterface
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.flows.packets import Description
from dpuchain.flows.path import Entry, Picture, called, judge, lost_before
from dpuchain.flows.trace import Answer, Hop, Trace

Ask = Callable[[Entry], Awaitable[Answer]]
"""Asks the switch where a frame would leave."""


async def trace(picture: Picture, interface: ServiceInterface, description: Description, chain: str, ask: Ask) -> Trace:
    """What becomes of a frame that comes in by `interface`, and of its answer from each end that it reaches.

    `chain`, if not empty, is the one that the interface is meant to be a port of. Raises what `ask` raises.
    """
    begins = called(interface)
    forward = lost_before(picture, interface, chain)
    if forward is None:
        forward = await _follow(picture, Entry.by(picture.by_interface[key_of(interface)], description.packet), ask, ())
    back = []
    for end in _ends(forward):
        place = picture.by_interface.get(_key(end.interface)) if end.interface else None
        if place is not None:
            back.append(await _follow(picture, Entry.by(place, description.answer.packet), ask, ()))
    return _verdict(
        Trace(
            node=picture.world.node,
            begins=begins,
            frame=str(description),
            verdict="unknown",
            sentence="",
            forward=forward,
            back=tuple(back),
        ),
        str(key_of(interface)),
    )


async def _follow(picture: Picture, entry: Entry, ask: Ask, before: tuple[ObjectKey, ...]) -> Hop:
    """The hop that an entry makes and all after it; `before` are the interfaces by which the frame came in earlier on its way."""
    hop, arrivals = judge(picture, entry, await ask(entry))
    passed = (*before, entry.place.port.interface)
    onward = []
    for arrival in arrivals:
        after = arrival.hop
        if arrival.entries:
            further = [await _again(picture, again, ask, passed) for again in arrival.entries]
            after = msgspec.structs.replace(after, onward=tuple(further))
        onward.append(after)
    return msgspec.structs.replace(hop, onward=tuple(onward))


async def _again(picture: Picture, entry: Entry, ask: Ask, passed: tuple[ObjectKey, ...]) -> Hop:
    if entry.place.port.interface in passed:
        return Hop(kind="lost", name=str(entry.place), problems=("the frame would go round: it has come in by this port before",))
    return await _follow(picture, entry, ask, passed)


def _ends(hop: Hop) -> list[Hop]:
    return [found for found in hop.walk() if found.kind == "end"]


def _key(text: str) -> ObjectKey:
    namespace, _, name = text.rpartition("/")
    return ObjectKey(namespace, name)


def _verdict(found: Trace, origin: str) -> Trace:
    """The trace with its verdict: delivered if it reaches an end, from one of which an answer reaches the beginning."""
    ends = _ends(found.forward)
    if not ends:
        return _failed(found, (found.forward,), "")
    reached = f"{found.begins} → {' and '.join(end.name for end in ends)}{' (flooded)' if len(ends) > 1 else ''}"
    if not found.back:
        sentence = f"delivered: {reached}; what comes back does not come through a chain"
        return msgspec.structs.replace(found, verdict="delivered", sentence=sentence)
    if any(end.interface == origin for way in found.back for end in _ends(way)):
        odd = [hop.differs for way in (found.forward, *found.back) for hop in way.walk() if hop.differs]
        cause = f"not as compiled: {odd[0]}" if odd else ""
        return msgspec.structs.replace(found, verdict="delivered", sentence=f"delivered: {reached}, and back", cause=cause)
    return _failed(found, found.back, f"{reached}, but ")


def _failed(found: Trace, ways: tuple[Hop, ...], before: str) -> Trace:
    """The trace of a frame that reaches nothing on any of `ways`; the first place where it ends says why."""
    last = next(hop for way in ways for hop in way.walk() if hop.kind in ("lost", "unsure", "end"))
    cause = "\n".join(last.problems)
    whose = "the answer" if before else found.begins
    if last.kind == "unsure":
        sentence = f"unknown: {before}{whose} may end at {last.name}"
        return msgspec.structs.replace(found, verdict="unknown", sentence=sentence, cause=cause)
    if last.kind == "end":
        cause = f"it leaves by {last.name} instead"
    sentence = f"dropped: {before}{whose} → lost at {last.name}"
    return msgspec.structs.replace(found, verdict="dropped", sentence=sentence, cause=cause)
