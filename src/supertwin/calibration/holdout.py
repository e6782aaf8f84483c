"""Refit of products and experts, and the held-out errors of what is shipped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from supertwin.calibration import experts_files, gemm_files
from supertwin.calibration.ascend_products import serving_product_rows
from supertwin.calibration.common import errors, write_calibration
from supertwin.calibration.experts_fit import ExpertRows, expert_rows
from supertwin.calibration.gemm_fit import held_out_masks
from supertwin.calibration.kernels import ascend_median_rows, kernel_expert_rows, kernel_gemm_rows
from supertwin.calibration.tables import GemmRows, gemm_rows
from supertwin.core.errors import UnknownName
from supertwin.cost.calibration import Calibration, complete, load_calibration
from supertwin.cost.surface import Array
from supertwin.machine.chip import Chip
from supertwin.machine.chips import load_chip
from supertwin.machine.fitted import shipped_folder

Report = list[dict[str, Any]]
Loader = Callable[[str], Chip]
Rows = Sequence[Any]


@dataclass(frozen=True, slots=True)
class _Family:
    """What differs between the families: reading rows, fitting a chip, its errors, its report."""

    name: str
    read: Callable[[Path], Rows]
    fit: Callable[[Chip, Rows, Calibration | None, bool], Calibration]
    residuals: Callable[[Chip, Calibration, Rows], dict[str, float]]
    report: Callable[[Chip, Calibration, Rows], Report]


def shipped_kernels() -> Path:
    """The kernels.csv that comes with the package."""
    return shipped_folder().parent / "measurements" / "kernels.csv"


def _judged(row: dict[str, Any], predicted: Array, measured: Array) -> dict[str, Any]:
    """A report row; `ratios` (predicted / measured) is for pooling by `summary`."""
    return row | errors(predicted, measured) | {"ratios": predicted / measured}


def _gemm_errors(chip: Chip, calibration: Calibration, rows: Sequence[GemmRows]) -> Report:
    report: Report = []
    for part, mask in zip(rows, held_out_masks(rows), strict=True):
        if mask.any():
            held = part.take(mask)
            kind = "grouped_gemm" if part.grouped else "gemm"
            row = {"chip": chip.name, "kind": kind, "context": part.context, "format": _format(part.gemm)}
            report.append(_judged(row, gemm_files.predicted(chip, calibration, held), held.time_s))
    return report


def _expert_errors(chip: Chip, calibration: Calibration, rows: Sequence[ExpertRows]) -> Report:
    report: Report = []
    for part in rows:
        if part.held.any():
            held = part.take(part.held)
            row = {"chip": chip.name, "kind": "moe", "context": part.context, "format": _format(part.moe)}
            predicted = experts_files.predicted_experts(chip, calibration, held)
            report.append(_judged(row | {"distribution": part.moe.distribution}, predicted, held.time_s))
    return report


FAMILIES = (
    _Family(
        "gemm",
        lambda folder: [
            *gemm_rows(folder),
            *kernel_gemm_rows(shipped_kernels()),
            *ascend_median_rows(),
            *serving_product_rows(),
        ],
        gemm_files.fit_chip,
        gemm_files.residuals,
        _gemm_errors,
    ),
    _Family(
        "experts",
        lambda folder: [*expert_rows(folder), *kernel_expert_rows(shipped_kernels())],
        experts_files.fit_expert_chip,
        experts_files.expert_residuals,
        _expert_errors,
    ),
)


def fit(folder: Path, chips: Iterable[str], out: Path, date: str = "", loader: Loader = load_chip) -> Report:
    """Fit gemm and experts of the chips (all measured ones if none named); writes `out/<chip>/<family>.json`.

    folder holds the operator tables; date (year and month) goes into the files, today's if empty. Returns the held-out
    report of the chips. Raises UnknownName for a chip without rows in any family, TableError, MissingExtra.
    """
    date = date or datetime.now(tz=UTC).strftime("%Y-%m")
    names = [loader(name).name for name in chips]
    report: Report = []
    measured: set[str] = set()
    for family in FAMILIES:
        rows = _canonical(family.read(folder), loader)
        mine = sorted({r.chip for r in rows})
        measured |= set(mine)
        done: dict[str, Calibration] = {}
        for name in [n for n in names or mine if n in mine]:
            calibration = _with_relatives(family, name, rows, done, loader)
            chip, parts = loader(name), [r for r in rows if r.chip == name]
            _write(family, done[name], (chip, calibration, parts), out, date)
            report += family.report(chip, calibration, parts)
    for name in names:
        if name not in measured:
            raise UnknownName("measured chip", name, measured)
    return report


def fit_family(name: str, folder: Path, out: Path, date: str, progress: Callable[[str], None]) -> list[Path]:
    """Fit one family (gemm, experts) for every measured chip; returns the files. progress: told each chip."""
    family = next(f for f in FAMILIES if f.name == name)
    rows = _canonical(family.read(folder), load_chip)
    done: dict[str, Calibration] = {}
    written = []
    for chip_name in sorted({r.chip for r in rows}):
        progress(chip_name)
        calibration = _with_relatives(family, chip_name, rows, done, load_chip)
        judged = load_chip(chip_name), calibration, [r for r in rows if r.chip == chip_name]
        written.append(_write(family, done[chip_name], judged, out, date))
    return written


def _write(family: _Family, own: Calibration, judged: tuple[Chip, Calibration, Rows], out: Path, date: str) -> Path:
    """File of a chip: its own groups, with the residual of them completed by its relatives'."""
    return write_calibration(out, gemm_files.content(own, family.residuals(*judged), date))


def _with_relatives(
    family: _Family, name: str, rows: Rows, done: dict[str, Calibration], loader: Loader
) -> Calibration:
    """Fit a chip after its relatives; returns its calibration completed by theirs."""
    chip = loader(name)
    above = _with_relatives(family, chip.relative, rows, done, loader) if chip.relative else None
    if name not in done:
        mine = [r for r in rows if r.chip == name]
        done[name] = family.fit(chip, mine, above, True) if mine else Calibration(family=family.name, chip=name)
    return complete(done[name], above) if above else done[name]


def _canonical(rows: Rows, loader: Loader) -> list[Any]:
    """Rows with the chips' catalogue names."""
    names = {r.chip: loader(r.chip).name for r in rows}
    return [replace(r, chip=names[r.chip]) for r in rows]


def evaluate_held_out(folder: Path) -> Report:
    """Held-out errors of the shipped calibration on the operator tables, by chip, kind, context and format."""
    report: Report = []
    for family in FAMILIES:
        rows = _canonical(family.read(folder), load_chip)
        for name in sorted({r.chip for r in rows}):
            chip = load_chip(name)
            mine = [r for r in rows if r.chip == name]
            report += family.report(chip, load_calibration(chip, family.name), mine)
    return report


def summary(report: Report, by: Sequence[str] = ("chip", "kind")) -> Report:
    """Errors of all rows that share some columns of a report, pooled."""
    groups: dict[tuple[Any, ...], list[Array]] = {}
    for row in report:
        groups.setdefault(tuple(row[c] for c in by), []).append(row["ratios"])
    pooled = {key: np.concatenate(ratios) for key, ratios in sorted(groups.items())}
    return [dict(zip(by, key, strict=True)) | errors(r, np.ones_like(r)) for key, r in pooled.items()]


def _format(operator: Any) -> str:
    return f"{operator.dtype}/{operator.weight_dtype}" if operator.weight_dtype else str(operator.dtype)
