"""Intervals of inference: coverage of rows that they have not seen, by metric; regimes; both files from one place."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from supertwin.core.regimes import Scored, measure, render
from supertwin.inference import predict
from supertwin.inference.case import Deployment, InferenceCase
from supertwin.inference.engines import engine
from supertwin.inference.regimes import as_error, interval, regimes
from supertwin.machine import load_chip, load_system
from supertwin.model import load_model
from supertwin.validation import intervals, tables
from supertwin.validation.intervals import by_new_source, coverage_table, cross_validated, inference_scores

H100 = load_chip("h100-sxm")


@pytest.fixture(scope="module")
def scores() -> list[Scored]:
    """Every second row of the shipped table."""
    return inference_scores(tables.load("inference", None).rows[::2])


def test_rows_not_seen_lie_within_as_often_as_promised(scores: list[Scored]) -> None:
    found = cross_validated(scores)
    assert 0.85 <= found[""].share <= 0.95
    for name, coverage in found.items():
        if "/" not in name and coverage.n >= 200:
            assert 0.85 <= coverage.share <= 0.967, name  # one standard deviation of 300 rows above 0.95
        elif coverage.n >= 60:  # 0.90 +- 0.11 is three standard deviations of 60 rows
            assert 0.79 <= coverage.share <= 1.0, name


def test_a_new_source_is_covered_less_but_is_covered(scores: list[Scored]) -> None:
    # the sweeps of one source are a kind of their own; what leaving them out costs: docs/inference-accuracy.md
    usual = [scored for scored in scores if not any(name.endswith("/sweep") for name in scored.regimes.own)]
    assert by_new_source(usual)[""].share >= 0.75


def test_the_table_of_the_page(scores: list[Scored]) -> None:
    lines = coverage_table(scores, 100).splitlines()
    assert lines[2].startswith("| all | ")
    assert any(line.startswith("| output tokens/s | ") for line in lines)
    assert any(line.startswith("| mlperf, output tokens/s | ") for line in lines)


def test_steps_share_a_regime_and_rates_are_the_other_way_round() -> None:
    time = regimes("tpot_s", "decode", engine("vllm 0.10"), H100)
    rate = regimes("output_tokens_per_s_per_device", "decode", engine("vllm 0.10"), H100)
    assert time == rate
    assert as_error("output_tokens_per_s_per_device", "decode") == -1.0
    assert as_error("output_tokens_per_s_per_device", "serving") == as_error("tpot_s", "decode") == 1.0
    known = {"step": (-1.0, 3.0)}
    low, high = interval(time, 0.2, known)
    assert (low, high) == pytest.approx((math.exp(-0.2), math.exp(0.6)))
    assert interval(rate, 0.2, known, -1.0) == pytest.approx((1.0 / high, 1.0 / low))


def test_deployments_have_a_regime_per_metric_and_sweeps_their_own() -> None:
    plain = regimes("ttft_s", "serving", engine("sglang"), H100)
    assert plain.own[0] == "ttft_s/serving/hopper/sglang"
    assert regimes("ttft_s", "serving", engine("sglang"), H100, {"experimental-sweep"}).own == ("ttft_s/serving/sweep",)
    assert plain.wide[-1] == "ttft_s"


def test_a_prediction_has_the_interval_of_its_regime() -> None:
    deployment = Deployment(tp=2, framework="vllm 0.10")
    case = InferenceCase(load_model("llama-3.1-8b"), load_system("dgx-h100:2"), deployment, "decode", 16.0, kv_len=2048)
    low, high = predict(case).interval
    assert 0.4 < low < 1.0 < high < 2.5


def test_both_files_come_from_one_place(tmp_path: Path, scores: list[Scored], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "training_scores", lambda: scores[:40])
    monkeypatch.setattr(intervals, "inference_scores", lambda: scores)
    made = intervals.write(tmp_path)
    assert [path.name for path in made] == ["training-intervals.json", "intervals.json"]
    kept = json.loads(made[1].read_text(encoding="utf-8"))["quantiles"]
    assert kept.keys() == measure(scores).keys()
    assert made[1].read_text(encoding="utf-8") == render(scores)
