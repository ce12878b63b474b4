"""Probe frames of a live trace: where they are sent, what they look like, and the flows that catch them where they come back.

No probe frame leaves the DPU: one is sent only where the switch says that it goes into services and nowhere else, and it is caught at the
ports by which these may pass it on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from dpuchain.api.meta import ObjectKey
from dpuchain.api.names import PASSES_PROBES_ANNOTATION
from dpuchain.flows.compile import CLASSIFY
from dpuchain.flows.model import Flow, Output
from dpuchain.flows.packets import Packet
from dpuchain.flows.path import Arrival, Entry, Picture, Place, pod_at
from dpuchain.flows.pipeline import PIPELINE, PROBE_KIND, cookie
from dpuchain.flows.trace import Probe, Trace

PROBE_TYPE = 0x88B6
"""Ethertype of probe frames: the second one for local experiments (IEEE 802)."""
MARK = b"dpuchain probe"
CATCH_SECONDS = 5
"""After how long the switch itself removes what catches probe frames, whatever has become of the agent."""
CONTROLLER = 0xFFFFFFFD
"""The port of OpenFlow that stands for whoever programs the switch."""
_PRIORITY = PIPELINE.priority("classify", "probe")
_STATIONS = (0x02D9C0000001, 0x02D9C0000002)


def frame(nonce: bytes, number: int) -> Packet:
    """The probe frame of this number of a series with this nonce, of 8 bytes."""
    return Packet(_STATIONS[1], _STATIONS[0], PROBE_TYPE, MARK + nonce + number.to_bytes(4, "big"))


def number_in(content: bytes, nonce: bytes) -> int | None:
    """The number of a probe frame of the series, which a service may have tagged; None if it is none."""
    _, found, rest = content.partition(MARK + nonce)
    return int.from_bytes(rest[:4], "big") if found and len(rest) >= 4 else None


def begins(trace: Trace) -> tuple[ObjectKey, ...]:
    """The interfaces by which the ways of a trace enter switches, each once, in order."""
    hops = (hop for way in (trace.forward, *trace.back) for hop in way.walk())
    keys = (hop.interface.rpartition("/") for hop in hops if hop.kind == "switch")
    return tuple(dict.fromkeys(ObjectKey(namespace, name) for namespace, _, name in keys))


@dataclass(frozen=True)
class Course:
    """What a series of probe frames does: where it is to come from, and where it may come back. `probe` tells of it before it is sent."""

    entry: Entry
    catches: tuple[Place, ...]
    probe: Probe

    @property
    def flows(self) -> tuple[Flow, ...]:
        """What catches the frames, and takes nothing else."""
        return tuple(_catch(place) for place in self.catches)


def _catch(place: Place) -> Flow:
    number = place.port.port.ofport
    assert number is not None, "a port of a switch has one"
    match = (("eth_type", PROBE_TYPE, None), ("in_port", number, None))
    return Flow(CLASSIFY, _PRIORITY, match, (Output(CONTROLLER),), cookie(PROBE_KIND, 0, number), hard_timeout=CATCH_SECONDS)


def course(picture: Picture, entry: Entry, arrivals: Sequence[Arrival]) -> Course:
    """What to send at `entry`, given where the switch says that a probe frame would be after it; nothing, with the reason, if not safe."""
    services = [arrival for arrival in arrivals if arrival.hop.kind == "service"]
    ends = tuple(dict.fromkeys(again.place for arrival in services for again in arrival.entries))
    about = Probe(
        begins=picture.title(entry.place),
        through=", ".join(arrival.hop.name for arrival in services),
        ends=tuple(picture.title(place) for place in ends),
    )
    reason = _reason(picture, arrivals, ends)
    return Course(entry, () if reason else ends, msgspec.structs.replace(about, skipped=reason))


def _reason(picture: Picture, arrivals: Sequence[Arrival], ends: Iterable[Place]) -> str:
    """Why no probe frame may be sent; empty if one may."""
    kinds = {arrival.hop.kind for arrival in arrivals}
    leaving = ", ".join(arrival.hop.name for arrival in arrivals if arrival.hop.kind in ("end", "bridge"))
    if leaving:
        return (
            f"a frame would leave the DPU by {leaving}, which no probe frame may; go by the switch's own answer and `describe`'s counters"
        )
    if kinds != {"service"} or not all(arrival.entries for arrival in arrivals):
        return "no probe frame would come back from here"
    pods = [pod_at(picture, place) for place in ends]
    if any(pod is None or pod.metadata.annotations.get(PASSES_PROBES_ANNOTATION) != "true" for pod in pods):
        return f'the service does not say that it passes them on: its pods have no annotation {PASSES_PROBES_ANNOTATION}: "true"'
    return ""


def measured(course: Course, sent: int, milliseconds: Sequence[float]) -> Probe:
    """What became of a series of which frames came back after such times."""
    if not milliseconds:
        return msgspec.structs.replace(course.probe, sent=sent)
    mean = round(sum(milliseconds) / len(milliseconds), 3)
    least, most = round(min(milliseconds), 3), round(max(milliseconds), 3)
    return msgspec.structs.replace(course.probe, sent=sent, received=len(milliseconds), least=least, mean=mean, most=most)


def with_probes(trace: Trace, probes: Sequence[Probe]) -> Trace:
    """The trace with what probe frames have shown: where none of them came back, nothing is delivered."""
    dead = next((probe for probe in probes if probe.sent and not probe.received), None)
    found = msgspec.structs.replace(trace, probes=tuple(probes))
    if dead is None or trace.verdict != "delivered":
        return found
    sentence = f"dropped: {trace.begins} → lost in {dead.through}"
    cause = f"none of {dead.sent} probe frames that came in by {dead.begins} was passed on to {' or '.join(dead.ends)}"
    return msgspec.structs.replace(found, verdict="dropped", sentence=sentence, cause=cause)
