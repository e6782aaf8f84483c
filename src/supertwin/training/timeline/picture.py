"""A pipeline as lines of letters: what each stage does in every stretch of the step."""

from __future__ import annotations

from supertwin.training.timeline.events import COMPUTE
from supertwin.training.timeline.result import Timeline

IDLE = "."
MIXED = "X"  # a forward and a backward as one unit
OPTIMIZER = "O"
_LETTERS = {"F": "F", "B": "B", "I": "B", "W": "W", "F&B": MIXED, "optimizer": OPTIMIZER}


def picture(timeline: Timeline, width: int, span_s: tuple[float, float] | None = None) -> list[str]:
    """One line of `width` letters per stage of the pipeline that decides the step: F forward, B backward, W weight
    gradient, X forward and backward in one, O optimizer, '.' idle; each letter is what the stage does for most of its
    stretch of span_s (all of the step when not given)."""
    begin, end = span_s or (0.0, timeline.step_time_s)
    stages = len(timeline.work.schedule.orders)
    cell = (end - begin) / width
    spent: list[list[dict[str, float]]] = [[{} for _ in range(width)] for _ in range(stages)]
    events = timeline.pipelines[timeline.reference[0]].played.log.events
    for event in (*events, *timeline.closing):
        if event.stream != COMPUTE or event.end_s <= begin or event.start_s >= end:
            continue
        letter, row = _LETTERS[event.label], spent[event.device]
        for place in range(
            max(int((event.start_s - begin) / cell), 0), min(int((event.end_s - begin) / cell) + 1, width)
        ):
            low = begin + place * cell
            inside = min(event.end_s, low + cell) - max(event.start_s, low)
            if inside > 0.0:
                row[place][letter] = row[place].get(letter, 0.0) + inside
    return ["".join(_most(cell_spent, cell) for cell_spent in row) for row in spent]


def _most(spent: dict[str, float], cell_s: float) -> str:
    idle = cell_s - sum(spent.values())
    return max({**spent, IDLE: idle}.items(), key=lambda item: item[1])[0]
