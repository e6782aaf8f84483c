"""Validation results as text and as JSON fields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from supertwin.core.prediction import Part
from supertwin.report.tables import grid, heading
from supertwin.report.text import UNKNOWN, number, percent
from supertwin.validation.outcome import Report, Score
from supertwin.validation.statistics import Summary, by_key, by_metric, worst

if TYPE_CHECKING:
    from rich.console import RenderableType

GROUPS: dict[str, Callable[[Score], str]] = {
    "chip": lambda score: score.chip,
    "source_group": lambda score: score.source_group,
    "phase": lambda score: score.phase,
    "model": lambda score: score.model,
}
SUMMARY_HEADER = ("", "n", "median", "p90", "bias", "<10", "<25", "covered", "rank")
_SHORT = {
    "tokens_per_s_per_device": "tokens/s/device",
    "output_tokens_per_s_per_device": "output tokens/s",
    "input_tokens_per_s_per_device": "input tokens/s",
}
_WORST = 20
_ID_WIDTH = 20
_PART_WIDTH = 21
_REASONS = 12
_REASON_WIDTH = 80
_SMALL_GROUP = 3


def report_fields(report: Report) -> dict[str, Any]:
    """JSON fields of `validate`."""
    scored, floors = report.of_kind(floor=False), report.of_kind(floor=True)
    return {
        "rows": [score_fields(score) for score in report.scores],
        "skipped": [{"id": skip.id, "reason": skip.reason, "table": skip.table} for skip in report.skipped],
        "summary": _summaries(by_metric(scored)),
        "by": {name: {k: _summaries(v) for k, v in by_key(scored, key).items()} for name, key in GROUPS.items()},
        "ci_floor": _summaries(by_metric(floors)),
        "coverage": coverage(report),
        "elapsed_s": report.elapsed_s,
    }


def score_fields(score: Score) -> dict[str, Any]:
    """JSON fields of one row."""
    return {
        "id": score.id,
        "metric": score.metric,
        "measured": score.measured,
        "predicted": score.predicted,
        "ratio": score.ratio,
        "low": score.low,
        "high": score.high,
        "table": score.table,
        "kind": score.kind,
        "assumed": list(score.assumed),
    }


def coverage(report: Report) -> dict[str, dict[str, int | float]]:
    """Rows read, predicted and skipped by table; `internal` counts defects of the predictors."""
    shown: dict[str, dict[str, int | float]] = {}
    for table, read in report.counts.items():
        predicted = len({score.id for score in report.scores if score.table == table})
        internal = sum(skip.internal for skip in report.skipped if skip.table == table)
        share = predicted / read if read else 0.0
        shown[table] = {"rows": read, "predicted": predicted, "share": share, "internal": internal}
    return shown


def report_view(report: Report, explain: bool) -> list[RenderableType]:
    """Coverage, errors by metric, chip, source group, phase and model, worst rows, reasons for skipping."""
    scored, floors = report.of_kind(floor=False), report.of_kind(floor=True)
    view: list[RenderableType] = [heading("Rows", f"{report.elapsed_s:.1f} s"), _coverage(report), Text()]
    view += [
        heading(
            "Error by metric",
            "per cent: |predicted / measured - 1|, signed bias, rows within 10 and 25, in the interval",
        )
    ]
    view.append(grid(SUMMARY_HEADER, summary_rows(by_metric(scored))))
    if floors:
        held = sum(score.predicted >= score.measured for score in floors if not score.metric.endswith("_s"))
        rates = sum(not score.metric.endswith("_s") for score in floors)
        view.append(Text(f"  lower bounds of CI jobs, not counted above: {held} of {rates} rates are met", style="dim"))
    for name, key in GROUPS.items():
        if name != "model" or explain:
            view += [Text(), heading(f"Error by {name.replace('_', ' ')}"), _grouped(scored, key, explain)]
    view += [Text(), heading("Worst rows"), worst_table(scored, _WORST), Text()]
    view += _skipped(report, explain)
    if not explain:
        view.append(Text("  --explain adds models, small groups and every reason", style="dim"))
    return view


def summary_rows(summaries: Mapping[str, Summary]) -> list[tuple[str, ...]]:
    """Cells of SUMMARY_HEADER, errors and shares in per cent."""
    return [
        (
            name,
            str(s.n),
            f"{100.0 * s.median_ape:.1f}",
            f"{100.0 * s.p90_ape:.1f}",
            f"{100.0 * s.bias:+.1f}",
            f"{100.0 * s.within_10:.0f}",
            f"{100.0 * s.within_25:.0f}",
            f"{100.0 * s.interval_coverage:.0f}",
            UNKNOWN if s.rank_correlation is None else f"{s.rank_correlation:.2f}",
        )
        for name, s in summaries.items()
    ]


def worst_table(scores: Sequence[Score], most: int) -> RenderableType:
    """The rows furthest off with the two largest parts of their breakdown, one to a line."""
    rows = [
        (
            _cut(score.id, _ID_WIDTH),
            _SHORT.get(score.metric, score.metric),
            number(score.measured),
            number(score.predicted),
            f"{score.ratio:.2f}",
            "\n".join(f"{_cut(part.part, _PART_WIDTH)} {percent(part.share, 0)}" for part in _largest(score, 2)),
        )
        for score in worst(scores, most)
    ]
    return grid(("row", "metric", "measured", "predicted", "ratio", "breakdown"), rows, left=2, wrap=5)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def largest_parts(score: Score, most: int = 3) -> str:
    """The largest parts of a row's breakdown in words."""
    return ", ".join(f"{part.part} {percent(part.share, 0)} ({part.bound})" for part in _largest(score, most))


def _largest(score: Score, most: int) -> list[Part]:
    return sorted(score.parts, key=lambda part: -part.share)[:most]


def _coverage(report: Report) -> RenderableType:
    rows = [
        (table, str(c["rows"]), str(c["predicted"]), percent(c["share"]), str(c["internal"]))
        for table, c in coverage(report).items()
    ]
    return grid(("table", "rows", "predicted", "share", "internal"), rows)


def _grouped(scores: Sequence[Score], key: Callable[[Score], str], every: bool) -> RenderableType:
    rows = []
    for name, summaries in by_key(scores, key).items():
        large = {metric: s for metric, s in summaries.items() if every or s.n >= _SMALL_GROUP}
        rows += [(name[:24], _SHORT.get(cells[0], cells[0]), *cells[1:]) for cells in summary_rows(large)]
    return grid(("", "metric", *SUMMARY_HEADER[1:]), rows, left=2)


def _skipped(report: Report, every: bool) -> list[RenderableType]:
    if not report.skipped:
        return [Text("  nothing was skipped", style="dim")]
    reasons = Counter((skip.table, skip.reason[:_REASON_WIDTH]) for skip in report.skipped)
    shown = reasons.most_common(None if every else _REASONS)
    rows = [(table, str(count), reason) for (table, reason), count in shown]
    note = f"{len(report.skipped)} rows, {len(reasons)} reasons"
    return [heading("Not predicted", note), grid(("table", "rows", "reason"), rows, wrap=2)]


def _summaries(summaries: Mapping[str, Summary]) -> dict[str, dict[str, float | int | None]]:
    return {name: summary.as_dict() for name, summary in summaries.items()}
