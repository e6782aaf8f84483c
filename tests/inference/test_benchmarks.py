"""Rules of published benchmarks, and the host of TensorRT-LLM's Python executor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.inference.benchmarks import (
    DATASET_PROMPTS,
    amd_prompts,
    fuses_reduce,
    mlperf_batch,
    mlperf_layout,
    mlperf_run,
    mlperf_samples,
    mlperf_tokens,
)
from supertwin.inference.case import Deployment
from supertwin.inference.deployment import serve
from supertwin.inference.engines import GRACE_SLOWER, PYTHON_SEQUENCE_S, engine
from supertwin.inference.reading import Reading, read
from supertwin.inference.residence import Curves, Load, cycle_s
from supertwin.inference.rows import Skip, predict_row
from supertwin.inference.shape import Shape
from supertwin.inference.step import step
from supertwin.inference.trtllm_bench import counted_bytes, limits
from supertwin.machine import load_chip, load_system, system_for_chip
from supertwin.model import load_model

MLPERF = {"source_group": "mlperf", "model": "llama-2-70b", "framework": "TensorRT 10.8, CUDA 12.8", "phase": "offline"}


def test_mlperf_runs_last_long_enough_in_whole_data_sets() -> None:
    assert mlperf_run(MLPERF) == (24576, 2400.0)
    assert mlperf_run({**MLPERF, "framework": "vLLM 0.9"}) == (24576, 600.0)
    # closed/NVIDIA, DeepSeek-R1 Server: min_query_count 26,328
    assert mlperf_run({**MLPERF, "model": "deepseek-r1", "phase": "serving"}) == (26328, 600.0)
    assert mlperf_samples(8313, 600.0, 2.0, offline=False) == 8313
    assert mlperf_samples(24576, 2400.0, 350.0, offline=True) == 38 * 24576  # 1.1 x 840,000 in whole sets


@given(st.floats(1.0, 1e5), st.floats(1.0, 1e4), st.floats(0.0, 1e4))
@settings(max_examples=50, deadline=None)
def test_a_run_is_never_shorter_than_asked(data_set: float, seconds: float, rate: float) -> None:
    samples = mlperf_samples(data_set, seconds, rate, offline=False)
    assert samples >= data_set
    assert samples >= rate * seconds * (1 - 1e-6)
    assert samples / data_set == pytest.approx(round(samples / data_set))


def test_layouts_of_the_mlperf_harness() -> None:
    """closed/NVIDIA/configs: TP4PP2 of Llama 3.1 405B offline on H200, TP8 under load; PP2 of Llama 2 70B from 5.0."""
    large = {**MLPERF, "model": "llama-3.1-405b", "chip": "h200-sxm"}
    assert mlperf_layout(large) == (4, 2)
    assert mlperf_layout({**large, "phase": "serving"}) == (8, 1)
    assert mlperf_layout({**large, "framework": "vLLM 0.9"}) is None
    assert mlperf_layout({**large, "source_group": "trtllm-1.0"}) is None
    assert mlperf_layout({**MLPERF, "chip": "h100-sxm"}) == (1, 2)
    assert mlperf_layout({**MLPERF, "chip": "h100-sxm", "framework": "TensorRT 10.2, CUDA 12.4"}) is None
    assert mlperf_layout({**MLPERF, "chip": "h200-sxm"}) is None
    assert mlperf_batch({**MLPERF, "model": "deepseek-r1", "chip": "b200"}) == 512
    assert mlperf_batch({**MLPERF, "chip": "b200"}) == 0


def test_steps_of_the_mlperf_harnesses() -> None:
    """max_num_tokens of closed/NVIDIA/configs/H200 of round 5.1; MIN_REQUIRE_PREFILL_QUERY of AMD's servers."""
    server = {**MLPERF, "phase": "serving", "chip": "h200-sxm", "framework": "TensorRT 10.11"}
    assert mlperf_tokens(server) == 1536
    assert mlperf_tokens({**server, "notes": "MLPerf v5.1 Interactive"}) == 256
    assert mlperf_tokens({**server, "framework": "TensorRT 10.2, CUDA 12.4"}) == 0
    assert mlperf_tokens({**server, "framework": "vLLM 0.9"}) == mlperf_tokens({**server, "chip": "l4"}) == 0
    amd = {**server, "chip": "mi300x", "framework": "vLLM 0.9"}
    assert amd_prompts(amd) == 8
    assert (
        amd_prompts({**amd, "notes": "MLPerf v5.1 Interactive"}) == amd_prompts({**amd, "model": "mixtral-8x7b"}) == 1
    )


