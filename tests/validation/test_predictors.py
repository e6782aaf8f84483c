"""From rows to cases, and the accuracy that the shipped tables must keep."""

from __future__ import annotations

from importlib import resources

import pytest

from supertwin.machine import load_system
from supertwin.model import load_model
from supertwin.training import memory
from supertwin.training.case import Layout, TrainingCase
from supertwin.training.layouts import Choice, candidates, choose
from supertwin.validation import run, tables
from supertwin.validation.breakdown import step_parts
from supertwin.validation.outcome import Score, Skip
from supertwin.validation.predictors.kernels import compare as compare_kernels
from supertwin.validation.predictors.training import case_of
from supertwin.validation.statistics import summarize, worst
from supertwin.validation.tables import Row

HEADER = (
    "id,chip,n_devices,model,seq_len,global_batch,micro_batch,tp,pp,cp,dp,ep,framework,source_date,"
    "measured_tokens_per_s_per_device"
)


def training_row(framework: str = "megatron-core", date: str = "2024-01", layout: str = "2,1,1,4,1") -> Row:
    line = f"x,h100-sxm,8,llama3.1-8b,8192,128,1,{layout},{framework},{date},1000"
    return tables.parse("training", f"{HEADER}\n{line}\n", "x").rows[0]


@pytest.mark.parametrize(
    ("framework", "date", "sequence_parallel", "sharding", "recompute"),
    [
        ("megatron-core", "2024-01", True, "zero1", "none"),
        ("megatron-lm", "2021-04", False, "none", "none"),  # before arXiv 2205.05198
        ("megatron-deepspeed", "2023", False, "none", "none"),
        ("llm-foundry", "2024", True, "zero3", "none"),
        ("maxtext", "2025-06", True, "zero3", "full"),  # remat_policy in MaxText/configs/base.yml
        ("", "", True, "zero1", "none"),
    ],
)
def test_unstated_settings_follow_the_framework(
    framework: str, date: str, sequence_parallel: bool, sharding: str, recompute: str
) -> None:
    case, assumed = case_of(training_row(framework, date))
    assert (case.sequence_parallel, case.sharding) == (sequence_parallel, sharding)
    assert f"sharding={sharding}" in assumed
    assert f"recompute={recompute}" in assumed
    assert case.attention_kernel == ("unfused" if date == "2021-04" else "")
    assert not any(text.startswith(("tp=", "seq_len=", "global_batch=")) for text in assumed)


def test_sequence_parallelism_needs_tensor_parallelism() -> None:
    case, _ = case_of(training_row(layout="1,1,1,8,1"))
    assert not case.sequence_parallel


def test_an_unstated_layout_is_chosen_to_fit_and_listed() -> None:
    case, assumed = case_of(training_row(layout=",,,,"))
    assert case.layout.devices == 8
    assert memory(case).fits
    assert {f"tp={case.layout.tp}", f"dp={case.layout.dp}"} <= set(assumed)


def test_candidates_grow_in_model_parallelism_and_use_every_device() -> None:
    case = TrainingCase(load_model("llama3.1-70b"), load_system("dgx-h100:64"), Layout(), 1, 1, 8192)
    layouts = list(candidates(case, Choice({}, global_batch=128)))
    sizes = [layout.tp * layout.pp * layout.cp for layout in layouts]
    assert sizes == sorted(sizes)
    assert all(layout.devices == 64 and 128 % layout.dp == 0 for layout in layouts)
    chosen = choose(case, Choice({}, global_batch=128))
    smaller = [layout for layout in layouts if layout.tp * layout.pp < chosen.layout.tp * chosen.layout.pp]
    assert smaller, "70B does not fit one device with its optimizer"


def _sample(table: str, every: int) -> tuple[list[Score], list[Skip], int]:
    rows = tables.load(table).rows[::every]
    return *run.predict(rows), len(rows)


@pytest.mark.parametrize(("table", "every", "share"), [("training", 12, 0.85), ("inference", 12, 0.85)])
def test_end_to_end_rows_are_predicted(table: str, every: int, share: float) -> None:
    """How far off they are is reported, not required: nothing may be fitted to them."""
    scores, skipped, count = _sample(table, every)
    assert len({score.id for score in scores}) >= share * count
    assert not [skip for skip in skipped if skip.internal]
    assert all(score.low <= score.predicted <= score.high for score in scores)


