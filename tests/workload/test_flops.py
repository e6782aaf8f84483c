"""Arithmetic of the operators against weight counts and published formulas."""

from __future__ import annotations

import pytest

from supertwin.model import load_model, model_names, parameter_count
from supertwin.workload import (
    Shard,
    Step,
    backward,
    head_operators,
    model_flops_per_token,
    model_operators,
    mtp_operators,
)
from tests.workload.closed_forms import attention_flop, product_flop

TRAINING = Shard(fused_experts=False)


def train(seq_len: int, sequences: int = 1) -> Step:
    return Step(phase="train", sequences=sequences, q_len=seq_len, kv_len=seq_len)


def test_products_are_two_per_active_weight_and_token() -> None:
    """All 268 models, all phases."""
    steps = [
        (train(512), TRAINING),
        (Step(phase="prefill", sequences=3, q_len=128, kv_len=128), Shard()),
        (Step(phase="decode", sequences=64, q_len=2, kv_len=4096), Shard()),
    ]
    wrong = []
    for name in model_names():
        model = load_model(name)
        head = 2.0 * model.vocab * model.hidden
        active = 2.0 * parameter_count(model).active - head
        for step, shard in steps:
            tokens = float(step.tokens(shard))
            ratio = product_flop(model_operators(model, step, shard)) / (active * tokens)
            if abs(ratio - 1) > 0.004:
                wrong.append((name, step.phase, ratio))
    assert wrong == []


def test_head_counts_all_training_tokens_and_one_per_prefilled_sequence() -> None:
    model = load_model("llama-3.1-8b")
    per_row = 2.0 * 128256 * 4096
    assert product_flop(head_operators(model, train(512, 2), TRAINING)) == pytest.approx(1024 * per_row)
    prefill = Step(phase="prefill", sequences=3, q_len=512, kv_len=512)
    assert product_flop(head_operators(model, prefill, Shard())) == pytest.approx(3 * per_row)


@pytest.mark.parametrize("name", ["megatron21-gpt-1.7b", "megatron21-gpt-18.4b", "megatron21-gpt-145.6b", "gpt3-175b"])
@pytest.mark.parametrize("seq_len", [1024, 2048])
def test_megatron_formula(name: str, seq_len: int) -> None:
    """arXiv 2104.04473, eq. 3: 96 B s l h^2 (1 + s/6h + V/16lh) with recomputation; 72 and V/12lh without."""
    model = load_model(name)
    layers, hidden, vocab = model.n_layers, model.hidden, model.vocab
    formula = 72 * layers * hidden**2 * (1 + seq_len / (6 * hidden) + vocab / (12 * layers * hidden))
    assert model_flops_per_token(model, seq_len, causal=False) == pytest.approx(formula, rel=0.002)


@pytest.mark.parametrize(
    "name",
    ["llama-3.1-8b", "mixtral-8x7b", "deepseek-v3", "gpt-oss-20b", "gemma3-12b", "palm-540b", "llama4-scout-17b-16e"],
)
def test_attention_of_the_operators_is_that_of_the_formula(name: str) -> None:
    model, seq_len = load_model(name), 6000
    cores = [op for op in model_operators(model, train(seq_len), TRAINING) if op.part == "attention/core"]
    expected = model_flops_per_token(model, seq_len, "forward") - 2 * parameter_count(model).active
    assert attention_flop(cores) / seq_len == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "deepseek-v3", "qwen3-30b-a3b", "gpt3-175b"])
def test_backward_is_twice_forward(name: str) -> None:
    model = load_model(name)
    forward = model_operators(model, train(1024), TRAINING)
    assert product_flop(backward(forward)) == pytest.approx(2 * product_flop(forward))
    assert product_flop(backward(forward, weight_gradients=False)) == pytest.approx(product_flop(forward))


def test_training_is_three_forwards() -> None:
    model = load_model("qwen3.5-397b-a17b")
    assert model_flops_per_token(model, 4096) == 3 * model_flops_per_token(model, 4096, "forward")


def test_deepseek_v3_per_token() -> None:
    """arXiv 2505.09343, table 2: about 250 GFLOP per token of training at 4K."""
    assert model_flops_per_token(load_model("deepseek-v3"), 4096) / 1e9 == pytest.approx(250, rel=0.06)


def test_llama_405b_per_token() -> None:
    """arXiv 2407.21783, section 3.2: 3.8e25 FLOP for 15.6 T tokens at 8K."""
    assert model_flops_per_token(load_model("llama-3.1-405b"), 8192) * 15.6e12 == pytest.approx(3.8e25, rel=0.08)


def test_mtp_module_is_one_layer_a_joining_matrix_and_the_head() -> None:
    model = load_model("deepseek-v3")
    count = parameter_count(model)
    head = model.vocab * model.hidden
    ops = mtp_operators(model, train(512), TRAINING)
    assert product_flop(ops) == pytest.approx(2 * 512 * (count.mtp_active + head), rel=0.002)
    assert mtp_operators(load_model("llama-3.1-8b"), train(512), TRAINING) == []
