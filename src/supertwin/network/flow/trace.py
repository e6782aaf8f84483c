"""Timelines in the Chrome trace format, which Perfetto opens.

Format: "Trace Event Format" (Google, 2016): complete events (ph X) with microseconds, counters (ph C), names as
metadata (ph M). Process 1 holds one track per flow class (device class to device class), process 2 one counter per
link class with its load as a share of the capacity.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from supertwin.network.flow.run import FlowRun

FLOWS, LINKS = 1, 2
MOST_LINKS = 256  # link classes with the most bytes get a counter


def trace(run: FlowRun) -> dict[str, Any]:
    """A run as a dict for json.dump. Classes that never end get no event; the reasons are in `otherData`."""
    events: list[dict[str, Any]] = [_name(FLOWS, 0, "process_name", "flows"), _name(LINKS, 0, "process_name", "links")]
    tracks = {name: track for track, name in enumerate(dict.fromkeys(run.classes.names), start=1)}
    events += [_name(FLOWS, track, "thread_name", name) for name, track in tracks.items()]
    for index in np.flatnonzero(np.isfinite(run.finish_s)).tolist():
        events += _spans(run, index, tracks[run.classes.names[index]])
    events += _counters(run)
    reasons = [reason for _, reason in sorted(run.reasons.items())]
    return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": {"unfinished": reasons}}


def _name(process: int, track: int, kind: str, name: str) -> dict[str, Any]:
    return {"ph": "M", "pid": process, "tid": track, "name": kind, "args": {"name": name}}


def _spans(run: FlowRun, index: int, track: int) -> list[dict[str, Any]]:
    """Fixed cost, bytes on the links, latency of the path."""
    given = run.classes
    times = (run.ready_s[index], run.first_byte_s[index], run.drained_s[index], run.finish_s[index])
    args = {"flows": float(given.flows[index]), "bytes_each": float(given.bytes_each[index])}
    out = []
    for name, start, end in zip(("fixed", "bytes", "latency"), times[:-1], times[1:], strict=True):
        if end > start:
            out.append(
                {"ph": "X", "pid": FLOWS, "tid": track, "name": name, "cat": given.names[index].split(":")[0],
                 "ts": float(start) * 1e6, "dur": float(end - start) * 1e6, "args": args}
            )  # fmt: skip
    return out


def _counters(run: FlowRun) -> list[dict[str, Any]]:
    """Load of each link class whenever it changes; phases that have the same links share a counter."""
    if not run.load_bytes_per_s.size:
        return []
    capacity = run.classes.capacity_bytes_per_s
    columns: dict[str, list[int]] = {}
    for link in np.argsort(-run.link_bytes, kind="stable").tolist():
        if capacity[link] > 0 and run.link_bytes[link] > 0:
            columns.setdefault(run.classes.link_names[link], []).append(link)
    out: list[dict[str, Any]] = []
    for name, links in list(columns.items())[:MOST_LINKS]:
        share = np.append((run.load_bytes_per_s[:, links] / capacity[links]).sum(axis=1), 0.0)
        for i in np.flatnonzero(np.diff(share, prepend=-1.0)).tolist():
            when, args = float(run.times_s[i]) * 1e6, {"load": round(float(share[i]), 9)}
            out.append({"ph": "C", "pid": LINKS, "tid": 0, "name": name, "ts": when, "args": args})
    return out