def test_all_reduces_inside_products() -> None:
    """gemm_allreduce_plugin of Llama 3.1 405B on B200: a prompt step loses what its products hide."""
    model, system = load_model("llama-3.1-405b"), system_for_chip("b200", 4)
    shape = Shape("prefill", np.array([1.0]), np.array([1.0]), 2048.0, 2048.0)
    plain, fused = (
        float(np.ravel(step(model, system, Deployment(tp=4, framework=name), shape).time_s)[0])
        for name in ("TensorRT 10.11", "TensorRT 10.11 gemm-allreduce")
    )
    assert 0.7 * plain < fused < 0.97 * plain
    large = {**MLPERF, "model": "llama-3.1-405b", "chip": "b200"}
    assert reading_of(**large).deployment.framework.endswith("gemm-allreduce")
    assert not fuses_reduce({**large, "chip": "h200-sxm"})
    assert not fuses_reduce({**large, "framework": "vLLM 0.9"})


def reading_of(**changes: object) -> Reading:
    row = {"phase": "offline", "model": "llama-3.1-405b", "chip": "h200-sxm", "n_devices": 16.0, "tp": None, **changes}
    return read(row, load_model(str(row["model"])), load_chip(str(row["chip"])), 8e11)


def test_rows_take_the_settings_of_their_sources() -> None:
    staged = reading_of(source_group="mlperf", framework="TensorRT 10.11", weight_dtype="fp8", output_len=650.0)
    assert (staged.deployment.tp, staged.deployment.pp, staged.instances) == (4, 2, 2.0)
    assert staged.defaults["pp"] == 2
    # Best_perf_practice_on_DeepSeek-R1, H200: --max_num_tokens 1151 --num_requests 5120
    shared = {"tp": 1.0, "dp": 8.0, "ep": 8.0, "dp_attention": 1.0, "weight_dtype": "fp8", "framework": "TensorRT-LLM"}
    served = reading_of(source_group="trtllm-dsr1", model="deepseek-r1", n_devices=8.0, concurrency=1024.0, **shared)
    assert (served.batched_tokens, served.requests) == (1151, 5120.0)
    assert reading_of(model="kimi-k3", chip="gb300", framework="vLLM", tp=8.0).deployment.weight_dtype == "mxfp4"


@pytest.mark.parametrize(("input_len", "output_len", "varied"), [(467, 256, False), (467, 16, False), (202, 214, True)])
def test_one_length_for_the_prompts_of_a_set(input_len: int, output_len: int, varied: bool) -> None:
    found = reading_of(source_group="trtllm-online", framework="TensorRT-LLM 0.14", weight_dtype="bf16", tp=8.0,
                       input_len=float(input_len), output_len=float(output_len))  # fmt: skip
    assert found.varied is varied


def test_prompts_of_mlperf_sets() -> None:
    """Mean and spread of the data sets' own token lengths; a third of Mixtral's prompts hold five worked examples."""
    assert DATASET_PROMPTS["OpenOrca"][:2] == (222.3, 0.595)
    mixtral = reading_of(source_group="mlperf", model="mixtral-8x7b", weight_dtype="fp8", tp=1.0, output_len=146.0,
                         flags="input-len-is-dataset")  # fmt: skip
    assert (mixtral.input_len, mixtral.prompt_cv2) == (427.4, 0.591)
    assert mixtral.decoded == pytest.approx(0.5 * 146.0 * 1.61)  # the long replies are resident longer


@pytest.mark.parametrize(
    ("lengths", "batch", "tokens"),
    [
        ((128.0, 128.0), 4096, 8192),  # the cache holds 8,081
        ((2048.0, 128.0), 1024, 16384),  # 951, and 951 x 17 tokens
        ((1000.0, 1000.0), 1280, 2304),  # 1,034, and 2,069
        ((20000.0, 2000.0), 96, 20096),  # 94: a whole prompt beside a full batch
    ],
)
def test_trtllm_bench_fills_the_cache(lengths: tuple[float, float], batch: int, tokens: int) -> None:
    """tuning.py by hand: 140.4 GiB less 8.03e9 bytes, 95 % of it over 65,536 bytes per token (Llama-3.1-8B, FP8)."""
    found = limits(load_model("llama-3.1-8b"), load_chip("h200-sxm"), ("fp8", "fp8"), (1, 1), lengths)
    assert (found.batch_size, found.num_tokens) == (batch, tokens)


