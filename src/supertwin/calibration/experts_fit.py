"""Fit of the expert formula (supertwin.cost.experts) to moe.csv.gz and the moe_mlp rows of kernels.csv."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from supertwin.calibration.common import fit_surface, held_out, require_scipy
from supertwin.calibration.routing import busiest_share
from supertwin.calibration.tables import framework_context, read_table
from supertwin.core.errors import TableError
from supertwin.cost.experts import (
    EXPERT_AXES,
    EXPERT_PRIOR,
    expert_coordinates,
    expert_key,
    expert_terms,
    flat_experts,
    power_law_exponent,
    shape_name,
)
from supertwin.cost.surface import Array, Surface
from supertwin.machine.chip import Chip
from supertwin.workload.operators import ExpertMlp

_DTYPES: Mapping[str, tuple[str, str]] = {
    "bf16": ("bf16", ""),
    "fp8": ("fp8-tensorwise", ""),
    "fp8-block": ("fp8-blockwise", ""),
    "nvfp4": ("nvfp4", ""),
    "int8": ("int8", ""),
    "w4a16-mxfp4": ("bf16", "mxfp4"),
    "w4a8-mxfp4-mxfp8": ("mxfp8", "mxfp4"),
    "int4-weight-only": ("bf16", "int4"),
}
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "multiply": (0.1, 1.1),
    "load": (0.1, 6.0),
    "memory": (0.3, 0.95),
    "prologue_s": (5e-8, 3e-5),
    "quantisation": (0.02, 1.0),
    "sharpness": (1.2, 12.0),
    "fixed_s": (1e-6, 1e-3),
    "rows": (0.1, 10.0),
    "tokens": (0.05, 10.0),
    "token_s": (1e-11, 1e-7),
    "scale": (0.3, 3.0),
}
_ALL = tuple(n for n in EXPERT_PRIOR if n != "scale")
# Fewer rows say nothing of the rate of the cores: it stays that of grouped products, 77 to 83 % of the INT8 peak on a
# 910C at 2048 to 7168 rows per group (arXiv 2506.12708v2, Table 10), of which waves and loads take about 5 %.
_FEW = ("memory", "fixed_s", "sharpness", "tokens", "token_s")
_GROUPED: Mapping[str, float] = {"multiply": 0.85, "prologue_s": 1e-6}
_PULL = 0.03
_MANY = 60  # rows from which all parameters and a residual are fitted
_SUBSAMPLE = 2000
_FIT_SEED = 20261121
_SPLIT_ROUNDS = 6
_PULL_ROWS = 2.0  # rows of one shape that count as much as the surface
_LEAST_SHAPE = 0.02


@dataclass(frozen=True, slots=True)
class ExpertRows:
    """Measured expert calls of one chip, context, format and distribution; arrays [rows]. held: not to be fitted."""

    chip: str
    context: str
    moe: ExpertMlp
    time_s: Array
    held: npt.NDArray[np.bool_]
    source: str = ""

    def __len__(self) -> int:
        return len(self.time_s)

    def take(self, index: Any) -> ExpertRows:
        """The rows picked by a mask or an index array."""
        arrays: dict[str, Any] = {name: np.asarray(getattr(self.moe, name))[index] for name in EXPERT_FIELDS}
        return replace(self, moe=replace(self.moe, **arrays), time_s=self.time_s[index], held=self.held[index])


@dataclass(frozen=True, slots=True)
class ExpertFit:
    """Fitted parameters and residual of one unit. shapes: factors by shape that the surface leaves."""

    parameters: Mapping[str, float]
    surface: Surface | None = None
    shapes: Mapping[str, float] = field(default_factory=dict)
    sources: Mapping[str, int] = field(default_factory=dict)


def expert_rows(folder: Path) -> list[ExpertRows]:
    """All rows of moe.csv.gz under folder, by chip, framework, scope, format and distribution."""
    path = folder / "moe.csv.gz"
    return list(_read(path)) if path.is_file() else []


def _read(path: Path) -> Iterator[ExpertRows]:
    by = ["chip", "dtype", "distribution", "scope", "framework", "gated"]
    frame = read_table(path)
    missing = [c for c in by if c not in frame.columns]
    if missing:
        raise TableError(f"{path}: lacks the columns {missing}")
    for key, part in sorted(frame.partition_by(by, as_dict=True).items(), key=lambda item: str(item[0])):
        chip, dtype, distribution, scope, framework, gated = key
        if dtype not in _DTYPES:
            raise TableError(f"{path}: dtype {dtype!r} is not one of {sorted(_DTYPES)}")
        columns = {c: part[c].to_numpy().astype(np.int64) for c in _SHAPE}
        moe = _operator(columns, dtype, distribution, bool(gated), scope == "fused-moe")
        held = held_out(*(columns[c] for c in _SHAPE))
        context = scope_context(scope, framework)
        time_s = part["us"].to_numpy().astype(np.float64) * 1e-6
        yield ExpertRows(chip, context, moe, time_s, held, f"{path.name} {scope} {framework}")


EXPERT_FIELDS = ("rows", "experts", "hidden", "inter", "skew", "tokens")
_SHAPE = ("experts", "topk", "hidden", "inter", "ep", "tp", "tokens")


def scope_context(scope: str, framework: str) -> str:
    """trtllm, sglang, vllm; deepep-context and deepep-generation are SGLang's expert kernels after a dispatch."""
    if scope.startswith("deepep-moe-"):
        return "deepep-" + scope.removeprefix("deepep-moe-")
    return framework_context(framework)


