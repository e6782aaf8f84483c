"""A validation run with stand-in predictors: nothing is lost, nothing crashes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from supertwin.core.errors import UnknownName
from supertwin.report.accuracy import accuracy_page
from supertwin.report.scores import coverage, report_fields
from supertwin.validation import run
from supertwin.validation.outcome import Compared, Figure, Report, Skip
from supertwin.validation.predictors import PREDICTORS
from supertwin.validation.predictors.common import attempt, figure, rate_factors
from supertwin.validation.tables import Row

FILE = """id,chip,n_devices,phase,model,source_group,kind,measured_tpot_ms
good,h100-sxm,8,decode,llama-3.1-8b,mine,measured,20
floor,h100-sxm,8,decode,llama-3.1-8b,mine,ci-floor,30
unknown,h100-sxm,8,decode,none,mine,measured,20
broken,h100-sxm,8,decode,llama-3.1-70b,mine,measured,20
badcell,h100-sxm,eight,decode,llama-3.1-8b,mine,measured,20
endless,h100-sxm,8,decode,llama-3.1-8b,mine,measured,0
"""


def stand_in(row: Row) -> Compared:
    if row.text("model") == "none":
        raise UnknownName("model", "none", ["llama-3.1-8b"])
    if row.text("model") == "llama-3.1-70b":
        raise ZeroDivisionError("a defect")
    measured = (row.number("measured_tpot_ms") or 0.0) / 1e3
    return Compared((Figure("tpot_s", measured, 0.022, 0.018, 0.026),))


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    path = tmp_path / "inference.csv"
    path.write_text(FILE, encoding="utf-8")
    compare: Callable[..., list[Compared | Skip]] = lambda rows: [attempt(row, stand_in) for row in rows]  # noqa: E731
    monkeypatch.setitem(PREDICTORS, "inference", compare)
    return run.validate({"inference": path})


def test_every_row_is_predicted_or_skipped_with_a_reason(report: Report) -> None:
    assert {score.id for score in report.scores} == {"good", "floor"}
    reasons = {skip.id: skip.reason for skip in report.skipped}
    assert reasons["unknown"] == "unknown model 'none'; expected one of llama-3.1-8b"
    assert reasons["broken"] == "internal: ZeroDivisionError: a defect"
    assert reasons["badcell"] == "n_devices: expected a whole number, got 'eight'"
    assert "not a positive number" in reasons["endless"]
    assert coverage(report)["inference"] == {"rows": 6, "predicted": 2, "share": 2 / 6, "internal": 2}


def test_json_fields_of_the_interface(report: Report) -> None:
    fields = report_fields(report)
    row = next(row for row in fields["rows"] if row["id"] == "good")
    assert row["ratio"] == pytest.approx(1.1)
    assert {"id", "metric", "measured", "predicted", "ratio", "low", "high"} <= row.keys()
    assert fields["summary"]["tpot_s"]["n"] == 1, "lower bounds are counted apart"
    assert fields["ci_floor"]["tpot_s"]["n"] == 1
    assert set(fields["summary"]["tpot_s"]) == {
        "n", "median_ape", "mean_ape", "p90_ape", "bias", "within_10", "within_25", "interval_coverage",
        "rank_correlation",
    }  # fmt: skip
    assert fields["by"]["chip"]["h100-sxm"]["tpot_s"]["n"] == 1
    assert {"chip", "source_group", "phase"} <= fields["by"].keys()
    assert all({"id", "reason"} <= skip.keys() for skip in fields["skipped"])


def test_the_accuracy_page_names_what_was_skipped(report: Report) -> None:
    page = accuracy_page(report)
    assert "| inference | internal: ZeroDivisionError: a defect | 1 |" in page
    assert "`good`" in page


def test_interval_of_a_rate_is_the_inverse_of_that_of_the_time() -> None:
    assert rate_factors((0.8, 1.25)) == pytest.approx((0.8, 1.25))
    rate = figure("tokens_per_s_per_device", 100.0, 100.0, rate_factors((0.5, 1.25)))
    assert (rate.low, rate.high) == pytest.approx((80.0, 200.0))


def test_an_empty_table_gives_an_empty_report(tmp_path: Path) -> None:
    path = tmp_path / "kernels.csv"
    path.write_text("id,chip,kernel\n", encoding="utf-8")
    report = run.validate({"kernels": path})
    assert report.scores == ()
    assert report_fields(report)["summary"] == {}
