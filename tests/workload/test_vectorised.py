"""One formula for numbers and arrays: a sweep equals the loop over its points."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from supertwin.model import load_model
from supertwin.workload import (
    Shard,
    Step,
    backward,
    embedding_operators,
    head_operators,
    kv_bytes,
    layer_operators,
    model_flops_per_token,
    mtp_operators,
    weights_bytes,
)
from supertwin.workload.operators import Operator

NAMES = [
    "llama-3.1-8b", "gpt3-175b", "deepseek-v3", "deepseek-v3.2", "deepseek-v4-flash", "gpt-oss-120b", "gemma3-12b",
    "qwen3-next-80b-a3b", "nemotron3-super-120b-a12b", "longcat-flash", "llama4-scout-17b-16e", "kimi-k3", "palm-540b",
]  # fmt: skip
BATCH = np.array([1.0, 3.0, 16.0, 96.0])
LENGTH = np.array([64.0, 1000.0, 8192.0, 50_000.0])
TP = np.array([2.0, 2.0, 4.0, 8.0])
EP = np.array([2.0, 8.0, 16.0, 64.0])


def lists(name: str, phase: str, values: tuple[object, object, object, object]) -> list[Operator]:
    model = load_model(name)
    sequences, length, tp, ep = values
    q_len = 2 if phase == "decode" else length
    step = Step(phase=phase, sequences=sequences, q_len=q_len, kv_len=length)  # type: ignore[arg-type]
    training = phase == "train"
    shard = Shard(tp=tp, ep=ep, cp=2, fused_experts=not training, sequence_parallel=training)  # type: ignore[arg-type]
    ops = [op for layer in model.layers for op in layer_operators(model, layer, step, shard)]
    ops += (
        embedding_operators(model, step, shard) + head_operators(model, step, shard) + mtp_operators(model, step, shard)
    )
    return ops + backward(ops) if training else ops


@pytest.mark.parametrize("phase", ["train", "prefill", "decode"])
@pytest.mark.parametrize("name", NAMES)
def test_sweep_equals_loop(name: str, phase: str) -> None:
    sweep = lists(name, phase, (BATCH, LENGTH, TP, EP))
    for i in range(len(BATCH)):
        point = lists(name, phase, (float(BATCH[i]), float(LENGTH[i]), float(TP[i]), float(EP[i])))
        assert [op.part for op in point] == [op.part for op in sweep]
        for one, many in zip(point, sweep, strict=True):
            for field in fields(one):
                mine, theirs = getattr(one, field.name), getattr(many, field.name)
                if isinstance(mine, (str, bool)):
                    assert mine == theirs
                else:
                    assert mine == pytest.approx(float(np.broadcast_to(theirs, BATCH.shape)[i])), (one.part, field.name)


@pytest.mark.parametrize("name", NAMES)
def test_memory_and_flops_of_arrays(name: str) -> None:
    model = load_model(name)
    for f in (
        lambda n, tp: kv_bytes(model, n, Shard(tp=tp)),
        lambda n, tp: weights_bytes(model, Shard(tp=tp)) + 0 * n,
        lambda n, tp: model_flops_per_token(model, n) + 0 * tp,
    ):
        many = f(LENGTH, TP)
        assert many == pytest.approx(np.array([f(float(n), float(t)) for n, t in zip(LENGTH, TP, strict=True)]))


def test_sizes_are_positive_and_finite() -> None:
    for name in NAMES:
        for phase in ("train", "prefill", "decode"):
            for op in lists(name, phase, (BATCH, LENGTH, TP, EP)):
                for field in fields(op):
                    value = getattr(op, field.name)
                    if not isinstance(value, (str, bool)):
                        assert np.all(np.isfinite(value)), (name, phase, op.part, field.name)
                        assert np.all(np.asarray(value) >= 0), (name, phase, op.part, field.name)
