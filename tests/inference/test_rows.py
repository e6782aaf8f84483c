"""Rows of inference.csv: most are predicted, bad ones are skipped with a reason, none raises."""

from __future__ import annotations

import csv
import math
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.inference.engines import engine, speculating
from supertwin.inference.reading import Reading, read
from supertwin.inference.rows import Skip, predict_row, returning_s
from supertwin.machine import load_chip
from supertwin.model import load_model

_TEXT = {
    "id", "source", "source_group", "source_date", "system", "chip", "phase", "model", "framework", "weight_dtype",
    "kv_dtype", "activation_dtype", "expert_balance", "ttft_stat", "tpot_stat", "kind", "confidence", "flags", "notes",
}  # fmt: skip


def table() -> list[dict[str, object]]:
    path = files("supertwin") / "data" / "measurements" / "inference.csv"
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return [{k: (None if v == "" else v if k in _TEXT else float(v)) for k, v in r.items()} for r in rows]


ROWS = table()


def test_nine_of_ten_rows_are_predicted() -> None:
    sample = ROWS[::19]
    answers = [predict_row(r) for r in sample]
    predicted = [a for a in answers if not isinstance(a, Skip)]
    assert len(predicted) >= 0.9 * len(sample)
    for metrics in predicted:
        for _, measured, value, low, high in metrics:
            assert 0 < low < value < high < math.inf
            assert measured > 0


def test_dense_offline_rows_of_one_vendor_agree() -> None:
    """TensorRT-LLM 0.17, Llama-3.1 in FP8 on H100 and H200: fixed lengths, stated layout. A check, not a fit."""
    ratios = []
    for r in ROWS:
        if r["source_group"] == "trtllm-0.17" and r["model"] in ("llama-3.1-8b", "llama-3.1-405b"):
            answer = predict_row(r)
            assert not isinstance(answer, Skip)
            ratios.append(answer[0][2] / answer[0][1])
    ratios.sort()
    assert len(ratios) > 20
    assert ratios[len(ratios) // 2] == pytest.approx(1.0, abs=0.15)


def test_shipped_intervals_cover_the_rows() -> None:
    inside = [low <= measured <= high for r in ROWS[::3] for _, measured, _, low, high in metrics_of(r)]
    assert 0.85 < sum(inside) / len(inside) < 0.97


def metrics_of(row: dict[str, object]) -> list[tuple[str, float, float, float, float]]:
    answer = predict_row(row)
    return [] if isinstance(answer, Skip) or row["kind"] == "ci-floor" else answer


def test_a_speculating_sglang_admits_few_requests() -> None:
    """sgl-project/sglang issue 33199: max_running_requests of the whole server becomes 48."""
    sglang = engine("SGLang 0.5.3")
    assert speculating(sglang, 3, 1).max_num_seqs == 48
    assert speculating(sglang, 3, 8).max_num_seqs == 6
    assert speculating(sglang, 0, 1) == sglang
    assert speculating(engine("vLLM 0.11.0"), 3, 1) == engine("vLLM 0.11.0")


def test_overlap_would_hide_most_of_the_gap_of_a_drafting_step() -> None:
    """Tokens per step over tokens per second of one request, without and with overlap: SGLang PR 11398 and PR 12128."""
    sglang = engine("SGLang 0.5.3")
    hidden = [2.99 / 246.80 - 3.01 / 273.43, 2.296 / 140.52 - 2.296 / 159.71]
    found = speculating(sglang, 3, 1).step_gap_s
    assert min(hidden) < found - sglang.step_gap_s < max(hidden)
    assert speculating(engine("SGLang (Ascend)"), 3, 1).step_gap_s == engine("SGLang (Ascend)").step_gap_s


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(range(0, len(ROWS), 7)),
    st.sampled_from(["chip", "model", "tp", "dp", "n_devices", "weight_dtype", "input_len", "batch_per_device", "ep"]),
    st.sampled_from([None, "", "nonsense", -1, 0, 3, 1e9]),
)
def test_broken_rows_never_raise(index: int, column: str, value: object) -> None:
    answer = predict_row({**ROWS[index], column: value})
    if isinstance(answer, Skip):
        assert answer.reason


