"""One prefill or decode step as a Perfetto trace: the device's streams, micro-batches A and B."""

from __future__ import annotations

from collections.abc import Iterator

from supertwin.core.trace import Event, Stretch, named, slice_event, write_events
from supertwin.inference.anatomy import Anatomy
from supertwin.inference.lanes import DRAWN, step_slices

_THREADS = {stream: number for number, stream in enumerate(DRAWN)}


def trace_events(step: Anatomy) -> Iterator[Event]:
    """Metadata (ph M) and slices (ph X) of one device, in the order of their start on each thread."""
    found = sorted(step_slices(step), key=lambda item: (_THREADS[item[2].stream], item[2].start_s))
    case = step.case
    yield named("process_name", 0, 0, f"{case.model.name} on {case.system.name}, {case.phase}")
    for stream in dict.fromkeys(piece.stream for _, _, piece in found):
        yield named("thread_name", 0, _THREADS[stream], stream)
        yield named("thread_sort_index", 0, _THREADS[stream], _THREADS[stream])
    for block, number, piece in found:
        about = {"block": block, "number": number, "batch": piece.batch, "alone_us": round(piece.alone_s * 1e6, 3)}
        name = f"{piece.name} {piece.batch}".rstrip()
        stretch = Stretch(name, piece.stream, piece.start_s, piece.end_s)
        yield slice_event(stretch, 0, _THREADS[piece.stream], about)


def write_trace(step: Anatomy, path: str) -> int:
    """Write the trace, compressed when the name ends with .gz. Returns the number of events.

    Raises InputError when the file cannot be written.
    """
    return write_events(path, {"step_time_s": step.total_s, "phase": step.case.phase}, trace_events(step))
