"""Mixed steps: consistent with steps of one kind, cheaper than both in a row, and what chunked prefill is known for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.core.errors import InputError
from supertwin.inference import Deployment, InferenceCase, predict
from supertwin.inference.mixed import merge
from supertwin.machine import load_system
from supertwin.model import load_model
from supertwin.workload.operators import Attention, Communication, Gemm, Vector

FP8 = {"weight_dtype": "fp8", "activation_dtype": "fp8"}
DENSE = Deployment(tp=4, kv_dtype="fp8", framework="vLLM 0.14", **FP8)  # type: ignore[arg-type]
LATENT = Deployment(dp=8, ep=8, dp_attention=True, framework="SGLang 0.5", **FP8)  # type: ignore[arg-type]
CASES = {
    "dense": ("llama-3.1-70b", "dgx-h100:4", DENSE),
    "latent": ("deepseek-v3", "dgx-h200:8", LATENT),
    "hybrid": ("qwen3-next-80b-a3b", "dgx-h100:4", replace(DENSE, ep=4)),
    "sparse": ("deepseek-v3.2", "dgx-h200:8", LATENT),
    "npu": ("deepseek-r1", "cm384:32", replace(LATENT, dp=32, ep=32, weight_dtype="int8", activation_dtype="int8")),
}  # fmt: skip


def mixed(name: str, batch: float, chunk: int, prompt: int = 4096, cached: int = 0) -> InferenceCase:
    model, system, deployment = CASES[name]
    return InferenceCase(
        load_model(model), load_system(system), deployment, "mixed", batch,
        input_len=prompt, kv_len=2048, prefix_len=cached, chunk_tokens=chunk,
    )  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_without_a_chunk_it_is_a_decode_step(name: str) -> None:
    case = mixed(name, 16.0, 0)
    decode = predict(replace(case, phase="decode"))
    found = predict(case)
    assert found.step_time_s == pytest.approx(decode.step_time_s)
    assert found.figures["tpot_inflation"] == pytest.approx(1.0)
    assert found.memory.kv_cache_bytes == pytest.approx(decode.memory.kv_cache_bytes)


@pytest.mark.parametrize("name", CASES)
def test_without_sequences_it_is_a_prefill_step(name: str) -> None:
    case = mixed(name, 0.0, 4096, cached=1024)
    tp = case.deployment.tp
    prefill = predict(replace(case, phase="prefill", batch=1.0 / tp, chunk_tokens=0))
    found = predict(case)
    assert found.step_time_s == pytest.approx(prefill.step_time_s)
    assert found.figures["input_tokens_per_s_per_device"] == pytest.approx(
        prefill.figures["input_tokens_per_s_per_device"]
    )
    assert found.memory.peak_bytes == pytest.approx(prefill.memory.peak_bytes)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(CASES)), st.floats(1, 64), st.integers(64, 8192), st.integers(64, 16384))
def test_mixing_costs_less_than_both_steps_and_more_than_either(
    name: str, batch: float, chunk: int, prompt: int
) -> None:
    found = predict(mixed(name, batch, chunk, prompt))
    decode, prefill = (float(found.figures[f"{part}_step_time_s"] or 0.0) for part in ("decode", "prefill"))
    assert found.step_time_s <= (decode + prefill) * 1.001
    assert found.step_time_s >= max(decode, prefill) * 0.98
    assert float(found.figures["mixing_gain"] or 0.0) >= 0.999


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["dense", "latent"]), st.integers(64, 4096))
def test_a_longer_chunk_inflates_and_takes_more_prompt(name: str, chunk: int) -> None:
    one, two = (predict(mixed(name, 16.0, c, 16384)) for c in (chunk, 2 * chunk))
    assert two.step_time_s >= one.step_time_s * 0.999
    assert one.figures["tpot_inflation"] >= 1.0  # type: ignore[operator]


def test_decode_tokens_ride_almost_free_beside_a_chunk() -> None:
    """SARATHI (arXiv 2308.16369, table 2): LLaMA-13B, chunks of 1,024 tokens with 3 decodes. A decode token costs an
    order of magnitude less beside a chunk (1.2 ms) than in a step of its own (12.5 ms): weights are read once."""
    case = InferenceCase(
        load_model("llama-13b"), load_system("dgx-a100:1"), Deployment(framework="vLLM 0.11"), "mixed", 3.0,
        input_len=1021, kv_len=1024, chunk_tokens=1021,
    )  # fmt: skip
    found = predict(case)
    beside = found.step_time_s - float(found.figures["prefill_step_time_s"] or 0.0)
    assert 5.0 < float(found.figures["decode_step_time_s"] or 0.0) / beside < 30.0


def test_attention_cores_stay_apart_and_matrices_come_together() -> None:
    def core(phase: str) -> Attention:
        return Attention(
            part="attention/core", batch=1, q_len=1, kv_len=9, heads=1, kv_heads=1, qk_head_dim=64, v_head_dim=64,
            phase=phase,
        )  # fmt: skip

    up = Gemm(part="mlp/up", m=3, n=8, k=4)
    reduce = Communication(part="mlp/reduce", op="all_reduce", axis="tp", message_bytes=6.0)
    scan = Vector(part="attention/scan", op="scan", bytes_read=1.0, bytes_written=1.0)
    absorb = Gemm(part="attention/absorb_q", m=3, n=4, k=4)
    decode = [absorb, core("decode"), scan, up, reduce]
    chunk = [core("prefill"), scan, replace(up, m=5), replace(reduce, message_bytes=10.0)]
    found = merge(decode, chunk)
    assert [o.part for o in found if isinstance(o, Attention)] == ["attention/core"] * 2
    assert sum(o.part == "attention/scan" for o in found) == 2
    assert [o.m for o in found if isinstance(o, Gemm)] == [3, 8]
    assert [o.message_bytes for o in found if isinstance(o, Communication)] == [16.0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"chunk_tokens": -1}, "0 or more prompt tokens"),
        ({"phase": "decode"}, "needs phase mixed"),
        ({"input_len": 0}, "the prompt of the chunk"),
        ({"batch": 0.0, "chunk_tokens": 0}, "above 0"),
    ],
)
def test_illegal_mixes_are_explained(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        predict(replace(mixed("dense", 8.0, 512), **changes))  # type: ignore[arg-type]


def test_context_ranks_are_refused() -> None:
    case = mixed("dense", 8.0, 512)
    with pytest.raises(InputError, match="legal cp: 1"):
        predict(replace(case, deployment=replace(DENSE, cp=2)))
