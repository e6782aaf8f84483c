"""A sweep is predict() row by row."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from supertwin.core.errors import InputError, UnknownName
from supertwin.core.prediction import Prediction
from supertwin.core.splits import split_of
from supertwin.inference import Deployment, InferenceCase, predict, sweep
from supertwin.machine import load_system
from supertwin.model import load_model

MODULE = import_module("supertwin.inference.sweep")  # the package gives the function under that name
RTOL = 1e-9
SIZES = ("batch", "kv_len", "input_len", "prefix_len", "chunk_tokens")


def row_of(columns: dict[str, Any], index: int) -> dict[str, Any]:
    return {name: x[index].item() if isinstance(x, np.ndarray) else x for name, x in columns.items()}


def one_by_one(model: str, system: str, phase: str, columns: dict[str, Any], rows: range) -> int:
    """Compare rows with predict(); the number of legal ones."""
    found = sweep(load_model(model), load_system(system), phase, columns)
    legal = 0
    for i in rows:
        row = row_of(columns, i)
        if isinstance(split := row.get("afd"), str):
            row["afd"] = split_of(split) or (0, 0)
        sizes = {n: row.pop(n) for n in SIZES if n in row}
        case = InferenceCase(load_model(model), load_system(system), Deployment(**row), phase, **sizes)
        expected = outcome(case)
        legal += not isinstance(expected, str)
        assert found["legal"][i] == (not isinstance(expected, str))
        if isinstance(expected, str):
            assert found["reasons"][found["reason"][i]] == expected
            assert np.isnan([found[n][i] for n in ("step_time_s", "tokens_per_s_per_device", "peak_bytes")]).all()
        else:
            assert found["reason"][i] == 0
            same(found, i, expected, phase)
    return legal


def outcome(case: InferenceCase) -> Prediction | str:
    """The prediction, or what is wrong with the case."""
    try:
        return predict(case)
    except InputError as error:
        return str(error)


def same(found: dict[str, Any], i: int, expected: Prediction, phase: str) -> None:
    figures, memory = expected.figures, expected.memory
    pairs = {"step_time_s": expected.step_time_s, "tokens_per_s_per_device": expected.tokens_per_s_per_device}
    pairs |= {n: getattr(memory, n) for n in ("parameters_bytes", "kv_cache_bytes", "peak_bytes")}
    if phase == "mixed":
        users = figures["tpot_s"], figures["output_tokens_per_s_per_user"]
        pairs |= dict(zip(("tpot_s", "tokens_per_s_per_user"), (x or math.nan for x in users), strict=True))
        pairs |= {n: figures[n] or 0.0 for n in ("input_tokens_per_s_per_device", "output_tokens_per_s_per_device")}
    elif phase == "decode":
        pairs |= {"tpot_s": figures["tpot_s"], "tokens_per_s_per_user": figures["output_tokens_per_s_per_user"]}
    else:
        pairs["ttft_s"] = figures["ttft_s"]
    for name, value in pairs.items():
        assert found[name][i] == pytest.approx(value, rel=RTOL, nan_ok=True), name
    assert found["fits"][i] == memory.fits


def mixed(rows: int, seed: int, legal_share: float = 0.8) -> dict[str, Any]:
    """Random layouts, formats, sizes; some rows break a rule."""
    rng = np.random.default_rng(seed)
    tp = rng.choice([1, 2, 4, 8], rows)
    dp = rng.choice([1, 2, 4], rows)
    shared = rng.random(rows) < 0.7
    wrong = rng.random(rows) > legal_share
    return {
        "tp": np.where(wrong & (rng.random(rows) < 0.3), 3, tp),
        "dp": dp,
        "pp": rng.choice([1, 2], rows),
        "ep": np.where(shared, tp * dp, 1),
        "dp_attention": shared,
        "microbatch_overlap": rng.random(rows) < 0.5,
        "weight_dtype": rng.choice(["bf16", "fp8"], rows),
        "activation_dtype": "bf16",
        "expert_balance": rng.choice(["natural", "perfect", "unknown"], rows),
        "mtp_tokens": rng.choice([0, 1, 3], rows),
        "mtp_acceptance": rng.choice([0.0, 0.6, 1.5], rows, p=[0.5, 0.45, 0.05]),
        "batch": np.where(wrong, rng.choice([0.0, -1.0, 0.01, 4.0], rows), rng.uniform(0.2, 90.0, rows)),
        "kv_len": rng.integers(0, 20000, rows),
        "input_len": rng.choice([0, 1, 100, 1000, 9000], rows, p=[0.02, 0.08, 0.3, 0.3, 0.3]),
        "prefix_len": rng.choice([0, 500, -1], rows, p=[0.6, 0.38, 0.02]),
        "chunk_tokens": 0,
        "framework": rng.choice(["", "sglang deepep", "vllm 0.10"], rows),
    }


@pytest.mark.parametrize("phase", ["decode", "prefill"])
@pytest.mark.parametrize(
    ("model", "system"),
    [
        ("deepseek-r1", "cm384:64"),
        ("deepseek-v3.2", "dgx-h100:64"),
        ("gpt-oss-120b", "dgx-h100:64"),
        ("llama3.1-70b", "dgx-h100:64"),
    ],
)
def test_random_rows_are_predicted_as_alone(model: str, system: str, phase: str) -> None:
    columns = mixed(60, seed=len(model) + len(phase))
    if model.startswith("llama"):
        columns["ep"] = 1
    legal = one_by_one(model, system, phase, columns, range(60))
    assert 15 < legal < 60


@pytest.mark.parametrize(
    ("model", "system"),
    [("deepseek-r1", "cm384:64"), ("gpt-oss-120b", "dgx-h100:64"), ("qwen3-next-80b-a3b", "dgx-h100:64")],
)
def test_mixed_rows_are_predicted_as_alone(model: str, system: str) -> None:
    """Steps with both parts, with one of them, and with none."""
    columns, rng = mixed(60, seed=len(model)), np.random.default_rng(5)
    columns["batch"] = np.where(rng.random(60) < 0.2, 0.0, columns["batch"])
    columns["chunk_tokens"] = rng.choice([0, 1, 512, 3000, -1], 60, p=[0.2, 0.1, 0.35, 0.33, 0.02])
    legal = one_by_one(model, system, "mixed", columns, range(60))
    assert 15 < legal < 60


@pytest.mark.parametrize("model", ["deepseek-r1", "qwen3-235b-a22b", "llama3.1-70b"])
def test_split_rows_are_predicted_as_alone(model: str) -> None:
    """Attention and feed-forward apart or together, in one table; either side may be the fuller one."""
    rng = np.random.default_rng(len(model))
    afd = rng.choice(["", "1A1F", "2A2F", "4A4F", "3A1F"], 40)
    tp, dense = rng.choice([1, 2, 4], 40), model.startswith("llama")
    attention = np.array([int(x[0]) if x else 4 for x in afd])
    columns = {
        "afd": afd,
        "afd_unit": 8,
        "afd_microbatches": rng.choice([1, 2, 3], 40),
        "tp": tp,
        "dp": attention * 8 // tp,
        "ep": 1 if dense else np.where(rng.random(40) < 0.7, 8, 1),
        "dp_attention": not dense,
        "mtp_tokens": rng.choice([0, 1, 2], 40),
        "mtp_acceptance": 0.6,
        "batch": rng.uniform(0.5, 60.0, 40),
        "kv_len": rng.integers(1, 30_000, 40),
    }
    assert 15 < one_by_one(model, "cm384:64", "decode", columns, range(40)) <= 40
    one = {**{n: x[0].item() if isinstance(x, np.ndarray) else x for n, x in columns.items()}, "afd": (2, 2)}
    one["dp"] = 16 // one["tp"]
    assert one_by_one(model, "cm384:64", "decode", one, range(1)) == 1


@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_grids_and_long_tables_in_parts(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full grid of batches and lengths, whole and cut into small calls."""
    batch, length = (x.ravel() for x in np.meshgrid([1.0, 7.5, 64.0], np.arange(500, 4500, 500)))
    columns = {"batch": batch, "kv_len": length, "input_len": length, "dp": 16, "ep": 16, "dp_attention": True}
    columns |= {"microbatch_overlap": True, "weight_dtype": "int8", "activation_dtype": "int8"}
    assert one_by_one("deepseek-r1", "cm384:16", phase, columns, range(24)) == 24
    whole = sweep(load_model("deepseek-r1"), load_system("cm384:16"), phase, columns)
    order = np.random.default_rng(2).permutation(24)[:17]
    monkeypatch.setattr(MODULE, "_ENTRIES", 5)
    some = {n: x[order] if isinstance(x, np.ndarray) else x for n, x in columns.items()}
    parts = sweep(load_model("deepseek-r1"), load_system("cm384:16"), phase, some)
    np.testing.assert_allclose(parts["step_time_s"], whole["step_time_s"][order], rtol=RTOL)


