"""Composite check: whole attention blocks (projections, absorbed products, attention, norms) against measured ones.

attention_module.csv.gz times the block of DeepSeek-V3, V3.2 and GLM-5 at one device's share of the heads. The twin
builds the same block with supertwin.workload and adds up the times of its operators: nothing is fitted to these rows
except one gap per kernel (`gap_s`), which is reported and not used by the twin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from supertwin.calibration.common import errors, require_polars
from supertwin.cost.engine import CostEngine
from supertwin.cost.geometry import Array
from supertwin.machine.chips import load_chip
from supertwin.model import load_model
from supertwin.model.spec import AttentionSpec, ModelSpec
from supertwin.workload.attention import attention_operators
from supertwin.workload.operators import Communication, Operator
from supertwin.workload.shard import Shard, Step

MODELS = {"DeepSeek-V3": "deepseek-v3", "DeepSeek-V3.2": "deepseek-v3.2", "GLM-5": "glm-5"}
DTYPES = {"bf16": "bf16", "fp8-block": "fp8-blockwise", "nvfp4": "nvfp4"}
_KEYS = ["chip", "kind", "stage", "model", "kv_dtype", "gemm_dtype", "framework", "kernel", "heads"]


@dataclass(frozen=True, slots=True)
class ModuleRows:
    """Measured blocks that share everything but batch and lengths, and what the twin says of them [rows]."""

    key: Mapping[str, Any]
    predicted_s: Array
    measured_s: Array
    kernels: float

    def gap_s(self) -> float:
        """Median of (measured - predicted) per kernel; positive where the block takes longer than its operators."""
        return float(np.median(self.measured_s - self.predicted_s) / self.kernels)


def module_rows(operators: Path, chip: str, framework: str = "trtllm") -> Iterator[ModuleRows]:
    """All blocks measured on a chip (name as in the operator tables) with one framework. Raises MissingExtra."""
    polars = require_polars()
    table = polars.read_csv(operators / "attention_module.csv.gz", infer_schema_length=None)
    table = table.filter((polars.col("chip") == chip) & polars.col("framework").str.starts_with(framework))
    engine = CostEngine(load_chip(chip), "serving")
    for key, part in sorted(table.partition_by(_KEYS, as_dict=True).items(), key=lambda item: str(item[0])):
        named = dict(zip(_KEYS, key, strict=True))
        heads = attention_block(load_model(MODELS[named["model"]])).heads
        if named["gemm_dtype"] in DTYPES and named["heads"] <= heads:
            yield _compare(engine, named, part)


def _compare(engine: CostEngine, key: Mapping[str, Any], part: Any) -> ModuleRows:
    names = ("batch", "q_len", "kv_len", "us")
    batch, q_len, kv_len, us = (np.asarray(part[c].to_numpy(), dtype=np.float64) for c in names)
    model = load_model(MODELS[key["model"]])
    ops = block_operators(model, key, (batch, q_len, np.maximum(kv_len, q_len)))
    total = np.zeros_like(us)
    for cost in engine.price(ops):
        total = total + cost.time_s * np.asarray(cost.operator.count)
    return ModuleRows(key, total, us * 1e-6, float(len(ops)))


def block_operators(model: ModelSpec, key: Mapping[str, Any], sizes: tuple[Array, Array, Array]) -> list[Operator]:
    """Operators of one attention block; sizes = (sequences, new tokens, context)."""
    batch, q_len, kv_len = sizes
    block = attention_block(model)
    dtype = DTYPES[key["gemm_dtype"]]
    shard = Shard(
        tp=block.heads / float(key["heads"]),
        linear_dtype=dtype,
        kv_dtype="fp8" if key["kv_dtype"].startswith("fp8") else "bf16",
    )
    step = Step(phase=key["stage"], sequences=batch, q_len=q_len, kv_len=kv_len)
    return [o for o in attention_operators(model, block, step, shard) if not isinstance(o, Communication)]


def attention_block(model: ModelSpec) -> AttentionSpec:
    """Attention of the model's most common layer."""
    layer = max(model.layers, key=lambda kind: kind.count)
    if layer.attention is None:
        raise ValueError(f"{model.name}: its most common layer has no attention")
    return layer.attention


def check_modules(operators: Path, chip: str, framework: str = "trtllm") -> list[dict[str, Any]]:
    """Errors by kind, stage, model and format, as they are and with one gap per kernel and group."""
    groups: dict[tuple[str, ...], list[ModuleRows]] = {}
    for rows in module_rows(operators, chip, framework):
        name = tuple(str(rows.key[c]) for c in ("kind", "stage", "model", "gemm_dtype", "kernel"))
        groups.setdefault(name, []).append(rows)
    report = []
    for name, parts in sorted(groups.items()):
        predicted = np.concatenate([p.predicted_s for p in parts])
        measured = np.concatenate([p.measured_s for p in parts])
        count = np.concatenate([np.full(len(p.measured_s), p.kernels) for p in parts])
        gap_s = float(np.median((measured - predicted) / count))
        with_gap = errors(np.maximum(predicted + gap_s * count, 1e-7), measured)
        key = dict(zip(("kind", "stage", "model", "gemm_dtype", "kernel"), name, strict=True))
        more = {"gap_s": gap_s, "median_ape_with_gap": with_gap["median_ape"]}
        report.append({"chip": chip, **key, **errors(predicted, measured), **more})
    return report
