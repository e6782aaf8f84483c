"""A timeline as a Perfetto trace: one process per role, one thread per stream."""

from __future__ import annotations

from collections.abc import Iterator

from supertwin.core.trace import Event, Stretch, named, slice_event, write_events
from supertwin.training.timeline.result import Timeline
from supertwin.training.timeline.slices import DRAWN, device_slices

_THREADS = {stream: number for number, stream in enumerate(DRAWN)}


def trace_events(timeline: Timeline) -> Iterator[Event]:
    """Metadata (ph M) and slices (ph X) of every role; on each thread in the order of their start, outer ones first."""
    stages = len(timeline.work.schedule.orders)
    for number, pipeline in enumerate(timeline.pipelines):
        for stage in range(stages):
            pid = number * stages + stage
            slices = sorted(
                device_slices(timeline, number, stage),
                key=lambda s: (_THREADS[s.stream], s.start_s, s.inside, -s.end_s),
            )
            yield named("process_name", pid, 0, f"{pipeline.name} stage {stage}")
            yield named("process_sort_index", pid, 0, pid)
            for stream in dict.fromkeys(s.stream for s in slices):
                yield named("thread_name", pid, _THREADS[stream], stream)
                yield named("thread_sort_index", pid, _THREADS[stream], _THREADS[stream])
            for piece in slices:
                category = "part" if piece.inside else piece.stream
                about = {"stage": piece.stage, "microbatch": piece.microbatch} if piece.stage >= 0 else {}
                stretch = Stretch(piece.name, category, piece.start_s, piece.end_s)
                yield slice_event(stretch, pid, _THREADS[piece.stream], about)


def write_trace(timeline: Timeline, path: str) -> int:
    """Write the trace, compressed when the name ends with .gz. Returns the number of events.

    Raises InputError when the file cannot be written.
    """
    head = {"step_time_s": timeline.step_time_s, "closed_form_s": timeline.closed.total_s, "because": timeline.because}
    return write_events(path, head, trace_events(timeline))