def test_context_parallel_prefill() -> None:
    columns = {"cp": np.array([1, 2, 4, 64]), "tp": 2, "batch": 0.5, "input_len": np.array([64, 64, 4096, 32])}
    assert one_by_one("llama3.1-8b", "dgx-h100:8", "prefill", columns, range(4)) == 3


def test_single_values_make_one_row() -> None:
    found = sweep(load_model("llama3.1-8b"), load_system("dgx-h100:8"), "decode", {"batch": 8, "kv_len": 1000, "tp": 8})
    assert found["step_time_s"].shape == (1,)
    assert found["reasons"].tolist() == [""]


def test_empty_table() -> None:
    found = sweep(load_model("llama3.1-8b"), load_system("dgx-h100:8"), "decode", {"batch": [], "kv_len": 10})
    assert found["step_time_s"].shape == found["fits"].shape == (0,)


@pytest.mark.parametrize(
    ("columns", "word"),
    [
        ({"batch": [1, 2], "kv_len": [1, 2, 3]}, "batch has 2 rows, kv_len has 3 rows"),
        ({"batch": [[1.0]], "kv_len": 1}, "batch has 2 dimensions"),
        ({"kv_len": 1}, "lack batch"),
        ({"batch": "many", "kv_len": 1}, "expected numbers"),
        ({"batch": 1, "kv_len": 1, "tp": 1.5}, "expected int"),
        ({"batch": 1, "kv_len": 1, "tp": "two"}, "expected int"),
        ({"batch": 1, "kv_len": 1, "weight_dtype": 8}, "expected str"),
        ({"batch": 1, "kv_len": 1, "dp_attention": 1}, "expected bool"),
        ({"batch": 1, "kv_len": 1, "afd": ["2A"]}, "2A2F"),
        ({"batch": 1, "kv_len": 1, "afd": 2}, "2A2F"),
    ],
)
def test_unusable_columns_are_refused(columns: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        sweep(load_model("llama3.1-8b"), load_system("dgx-h100:8"), "decode", columns)


def test_unknown_names_come_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="kv_len"):
        sweep(load_model("llama3.1-8b"), load_system("dgx-h100:8"), "decode", {"batch": 1, "kv_length": 1})
    with pytest.raises(UnknownName, match="prefill"):
        sweep(load_model("llama3.1-8b"), load_system("dgx-h100:8"), "prefil", {"batch": 1})


