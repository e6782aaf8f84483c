"""Speed of the inference twin: one step of a large mixture of experts, and tables of 100,000 deployments.

Peer, for scale (CPU seconds on a two-core machine of the same kind, one thread): msModeling per forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, product
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bench.bench_core import MSMODELING_S
from bench.peers import report, say
from supertwin.inference import Deployment, InferenceCase, predict, recorded, sweep
from supertwin.inference.deploy import Service, at_rate, prepare
from supertwin.machine import load_system
from supertwin.model import load_model

TARGET_PREDICTION_S, TARGET_SWEEP_S = 2e-3, 2.0
ROWS, LAYOUTS = 100_000, 200
EIGHT_BIT = {"weight_dtype": "int8", "activation_dtype": "int8", "framework": "cloudmatrix-infer"}
Table = dict[str, Any]


WIDE = {**EIGHT_BIT, "dp_attention": True, "mtp_tokens": 1, "mtp_acceptance": 0.7}
PAPER = Deployment(**WIDE, dp=320, ep=320, redundant_experts=32, microbatch_overlap=True)


def deepseek(system: str, deployment: Deployment, phase: str, batch: float, **lengths: int) -> InferenceCase:
    return InferenceCase(load_model("deepseek-r1"), load_system(system), deployment, phase, batch, **lengths)


def decode_ep64(i: int) -> InferenceCase:
    """DeepSeek-R1 over 64 dies, one stream."""
    return deepseek("cm384:64", Deployment(**WIDE, dp=64, ep=64), "decode", 32.0 + 0.01 * i, kv_len=4096 + i)


def decode_ep320(i: int) -> InferenceCase:
    """DeepSeek-R1 over 320 dies as in the CM384 paper: micro-batches, one draft, 32 redundant experts."""
    return deepseek("cm384:320", PAPER, "decode", 32.0 + 0.01 * i, kv_len=4096 + i)


def prefill_ep32(i: int) -> InferenceCase:
    """Its prefill on 32 dies with micro-batches."""
    deployment = Deployment(**EIGHT_BIT, dp=32, ep=32, dp_attention=True, redundant_experts=32, microbatch_overlap=True)
    return deepseek("cm384:32", deployment, "prefill", 2.0 + 0.01 * i, input_len=4096 + i)


def prefill_cp4(i: int) -> InferenceCase:
    """The tokens of a prompt cut over four."""
    deployment = Deployment(**EIGHT_BIT, dp=8, ep=8, cp=4, dp_attention=True, microbatch_overlap=True)
    return deepseek("cm384:32", deployment, "prefill", 1.0 + 0.01 * i, input_len=4096 + i)


def mixed_ep64(i: int) -> InferenceCase:
    """Decode with a chunk of prompts in the step, and both parts alone."""
    deployment, sizes = Deployment(**WIDE, dp=64, ep=64), {"kv_len": 4096 + i, "input_len": 3000 + i}
    return deepseek("cm384:64", deployment, "mixed", 32.0 + 0.01 * i, **sizes, chunk_tokens=1024)


def mixed_ep320(i: int) -> InferenceCase:
    """The same with micro-batches."""
    sizes = {"kv_len": 4096 + i, "input_len": 3000 + i}
    return deepseek("cm384:320", PAPER, "mixed", 32.0 + 0.01 * i, **sizes, chunk_tokens=1024)


def afd(i: int) -> InferenceCase:
    """Attention on 64 dies, feed-forward on 128."""
    deployment = Deployment(**WIDE, dp=64, ep=128, afd=(4, 8), afd_unit=16)
    return deepseek("cm384:192", deployment, "decode", 16.0 + 0.01 * i, kv_len=4096 + i)


def decode_h100(i: int) -> InferenceCase:
    """DeepSeek-R1 on 16 H100 with expert parallelism and one draft."""
    deployment = Deployment(
        dp=16, ep=16, dp_attention=True, weight_dtype="fp8", activation_dtype="fp8", kv_dtype="fp8", mtp_tokens=1,
        framework="sglang deepep",
    )  # fmt: skip
    return deepseek("dgx-h100:16", deployment, "decode", 1.0 + 0.01 * i, kv_len=2048 + i)


def decode_dense(i: int) -> InferenceCase:
    """Llama 3.1 70B on one node."""
    deployment = Deployment(tp=8, weight_dtype="fp8", activation_dtype="fp8", framework="vllm")
    model, system = load_model("llama3.1-70b"), load_system("dgx-h100:8")
    return InferenceCase(model, system, deployment, "decode", 1.0 + 0.01 * i, kv_len=2048 + i)


CASES = [
    decode_ep64, decode_ep320, prefill_ep32, prefill_cp4, mixed_ep64, mixed_ep320, afd, decode_h100, decode_dense,
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_predict_one_step(benchmark: Any, case: Callable[[int], InferenceCase], capsys: Any) -> None:
    """A batch and a context that were not asked for before in every round, so that no part of the answer is kept."""
    number = count(2)

    def fresh() -> tuple[tuple[InferenceCase], dict[str, Any]]:
        return (case(next(number)),), {}

    for i in range(2):  # the deployment's operators are noted the second time
        predict(case(i))
    found = benchmark.pedantic(predict, setup=fresh, rounds=200)
    assert found.step_time_s > 0.0
    report(benchmark, {"the target": TARGET_PREDICTION_S, "msModeling, one forward pass": MSMODELING_S}, capsys)


@pytest.mark.parametrize("case", CASES)
def test_predict_a_deployment_for_the_first_time(benchmark: Any, case: Callable[[int], InferenceCase]) -> None:
    """Nothing is known of the layout; chips and calibrations are."""

    def fresh() -> tuple[tuple[InferenceCase], dict[str, Any]]:
        recorded.forget()
        return (case(0),), {}

    predict(case(0))
    assert benchmark.pedantic(predict, setup=fresh, rounds=50).step_time_s > 0.0


def test_steady_state_of_the_paper(benchmark: Any) -> None:
    """Six prefill instances and one decode instance of a CM384: step times over the batch, then TTFT and TPOT."""
    prefill = Deployment(**EIGHT_BIT, dp=32, ep=32, dp_attention=True, redundant_experts=32, microbatch_overlap=True)
    number = count()

    def fresh() -> tuple[tuple[Service], dict[str, Any]]:
        lengths = 4096.0 + next(number), 1024.0
        return (Service(load_model("deepseek-r1"), load_system("cm384:512"), prefill, PAPER, 6, 1, *lengths),), {}

    def served(service: Service) -> float:
        return at_rate(prepare(service), 100.0).tpot_s

    assert benchmark.pedantic(served, setup=fresh, rounds=50) > 0.0


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


def mixed_grid() -> Table:
    """The grid with chunks of 256 to 2,048 tokens of prompts in the steps."""
    found = grid()
    chunk = np.random.default_rng(0).choice([256, 512, 1024, 2048], LAYOUTS)
    return {**found, "input_len": 4096, "chunk_tokens": np.repeat(chunk, ROWS // LAYOUTS)}


@pytest.mark.parametrize(("columns", "phase"), [(grid, "decode"), (random_rows, "decode"), (mixed_grid, "mixed")])
def test_sweep_of_100000_deployments(benchmark: Any, columns: Callable[[], Table], phase: str, capsys: Any) -> None:
    asked = columns()
    found = benchmark(sweep, load_model("deepseek-r1"), load_system("cm384"), phase, asked)
    assert found["legal"].all()
    assert len(found["step_time_s"]) == ROWS
    report(benchmark, {"the target": TARGET_SWEEP_S}, capsys)
    if benchmark.stats is not None:
        rate = ROWS / benchmark.stats.stats.median
        say(capsys, f"{benchmark.name}: {rate:,.0f} deployments per second")


def test_one_call_against_row_by_row(capsys: Any) -> None:
    """The same rows priced in one call and one after the other, in one run."""
    model, system, some = load_model("deepseek-r1"), load_system("cm384"), 500
    columns = {n: x[:some] if isinstance(x, np.ndarray) else x for n, x in random_rows().items()}
    whole = random_rows()
    seconds = {}
    for name, work in {
        "one call": lambda: sweep(model, system, "decode", whole),
        "row by row": lambda: [predict(one) for one in cases_of(columns, some)],
    }.items():
        work()
        start = perf_counter()
        work()
        seconds[name] = (perf_counter() - start) / (ROWS if name == "one call" else some)
    ratio = seconds["row by row"] / seconds["one call"]
    assert ratio > 10.0
    say(capsys, f"{1e6 * seconds['one call']:.1f} us per row in one call, {ratio:.0f} x faster than row by row")


def cases_of(columns: Table, some: int) -> list[InferenceCase]:
    """The first rows of a table as cases."""
    rows = [{n: x[i].item() if isinstance(x, np.ndarray) else x for n, x in columns.items()} for i in range(some)]
    model, system = load_model("deepseek-r1"), load_system("cm384")
    sizes = [(row.pop("batch"), row.pop("kv_len")) for row in rows]
    return [
        InferenceCase(model, system, Deployment(**row), "decode", batch, kv_len=kv_len)
        for row, (batch, kv_len) in zip(rows, sizes, strict=True)
    ]


def test_steady_state_of_a_mixing_engine(benchmark: Any) -> None:
    """Llama 70B under vLLM on one node: decode, prefill and mixed steps over the batch, then TTFT and TPOT."""
    deployment = Deployment(tp=8, weight_dtype="fp8", activation_dtype="fp8", framework="vllm")
    number = count()

    def fresh() -> tuple[tuple[Service], dict[str, Any]]:
        lengths = 2048.0 + next(number), 256.0
        model, system = load_model("llama3.1-70b"), load_system("dgx-h100:8")
        return (Service(model, system, deployment, deployment, 0, 1, *lengths),), {}

    def served(service: Service) -> float:
        return at_rate(prepare(service), 1.0).tpot_s

    assert benchmark.pedantic(served, setup=fresh, rounds=50) > 0.0