def _operator(
    columns: Mapping[str, npt.NDArray[np.int64]], dtype: str, distribution: str, gated: bool, routing: bool
) -> ExpertMlp:
    alpha = power_law_exponent(distribution)
    names = ("experts", "ep", "topk", "tokens")
    shares = [busiest_share(alpha, *(int(v) for v in row)) for row in zip(*(columns[c] for c in names), strict=True)]
    name, weight = _DTYPES[dtype]
    return ExpertMlp(
        part="experts",
        rows=columns["tokens"] * columns["topk"] / columns["ep"],
        experts=columns["experts"] / columns["ep"],
        hidden=columns["hidden"].astype(np.float64),
        inter=columns["inter"] / columns["tp"],
        gated=gated,
        dtype=name,
        weight_dtype=weight,
        skew=np.array(shares),
        distribution=distribution,
        routing=routing,
        tokens=columns["tokens"].astype(np.float64),
    )


def expert_units(rows: Sequence[ExpertRows], chip: str) -> dict[tuple[str, str], list[ExpertRows]]:
    """Rows of a chip by (context, calibration group)."""
    found: dict[tuple[str, str], list[ExpertRows]] = {}
    for part in rows:
        if part.chip == chip:
            found.setdefault((part.context, expert_key(part.moe)), []).append(part)
    return dict(sorted(found.items()))


def fit_expert_unit(
    chip: Chip, parts: Sequence[ExpertRows], start: Mapping[str, float] | None = None, split: bool = True
) -> ExpertFit:
    """Fit one unit: parameters by robust least squares on ln(predicted / measured), then the residual surface."""
    total = sum(len(p) for p in parts)
    seen = [p.take(~p.held) if split and total >= 40 else p for p in parts]
    seen = [p for p in seen if len(p)] or list(parts)
    rows = sum(len(p) for p in seen)
    known = {} if rows >= _MANY else _GROUPED
    begin = {**EXPERT_PRIOR, **known, **(start or {})}
    parameters = _least_squares(chip, seen, _ALL if rows >= _MANY else _FEW, begin)
    surface = _residual(chip, seen, parameters, rows)
    sources: dict[str, int] = {}
    for part in parts:
        sources[part.source] = sources.get(part.source, 0) + len(part)
    shapes = _by_shape(chip, seen, parameters, surface) if _tuned(parts) else {}
    return ExpertFit({n: float(f"{v:.4g}") for n, v in parameters.items()}, surface, shapes, sources)


def _tuned(parts: Sequence[ExpertRows]) -> bool:
    """Whether kernels are tuned shape by shape: SGLang's fused Triton experts read a file of launch settings for each
    number of experts, inner size and device, and fall back to one default (fused_moe_triton_config.py)."""
    return all(p.context == "sglang" and p.moe.routing for p in parts)


def _by_shape(
    chip: Chip, parts: Sequence[ExpertRows], parameters: Mapping[str, float], surface: Surface | None
) -> dict[str, float]:
    """Median of measured over predicted of each shape, pulled to 1 where rows are few."""
    if surface is None:
        return {}
    predicted = predict_fit(chip, ExpertFit(parameters, surface), parts)
    left = np.log(np.concatenate([p.time_s for p in parts]) / predicted)
    found: dict[str, list[float]] = {}
    for name, value in zip(shape_names(parts), left, strict=True):
        found.setdefault(name, []).append(float(value))
    pulled = {n: float(np.median(v)) * len(v) / (len(v) + _PULL_ROWS) for n, v in found.items()}
    return {n: float(f"{np.exp(v):.3f}") for n, v in sorted(pulled.items()) if abs(v) > _LEAST_SHAPE}


def shape_names(parts: Sequence[ExpertRows]) -> list[str]:
    """Shape of every row, in order."""
    flat = [flat_experts(p.moe)[1] for p in parts]
    return [
        shape_name(float(e), float(i), float(h))
        for f in flat
        for e, i, h in zip(f.experts, f.inter, f.hidden, strict=True)
    ]


def formula_and_measured(chip: Chip, parts: Sequence[ExpertRows], p: Mapping[str, float]) -> tuple[Array, Array]:
    """Formula and measured time, seconds, of all rows in order."""
    formula = [expert_terms(chip, p, part.moe, flat_experts(part.moe)[1]).time_s for part in parts]
    return np.concatenate(formula), np.concatenate([part.time_s for part in parts])


