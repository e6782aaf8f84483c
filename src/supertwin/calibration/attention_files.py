"""Calibration files of attention: fit all measured variants of a chip, write them, and judge them on held-out rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from supertwin.calibration import ascend_profile
from supertwin.calibration.attention_fit import EAGER, LIBRARIES, Rows, fit_variant, load_rows
from supertwin.calibration.attention_special import ascend_constants, flashmla_constants, special_constants
from supertwin.calibration.attention_training import TrainingRows, fit_training, group_rows
from supertwin.calibration.common import errors, require_polars, spread_90, write_calibration
from supertwin.cost.attention import AttentionModel
from supertwin.cost.attention_kernels import attention_times
from supertwin.cost.geometry import Array
from supertwin.cost.surface import Surface
from supertwin.machine.chip import Chip
from supertwin.machine.chips import load_chip
from supertwin.machine.fitted import shipped_folder

# Name in the operator tables -> catalogue name, where the alias of the catalogue is another chip.
MEASURED_CHIPS = (
    "a100-sxm-80gb", "a800-80gb", "b200", "gb200", "gb300", "h100-sxm", "h20", "h200-sxm", "h800-sxm",
)  # fmt: skip
# Shares measured on one chip that others of the same make take over, since no relative of theirs has them.
TAKEN_OVER = {"a100-sxm-80gb": "a100-pcie-80gb"}
# cuDNN with 192/128 over 128/128 at 4096 tokens, 128 heads: 0.85 and 0.77 on A100 and on B200 (kernels.csv, SimuMax).
LATENT_SHARE = {"fwd": 0.85, "bwd": 0.77}
SMALLEST_SPREAD = 0.08
TRAINING_SPREAD = 0.15  # assumption: leave-one-out 90th percentile of the kernel tables, rounded up


@dataclass
class Content:
    """What goes into one file."""

    parameters: dict[str, dict[str, float]] = field(default_factory=dict)
    surfaces: dict[str, Surface] = field(default_factory=dict)
    rows: int = 0
    predicted: list[Array] = field(default_factory=list)
    measured: list[Array] = field(default_factory=list)

    def add(self, chip: Chip, rows: Rows) -> None:
        """Fit one variant and remember its held-out rows."""
        name = rows.variant.name
        constants, surface = fit_variant(chip, rows)
        self.parameters[name] = rounded(constants)
        if surface is not None:
            self.surfaces[name] = surface
        self.rows += int((~rows.test).sum())
        test = np.flatnonzero(rows.test)
        self.predicted.append(attention_times(chip, rows.variant, rows.part(test), constants, surface).time_s)
        self.measured.append(rows.measured_s[test])

    def as_json(self, family: str, chip: str, date: str, data_sets: Sequence[tuple[str, int]]) -> dict[str, Any]:
        """The documented form."""
        predicted = np.concatenate([np.zeros(0), *self.predicted])
        measured = np.concatenate([np.zeros(0), *self.measured])
        held = errors(predicted, measured)
        spread = max(spread_90(predicted, measured), SMALLEST_SPREAD) if len(measured) else TRAINING_SPREAD
        residual = {"n": self.rows, "n_held_out": held["n"]}
        if len(measured):
            residual |= {"held_out_median_ape": held["median_ape"], "p90": held["p90_ape"]}
        return {
            "family": family,
            "chip": chip,
            "date": date,
            "data_sets": [{"name": name, "rows": rows} for name, rows in data_sets],
            "parameters": self.parameters,
            "surface": {name: surface.to_json() for name, surface in self.surfaces.items()},
            "residual": {name: round(float(value), 4) for name, value in residual.items()},
            "spread": round(spread, 4),
        }


def rounded(constants: Mapping[str, float]) -> dict[str, float]:
    """Four significant digits."""
    return {name: float(f"{value:.4g}") for name, value in constants.items()}


def fit_attention(operators: Path, table_chip: str, out: Path, date: str) -> list[Path]:
    """Fit all variants measured on a chip (name as in the operator tables) and write its files. Returns their paths.

    Raises MissingExtra, TableError.
    """
    chip = load_chip(table_chip)
    files: dict[str, Content] = {}
    seen: set[str] = set()
    for rows in sorted(load_rows(operators, table_chip), key=lambda r: LIBRARIES.index(r.library)):
        aside = rows.variant.name in seen or rows.library == EAGER
        family = f"attention-{rows.library}" if aside else "attention"
        seen.add(rows.variant.name)
        files.setdefault(family, Content()).add(chip, rows)
    if "attention" in files:
        for name, constants in special_constants(operators).items():
            files["attention"].parameters.setdefault(name, rounded(constants))
    source = "operators/attention_prefill, attention_decode, attention_sparse_linear"
    return [
        write_calibration(out, content.as_json(family, chip.name, date, [(source, content.rows)]))
        for family, content in files.items()
    ]


def fit_training_attention(out: Path, date: str) -> list[Path]:
    """Fit forward and backward kernels of the shipped kernels.csv, one file per chip and library; Ascend as well."""
    table = kernel_table()
    written = []
    names = sorted({str(r["chip"]) for r in table if r["kernel"] == "attention" and r.get("heads")})
    for chip_name, source in [*((n, n) for n in names), *TAKEN_OVER.items()]:
        groups = group_rows([r for r in table if r["chip"] == source])
        written += _write_training(chip_name, source, groups, out, date)
    for chip_name in ("ascend-910b2", "ascend-910c-die"):
        chip = load_chip(chip_name)
        content = Content({n: rounded(c) for n, c in ascend_constants(chip).items()}, rows=8)
        data = content.as_json("attention", chip_name, date, [("kernels.csv: Ascend attention", 8)])
        written.append(write_calibration(out, {**data, "spread": 0.35}))
    profiled = Content({n: rounded(c) for n, c in ascend_profile.attention_constants().items()}, rows=8)
    data = profiled.as_json("attention-cann", "ascend-910b2", date, [(ascend_profile.SOURCE, 8)])
    written.append(write_calibration(out, data))
    for chip_name in ("h800-sxm", "b200-sxm"):
        chip = load_chip(chip_name)
        content = Content({n: rounded(c) for n, c in flashmla_constants(chip).items()}, rows=2)
        data = content.as_json("attention-flashmla", chip_name, date, [("kernels.csv: FlashMLA best values", 2)])
        written.append(write_calibration(out, data))
    return written


def latent_from_plain(parameters: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Training kernels of MLA (192/128) for a chip on which only head size 128 was measured."""
    out = {}
    for direction, mark in (("fwd", ""), ("bwd", "/bwd")):
        plain, latent = (f"prefill/{shape}/bf16/bf16{mark}" for shape in ("gqa/128", "mla/192"))
        if plain in parameters and latent not in parameters:
            out[latent] = {**parameters[plain], "rate": round(parameters[plain]["rate"] * LATENT_SHARE[direction], 4)}
    return out


