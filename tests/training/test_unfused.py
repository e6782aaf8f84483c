"""Attention with the score matrix in memory: what ALiBi and the triangle of blocks change."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supertwin.training.unfused import unfused, with_one_head_size
from supertwin.workload.operators import Attention, Gemm, Vector


def attention(length: float, direction: str = "fwd") -> Attention:
    return Attention(
        part="attention/core",
        batch=2.0,
        q_len=length,
        kv_len=length,
        heads=4.0,
        kv_heads=4.0,
        qk_head_dim=128.0,
        v_head_dim=128.0,
        direction=direction,
    )


def flop(operators: list[object]) -> float:
    return sum(float(2.0 * op.m * op.n * op.k * op.groups) for op in operators if isinstance(op, Gemm))


@given(st.sampled_from([1024.0, 2048.0, 4096.0, 8192.0]), st.sampled_from(["fwd", "bwd"]))
def test_triangle_computes_the_blocks_up_to_the_diagonal(length: float, direction: str) -> None:
    """n(n + 1)/2 of n^2 blocks of 1024 rows (AscendSpeed, triangle_attention.py)."""
    blocks = length / 1024.0
    op = attention(length, direction)
    ratio = flop(list(unfused([op], triangle=True))) / flop(list(unfused([op])))
    assert ratio == pytest.approx((blocks + 1.0) / (2.0 * blocks))


def test_alibi_moves_fourteen_bytes_per_score() -> None:
    plain, biased = unfused([attention(2048.0)]), unfused([attention(2048.0)], alibi=True)
    (extra,) = biased[len(plain) :]
    assert isinstance(extra, Vector)
    scores = 2.0 * 4.0 * 2048.0**2
    assert extra.bytes_read + extra.bytes_written == pytest.approx(14.0 * scores)


@given(st.sampled_from([1, 64, 256]))
def test_one_head_size_leaves_plain_attention_and_fills_latent(multiple: int) -> None:
    """192 and 128 become 192, 192 or 256 (ModelLink, multi_head_latent_attention.py)."""
    plain = attention(1024.0)
    latent = replace(plain, qk_head_dim=192.0, v_head_dim=128.0)
    same, filled = with_one_head_size([plain, latent], multiple)
    assert same == plain
    assert isinstance(filled, Attention)
    assert (filled.qk_head_dim, filled.v_head_dim) == ({1: 192.0, 64: 192.0, 256: 256.0}[multiple],) * 2
