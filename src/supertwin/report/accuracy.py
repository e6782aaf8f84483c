"""The accuracy page: docs/accuracy.md and its picture, written from one validation run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from supertwin.core.errors import InputError, MissingExtra
from supertwin.report.scores import GROUPS, SUMMARY_HEADER, coverage, largest_parts, summary_rows
from supertwin.report.text import number, percent
from supertwin.validation.outcome import Report, Score
from supertwin.validation.statistics import Summary, by_key, by_metric, grouped, worst

_WORST = 20
_INTRODUCTION = """# Accuracy

Predicted against published measurements, row by row, over the tables in `src/supertwin/data/measurements`. Written
by `supertwin validate --write docs`. Operator and link tables (kernels, collectives) also serve calibration; the
end-to-end tables (training, inference) are for checking only: nothing is fitted to them.

`median`, `p90`: of |predicted / measured - 1|. `bias`: median of predicted / measured - 1. `covered`: share of rows
inside the predicted 90 % interval. `rank`: mean Spearman correlation over groups that share chip, model and devices.
Errors and shares are in per cent.
"""


def write_accuracy(report: Report, folder: Path) -> list[Path]:
    """Write accuracy.md and accuracy.png. Raises InputError (not writable), MissingExtra (matplotlib)."""
    page, picture = folder / "accuracy.md", folder / "accuracy.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        page.write_text(accuracy_page(report), encoding="utf-8")
        draw(report, picture)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}") from None
    return [page, picture]


def accuracy_page(report: Report) -> str:
    """The page as Markdown."""
    scored, floors = report.of_kind(floor=False), report.of_kind(floor=True)
    parts = [_INTRODUCTION, "![predicted against measured](accuracy.png)\n", "## Rows\n", _coverage(report)]
    parts += ["## By metric\n", _table(summary_rows(by_metric(scored)), SUMMARY_HEADER)]
    if floors:
        parts.append("Lower bounds of CI jobs (kind `ci-floor`), not counted above:\n")
        parts.append(_table(summary_rows(by_metric(floors)), SUMMARY_HEADER))
    for name, key in GROUPS.items():
        parts += [f"## By {name.replace('_', ' ')}\n", _grouped(scored, key)]
    parts += ["## Worst rows\n", _worst(scored), "## Not predicted\n", _skipped(report)]
    return "\n".join(parts)


def draw(report: Report, path: Path) -> None:
    """Predicted over measured by metric, log-log, one panel each, coloured by chip. Raises MissingExtra."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise MissingExtra("matplotlib", "plot") from None
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    panels = grouped(report.of_kind(floor=False), lambda score: score.metric)
    columns = 3
    lines = max(1, -(-len(panels) // columns))
    from cycler import cycler

    colours = cycler(color=plt.get_cmap("tab20")(range(20)))
    with mpl.rc_context({"font.size": 8, "axes.prop_cycle": colours}):
        figure, axes = plt.subplots(lines, columns, figsize=(12, 3.8 * lines), squeeze=False)
        for axis in axes.flat[len(panels) :]:
            axis.set_axis_off()
        for axis, (metric, scores) in zip(axes.flat, panels.items(), strict=False):
            _panel(axis, metric, scores)
        figure.tight_layout()
        figure.savefig(path, dpi=100, metadata={"Software": None})
        plt.close(figure)


def _panel(axis: Any, metric: str, scores: Sequence[Score]) -> None:
    for chip, group in grouped(scores, lambda score: score.chip).items():
        x, y = [score.measured for score in group], [score.predicted for score in group]
        axis.plot(x, y, ".", markersize=3, alpha=0.6, label=f"{chip} ({len(group)})")
    low = min(min(score.measured, score.predicted) for score in scores)
    high = max(max(score.measured, score.predicted) for score in scores)
    for factor, style in ((1.0, "-"), (0.75, ":"), (1.25, ":")):
        axis.plot([low, high], [low * factor, high * factor], style, color="black", linewidth=0.6)
    summary = by_metric(scores)[metric]
    axis.set(xscale="log", yscale="log", xlabel="measured", ylabel="predicted")
    axis.set_title(f"{metric}\nn {summary.n}, median {percent(summary.median_ape)}, p90 {percent(summary.p90_ape)}")
    axis.legend(fontsize=4, ncols=2, loc="lower right", framealpha=0.5)


def _coverage(report: Report) -> str:
    rows = [
        (table, str(c["rows"]), str(c["predicted"]), percent(c["share"]), str(c["internal"]))
        for table, c in coverage(report).items()
    ]
    return _table(rows, ("table", "rows", "predicted", "share", "internal"))


def _grouped(scores: Sequence[Score], key: Callable[[Score], str]) -> str:
    rows: list[tuple[str, ...]] = []
    for name, summaries in by_key(scores, key).items():
        rows += [(name, *cells) for cells in summary_rows(_named(summaries))]
    return _table(rows, ("", "metric", *SUMMARY_HEADER[1:]))


def _named(summaries: Mapping[str, Summary]) -> dict[str, Summary]:
    return {f"`{metric}`": summary for metric, summary in summaries.items()}


def _worst(scores: Sequence[Score]) -> str:
    rows = []
    for score in worst(scores, _WORST):
        figures = (number(score.measured), number(score.predicted), f"{score.ratio:.2f}")
        rows.append((f"`{score.id}`", score.chip, score.model, f"`{score.metric}`", *figures, largest_parts(score, 4)))
    return _table(rows, ("row", "chip", "model", "metric", "measured", "predicted", "ratio", "breakdown"), left=4)


def _skipped(report: Report) -> str:
    rows = []
    for (table, reason), group in sorted(_reasons(report).items(), key=lambda item: -item[1]):
        rows.append((table, reason.replace("|", "\\|"), str(group)))
    return _table(rows, ("table", "reason", "rows"), left=2) if rows else "Nothing was skipped.\n"


def _reasons(report: Report) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for skip in report.skipped:
        key = (skip.table, skip.reason)
        counts[key] = counts.get(key, 0) + 1
    return counts


def _table(rows: Sequence[Sequence[str]], header: Sequence[str], left: int = 1) -> str:
    rules = ["---" if index < left else "---:" for index in range(len(header))]
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, rules, *rows)]
    return "\n".join(lines) + "\n"
