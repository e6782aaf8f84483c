"""Sparse cores of engines: padded heads and lists of keys that are walked to their end."""

from __future__ import annotations

import pytest

from supertwin.inference.engines import engine
from supertwin.inference.picks import Picks, narrow_prompts, picks_of, with_narrow_cores, with_padding
from supertwin.machine import load_chip
from supertwin.workload.operators import Attention, Gemm

SPARSE = Attention(
    part="attention/core", batch=8.0, q_len=1.0, kv_len=300.0, heads=16.0, kv_heads=1.0, qk_head_dim=576.0,
    v_head_dim=512.0, latent=True, gathered=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("framework", "chip", "phase", "picks"),
    [
        ("vLLM 0.13.0", "h200-sxm", "decode", Picks(64, True)),
        ("vLLM 0.13.0", "b200-sxm", "prefill", Picks(128, True)),
        ("SGLang 0.5.6", "h200-sxm", "prefill", Picks(64)),
        ("SGLang 0.5.6", "h200-sxm", "decode", Picks()),
        ("TensorRT-LLM 1.0", "h200-sxm", "decode", Picks()),
        ("vLLM-Ascend 0.9", "ascend-910b2", "decode", Picks()),
    ],
)
def test_each_engine_has_its_kernel(framework: str, chip: str, phase: str, picks: Picks) -> None:
    part = load_chip(chip)
    assert picks_of(engine(framework, part), part, phase) == picks


def test_padding_fills_heads_and_slots() -> None:
    product = Gemm(part="attention/q", m=8.0, n=1536.0, k=7168.0)
    (padded, same) = with_padding([SPARSE, product], 2048, Picks(64, True))
    assert isinstance(padded, Attention)
    assert (padded.heads, float(padded.kv_len)) == (64.0, 2048.0)
    assert same is product
    (plain,) = with_padding([SPARSE], 2048, Picks())
    assert isinstance(plain, Attention)
    assert (plain.heads, plain.kv_len) == (16.0, 300.0)


@pytest.mark.parametrize(
    ("framework", "chip", "cache", "narrow"),
    [
        ("TensorRT-LLM 1.0", "h200-sxm", "fp8", True),
        ("TensorRT-LLM 1.0", "h200-sxm", "bf16", False),
        ("SGLang 0.5.6", "gb300", "fp8", True),
        ("SGLang 0.5.6", "h200-sxm", "fp8", False),
        ("vLLM 0.14.1", "gb300", "fp8", False),
        ("vLLM-Ascend 0.9", "ascend-910b2", "int8", False),
    ],
)
def test_prompts_attend_in_the_format_of_the_cache(framework: str, chip: str, cache: str, narrow: bool) -> None:
    part = load_chip(chip)
    assert narrow_prompts(engine(framework, part), part, cache) == narrow


def test_only_expanded_cores_of_prompts_are_narrow() -> None:
    expanded = Attention(
        part="attention/core", batch=1.0, q_len=4096.0, kv_len=4096.0, heads=128.0, kv_heads=128.0, qk_head_dim=192.0,
        v_head_dim=128.0, phase="prefill",
    )  # fmt: skip
    narrow, same = with_narrow_cores([expanded, SPARSE], "fp8")
    assert isinstance(narrow, Attention)
    assert (narrow.kv_dtype, narrow.dtype) == ("fp8", "bf16")
    assert same is SPARSE
