"""Speed of the parts: one layer, one training step, one decode step, collectives, a table.

Peers, for scale (CPU seconds on a two-core machine of the same kind, one thread): SimuMax and Calculon per training
layout judged, msModeling per forward pass, its layout search per layout.
"""

from __future__ import annotations

import time
from dataclasses import replace
from importlib import resources
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.peers import report, say
from supertwin.cost.engine import CostEngine
from supertwin.inference import Deployment, InferenceCase
from supertwin.inference import predict as predict_inference
from supertwin.machine import load_chip, load_system
from supertwin.model import load_model
from supertwin.network.collective import collective_time
from supertwin.network.group import Group
from supertwin.training import predict as predict_training
from supertwin.training.case import Layout, TrainingCase
from supertwin.validation import tables
from supertwin.validation.predictors import PREDICTORS
from supertwin.workload.operators import Attention, Gemm, Vector

SIMUMAX_S, CALCULON_S = 0.03, 1.0 / 276.0
MSMODELING_S = 7.7

TOKENS, HIDDEN, INTER = 4096, 4096, 14336


def test_price_one_layer(benchmark: Any) -> None:
    """The operators of one dense layer in one call of the engine."""
    engine = CostEngine(load_chip("h100-sxm"))
    sizes = {"batch": 1, "q_len": TOKENS, "kv_len": TOKENS, "heads": 32, "kv_heads": 8}
    layer = [
        Gemm(part="qkv", m=TOKENS, n=6144, k=HIDDEN),
        Attention(part="attention", **sizes, qk_head_dim=128, v_head_dim=128),
        Gemm(part="out", m=TOKENS, n=HIDDEN, k=HIDDEN),
        Gemm(part="up", m=TOKENS, n=2 * INTER, k=HIDDEN),
        Gemm(part="down", m=TOKENS, n=HIDDEN, k=INTER),
        Vector(part="norm", op="norm", bytes_read=2.0 * TOKENS * HIDDEN, bytes_written=2.0 * TOKENS * HIDDEN),
    ]
    costs = benchmark(engine.price, layer)
    assert len(costs) == len(layer)


def test_predict_one_training_step(benchmark: Any, capsys: Any) -> None:
    case = TrainingCase(
        model=load_model("llama3.1-70b"),
        system=load_system("dgx-h100:512"),
        layout=Layout(tp=8, pp=4, dp=16),
        micro_batch=1,
        global_batch=512,
        seq_len=8192,
    )
    assert benchmark(predict_training, case).step_time_s > 0.0
    report(benchmark, {"SimuMax, one layout": SIMUMAX_S, "Calculon, one layout": CALCULON_S}, capsys)


@pytest.mark.parametrize("model", ["llama3.1-405b", "pangu-ultra-moe-718b"])
def test_predict_training_steps_of_new_lengths(benchmark: Any, model: str, capsys: Any) -> None:
    """A sequence length that was not seen before in every call: no operator is remembered."""
    dense = model.startswith("llama")
    system = load_system("dgx-h100:1024" if dense else "cm384:4096")
    layout = Layout(tp=8, pp=16, dp=8) if dense else Layout(tp=8, pp=16, ep=32, dp=32)
    case = TrainingCase(load_model(model), system, layout, micro_batch=1, global_batch=1024, seq_len=4096)
    lengths = count(4096, 16)
    assert benchmark(lambda: predict_training(replace(case, seq_len=next(lengths)))).step_time_s > 0.0
    report(benchmark, {"SimuMax, one layout": SIMUMAX_S, "Calculon, one layout": CALCULON_S}, capsys)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_predict_one_inference_step(benchmark: Any, phase: str, capsys: Any) -> None:
    deployment = Deployment(tp=1, dp=64, ep=64, dp_attention=True, weight_dtype="int8", activation_dtype="int8")
    lengths = {"kv_len": 4096} if phase == "decode" else {"input_len": 4096}
    model, system = load_model("deepseek-r1"), load_system("cm384:64")
    case = InferenceCase(model, system, deployment, phase, 32.0 if phase == "decode" else 1.0, **lengths)
    assert benchmark(predict_inference, case).step_time_s > 0.0
    report(benchmark, {"msModeling, one forward pass": MSMODELING_S}, capsys)


@pytest.mark.parametrize("table", ["training", "inference", "kernels", "collectives"])
def test_validate_100_rows(benchmark: Any, table: str) -> None:
    """Every so many rows of a shipped table, caches warm."""
    rows = tables.load(table).rows
    rows = rows[:: max(1, len(rows) // 100)][:100]
    assert len(benchmark(PREDICTORS[table], rows)) == len(rows)


def test_read_the_largest_table(benchmark: Any) -> None:
    assert len(benchmark(tables.load, "training").rows) > 2000


def test_load_a_system(benchmark: Any, tmp_path: Path) -> None:
    """A user's own file, which is not cached."""
    path = tmp_path / "mine.toml"
    path.write_text((resources.files("supertwin") / "data" / "systems" / "dgx-h100.toml").read_text(encoding="utf-8"))
    assert benchmark(load_system, str(path)).devices == 8


def test_collective_of_1000_sizes(benchmark: Any) -> None:
    """One all-reduce over 384 dies in closed form, a thousand message sizes in one call."""
    system, sizes = load_system("cm384"), np.geomspace(1e3, 1e9, 1000)
    found = benchmark(collective_time, system, "all_reduce", sizes, Group(384))
    assert np.shape(found.time_s) == (1000,)


def test_a_thousand_batches_in_one_call(benchmark: Any, capsys: Any) -> None:
    """One vectorised call against the plain twin: the same products, one call each."""
    engine, batches = CostEngine(load_chip("ascend-910c-die")), np.linspace(1.0, 4096.0, 1000)
    together = benchmark(engine.price, [Gemm(part="up", m=batches, n=INTER, k=HIDDEN)])[0].time_s
    start = time.perf_counter()
    alone = [engine.price([Gemm(part="up", m=float(m), n=INTER, k=HIDDEN)])[0].time_s for m in batches]
    plain_s = time.perf_counter() - start
    np.testing.assert_allclose(together, alone, rtol=1e-12)
    if benchmark.stats is not None:
        median = benchmark.stats.stats.median
        say(capsys, f"{benchmark.name}: {1e3 * median:.2f} ms, {plain_s / median:,.0f} x faster than one call each")