def test_a_row_names_options_of_the_server() -> None:
    """Shares of memory and limits on running requests in a row's text reach the engine; random prompts have answers of
    one length, conversations do not."""
    row = next(r for r in ROWS if "Memory Fraction / 0.8;" in str(r["notes"]))
    rates = {}
    for share in ("0.78", "0.85"):
        answer = predict_row({**row, "notes": f"Memory Fraction / {share}; burst of 1000 requests"})
        assert not isinstance(answer, Skip)
        rates[share] = next(m[2] for m in answer if m[0].startswith("output"))
    assert rates["0.85"] > 1.1 * rates["0.78"]
    talk = next(r for r in ROWS if str(r["notes"]).startswith("1. Choosing the Inference Engine; ShareGPT; 1000"))
    spread, equal = (predict_row({**talk, "notes": n}) for n in ("ShareGPT; 1000 requests", "random; 1000 requests"))
    assert not isinstance(spread, Skip)
    assert not isinstance(equal, Skip)
    assert spread[0][2] < equal[0][2]


def _reading(**changes: object) -> Reading:
    row = {**dict.fromkeys(ROWS[0]), "system": "", "flags": "", "notes": "", "kind": "measured", **changes}
    model = load_model(str(row["model"]))
    return read(row, model, load_chip(str(row["chip"])), 1e12)


def test_nvfp4_checkpoints_state_an_eight_bit_cache() -> None:
    """kv_cache_quant_algo FP8 of ModelOpt checkpoints (vLLM PR 29980); SGLang's GB200 post: FP8 attention."""
    case = {"model": "deepseek-r1", "chip": "gb200", "n_devices": 8.0, "phase": "decode", "framework": "vLLM 0.14.1"}
    assert _reading(weight_dtype="nvfp4", **case).deployment.kv_dtype == "fp8"
    assert _reading(weight_dtype="fp8", **case).deployment.kv_dtype == "bf16"
    assert _reading(weight_dtype="nvfp4", kv_dtype="bf16", **case).deployment.kv_dtype == "bf16"


@pytest.mark.parametrize(("model", "group", "kv"), [("qwen3-32b", "gpustack", "bf16"), ("llama-3.1-8b", "x", "fp8")])
def test_checkpoints_with_block_scales_state_no_cache_format(model: str, group: str, kv: str) -> None:
    """trtllm-serve Qwen3-32B-FP8 keeps a BF16 cache; checkpoints of one scale per matrix have an FP8 one."""
    row = {"phase": "serving", "model": model, "framework": "TensorRT-LLM 1.2.0rc1", "weight_dtype": "fp8"}
    row |= {"chip": "h100-sxm", "n_devices": 1.0, "tp": 1.0, "source_group": group}
    chosen = load_model(model)
    assert read(row, chosen, load_chip("h100-sxm"), 1e9).deployment.kv_dtype == kv


def test_tokens_of_a_step_that_a_source_states() -> None:
    case = {"model": "deepseek-r1", "chip": "gb300", "n_devices": 2.0, "phase": "prefill", "framework": "vLLM 0.14.1"}
    post = {"source": "vLLM blog 2026-02-13 DeepSeek on GB300", "weight_dtype": "nvfp4", **case}
    assert _reading(tp=2.0, **post).batched_tokens == 32768
    assert _reading(tp=1.0, ep=2.0, dp=2.0, **post).batched_tokens == 0
    assert _reading(tp=2.0, **{**post, "source": "another"}).batched_tokens == 0
    assert _reading(tp=2.0, notes="dynamic 32K chunks; PP2 TP8", **case).batched_tokens == 32768
    assert _reading(tp=2.0, notes="inputs 4K-64K, mean 32K", **case).batched_tokens == 0


def test_what_posts_say_of_their_instances() -> None:
    """SOURCE_OPTIONS and the layouts behind them: see pages.py and row_layout.py."""
    kimi = {
        "model": "kimi-k2",
        "chip": "h200-sxm",
        "n_devices": 96.0,
        "phase": "decode",
        "framework": "SGLang P/D + EP",
    }
    kimi |= {"tp": 1.0, "dp": 96.0, "ep": 96.0, "dp_attention": 1.0, "source": "lmsys.org blog Kimi-K2 on 128x H200"}
    found = _reading(**kimi).deployment
    assert (found.redundant_experts, found.microbatch_overlap) == (96, True)  # 480 slots on 96 ranks
    r1 = {"model": "deepseek-r1", "weight_dtype": "nvfp4"}
    wide = {"chip": "gb200", "n_devices": 48.0, "tp": 1.0, "dp": 48.0, "ep": 48.0, "dp_attention": 1.0}
    post = _reading(**r1, **wide, phase="decode", framework="SGLang", source="lmsys.org blog GB200 part 2 (2025-09)")
    assert post.most_running // post.deployment.dp == 768
    own = _reading(**r1, **wide, phase="decode", framework="DeepSeek", source="deepseek-ai/open-infra-index day 6")
    assert own.batch == own.defaults["batch_per_device"] == 128.0
    case = {"chip": "gb300", "n_devices": 8.0, "phase": "prefill", "framework": "SGLang P/D", "batch_per_device": 0.125}
    staged = _reading(**r1, **case, notes="32K dynamic chunks with pipeline parallelism, 8 GPUs, 1P1D")
    assert (staged.deployment.pp, staged.deployment.tp, staged.n_devices, staged.batch) == (4, 1, 4, 0.25)
    two_nodes = {"chip": "h200-sxm", "n_devices": 16.0, "phase": "prefill", "framework": "vLLM"}
    prompts = _reading(**r1, **two_nodes).deployment
    assert (prompts.ep, prompts.dp, prompts.redundant_experts) == (16, 16, 32)