def test_trtllm_bench_cuts_the_batch_over_stages() -> None:
    chip, model = load_chip("b200-sxm"), load_model("llama-3.3-70b")
    whole = limits(model, chip, ("nvfp4", "fp8"), (1, 1), (128.0, 128.0))
    staged = limits(model, chip, ("nvfp4", "fp8"), (1, 4), (128.0, 128.0))
    assert staged.batch_size == 1024
    assert whole.batch_size > 1024
    assert staged.num_tokens == 2048


def test_the_python_executor_bounds_small_steps_alone() -> None:
    """GB200, 1,536 sequences: the host takes 45.11 ms per iteration (pull request 10273), whatever the device needs."""
    system, model = system_for_chip("gb200", 1), load_model("llama-3.1-8b")
    on_grace = engine("TensorRT-LLM 1.0", system.chip)
    assert on_grace.sequence_host_s == pytest.approx(PYTHON_SEQUENCE_S)
    assert on_grace.sequence_host_s == pytest.approx(engine("TensorRT-LLM 1.0").sequence_host_s * GRACE_SLOWER)
    assert engine("TensorRT-LLM 0.17", system.chip).sequence_host_s == 0.0
    d = Deployment(weight_dtype="fp8", activation_dtype="fp8", kv_dtype="fp8", framework="TensorRT-LLM 1.0")

    def time_s(deployment: Deployment, kv_len: float) -> float:
        shape = Shape("decode", np.array([1536.0]), np.array([1536.0]), 1.0, kv_len)
        return float(np.ravel(step(model, system, deployment, shape).time_s)[0])

    compiled = replace(d, framework="TensorRT-LLM 0.17")
    assert time_s(compiled, 64.0) < 0.03
    assert time_s(d, 64.0) == pytest.approx(45.11e-3, rel=0.05)
    assert time_s(d, 8192.0) == pytest.approx(time_s(compiled, 8192.0), rel=0.02)


CURVES = Curves(
    resident=np.array([1.0, 1024.0]), decode_s=np.array([0.01, 0.02]), prefill_one_s=0.02, prefill_each_s=0.01,
    prefill_step_s=0.02, chunk_tokens=2000.0, issue_s=0.0, lone_s=0.0, ranks=1, capacity=1024.0,
    prefill_devices=1, decode_devices=1, step_tokens=2048.0,
)  # fmt: skip
LOAD = Load("set", 1000, 1000, 1000, requests=1024)


def test_decodes_take_their_tokens_of_a_step() -> None:
    """1,024 residents leave 1,024 of 2,048 tokens, one prompt per step; without decodes two ride in each."""
    assert float(CURVES.chunks(LOAD, 1024.0)) == pytest.approx(1000.0)
    assert float(CURVES.chunks(LOAD, 8.0)) == pytest.approx(8 * 1000 / 2000)
    assert float(CURVES.chunks(replace(LOAD, mixes_prefill=False), 1024.0)) == pytest.approx(1024 * 1000 / 2000)
    assert float(CURVES.chunks(LOAD, 1e6)) == pytest.approx(1e6 * 1000 / (2048 / 8))


def test_the_host_is_hidden_behind_a_longer_step() -> None:
    free = float(cycle_s(CURVES, LOAD, 512.0, True))
    short = replace(CURVES, issue_each_s=1e-6)
    bound = replace(CURVES, issue_each_s=1e-4)
    assert float(cycle_s(short, LOAD, 512.0, True)) == pytest.approx(free)
    assert float(cycle_s(bound, LOAD, 512.0, True)) == pytest.approx(999 * 512e-4, rel=0.01)
    assert float(bound.step(512.0)) == pytest.approx(512e-4)


def test_later_waves_of_varied_lengths_come_one_by_one() -> None:
    """Attention ranks that share experts wait for each other's prompts after the first wave, not in it."""
    shared = replace(CURVES, ranks=8, lone_s=0.02, capacity=512.0)
    many = replace(LOAD, varied=True, requests=512.0 * 50, longest_over_mean=4.0)
    alone, waiting = (serve(c, many, 1.0).requests_per_s for c in (replace(shared, lone_s=0.0), shared))
    assert waiting < 0.9 * alone
    first = replace(many, requests=512.0)
    assert serve(shared, first, 1.0).requests_per_s == pytest.approx(
        serve(replace(shared, lone_s=0.0), first, 1.0).requests_per_s
    )


