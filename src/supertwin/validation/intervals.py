"""Intervals of the training step from the rows of a table, and whether they hold on rows that they have not seen."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path

from supertwin.core.errors import SupertwinError
from supertwin.training.uncertainty import FILE, MEMORY, TIME, Scored, interval, measure, regimes_of, render, step_sigma
from supertwin.validation import tables
from supertwin.validation.outcome import Compared
from supertwin.validation.predictors.training import case_of, compare
from supertwin.validation.tables import Row

FOLDS = 10


@dataclass(frozen=True, slots=True)
class Coverage:
    """Share of n figures that lie within the interval made from the other folds or sources."""

    n: int
    share: float


def training_scores(rows: Sequence[Row] | None = None) -> list[Scored]:
    """Errors of every row that can be predicted (default: the shipped table), in composed deviations."""
    from supertwin.training.assumptions import MEMORY_SIGMA

    given = tables.load("training", None).rows if rows is None else rows
    found = []
    for row, outcome in zip(given, compare(given), strict=True):
        if not isinstance(outcome, Compared):
            continue
        try:
            case = case_of(row)[0]
        except SupertwinError:
            continue
        for figure in outcome.figures:
            metric = MEMORY if figure.metric == "peak_memory_bytes" else TIME
            sigma = MEMORY_SIGMA.value if metric == MEMORY else step_sigma(outcome.parts)
            ratio = figure.measured / figure.predicted
            error = -log(ratio) if figure.metric == "tokens_per_s_per_device" else log(ratio)
            found.append(
                Scored(regimes_of(case, metric), error / sigma, sigma, row.text("source_group"), figure.metric)
            )
    return found


def write(path: str | Path | None = None) -> Path:
    """Make data/training-intervals.json anew from the shipped table (or at `path`), and return where it is."""
    target = Path(path) if path else Path(__file__).parents[1] / "data" / FILE
    target.write_text(render(training_scores()), encoding="utf-8")
    return target


def cross_validated(scores: Sequence[Scored], folds: int = FOLDS, seed: int = 1) -> dict[str, Coverage]:
    """Coverage by source and metric ("vtrain/tokens_per_s_per_device"), by metric, and over all (""), where each row is
    judged by intervals from the other folds."""
    order = list(range(len(scores)))
    random.Random(seed).shuffle(order)
    fold = {index: place % folds for place, index in enumerate(order)}
    return _held_out(scores, lambda index: fold[index])


def by_new_source(scores: Sequence[Scored]) -> dict[str, Coverage]:
    """As cross_validated, where each source is judged by intervals from all others."""
    return _held_out(scores, lambda index: scores[index].source)


def _held_out(scores: Sequence[Scored], part: Callable[[int], Hashable]) -> dict[str, Coverage]:
    inside: dict[str, list[bool]] = {}
    parts: dict[Hashable, list[int]] = {}
    for index in range(len(scores)):
        parts.setdefault(part(index), []).append(index)
    for name, members in parts.items():
        known = measure(scored for index, scored in enumerate(scores) if part(index) != name)
        for index in members:
            scored = scores[index]
            low, high = (log(factor) for factor in interval(scored.regimes, scored.sigma, known))
            within = low <= scored.score * scored.sigma <= high
            for key in ("", scored.metric, f"{scored.source}/{scored.metric}"):
                inside.setdefault(key, []).append(within)
    return {key: Coverage(len(hits), sum(hits) / len(hits)) for key, hits in sorted(inside.items())}


def coverage_table(scores: Sequence[Scored], least: int = 30) -> str:
    """The table of docs/training-bill.md: coverage by source and metric of at least `least` figures, and over all."""
    names = {"": "all", "tokens_per_s_per_device": "tokens/s", "peak_memory_bytes": "peak memory"}
    folds, sources = cross_validated(scores), by_new_source(scores)
    shown = sorted((name for name in folds if folds[name].n >= least), key=lambda name: ("/" in name, -folds[name].n))
    rows = [
        f"| {names.get(name, name.replace('/tokens_per_s_per_device', '').replace('/peak_memory_bytes', ', memory'))} "
        f"| {folds[name].n:,} | {100 * folds[name].share:.0f} % | {100 * sources[name].share:.0f} % |"
        for name in shown
    ]
    return "\n".join(("| rows | n | ten folds | source left out |", "|---|---|---|---|", *rows))
