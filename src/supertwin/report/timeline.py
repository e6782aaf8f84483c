"""A timeline as terminal text: both step times, why they differ, and the pipeline stage by stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from supertwin.report.tables import heading, pairs
from supertwin.report.text import number, percent, seconds
from supertwin.training.timeline.picture import CUT, IDLE, picture

if TYPE_CHECKING:
    from rich.console import RenderableType

    from supertwin.training.timeline import Timeline

_WIDTH = 85
_MOST_STAGES = 32
_COLOURS = {"F": "green", "B": "blue", "W": "cyan", "X": "magenta", "O": "yellow", IDLE: "red", CUT: "dim"}
_LEGEND = {
    "F": "forward",
    "B": "backward",
    "W": "weight gradient",
    "X": "both in one",
    "O": "optimizer",
    IDLE: "idle",
    CUT: "left out",
}


def timeline_view(timeline: Timeline, path: str | None, slices: int) -> list[RenderableType]:
    """Step times, the difference with its reason, stragglers, the trace, and one row of letters per pipeline stage."""
    rows = [
        ("step time", f"{seconds(timeline.step_time_s)}, {number(timeline.events)} events"),
        ("closed form", f"{seconds(timeline.closed.total_s)}, {_signed(timeline.difference)} to it"),
        ("because", timeline.because),
    ]
    if timeline.straggler_loss:
        rows.append(("lost to stragglers", percent(timeline.straggler_loss)))
    if path:
        rows.append(("trace", f"{path}, {number(slices)} events; open it at ui.perfetto.dev"))
    return [Text(), heading("Timeline"), pairs(rows), Text(), *_pipeline(timeline)]


def _signed(share: float) -> str:
    return f"{100.0 * share:+.1f} %"


def _pipeline(timeline: Timeline) -> list[RenderableType]:
    lines = picture(timeline, _WIDTH)
    shown = lines[:_MOST_STAGES]
    used = set("".join(lines))
    title = heading("Pipeline", ", ".join(f"{letter} {word}" for letter, word in _LEGEND.items() if letter in used))
    rows: list[RenderableType] = [_row(stage, line) for stage, line in enumerate(shown)]
    rest = len(lines) - len(shown)
    return [title, *rows, *([Text(f"  and {rest} more stages", style="dim")] if rest else [])]


def _row(stage: int, line: str) -> Text:
    row = Text(f"  stage {stage:<3d} ", style="dim")
    for letter in line:
        row.append(letter, style=_COLOURS[letter])
    return row
