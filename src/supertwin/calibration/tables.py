"""Operator tables (operators/*.csv.gz and kernels.csv) as rows that a fit or a check can use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from supertwin.calibration.common import require_polars
from supertwin.core.errors import TableError
from supertwin.cost.gemm import GemmConditions
from supertwin.cost.surface import Array
from supertwin.workload.operators import Gemm

# Loop of the collectors: several copies of the weights take turns (aiconfigurator: 5), others time one product.
LOOP_COPIES = {"trtllm": 5.0, "sglang": 5.0, "vllm": 5.0}
# dtype column -> fields of the operator; "fp8" depends on the framework (see _fields).
_DTYPES: Mapping[str, Mapping[str, Any]] = {
    "bf16": {"dtype": "bf16"},
    "fp16": {"dtype": "fp16"},
    "fp8-block": {"dtype": "fp8-blockwise", "quantize_input": True},
    "nvfp4": {"dtype": "nvfp4", "quantize_input": True},
    "int8": {"dtype": "int8", "quantize_input": True},
    "int8-weight-only": {"dtype": "bf16", "weight_dtype": "int8"},
    "int4-weight-only": {"dtype": "bf16", "weight_dtype": "int4"},
}
_FP8: Mapping[str, Mapping[str, Any]] = {
    "deepgemm": {"dtype": "fp8-blockwise"},
    "frontier": {"dtype": "fp8-rowwise", "quantize_input": True},
}
_FP8_DEFAULT: Mapping[str, Any] = {"dtype": "fp8-tensorwise", "quantize_input": True}


@dataclass(frozen=True, slots=True)
class GemmRows:
    """Measured products that share chip, framework and format. gemm holds arrays [rows]; time_s [rows]."""

    chip: str
    context: str
    gemm: Gemm
    time_s: Array
    conditions: GemmConditions
    grouped: bool = False
    source: str = ""

    def __len__(self) -> int:
        return len(self.time_s)

    def take(self, index: Any) -> GemmRows:
        """The rows picked by a mask or an index array."""
        g = self.gemm
        fields = {name: np.asarray(getattr(g, name))[index] for name in ("m", "n", "k", "groups")}
        return replace(self, gemm=replace(g, **fields), time_s=self.time_s[index])


def read_table(path: Path) -> Any:
    """A (compressed) CSV as a polars frame. Raises TableError, MissingExtra."""
    polars = require_polars()
    try:
        return polars.read_csv(path, infer_schema_length=None)
    except (OSError, polars.exceptions.PolarsError) as error:
        raise TableError(f"{path}: cannot be read as a table: {error}") from None


def gemm_rows(folder: Path, chips: tuple[str, ...] = ()) -> list[GemmRows]:
    """All products of gemm, mla_bmm and grouped_gemm.csv.gz under folder, of the named chips (all if none named)."""
    readers = (("gemm.csv.gz", _plain), ("mla_bmm.csv.gz", _batched), ("grouped_gemm.csv.gz", _deepgemm_grouped))
    out = [rows for name, reader in readers if (folder / name).is_file() for rows in reader(folder / name)]
    return [r for r in out if not chips or r.chip in chips]


def _parts(path: Path, by: list[str]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    frame = read_table(path)
    missing = [c for c in by if c not in frame.columns]
    if missing:
        raise TableError(f"{path}: lacks the columns {missing}")
    yield from sorted(frame.partition_by(by, as_dict=True).items(), key=lambda item: str(item[0]))


def _floats(frame: Any, name: str) -> Array:
    return np.asarray(frame[name].to_numpy(), dtype=np.float64)


def framework_context(framework: str) -> str:
    """'trtllm 1.3.0rc20' -> 'trtllm'."""
    return framework.split()[0]


def loop_conditions(context: str) -> GemmConditions:
    """Conditions of a timing loop of this framework."""
    return GemmConditions(context=context, weights_cold=False, loop_weights=LOOP_COPIES.get(context, 1.0))


def _plain(path: Path) -> Iterator[GemmRows]:
    for (chip, dtype, framework), part in _parts(path, ["chip", "dtype", "framework"]):
        context = framework_context(framework)
        fields = _FP8.get(context, _FP8_DEFAULT) if dtype == "fp8" else _DTYPES.get(dtype)
        if fields is None:
            raise TableError(f"{path}: dtype {dtype!r} is not one of {sorted([*_DTYPES, 'fp8'])}")
        m, n, k = (_floats(part, c) for c in ("m", "n", "k"))
        gemm = Gemm(part="gemm", m=m, n=n, k=k, groups=np.ones_like(m), **fields)
        yield _made(chip, context, gemm, _floats(part, "us"), f"{path.name} {framework}")


def _batched(path: Path) -> Iterator[GemmRows]:
    """q up-projection (128 -> 512 per head) and output down-projection (512 -> 128) of absorbed MLA."""
    for (chip, dtype, framework), part in _parts(path, ["chip", "dtype", "framework"]):
        up = part["op"].to_numpy() == "mla_gen_pre"
        dtype_name = "fp8-tensorwise" if dtype == "fp8" else dtype
        gemm = Gemm(
            part="mla_bmm",
            m=_floats(part, "tokens"),
            n=np.where(up, 512.0, 128.0),
            k=np.where(up, 128.0, 512.0),
            groups=_floats(part, "heads"),
            dtype=dtype_name,
            quantize_input=dtype == "fp8",
        )
        rows = _made(chip, framework_context(framework), gemm, _floats(part, "us"), f"{path.name} {framework}")
        yield replace(rows, grouped=True, conditions=replace(rows.conditions, grouped=True))


def _deepgemm_grouped(path: Path) -> Iterator[GemmRows]:
    """Up (n = 2 inter) and down products; decode draws tokens per expert as trunc(t x U(0.7, 1.3)): their mean."""
    for (chip,), part in _parts(path, ["chip"]):
        tokens, hidden, inter = (_floats(part, c) for c in ("tokens_per_expert", "hidden", "inter"))
        drawn = part["stage"].to_numpy() == "decode"
        tokens = np.where(drawn, np.maximum(tokens - 0.5, 0.65 * tokens), tokens)
        groups = _floats(part, "experts_local")
        gemm = Gemm(
            part="grouped",
            m=np.concatenate([tokens, tokens]),
            n=np.concatenate([2.0 * inter, hidden]),
            k=np.concatenate([hidden, inter]),
            groups=np.concatenate([groups, groups]),
            dtype="fp8-blockwise",
        )
        us = np.concatenate([_floats(part, "up_us"), _floats(part, "down_us")])
        rows = _made(chip, "deepgemm", gemm, us, path.name)
        yield replace(rows, grouped=True, conditions=replace(rows.conditions, grouped=True))


def _made(chip: str, context: str, gemm: Gemm, us: Array, source: str) -> GemmRows:
    return GemmRows(chip, context, gemm, us * 1e-6, loop_conditions(context), source=source)
