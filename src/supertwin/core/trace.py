"""Perfetto traces: Chrome's trace-event form, one process per device, one thread per stream.

Times are microseconds with nanosecond digits. Open a file at ui.perfetto.dev.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from supertwin.core.errors import InputError

_LEVEL = 4  # of 9: a tenth larger and three times faster than the default
Event = dict[str, Any]


class Stretch(NamedTuple):
    """One slice of a thread, seconds from the start of the trace."""

    name: str
    category: str
    start_s: float
    end_s: float


def named(kind: str, process: int, thread: int, value: str | int) -> Event:
    """Metadata (ph M). kind: process_name, thread_name, process_sort_index or thread_sort_index."""
    field = "sort_index" if kind.endswith("sort_index") else "name"
    return {"ph": "M", "name": kind, "pid": process, "tid": thread, "args": {field: value}}


def slice_event(stretch: Stretch, process: int, thread: int, about: Mapping[str, Any]) -> Event:
    """A complete event (ph X) that ends where the next one of its thread may begin."""
    start = round(stretch.start_s * 1e9)
    return {
        "ph": "X",
        "name": stretch.name,
        "cat": stretch.category,
        "pid": process,
        "tid": thread,
        "ts": start / 1e3,
        "dur": (round(stretch.end_s * 1e9) - start) / 1e3,
        "args": dict(about),
    }


def write_events(path: str, head: Mapping[str, Any], events: Iterable[Event]) -> int:
    """Write a trace, compressed when the name ends with .gz. Returns the number of events.

    Raises InputError when the file cannot be written.
    """
    target = Path(path)
    try:
        with (
            gzip.open(target, "wt", compresslevel=_LEVEL, encoding="utf-8")
            if target.suffix == ".gz"
            else target.open("w", encoding="utf-8") as file
        ):
            file.write('{"displayTimeUnit": "ms", "otherData": ' + json.dumps(head) + ', "traceEvents": [\n')
            encoded = [json.dumps(event) for event in events]
            file.write(",\n".join(encoded))
            file.write("\n]}\n")
    except OSError as error:
        raise InputError(f"cannot write the trace {path}: {error.strerror or error}") from None
    return len(encoded)
