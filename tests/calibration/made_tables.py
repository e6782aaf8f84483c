"""Operator tables of a machine that is known: rooflines written down here, independent of the cost formulas.

    time = fixed + max(FLOP / (CUBE x peak), bytes / (MEMORY x bandwidth))

Shapes lie where a real kernel is such a roofline: whole waves of tiles, weights and caches far larger than the L2.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from supertwin.machine.chips import load_chip

Timer = Callable[[str, float, float], str]
CHIP = load_chip("h100-sxm")
CUBE, MEMORY = 0.6, 0.8
FIXED_S = {"gemm": 4e-6, "attention": 9e-6, "norm": 2.5e-6, "moe": 2e-5}
PEAK, BANDWIDTH = CHIP.peak("bf16"), CHIP.memory_bytes_per_s


def roofline_s(kind: str, flop: float, moved: float) -> float:
    """Seconds of the known machine."""
    return FIXED_S[kind] + max(flop / (CUBE * PEAK), moved / (MEMORY * BANDWIDTH))


def write_tables(folder: Path) -> Path:
    """Tables of products, experts, attention and norms for CHIP under folder. Returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(5)

    def write(name: str, header: str, rows: list[str]) -> None:
        with gzip.open(folder / f"{name}.csv.gz", "wt", encoding="utf-8") as file:
            file.write("\n".join([header, *rows]) + "\n")

    def us(kind: str, flop: float, moved: float) -> str:
        return f"{1e6 * roofline_s(kind, flop, moved) * np.exp(random.normal(0.0, 0.01)):.5f}"

    products = list(_gemm(us))
    again = [row.replace("trtllm", "sglang") for row in reversed(products)]
    write("gemm", "chip,dtype,m,n,k,us,method,framework,source", [*products, *again[::2]])
    write(
        "moe",
        "chip,dtype,tokens,experts,topk,hidden,inter,ep,tp,distribution,scope,gated,us,framework,source",
        _moe(us),
    )
    shape = "batch,q_len,{},heads,kv_heads,qk_head_dim,v_head_dim,window,us,framework,source"
    write("attention_prefill", "chip,kind,dtype,kv_dtype," + shape.format("prefix_len"), _prefill(us))
    write("attention_decode", "chip,kind,dtype,kv_dtype," + shape.format("kv_len"), _decode(us))
    write("norm_elementwise", "chip,op,dtype,tokens,width,tp,us,method,source", _norms(us))
    return folder


def _gemm(us: Timer) -> Iterator[str]:
    wide = (2048, 4096, 6144, 8192, 12288, 16384)
    for m, n, k in itertools.product((1, 2, 4, 8, 16, 8192, 16384), wide, (4096, 8192, 12288, 16384)):
        if m <= 16 and n * k < 2**25:
            continue  # weights that take turns in the L2
        time = us("gemm", 2.0 * m * n * k, 2.0 * (m * k + n * k + m * n))
        yield f"{CHIP.name},bf16,{m},{n},{k},{time},graph,trtllm 1,made"


def _moe(us: Timer) -> list[str]:
    rows = []
    for tokens, experts, hidden, inter in itertools.product(
        (8, 16, 32, 16384, 32768, 65536), (8, 16, 32), (4096, 6144, 8192), (4096, 8192, 14336)
    ):
        count = tokens * 4
        if count < experts:
            continue
        moved = 2.0 * (3.0 * experts * hidden * inter)
        time = us("moe", 6.0 * count * hidden * inter, moved)
        rows.append(
            f"{CHIP.name},bf16,{tokens},{experts},4,{hidden},{inter},1,1,balanced,fused-moe,1,{time},trtllm 1,made"
        )
    return rows


def _prefill(us: Timer) -> list[str]:
    rows = []
    for batch, length, heads in itertools.product((1, 2, 4, 8, 16), (4096, 6144, 8192, 12288, 16384), (16, 32, 64)):
        flop = 4.0 * batch * heads * 128 * length * (length + 1) / 2
        time = us("attention", flop, 0.0)
        rows.append(f"{CHIP.name},gqa,bf16,bf16,{batch},{length},0,{heads},8,128,128,0,{time},trtllm 1,made")
    return rows


def _decode(us: Timer) -> list[str]:
    rows = []
    for batch, length, kv_heads in itertools.product((16, 32, 48, 64, 128), (4096, 8192, 16384, 32768), (4, 8, 16)):
        moved = 2.0 * batch * length * kv_heads * 2 * 128
        time = us("attention", 0.0, moved)
        rows.append(
            f"{CHIP.name},gqa,bf16,bf16,{batch},1,{length},{4 * kv_heads},{kv_heads},128,128,0,{time},trtllm 1,made"
        )
    return rows


def _norms(us: Timer) -> list[str]:
    rows = []
    for tokens, width in itertools.product(
        (1, 2, 3, 4, 6, 8, 32768, 49152, 65536, 98304, 131072), (2048, 4096, 5120, 8192)
    ):
        values = float(tokens * width)
        for op, moved in (("input_layernorm", 4.0), ("mlp_act", 6.0)):
            for method, more in (("kernel", 0.0), ("event", 5.0)):
                time = float(us("norm", 0.0, moved * values)) + more
                rows.append(f"{CHIP.name},{op},fp16,{tokens},{width},1,{time:.5f},{method},made")
    return rows