def test_layouts_are_priced_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """400 rows of four layouts are one call of the step model with four shapes."""
    calls = []
    true = MODULE.steps
    monkeypatch.setattr(MODULE, "steps", lambda *a: calls.append(len(a[2])) or true(*a))
    columns = {"batch": np.linspace(1.0, 50.0, 400), "kv_len": np.arange(400) + 100, "tp": np.repeat([1, 2, 4, 8], 100)}
    sweep(load_model("llama3.1-8b"), load_system("dgx-h100:8"), "decode", columns)
    assert calls == [4]


def test_rows_with_keys_in_host_memory_have_their_own_hit_rates() -> None:
    rng = np.random.default_rng(3)
    columns = {
        "dp": 16,
        "ep": 16,
        "dp_attention": True,
        "weight_dtype": "int8",
        "activation_dtype": "int8",
        "kv_pool": rng.choice([0, 2048, 6000, 20_000], 24),
        "batch": rng.uniform(1.0, 30.0, 24),
        "kv_len": rng.integers(100, 60_000, 24),
    }
    assert one_by_one("deepseek-v3.2", "cm384:16", "decode", columns, range(24)) == 24


def test_warm_kernels_are_columns() -> None:
    rng = np.random.default_rng(5)
    columns = {
        "dp": 64, "ep": 64, "dp_attention": True, "weight_dtype": "int8", "activation_dtype": "int8",
        "framework": "cann-recipes", "weight_prefetch": rng.random(16) < 0.5, "super_kernel": rng.random(16) < 0.5,
        "batch": rng.uniform(1.0, 40.0, 16), "kv_len": rng.integers(100, 20_000, 16),
    }  # fmt: skip
    assert one_by_one("longcat-flash", "cm384:64", "decode", columns, range(16)) == 16


def test_options_are_columns() -> None:
    """Prefixes that requests share, drafts, ways to sample, context methods: as predict() has them, entry by entry."""
    decode = {
        "tp": 8, "batch": np.array([0.5, 4.0, 16.0, 32.0, 4.0, 16.0]),
        "kv_len": np.array([512, 8192, 8192, 4096, 300, 16384]),
        "shared_prefix": np.array([0, 4096, 4096, 2048, 512, 4096]), "mtp_tokens": 3, "mtp_acceptance": 0.5,
        "draft": np.array(["", "eagle3", "eagle3", "ngram", "", "eagle3"]), "draft_topk": np.array([1, 2, 2, 1, 1, 2]),
        "verify_tokens": np.array([0, 6, 6, 0, 0, 6]), "sampling": np.array(["", "topp", "", "topk,sort", "", ""]),
    }  # fmt: skip
    assert one_by_one("llama-3.1-70b", "dgx-h100:8", "decode", decode, range(6)) == 5
    prefill = {
        "tp": 2, "cp": 4, "batch": np.array([0.125, 0.5]), "input_len": np.array([8192, 4096]),
        "cp_method": np.array(["ring", "ulysses"]), "cp_balanced": np.array([True, False]),
    }  # fmt: skip
    assert one_by_one("llama-3.1-70b", "dgx-h100:8", "prefill", prefill, range(2)) == 2


def test_a_prefix_pays_for_some_entries_of_a_group() -> None:
    """One deployment, batches on both sides of what cascade attention needs."""
    columns = {"tp": 8, "batch": np.array([0.5, 1.0, 2.0, 8.0, 64.0]), "kv_len": 8192, "shared_prefix": 4096}
    assert one_by_one("llama-3.1-70b", "dgx-h100:8", "decode", columns, range(5)) == 5
