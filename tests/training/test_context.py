"""Context parallelism and packs: equal compute of all methods, traffic, causal balance, lengths of samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supertwin.core.errors import InputError
from supertwin.core.prediction import Prediction
from supertwin.machine.systems import load_system
from supertwin.model.load import load_model
from supertwin.training import Layout, TrainingCase, check, predict
from supertwin.training.shape import pack_excess, span_length
from supertwin.workload.layer import layer_operators
from supertwin.workload.operators import Attention, Communication, Operator
from supertwin.workload.shard import Shard, Step

MODEL = load_model("llama3.1-8b")


def job(**changes: object) -> TrainingCase:
    case = TrainingCase(
        model=MODEL, system=load_system("dgx-h100:16"), layout=Layout(cp=8, dp=2), micro_batch=1, global_batch=16,
        seq_len=65536, framework="megatron-core", recompute="full",
    )  # fmt: skip
    return replace(case, **changes)  # type: ignore[arg-type]


def layer(context: str, cp: int = 8, ulysses: int = 1, balanced: bool = True) -> list[Operator]:
    shard = Shard(cp=cp, context=context, ulysses=ulysses, balanced_context=balanced, fused_experts=False)
    step = Step(phase="train", sequences=1, q_len=65536.0, kv_len=65536.0)
    return layer_operators(MODEL, MODEL.layers[0], step, shard)


def pairs(ops: list[Operator]) -> float:
    """Query-key pairs times heads on a rank, causal half left out where the kernel masks it."""
    core = next(op for op in ops if isinstance(op, Attention))
    seen = core.kv_len - core.q_len / 2 if core.causal else core.kv_len
    return float(core.batch * core.heads * core.q_len * seen)


def moved(ops: list[Operator]) -> float:
    return sum(float(op.message_bytes * op.count) for op in ops if isinstance(op, Communication))


def seconds(prediction: Prediction, prefix: str) -> float:
    return sum(part.time_s for part in prediction.breakdown if part.part.startswith(prefix))


@pytest.mark.parametrize(("context", "ulysses"), [("ulysses", 1), ("hybrid", 2), ("hybrid", 4), ("all_gather", 1)])
def test_every_method_computes_the_same(context: str, ulysses: int) -> None:
    assert pairs(layer(context, ulysses=ulysses)) == pytest.approx(pairs(layer("ring")), rel=1e-12)


def test_work_is_conserved() -> None:
    assert 8 * pairs(layer("ring")) == pytest.approx(pairs(layer("ring", cp=1)), rel=1e-12)


def test_hybrid_ends_in_its_two_methods() -> None:
    assert moved(layer("hybrid", ulysses=1)) == moved(layer("ring"))
    assert moved(layer("hybrid", ulysses=8)) == moved(layer("ulysses"))
    ring, both = (predict(job(cp_method=m, ulysses_size=u)) for m, u in (("ring", 0), ("hybrid", 1)))
    assert both.step_time_s == pytest.approx(ring.step_time_s)


def test_traffic_by_hand() -> None:
    """Llama 3.1 8B, 8,192 tokens per rank: ring turns keys and values of 8 heads 7 times; Ulysses sends queries,
    keys, values and outputs once (arXiv 2309.14509)."""
    rows = 65536 / 8
    assert moved(layer("ring")) == 7 * rows * 2 * 8 * 128 * 2.0
    assert moved(layer("ulysses")) == rows * (32 + 2 * 8 + 32) * 128 * 2.0


def test_contiguous_chunks_load_the_last_rank() -> None:
    """Without zigzag the last of n ranks has (2 n - 1) / n of the mean causal work."""
    assert pairs(layer("ring", balanced=False)) == pytest.approx(15 / 8 * pairs(layer("ring")))
    assert predict(job(cp_balanced=False)).step_time_s > predict(job()).step_time_s


def test_hybrid_needs_a_legal_inner_group() -> None:
    with pytest.raises(InputError, match=r"ulysses_size\(3\) to divide cp\(8\) .* legal ulysses_size: 1, 2, 4, 8"):
        check(job(cp_method="hybrid", ulysses_size=3))


def test_span_stands_for_the_squares() -> None:
    """Attention of drawn samples is that of equal ones of mean (1 + cv^2)."""
    lengths = np.random.default_rng(1).lognormal(0.0, 0.8, 500_000)
    mean, cv = float(lengths.mean()), float(lengths.std() / lengths.mean())
    per_token = float((lengths**2).sum() / lengths.sum()) / mean
    case = job(packed=True, sample_len=1000.0, sample_cv=cv)
    assert span_length(case) / 1000.0 == pytest.approx(per_token, rel=1e-9)


@given(st.floats(1.0, 65536.0), st.floats(0.0, 3.0))
def test_packs_cost_between_their_mean_and_one_sample(mean: float, cv: float) -> None:
    span = span_length(job(packed=True, sample_len=mean, sample_cv=cv))
    assert mean <= span * (1 + 1e-12)
    assert span <= 65536.0
    assert span_length(job()) == 65536.0


def test_long_tails_make_replicas_wait() -> None:
    even, spread = job(packed=True, sample_len=2048.0), job(packed=True, sample_len=2048.0, sample_cv=1.0)
    assert pack_excess(even) == 1.0
    assert pack_excess(spread) > pack_excess(replace(spread, global_batch=1600)) > 1.0
    assert predict(spread).step_time_s > predict(even).step_time_s


def test_packs_without_lengths_hold_four_samples() -> None:
    assert span_length(job(packed=True)) == 65536 / 4
