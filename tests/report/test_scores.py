"""Tables of `validate`: words stay whole, defects have one name."""

from __future__ import annotations

import io

from rich.console import Console

from supertwin.core.prediction import Part
from supertwin.report.scores import report_view, worst_table
from supertwin.validation.outcome import Report, Score

PARTS = (Part("attention projections", 0.6, 0.6, "compute"), Part("communication/dp", 0.3, 0.3, "network"))
LONG = "mlperf-v4-1-a-name-of-many-characters"


def text(*views: object) -> str:
    page = io.StringIO()
    Console(file=page, width=100, highlight=False, markup=False, emoji=False).print(*views, sep="\n")
    return page.getvalue()


def test_worst_rows_keep_words_whole_within_100_columns() -> None:
    scores = [Score(LONG, "training", metric, 12345.6, 2.5, 1.0, 5.0, parts=PARTS) for metric in METRICS]
    shown = text(worst_table(scores, 10))
    for word in ("attention projections 60 %", "communication/dp 30 %", *METRICS):
        assert word in shown
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= 100


METRICS = ("peak_memory_bytes", "collective_time_s")


def test_defects_are_called_internal() -> None:
    shown = text(*report_view(Report((), (), {"training": 3}), explain=False))
    assert "internal" in shown
    assert "broke" not in shown
