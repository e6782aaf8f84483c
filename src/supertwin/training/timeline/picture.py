"""A pipeline as lines of letters: what each stage does in every stretch of the step."""

from __future__ import annotations

from supertwin.training.timeline.events import COMPUTE
from supertwin.training.timeline.result import Timeline

IDLE = "."
CUT = "~"
_LETTERS_PER_ACTION = 1.5
_ACTIONS_PER_STAGE = 3.0  # at least shown at either end: filling and draining take about two
MIXED = "X"  # a forward and a backward as one unit
OPTIMIZER = "O"
_LETTERS = {"F": "F", "B": "B", "I": "B", "W": "W", "F&B": MIXED, "optimizer": OPTIMIZER}


def picture(timeline: Timeline, width: int) -> list[str]:
    """One line of `width` letters per stage of the pipeline that decides the step: F forward, B backward, W weight
    gradient, X forward and backward in one, O optimizer, '.' idle; each letter is what the stage does for most of its
    stretch. A step with too many actions for the width is shown from both ends, with '~' between."""
    total = timeline.step_time_s
    lengths = sorted(d.total_s for d in timeline.pipelines[timeline.reference[0]].played.durations.all().values())
    half = (width - 1) // 2
    letters = min(_LETTERS_PER_ACTION, half / (_ACTIONS_PER_STAGE * len(timeline.work.schedule.orders)))
    cell = lengths[len(lengths) // 2] / letters
    if cell * width >= total:
        return _span(timeline, width, (0.0, total))
    start, end = _span(timeline, half, (0.0, half * cell)), _span(timeline, half, (total - half * cell, total))
    return [f"{left}{CUT}{right}" for left, right in zip(start, end, strict=True)]


def _span(timeline: Timeline, width: int, span_s: tuple[float, float]) -> list[str]:
    begin, end = span_s
    stages = len(timeline.work.schedule.orders)
    cell = (end - begin) / width
    spent: list[list[dict[str, float]]] = [[{} for _ in range(width)] for _ in range(stages)]
    events = timeline.pipelines[timeline.reference[0]].played.log.events
    for event in (*events, *timeline.closing):
        if event.stream != COMPUTE or event.end_s <= begin or event.start_s >= end:
            continue
        letter, row = _LETTERS.get(event.label, "F"), spent[event.device]
        first, last = max(int((event.start_s - begin) / cell), 0), int((event.end_s - begin) / cell) + 1
        for place in range(first, min(last, width)):
            low = begin + place * cell
            inside = min(event.end_s, low + cell) - max(event.start_s, low)
            if inside > 0.0:
                row[place][letter] = row[place].get(letter, 0.0) + inside
    return ["".join(_most(cell_spent, cell) for cell_spent in row) for row in spent]


def _most(spent: dict[str, float], cell_s: float) -> str:
    idle = cell_s - sum(spent.values())
    return max({**spent, IDLE: idle}.items(), key=lambda item: item[1])[0]
