"""Weight counts against the shipped tables and against published sizes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import supertwin
from supertwin.model import load_model, model_names, parameter_count

MODELS = Path(supertwin.__file__).parent / "data" / "models"

# Weights in these models that the figure in the file leaves out: (reason, number)
LEFT_OUT = {
    "kimi-k3": ("output gate of the 24 MLA layers (mla_use_output_gate)", 24 * 7168 * 96 * 128),
    "deepseek-v4-pro": (
        "compressors of 61 layers, indexers of 30",
        31 * 7168 * 1024 + 30 * (7168 * 2048 + 1536 * 64 * 128 + 7168 * 64 + 7168 * 512),
    ),
    "ci-qwen3-next-80b-4k-a3-l4": ("joining matrix of the MTP module", 2 * 2048**2),
}


def nearest(reference: float, *values: float) -> float:
    return min(values, key=lambda value: abs(value - reference))


def test_all_files_agree_within_one_percent() -> None:
    wrong = []
    for name in model_names():
        stated = json.loads((MODELS / f"{name}.json").read_text())
        count = parameter_count(load_model(name))
        left_out = LEFT_OUT.get(name, ("", 0))[1]
        active = (count.active - left_out, count.active + count.mtp_active - left_out)
        pairs = [("_params_total", (count.total, count.stored)), ("_params_active", active)]
        pairs.append(("_params_active_without_embedding", active))
        for field, values in pairs:
            if field in stated and abs(nearest(stated[field], *values) / stated[field] - 1) > 0.01:
                wrong.append((name, field, stated[field], values))
    assert len(model_names()) == 270
    assert wrong == []


def test_most_files_agree_far_better() -> None:
    errors = []
    for name in model_names():
        stated = json.loads((MODELS / f"{name}.json").read_text())
        if "_params_total" in stated:
            count = parameter_count(load_model(name))
            errors.append(
                abs(nearest(stated["_params_total"], count.total, count.stored) / stated["_params_total"] - 1)
            )
    assert sorted(errors)[int(0.95 * len(errors))] < 0.002


# billions: (total, active); active where the card counts as we do (LM head yes, input table no)
PUBLISHED = {
    "llama-3.1-8b": (8.03, None),  # model card
    "llama-3.1-70b": (70.55, None),
    "llama-3.1-405b": (405.85, None),
    "llama-2-70b": (68.98, None),
    "mixtral-8x7b": (46.70, 12.75),  # arXiv 2401.04088: 47B, 13B
    "mixtral-8x22b": (140.6, 39.0),  # 141B, 39B
    "deepseek-v3": (671.0, 36.6),  # arXiv 2412.19437: 671B, 37B
    "deepseek-r1": (671.0, 36.6),
    "deepseek-v2-lite": (15.7, 2.45),  # arXiv 2405.04434: 15.7B, 2.4B
    "deepseek-v4-flash": (284.0, 13.3),
    "kimi-k2": (1026.4, 31.7),  # model card: 1T, 32B
    "qwen3-235b-a22b": (235.1, 21.6),  # arXiv 2505.09388: 235B, 22B
    "qwen3-30b-a3b": (30.53, 3.04),
    "qwen3-next-80b-a3b": (79.67, 3.56),
    "qwen2.5-7b": (7.62, None),
    "qwen2-0.5b": (0.494, None),
    "gpt-oss-120b": (116.83, 5.13),  # arXiv 2508.10925, table 1
    "gpt-oss-20b": (20.91, 3.61),
    "bloom-176b": (176.25, None),  # arXiv 2211.05100
    "gemma-2b": (2.506, None),  # arXiv 2403.08295
    "gemma2-27b": (27.23, None),  # arXiv 2408.00118
    "mistral-7b": (7.24, None),
    "palm-540b": (540.35, None),  # arXiv 2204.02311
    "glm4-9b": (9.40, None),
    "pangu-pro-moe-72b": (71.99, 16.50 - 153376 * 5120 / 1e9),  # arXiv 2505.21411: 71.99B, 16.50B with input table
    "pangu-ultra-135b": (135.0, None),  # arXiv 2504.07866
    "nemotron3-nano-30b-a3b": (31.6, 3.23),
    "longcat-flash": (560.0, 27.0),  # arXiv 2509.01322: 560B, 18.6 to 31.3B, mean 27B
    "minimax-m2.5": (228.7, None),
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_size(name: str) -> None:
    total, active = PUBLISHED[name]
    count = parameter_count(load_model(name))
    assert count.total / 1e9 == pytest.approx(total, rel=0.01)
    if active is not None:
        assert count.active / 1e9 == pytest.approx(active, rel=0.01)


def test_pangu_ultra_moe_and_its_mtp_module() -> None:
    """arXiv 2505.04519: 718B without the MTP module."""
    count = parameter_count(load_model("pangu-ultra-moe-718b"))
    assert count.total / 1e9 == pytest.approx(718, rel=0.01)
    assert count.stored > count.total


def test_per_layer_adds_up() -> None:
    for name in ("deepseek-v3", "gpt3-175b", "qwen3.5-397b-a17b", "nemotron3-super-120b-a12b"):
        model = load_model(name)
        count = parameter_count(model)
        layers = sum(p.total * layer.count for p, layer in zip(count.per_layer, model.layers, strict=True))
        ends = count.embedding + count.positions + count.head
        assert count.total == pytest.approx(layers + ends, rel=1e-6)
        assert sum(layer.count for layer in model.layers) == model.n_layers
        assert all(model.order.count(i) == layer.count for i, layer in enumerate(model.layers))