@pytest.mark.parametrize(
    ("table", "metric", "median", "p90"),
    [("kernels", "kernel_time_s", 0.08, 0.25), ("collectives", "collective_time_s", 0.12, 0.40)],
)
def test_operator_and_link_rows_are_close(table: str, metric: str, median: float, p90: float) -> None:
    scores, skipped, count = _sample(table, 1)
    summary = summarize(scores)
    assert summary.n >= 0.95 * count
    assert {score.metric for score in scores} == {metric}
    assert summary.median_ape <= median
    assert summary.p90_ape <= p90
    assert not [skip for skip in skipped if skip.internal]


def test_a_time_is_read_from_a_printed_rate() -> None:
    header = "id,chip,kernel,dtype,m,n,k,direction,measured_tflops,flop_count"
    text = header + "\nx,h100-sxm,gemm,bf16,8192,8192,8192,fwd,700,2mnk\n"
    (outcome,) = compare_kernels(tables.parse("kernels", text, "x").rows)
    assert not isinstance(outcome, Skip)
    assert outcome.figures[0].measured == pytest.approx(2 * 8192**3 / 700e12)
    assert outcome.parts[0].bound == "compute"


def test_two_processes_give_what_one_gives() -> None:
    """Order and values of the rows."""
    path = resources.files("supertwin") / "data" / "measurements" / "kernels.csv"
    one, two = (run.validate({"kernels": str(path)}, processes) for processes in (1, 2))
    assert [(s.id, s.metric, s.predicted) for s in one.scores] == [(s.id, s.metric, s.predicted) for s in two.scores]


def test_worst_rows_weigh_half_and_double_alike() -> None:
    def score(name: str, predicted: float) -> Score:
        return Score(name, "t", "m", 1.0, predicted, 0.0, 9.0)

    assert [s.id for s in worst([score("a", 1.5), score("b", 0.4), score("c", 2.0)], 2)] == ["b", "c"]


def test_a_serving_row_is_explained_by_the_step_it_depends_on() -> None:
    row = next(row for row in tables.load("inference").rows if row.id.startswith("vllm-blog") and row["tp"])
    parts = step_parts(row, "tpot_s")
    assert sum(part.share for part in parts) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("source", "chip", "system"),
    [
        ("github:VIA-Research/vTrain data/ground_truth_multi.csv row 0", "a100-sxm-80gb", "hgx-a100-4hdr"),
        ("github:bigscience-workshop/bigscience chronicles-prequel.md line 389", "a100-sxm-80gb", "jean-zay-a100"),
        ("arXiv:2303.17564 (search corpus); ffn/GBS from memory", "a100-sxm-40gb", "p4d"),
        ("arXiv:2104.04473 Table 1 via github:bigscience-workshop/bigscience", "a100-sxm-80gb", "dgx-a100"),
        ("github:VIA-Research/vTrain", "h100-sxm", "dgx-h100"),
    ],
)
def test_a_row_runs_on_the_cluster_that_its_source_names(source: str, chip: str, system: str) -> None:
    line = f'"{source}",{chip},16,llama3.1-8b,1000'
    head = "source,chip,n_devices,model,measured_tokens_per_s_per_device"
    case, _ = case_of(tables.parse("training", f"id,{head}\nx,{line}\n", "x").rows[0])
    assert case.system.name == system


@pytest.mark.parametrize(
    ("page", "model", "chip", "recompute", "expected"),
    [
        ("gpt3_6.7B-paddle", "gpt3-6.7b", "a100-sxm-80gb", "full", ("gpt3-13b", "paddle")),
        ("gpt3_6.7B-paddle", "gpt3-6.7b", "a100-sxm-80gb", "none", ("gpt3-6.7b", "paddle")),
        ("llama1_7B-paddle", "llama-7b", "a100-sxm-40gb", "full", ("llama-7b", "paddle-llama-plain")),
        ("llama1_7B-paddle", "llama-7b", "a100-sxm-80gb", "none", ("llama-7b", "paddle-llama")),
    ],
)
def test_flagperf_rows_are_read_as_their_page_prints_them(
    page: str, model: str, chip: str, recompute: str, expected: tuple[str, str]
) -> None:
    head = "source,model,chip,recompute,n_devices,framework,tp,pp,cp,dp,measured_tokens_per_s_per_device"
    line = f"github:FlagOpen/FlagPerf training/nvidia/{page}/README.md,{model},{chip},{recompute},8,paddle,2,1,1,4,1000"
    case, _ = case_of(tables.parse("training", f"id,{head}\nx,{line}\n", "x").rows[0])
    assert (case.model.name, case.framework) == expected
    assert not case.sequence_parallel
