"""Composite check: whole attention blocks (projections, absorbed products, attention, norms) against measured ones.

attention_module.csv.gz times the block of DeepSeek-V3, V3.2 and GLM-5 at one device's share of the heads. The twin
builds the same block with supertwin.workload and adds up the times of its operators: nothing is fitted to these rows.
`supertwin validate --operators` shows the errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from supertwin.calibration.common import require_polars
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
    """Measured blocks that share everything but batch and lengths.

    sizes: (sequences, new tokens, context) [rows]; measured_s: [rows].
    """

    engine: CostEngine
    key: Mapping[str, Any]
    sizes: tuple[Array, Array, Array]
    measured_s: Array

    def predicted_s(self, index: npt.NDArray[np.int64]) -> Array:
        """Sum of the operators of some rows in seconds."""
        batch, q_len, kv_len = (x[index] for x in self.sizes)
        operators = block_operators(load_model(MODELS[self.key["model"]]), self.key, (batch, q_len, kv_len))
        total = np.zeros(len(index))
        for cost in self.engine.price(operators):
            total = total + cost.time_s * np.asarray(cost.operator.count)
        return total


def module_rows(operators: Path, framework: str = "trtllm") -> Iterator[ModuleRows]:
    """All blocks measured with one framework, by kernel timings (others have the host in the loop). Raises
    MissingExtra."""
    polars = require_polars()
    table = polars.read_csv(operators / "attention_module.csv.gz", infer_schema_length=None)
    table = table.filter(polars.col("framework").str.starts_with(framework))
    engines: dict[str, CostEngine] = {}
    for values, part in sorted(table.partition_by(_KEYS, as_dict=True).items(), key=lambda item: str(item[0])):
        key = dict(zip(_KEYS, values, strict=True))
        known = key["model"] in MODELS and key["gemm_dtype"] in DTYPES
        if known and key["heads"] <= attention_block(load_model(MODELS[key["model"]])).heads:
            engine = engines.get(key["chip"]) or CostEngine(load_chip(key["chip"]), "serving")
            engines[key["chip"]] = engine
            columns = (part[c].to_numpy().astype(np.float64) for c in ("batch", "q_len", "kv_len", "us"))
            batch, q_len, kv_len, us = columns
            yield ModuleRows(engine, key, (batch, q_len, np.maximum(kv_len, q_len)), us * 1e-6)


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
