"""The first wave of a set, times per token that weigh all tokens alike, experts in MXFP4."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from supertwin.inference import Deployment
from supertwin.inference.closed import _first_wave, _starved_s
from supertwin.inference.engines import engine
from supertwin.inference.layers import shard_of
from supertwin.inference.placement import place
from supertwin.inference.residence import Curves, Load
from supertwin.inference.runs import means_of_tokens
from supertwin.machine import load_system
from supertwin.model import load_model

CURVES = Curves(
    resident=np.array([1.0, 256.0]), decode_s=np.array([0.01, 0.02]), prefill_one_s=0.05, prefill_each_s=0.02,
    prefill_step_s=0.16, chunk_tokens=8192.0, issue_s=0.0, lone_s=0.0, ranks=1, capacity=100.0, prefill_devices=1,
    decode_devices=1,
)  # fmt: skip
LOAD = Load(arrivals="set", input_len=256.0, new_tokens=256.0, output_len=1024.0, varied=True, mixes_prefill=False)


def test_the_first_wave_fills_the_memory_at_its_fullest_moment() -> None:
    """Of n requests exp(-t / m) are left after t tokens and hold L + t each: the most over t, beside L + m later on."""
    t = np.linspace(0.0, 10_000.0, 100_001)
    fullest = float((np.exp(-t / 1024.0) * (256.0 + t)).max())
    paged = replace(LOAD, reserved=0.0)
    assert _first_wave(CURVES, paged) == pytest.approx(100.0 * (256.0 + 1024.0) / fullest, rel=1e-4)
    assert _first_wave(CURVES, LOAD) == pytest.approx(100.0)


def test_a_slow_front_end_starves_prefill_passes() -> None:
    """A hundred requests that come every 0.03 s where full passes take 0.02 each, every 0.1 s where one takes 0.05."""
    assert _starved_s(CURVES, replace(LOAD, request_gap_s=0.03), 100.0) == pytest.approx(1.0)
    assert _starved_s(CURVES, replace(LOAD, request_gap_s=0.1), 100.0) == pytest.approx(3.0)
    assert _starved_s(CURVES, replace(LOAD, request_gap_s=0.01), 100.0) == 0.0


@pytest.mark.parametrize(
    ("system", "framework", "dtype"),
    [
        ("dgx-b200:8", "vLLM 0.16", "mxfp8"),
        ("dgx-h100:8", "vLLM 0.16", "bf16"),
        ("mi355x-8", "vLLM 0.16", "bf16"),
        ("dgx-b200:8", "SGLang 0.5.9", "bf16"),
    ],
)
def test_vllm_multiplies_mxfp4_experts_by_mxfp8_on_blackwell(system: str, framework: str, dtype: str) -> None:
    model, chip = load_model("gpt-oss-120b"), load_system(system).chip
    d = Deployment(tp=8, weight_dtype="mxfp4", activation_dtype="bf16", framework=framework)
    made = shard_of(model, d, place(d), chip, engine(framework, chip))
    assert (made.expert_dtype, made.expert_weight_dtype, made.linear_dtype) == (dtype, "mxfp4", "bf16")


def test_rows_say_whether_tokens_count_alike() -> None:
    assert means_of_tokens({"flags": "tpot-derived-from-latency"})
    assert means_of_tokens({"notes": "mean inter-token latency"})
    assert not means_of_tokens({"flags": "", "notes": "TPOT"})