def _write_training(chip_name: str, source: str, groups: Iterable[TrainingRows], out: Path, date: str) -> list[Path]:
    measured_on = load_chip(source)
    files: dict[str, Content] = {}
    for group in groups:
        content = files.setdefault(f"attention-{group.library}", Content())
        content.rows += len(group.rows)
        content.parameters |= {n: rounded(c) for n, c in fit_training(measured_on, group).items()}
    for family, content in files.items():
        if family == "attention-cudnn":
            content.parameters |= latent_from_plain(content.parameters)
    name = load_chip(chip_name).name
    return [
        write_calibration(out, c.as_json(family, name, date, [(f"kernels.csv: {family} on {source}", c.rows)]))
        for family, c in files.items()
    ]


def kernel_table() -> list[dict[str, Any]]:
    """Rows of the shipped kernels.csv."""
    polars = require_polars()
    path = shipped_folder().parent / "measurements" / "kernels.csv"
    rows: list[dict[str, Any]] = polars.read_csv(path, infer_schema_length=None).to_dicts()
    return rows


def evaluate_held_out(operators: Path, chips: Sequence[str] = MEASURED_CHIPS) -> list[dict[str, Any]]:
    """Errors of the shipped files on held-out rows, by chip, library, phase, kind, cache format and window."""
    report = []
    for table_chip in chips:
        chip = load_chip(table_chip)
        for rows in load_rows(operators, table_chip):
            test = np.flatnonzero(rows.test)
            model = AttentionModel(chip, rows.library)
            kernel = model.kernel(rows.variant)
            shape = rows.part(test)
            times = attention_times(chip, rows.variant, shape, kernel.constants, kernel.surface)
            key = {"chip": table_chip, "library": rows.library, "phase": rows.variant.phase, "kind": rows.variant.kind}
            for windowed in (False, True):
                mask = (shape.window > 0) == windowed
                if mask.any():
                    more = {"variant": rows.variant.name, "windowed": windowed}
                    predicted, measured = times.time_s[mask], rows.measured_s[test][mask]
                    ape = np.abs(predicted / measured - 1.0)
                    report.append({**key, **more, **errors(predicted, measured), "ape": ape})
    return report
