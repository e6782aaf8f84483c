"""Stretches of every stream as they are drawn: actions with their parts inside, collectives beside the compute."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from supertwin.training.passes import COLUMNS
from supertwin.training.timeline.durations import Duration
from supertwin.training.timeline.events import COMPUTE, STREAMS, Event
from supertwin.training.timeline.result import Timeline

AXES = tuple(name.partition("/")[2] for name in COLUMNS if name.startswith("communication/") and "dp" not in name)
DRAWN = (*STREAMS[:1], *(f"{axis} communication" for axis in AXES), *STREAMS[1:])
"""Streams in the order in which they are drawn."""


class Slice(NamedTuple):
    """One stretch of one stream. inside: part of the stretch before it rather than one of its own."""

    stream: str
    name: str
    start_s: float
    end_s: float
    stage: int = -1
    microbatch: int = -1
    inside: bool = False


def device_slices(timeline: Timeline, pipeline: int, device: int) -> Iterator[Slice]:
    """All stretches of one device, stream by stream mixed, in the order of their start on each stream."""
    played = timeline.pipelines[pipeline].played
    queue = iter(played.units[device])
    last, unit = next(queue, (-1, ()))
    for number, event in enumerate(played.log.events):
        if event.device != device:
            continue
        if event.stream != COMPUTE:
            yield Slice(STREAMS[event.stream], event.label, event.start_s, event.end_s, event.stage, event.microbatch)
            continue
        yield from _action(event, played.durations.of(device, unit))
        if number == last:
            last, unit = next(queue, (-1, ()))
    if pipeline == timeline.reference[0]:
        for event in timeline.closing:
            if event.device == device:
                yield Slice(STREAMS[event.stream], event.label, event.start_s, event.end_s)


def _action(event: Event, duration: Duration) -> Iterator[Slice]:
    """A stretch of compute with its parts in proportion, and the collectives inside and beside it."""
    yield Slice(STREAMS[COMPUTE], event.label, event.start_s, event.end_s, event.stage, event.microbatch)
    length = event.end_s - event.start_s
    scale = min(length / duration.total_s, 1.0) if duration.total_s > 0.0 else 0.0
    at, compute_s = event.start_s, 0.0
    for name, seconds in zip(COLUMNS, duration.parts.tolist(), strict=True):
        if seconds <= 0.0:
            continue
        end = min(at + scale * seconds, event.end_s)
        yield Slice(STREAMS[COMPUTE], name, at, end, event.stage, event.microbatch, True)
        if name.startswith("compute/"):
            compute_s += end - at
        at = end
    yield from _beside(event, duration, scale, compute_s)


def _beside(event: Event, duration: Duration, scale: float, compute_s: float) -> Iterator[Slice]:
    """Collectives of the layers: what compute hides at the start of the action, what stays visible at its end."""
    for axis in AXES:
        exposed = scale * float(duration.parts[COLUMNS.index(f"communication/{axis}")])
        hidden = min(scale * duration.hidden.get(axis, 0.0), compute_s)
        stream, place = f"{axis} communication", (event.stage, event.microbatch)
        if hidden > 0.0:
            yield Slice(stream, f"{axis} beside compute", event.start_s, event.start_s + hidden, *place)
        if exposed > 0.0:
            begin = max(event.end_s - exposed, event.start_s + hidden)
            yield Slice(stream, axis, begin, event.end_s, *place)


def busy_s(timeline: Timeline, pipeline: int) -> list[dict[str, float]]:
    """Seconds that each stream of each device works, by the names of DRAWN."""
    found = []
    for device in range(len(timeline.work.schedule.orders)):
        spent: dict[str, float] = {}
        for piece in device_slices(timeline, pipeline, device):
            if not piece.inside:
                spent[piece.stream] = spent.get(piece.stream, 0.0) + piece.end_s - piece.start_s
        found.append(spent)
    return found