def test_prompts_of_a_step_come_back_through_the_front_end() -> None:
    """A closed loop of prompts: what nobody else's step hides of their way shows, and nothing behind a queue."""
    about = engine("vLLM 0.14.1")
    assert returning_s(16.0, 0.0, 0.9, about) == pytest.approx(16.0 * about.request_gap_s)
    assert returning_s(16.0, 1.0, 0.9, about) == 0.0
    assert returning_s(16.0, 0.5, 0.1, about) == pytest.approx(16.0 * about.request_gap_s - 0.05)


def test_a_post_without_release_runs_that_of_its_date() -> None:
    case = {"model": "kimi-k3", "chip": "gb300", "n_devices": 8.0, "phase": "decode", "framework": "vLLM", "tp": 8.0}
    names = [_reading(**case, source_date=date).deployment.framework for date in ("2025-12-17", "2026-07-27")]
    assert [engine(name).name for name in names] == ["vllm", "vllm-async"]


def test_what_a_source_says_of_overlap_and_balance() -> None:
    """SGLang's DeepEP launch command (issue 6017); drafts counted on real tokens exclude forced balance."""
    case = {"model": "deepseek-v3", "chip": "h100-sxm", "n_devices": 72.0, "phase": "decode", "weight_dtype": "fp8"}
    wide = _reading(framework="SGLang + DeepEP, P/D", **case)
    assert wide.deployment.microbatch_overlap
    assert wide.defaults["microbatch_overlap"] == 1
    assert not _reading(framework="SGLang + DeepEP, P/D", microbatch_overlap=0.0, **case).deployment.microbatch_overlap
    assert not _reading(framework="SGLang", **case).deployment.microbatch_overlap
    npu = {**case, "chip": "ascend-910c-die", "weight_dtype": "int8", "framework": "cann-recipes", "mtp_tokens": 3.0}
    unknown = {"expert_balance": "unknown", **npu}
    assert _reading(**unknown).deployment.expert_balance == "perfect"
    assert _reading(flags="acceptance-derived", **unknown).deployment.expert_balance == "natural"


@pytest.mark.parametrize(("batch", "overlap"), [(4.0, False), (15.0, False), (16.0, True), (48.0, True)])
def test_small_decode_batches_stay_whole(batch: float, overlap: bool) -> None:
    """vLLM ParallelConfig.dbo_decode_token_threshold: 32 tokens; here two per request."""
    row = {**next(r for r in ROWS if r["id"] == "cm384-paper-0003"), "batch_per_device": batch}
    model, chip = load_model("deepseek-r1"), load_chip("ascend-910c-die")
    found = read(row, model, chip, 1.3e12)
    assert found.deployment.microbatch_overlap is overlap
    assert ("microbatch_overlap" in found.defaults) is not overlap


@pytest.mark.parametrize(("batch", "tpot_ms"), [(12.0, 24.6), (48.0, 49.4)])
def test_decode_of_the_cm384_paper_at_two_batches(batch: float, tpot_ms: float) -> None:
    """arXiv 2506.12708v2: 24 requests per package at 24.6 ms, 96 at 49.4 ms (4,096 tokens of context)."""
    row = {**next(r for r in ROWS if r["id"] == "cm384-paper-0003"), "batch_per_device": batch}
    found = predict_row(row)
    assert not isinstance(found, Skip)
    scored = {name: predicted for name, _, predicted, *_ in found}
    assert scored["tpot_s"] == pytest.approx(tpot_ms / 1e3, rel=0.12)


def test_no_prediction_reads_what_was_measured() -> None:
    """Other results in the same row leave every prediction as it is."""
    for row in ROWS[::23]:
        other = {k: v * 3.7 if k.startswith("measured_") and isinstance(v, float) else v for k, v in row.items()}
        found, again = predict_row(row), predict_row(other)
        if isinstance(found, Skip) or isinstance(again, Skip):
            assert type(found) is type(again)
            continue
        assert [(name, value) for name, _, value, *_ in found] == [(name, value) for name, _, value, *_ in again]
