"""Published operating points: they run, fit, and the CloudMatrix 384 figures come out within 12 % without a fit."""

from __future__ import annotations

import pytest

from supertwin.core.errors import UnknownName
from supertwin.scenarios import load_scenario, run_scenario, scenario_names

CM384 = [n for n in scenario_names() if n.startswith("cm384-")]


@pytest.mark.parametrize("name", scenario_names())
def test_runs_and_fits(name: str) -> None:
    outcome = run_scenario(name)
    p = outcome.prediction
    assert p.step_time_s > 0
    assert p.memory.fits, f"{p.memory.peak_bytes / 1e9:.1f} GB of {p.memory.capacity_bytes / 1e9:.1f}"
    assert sum(part.share for part in p.breakdown) == pytest.approx(1.0, abs=1e-6)
    assert p.bill.power_w is not None
    assert p.bill.power_w > 0


@pytest.mark.parametrize("name", CM384)
def test_cloudmatrix_paper_within_12_percent(name: str) -> None:
    # arXiv 2506.12708v2 tables 3 to 5. No end-to-end figure enters a constant.
    for row in run_scenario(name).comparison:
        assert abs(row.ratio - 1.0) <= 0.12, (row.figure, row.predicted, row.printed)


def test_what_if_changes_one_option() -> None:
    base = run_scenario("cm384-decode-4k").prediction
    fewer = run_scenario("cm384-decode-4k", batch=24).prediction
    assert fewer.step_time_s < base.step_time_s
    assert fewer.tokens_per_s_per_device < base.tokens_per_s_per_device


def test_every_assumption_is_stated() -> None:
    for name in scenario_names():
        scenario = load_scenario(name)
        assert scenario.where
        assert scenario.source or not scenario.published


def test_unknown_scenario() -> None:
    with pytest.raises(UnknownName, match="cm384-decode-4k"):
        load_scenario("cm384-decode-4")
