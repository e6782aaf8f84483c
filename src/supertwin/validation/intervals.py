"""Intervals of both step models from the rows of their tables, and whether they hold on rows not seen."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path

from supertwin.core.errors import SupertwinError
from supertwin.core.regimes import Scored, interval, measure, render
from supertwin.inference.regimes import FILE as INFERENCE_FILE
from supertwin.training.uncertainty import FILE as TRAINING_FILE
from supertwin.training.uncertainty import MEMORY, TIME, regimes_of, step_sigma
from supertwin.validation import tables
from supertwin.validation.outcome import Compared
from supertwin.validation.predictors.training import case_of, compare
from supertwin.validation.tables import Row

FOLDS = 10
_METRICS = {
    "tokens_per_s_per_device": "tokens/s",
    "peak_memory_bytes": "peak memory",
    "output_tokens_per_s_per_device": "output tokens/s",
    "input_tokens_per_s_per_device": "input tokens/s",
    "tpot_s": "TPOT",
    "ttft_s": "TTFT",
    "step_time_s": "step time",
}


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


def inference_scores(rows: Sequence[Row] | None = None) -> list[Scored]:
    """Errors of every figure that can be predicted (default: the shipped table), in composed deviations."""
    from supertwin.inference.rows import scores

    return scores(tables.load("inference", None).rows if rows is None else rows)


def write(folder: str | Path | None = None, scores: Mapping[str, Sequence[Scored]] | None = None) -> list[Path]:
    """Make data/training-intervals.json and data/intervals.json anew from the shipped tables (or in `folder`), and
    return where they are. To be run whenever predictions moved. scores: those of "training" and "inference" where they
    are at hand."""
    place = Path(folder) if folder else Path(__file__).parents[1] / "data"
    made = scores or {"training": training_scores(), "inference": inference_scores()}
    files = {TRAINING_FILE: made["training"], INFERENCE_FILE: made["inference"]}
    for name, found in files.items():
        (place / name).write_text(render(found), encoding="utf-8")
    return [place / name for name in files]


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
    """The tables of docs/training-bill.md and docs/inference-accuracy.md: coverage by source and metric of at least
    `least` figures, and over all."""
    folds, sources = cross_validated(scores), by_new_source(scores)
    shown = sorted((name for name in folds if folds[name].n >= least), key=lambda name: ("/" in name, -folds[name].n))
    rows = [
        f"| {_in_words(name)} "
        f"| {folds[name].n:,} | {100 * folds[name].share:.0f} % | {100 * sources[name].share:.0f} % |"
        for name in shown
    ]
    return "\n".join(("| rows | n | ten folds | source left out |", "|---|---:|---:|---:|", *rows))


def _in_words(name: str) -> str:
    """A key of coverage: all rows, a metric, or a source and a metric other than its training rate."""
    source, _, metric = name.rpartition("/")
    word = _METRICS.get(metric, metric)
    if not source:
        return word or "all"
    return source if metric == "tokens_per_s_per_device" else f"{source}, {word.removeprefix('peak ')}"