def _least_squares(
    chip: Chip, parts: Sequence[ExpertRows], names: Sequence[str], begin: Mapping[str, float]
) -> dict[str, float]:
    scipy = require_scipy()
    random = np.random.default_rng(_FIT_SEED)
    share = min(1.0, _SUBSAMPLE / sum(len(p) for p in parts))
    sample = [p.take(random.permutation(len(p))[: max(int(len(p) * share), min(len(p), 10))]) for p in parts]
    low, high = (np.log([_BOUNDS[n][side] for n in names]) for side in (0, 1))
    first = np.clip(np.log([begin[n] for n in names]), low + 1e-6, high - 1e-6)

    def named(x: Array) -> dict[str, float]:
        return {**begin, **{n: float(v) for n, v in zip(names, np.exp(x), strict=True)}}

    def misfit(x: Array) -> Array:
        formula, measured = formula_and_measured(chip, sample, named(x))
        return np.concatenate([np.log(formula / measured), _PULL * (x - first)])

    found = scipy.optimize.least_squares(
        misfit, first, bounds=(low, high), loss="soft_l1", f_scale=0.1, diff_step=1e-3, max_nfev=40
    )
    return named(found.x)


def _residual(chip: Chip, parts: Sequence[ExpertRows], p: Mapping[str, float], rows: int) -> Surface | None:
    if rows < _MANY:
        return None
    formula, measured = formula_and_measured(chip, parts, p)
    points = [expert_coordinates(part.moe, flat_experts(part.moe)[1]) for part in parts]
    joined = [np.concatenate(column) for column in zip(*points, strict=True)]
    axes = {name: _knots(name, rows, column) for name, column in zip(EXPERT_AXES, joined, strict=True)}
    return fit_surface(axes, joined, np.log(measured / formula), smoothness=0.06 if rows > 1500 else 0.4)


def _knots(name: str, rows: int, column: Array) -> list[float]:
    many = {
        "rows": [-8.0, -4.0, -2.0, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 13.0],
        "experts": [0.0, 1.0, 2.0, 4.0, 6.0, 9.0],
        "inter": [5.0, 8.0, 10.0, 12.0, 14.0],
        "hidden": [11.0, 12.0, 13.0],
        "alpha": [0.0, 1.1],
    }
    few = {
        "rows": [-4.0, 0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 13.0],
        "experts": [0.0, 2.0, 4.0, 6.0, 8.0],
        "inter": [7.0, 9.0, 11.0, 13.0],
        "hidden": [11.0, 13.0],
        "alpha": [0.0, 1.1],
    }
    knots = np.array((many if rows > 1500 else few)[name])
    low = knots[knots <= column.min()]
    high = knots[knots >= column.max()]
    inside = knots[(knots >= (low[-1] if len(low) else knots[0])) & (knots <= (high[0] if len(high) else knots[-1]))]
    return [float(x) for x in (inside if len(inside) else knots[:1])]


def split_kernels(chip: Chip, parts: Sequence[ExpertRows]) -> tuple[list[ExpertRows], list[ExpertRows]]:
    """(slow, fast) rows of a table that mixes two kernels without saying which: alternate fit and assignment.

    Only fitted rows decide; a held-out row goes to the kernel that explains it better (it is not judged by that).
    """
    formula, measured = formula_and_measured(chip, parts, fit_expert_unit(chip, parts).parameters)
    slow = measured > formula
    for _ in range(_SPLIT_ROUNDS):
        predicted = [_explain(chip, _masked(parts, mask), parts) for mask in (slow, ~slow)]
        distance = [np.abs(np.log(measured / p)) for p in predicted]
        slow = distance[0] < distance[1]
    return _masked(parts, slow), _masked(parts, ~slow)


def _explain(chip: Chip, fitted: Sequence[ExpertRows], parts: Sequence[ExpertRows]) -> Array:
    found = fit_expert_unit(chip, fitted)
    return predict_fit(chip, found, parts)


def predict_fit(chip: Chip, fit: ExpertFit, parts: Sequence[ExpertRows]) -> Array:
    """Predicted seconds of all rows in order."""
    formula, _ = formula_and_measured(chip, parts, fit.parameters)
    if fit.surface is None:
        return formula
    points = [expert_coordinates(part.moe, flat_experts(part.moe)[1]) for part in parts]
    smooth = formula * fit.surface.factor([np.concatenate(column) for column in zip(*points, strict=True)])
    return smooth * np.array([fit.shapes.get(n, 1.0) for n in shape_names(parts)]) if fit.shapes else smooth


def _masked(parts: Sequence[ExpertRows], mask: npt.NDArray[np.bool_]) -> list[ExpertRows]:
    ends = np.cumsum([len(p) for p in parts])[:-1]
    return [p.take(m) for p, m in zip(parts, np.split(mask, ends), strict=True) if m.any()]