def test_a_system_of_the_catalogue_has_the_same_engine() -> None:
    assert engine("TensorRT-LLM", load_system("dgx-h200:8").chip).name == "tensorrt-llm-pytorch"


def overview(model: str, chip: str, weight: str, devices: int, lengths: tuple[int, int]) -> dict[str, object]:
    """A row of the perf-overview of TensorRT-LLM 1.2: attention ranks that share experts, or one device."""
    ranks = {"dp": devices, "ep": devices, "dp_attention": 1} if devices > 1 else {}
    return {
        "id": "x", "phase": "offline", "chip": chip, "n_devices": devices, "model": model,
        "framework": "TensorRT-LLM 1.2", "weight_dtype": weight, "activation_dtype": weight, "tp": 1, "pp": 1,
        "input_len": lengths[0], "output_len": lengths[1], "flags": "saturated", "kind": "measured", **ranks,
    }  # fmt: skip


def test_a_table_of_tensorrt_llm_that_is_not_in_the_rows() -> None:
    """docs/source/developer-guide/perf-overview.md of 1.2: output tokens/s per device. A check, not a fit."""
    measured = {
        ("llama-3.3-70b", "b200", "nvfp4", 1, (1024, 1024)): 6842.0,
        ("llama-3.3-70b", "b200", "nvfp4", 1, (8192, 1024)): 1362.0,
        ("llama-3.3-70b", "gb200", "nvfp4", 1, (1024, 8192)): 3805.0,
        ("qwen3-235b-a22b", "b200", "nvfp4", 4, (1024, 1024)): 5756.0,
        ("qwen3-235b-a22b", "gb200", "nvfp4", 4, (8192, 1024)): 1464.0,
        ("qwen3-30b-a3b", "b200", "nvfp4", 1, (32768, 1024)): 1265.0,
        ("qwen3-30b-a3b", "gb200", "nvfp4", 1, (1024, 8192)): 14272.0,
    }
    for about, value in measured.items():
        answer = predict_row({**overview(*about), "measured_output_tokens_per_s_per_device": value})
        assert not isinstance(answer, Skip)
        assert answer[0][2] == pytest.approx(value, rel=0.13)


def test_trtllm_bench_leaves_microscaled_formats_alone() -> None:
    """bench/build/build.py, TUNED_QUANTS: MXFP4 is not among them, gpt-oss runs with 2,048 requests of the engine."""
    row = overview("gpt-oss-120b", "gb200", "mxfp4", 1, (1024, 8192))
    assert not read(row, load_model("gpt-oss-120b"), load_chip("gb200"), 7e10).most_running
    tuned = overview("llama-3.3-70b", "gb200", "nvfp4", 1, (1024, 8192))
    assert read(tuned, load_model("llama-3.3-70b"), load_chip("gb200"), 4e10).most_running > 0


def test_trtllm_bench_counts_packed_weights_as_elements() -> None:
    """NVIDIA/TensorRT-LLM pull request 13498: 183.70 GB instead of 386.54 GB of DeepSeek-V3.2 in NVFP4, in GiB."""
    assert 685e9 * counted_bytes("nvfp4") / 2**30 == pytest.approx(183.7, rel=0.03)
    assert counted_bytes("fp8") == 1.0


def test_batches_of_nvidias_early_harness() -> None:
    """closed/NVIDIA/configs/llama2-70b of round 4.1: gpu_batch_size 896 offline, 1,024 under load on H100 TP2."""
    row = {"source_group": "mlperf", "model": "llama-2-70b", "chip": "h100-sxm", "weight_dtype": "fp8", "tp": 2.0}
    early = reading_of(**row, framework="TensorRT 10.2.0, CUDA 12.4", n_devices=8.0, output_len=294.0)
    assert early.most_running == 896
    load = reading_of(**row, framework="TensorRT 10.2.0", phase="serving", request_rate_per_s=80.0, output_len=294.0)
    assert load.most_running == 1024
    assert reading_of(**row, framework="TensorRT 10.11", output_len=294.0).most_running == 0
