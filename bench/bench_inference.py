"""Speed of the inference twin: one step of a large mixture of experts, and tables of 100,000 deployments.

Peer, for scale (CPU seconds on a two-core machine of the same kind, one thread): msModeling per forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bench.bench_core import MSMODELING_S
from bench.peers import report, say
from supertwin.inference import Deployment, InferenceCase, predict, sweep
from supertwin.machine import load_system
from supertwin.model import load_model

TARGET_PREDICTION_S, TARGET_SWEEP_S = 2e-3, 2.0
ROWS, LAYOUTS = 100_000, 200
EIGHT_BIT = {"weight_dtype": "int8", "activation_dtype": "int8", "framework": "cloudmatrix-infer"}
Table = dict[str, Any]


def decode_ep320(batch: float) -> InferenceCase:
    """DeepSeek-R1 over 320 dies as in the CM384 paper: micro-batches, one draft, 32 redundant experts."""
    deployment = Deployment(
        **EIGHT_BIT, dp=320, ep=320, dp_attention=True, redundant_experts=32, mtp_tokens=1, mtp_acceptance=0.7,
        microbatch_overlap=True,
    )  # fmt: skip
    return InferenceCase(load_model("deepseek-r1"), load_system("cm384:320"), deployment, "decode", batch, kv_len=4096)


def prefill_cp4(batch: float) -> InferenceCase:
    """Its prefill on 32 dies, the tokens of a prompt cut over four."""
    deployment = Deployment(**EIGHT_BIT, dp=8, ep=8, cp=4, dp_attention=True, microbatch_overlap=True)
    return InferenceCase(
        load_model("deepseek-r1"), load_system("cm384:32"), deployment, "prefill", batch, input_len=4096
    )


def decode_h100(batch: float) -> InferenceCase:
    """DeepSeek-R1 on 16 H100 with expert parallelism and one draft."""
    deployment = Deployment(
        dp=16, ep=16, dp_attention=True, weight_dtype="fp8", activation_dtype="fp8", kv_dtype="fp8", mtp_tokens=1,
        framework="sglang deepep",
    )  # fmt: skip
    return InferenceCase(
        load_model("deepseek-r1"), load_system("dgx-h100:16"), deployment, "decode", batch, kv_len=2048
    )


def decode_dense(batch: float) -> InferenceCase:
    """Llama 3.1 70B on one node."""
    deployment = Deployment(tp=8, weight_dtype="fp8", activation_dtype="fp8", framework="vllm")
    return InferenceCase(
        load_model("llama3.1-70b"), load_system("dgx-h100:8"), deployment, "decode", batch, kv_len=2048
    )


@pytest.mark.parametrize("case", [decode_ep320, prefill_cp4, decode_h100, decode_dense])
def test_predict_one_step(benchmark: Any, case: Callable[[float], InferenceCase], capsys: Any) -> None:
    """A batch that was not asked for before in every round, so that no part of the answer is remembered."""
    number = count()

    def fresh() -> tuple[tuple[InferenceCase], dict[str, Any]]:
        return (case(1.0 + 0.01 * next(number)),), {}

    predict(case(1.0))
    found = benchmark.pedantic(predict, setup=fresh, rounds=200)
    assert found.step_time_s > 0.0
    report(benchmark, {"the target": TARGET_PREDICTION_S, "msModeling, one forward pass": MSMODELING_S}, capsys)


def layouts() -> list[Table]:
    """200 legal layouts of DeepSeek-R1 on a CM384."""
    found = []
    for tp, dp, shared, drafts, overlap in product(
        (1, 2, 4, 8, 16, 32), (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 384), (True, False), (0, 1),
        (True, False),
    ):  # fmt: skip
        if tp * dp <= 384 and 384 % (tp * dp) == 0:
            ep = tp * dp if shared else tp
            found.append({"tp": tp, "dp": dp, "ep": ep, "dp_attention": shared, "mtp_tokens": drafts})
            found[-1]["microbatch_overlap"] = overlap
    chosen = np.random.default_rng(1).permutation(len(found))[:LAYOUTS]
    return [found[i] for i in chosen]


def table(layout: npt.NDArray[np.int64], batch: npt.NDArray[Any], kv_len: npt.NDArray[Any]) -> Table:
    """Columns of some rows; layout: index into layouts()."""
    every = layouts()
    columns = {name: np.array([one[name] for one in every])[layout] for name in every[0]}
    return {**EIGHT_BIT, **columns, "batch": batch, "kv_len": kv_len, "mtp_acceptance": 0.7}


def grid() -> Table:
    """200 layouts x 25 batches x 20 contexts."""
    sizes = np.meshgrid(np.arange(LAYOUTS), 4.0 * np.arange(1, 26), 1024 * np.arange(1, 21), indexing="ij")
    layout, batch, kv_len = (x.ravel() for x in sizes)
    return table(layout, batch, kv_len)


def random_rows() -> Table:
    """A layout, a batch up to 512 and a context up to 32,768 drawn for every row."""
    rng = np.random.default_rng(0)
    return table(rng.integers(0, LAYOUTS, ROWS), rng.uniform(1.0, 512.0, ROWS), rng.integers(1, 32769, ROWS))


@pytest.mark.parametrize("columns", [grid, random_rows])
def test_sweep_of_100000_deployments(benchmark: Any, columns: Callable[[], Table], capsys: Any) -> None:
    asked = columns()
    found = benchmark(sweep, load_model("deepseek-r1"), load_system("cm384"), "decode", asked)
    assert found["legal"].all()
    assert len(found["step_time_s"]) == ROWS
    report(benchmark, {"the target": TARGET_SWEEP_S}, capsys)
    if benchmark.stats is not None:
        rate = ROWS / benchmark.stats.stats.median
        say(capsys, f"{benchmark.name}: {rate:,.0f} deployments per second")
