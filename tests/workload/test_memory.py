"""Bytes of weights, caches and activations against published figures."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import supertwin
from supertwin.core.errors import InputError
from supertwin.model import load_model, parameter_count
from supertwin.workload import (
    Recompute,
    Shard,
    Stage,
    StatePolicy,
    Step,
    activation_bytes,
    device_parameters,
    kv_bytes,
    kv_bytes_per_token,
    optimizer_operators,
    weights_bytes,
)
from supertwin.workload.operators import Communication, Vector

TABLE = Path(supertwin.__file__).parent / "data" / "measurements" / "memory_reference.csv"
ROWS = [r for r in csv.DictReader(TABLE.read_text().splitlines()) if r["quantity"] != "memory_param_optim_gib"]
# micro-batch and interleaved chunks per device of the four models (arXiv 2205.05198, table 3)
SETTING = {"gpt-22b": (4, 1), "gpt3-175b": (1, 3), "gpt-530b": (1, 3), "gpt-1t": (1, 1)}


def korthikanti_gib(model_name: str, scheme: str, pp: int = 1) -> float:
    """First pipeline stage: activations of L layers, times 1 + (p - 1) / (p m) when interleaved (section 4.2.3)."""
    model = load_model(model_name)
    micro_batch, chunks = SETTING[model_name]
    mode = "full" if scheme == "full" else "selective" if "selective" in scheme else "none"
    step = Step(phase="train", sequences=micro_batch, q_len=2048, kv_len=2048)
    shard = Shard(tp=8, sequence_parallel="seqpar" in scheme)
    one = activation_bytes(model, model.layers[0], step, shard, Recompute(mode, flash=False, dropout=True))
    interleaved = 1 + (pp - 1) / (pp * chunks) if chunks > 1 else 1
    return float(one) * model.n_layers * interleaved / 2**30


@pytest.mark.parametrize("row", ROWS, ids=[r["id"] for r in ROWS])
def test_korthikanti(row: dict[str, str]) -> None:
    """Every activation figure of the table: 8 in GiB (1 %), 20 relative (0.2 points)."""
    if row["unit"].startswith("GiB"):
        value = korthikanti_gib(row["model"], row["scheme"], int(row["pp"]))
        assert value == pytest.approx(float(row["value"]), rel=0.01)
    else:
        share = 100 * korthikanti_gib(row["model"], row["scheme"]) / korthikanti_gib(row["model"], "none")
        assert share == pytest.approx(float(row["value"]), abs=0.2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("deepseek-v3", 61 * 576 * 2),  # 70.3 KB per token, arXiv 2505.09343, table 1
        ("llama-3.1-405b", 2 * 126 * 8 * 128 * 2),  # 516.1 KB, same table
        ("qwen2.5-32b", 2 * 64 * 8 * 128 * 2),
        ("qwen3-next-80b-a3b", 2 * 12 * 2 * 256 * 2),  # one layer in four
        ("gpt-oss-120b", 2 * 18 * 8 * 64 * 2),  # every second layer is a window
    ],
)
def test_cache_per_token(name: str, expected: float) -> None:
    assert kv_bytes_per_token(load_model(name), Shard()) == expected


def test_cache_of_the_table_in_the_paper() -> None:
    """arXiv 2505.09343, table 1: 70.272 KB, 327.680 KB (Qwen2.5-72B), 516.096 KB."""
    assert kv_bytes_per_token(load_model("deepseek-v3"), Shard()) == 70272
    assert kv_bytes_per_token(load_model("llama-3.1-405b"), Shard()) == 516096
    assert kv_bytes_per_token(load_model("qwen2-72b"), Shard()) == 327680


def test_cache_is_cut_by_heads_and_not_below_one() -> None:
    model = load_model("llama-3.1-70b")
    whole = kv_bytes_per_token(model, Shard())
    assert kv_bytes_per_token(model, Shard(tp=8)) == whole / 8
    assert kv_bytes_per_token(model, Shard(tp=16)) == whole / 8
    latent = load_model("deepseek-v3")
    assert kv_bytes_per_token(latent, Shard(tp=8)) == kv_bytes_per_token(latent, Shard())


def test_windows_and_states_stop_growing() -> None:
    oss = load_model("gpt-oss-120b")
    assert kv_bytes(oss, 128, Shard()) == 2 * kv_bytes_per_token(oss, Shard()) * 128
    assert kv_bytes(oss, 10_128, Shard()) - kv_bytes(oss, 128, Shard()) == 10_000 * kv_bytes_per_token(oss, Shard())
    hybrid = load_model("nemotron3-nano-30b-a3b")
    state = kv_bytes(hybrid, 0, Shard())
    # 23 Mamba-2 layers of 64 x 64 x 128 numbers in FP32, and the convolution's last inputs
    assert state == pytest.approx(23 * (64 * 64 * 128 * 4 + 3 * (64 * 64 + 2 * 8 * 128) * 2))
    growth = kv_bytes(hybrid, 1000, Shard()) - state
    assert growth == pytest.approx(1000 * kv_bytes_per_token(hybrid, Shard()))


def test_compressed_cache_is_small() -> None:
    """DeepSeek V4 keeps entries of every 4th or 128th token: less than a tenth of V3.2 per token."""
    ratio = kv_bytes_per_token(load_model("deepseek-v4-pro"), Shard()) / kv_bytes_per_token(
        load_model("deepseek-v3.2"), Shard()
    )
    assert ratio < 0.15


@pytest.mark.parametrize(
    "name", ["llama-3.1-70b", "deepseek-v3", "gpt3-175b", "kimi-k3", "gemma2-27b", "longcat-flash"]
)
def test_one_device_holds_all_weights(name: str) -> None:
    model = load_model(name)
    assert device_parameters(model, Shard()).total == pytest.approx(parameter_count(model).stored, rel=1e-5)
    assert weights_bytes(model, Shard()) == pytest.approx(2 * parameter_count(model).stored, rel=1e-5)


def test_stages_add_up() -> None:
    model = load_model("deepseek-v3")
    shard = Shard(tp=2, ep=8)
    first = Stage((3, 20), embedding=True, head=False, mtp=False)
    last = Stage((0, 38), embedding=False, head=True, mtp=True)
    both = device_parameters(model, shard, first).total + device_parameters(model, shard, last).total
    assert both == pytest.approx(device_parameters(model, shard).total)


def test_experts_are_spread_and_copied() -> None:
    model = load_model("deepseek-v3")
    spread = device_parameters(model, Shard(ep=32))
    assert spread.experts * 32 == pytest.approx(device_parameters(model, Shard()).experts)
    more = device_parameters(model, Shard(ep=32, redundant_experts=32))
    assert more.experts / spread.experts == pytest.approx(288 / 256)
    quantised = weights_bytes(model, Shard(ep=32, linear_dtype="int8", expert_dtype="int8"))
    assert quantised < 0.55 * weights_bytes(model, Shard(ep=32))


def test_full_recomputation_keeps_the_layer_input() -> None:
    model = load_model("llama-3.1-8b")
    step = Step(phase="train", sequences=2, q_len=4096, kv_len=4096)
    kept = activation_bytes(model, model.layers[0], step, Shard(), Recompute("full"))
    assert kept == 2 * 4096 * 4096 * 2
    with pytest.raises(InputError, match="recompute is 'some'"):
        Recompute("some")


def test_gated_layer_item_by_item() -> None:
    """Llama 8B per token in BF16: two norm inputs and outputs, q k v, output, statistics, gate, up, product."""
    model = load_model("llama-3.1-8b")
    step = Step(phase="train", sequences=1, q_len=1, kv_len=1)
    kept = activation_bytes(model, model.layers[0], step, Shard(), Recompute())
    assert kept == 2 * (4 * 4096 + (4096 + 2 * 1024) + 4096 + 3 * 14336) + 32 * 4


@pytest.mark.parametrize(("sharding", "share"), [("none", 1.0), ("zero1", 1 / 8), ("zero3", 1 / 8)])
def test_optimizer_updates_its_share(sharding: str, share: float) -> None:
    ops = optimizer_operators(1e9, StatePolicy(sharding=sharding, size=8))
    update = next(op for op in ops if isinstance(op, Vector))
    assert update.bytes_read == pytest.approx(share * 16e9)
    assert update.bytes_written == pytest.approx(share * 14e9)
    exchanges = [op.op for op in ops if isinstance(op, Communication)]
    assert (
        exchanges
        == {"none": ["all_reduce"], "zero1": ["reduce_scatter", "all_gather"], "zero3": ["reduce_scatter"]}[sharding]
    )


@pytest.mark.parametrize(
    "row", [r for r in csv.DictReader(TABLE.read_text().splitlines()) if r["scheme"] == "param_optim"]
)
def test_parameters_and_optimizer_of_the_first_stage(row: dict[str, str]) -> None:
    """18 bytes per weight: BF16 parameter, FP32 gradient, 12 bytes of Adam (arXiv 2205.05198, figure 1)."""
    model = load_model(row["model"])
    stage = Stage((model.n_layers / int(row["pp"]),), embedding=False, head=False)
    weights = device_parameters(model, Shard(tp=int(row["tp"])), stage).total
    assert 18 * weights / 2**30 == pytest.approx(float(row["value"]), rel=0.002)
