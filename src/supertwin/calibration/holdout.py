"""Refit of the operator families and the held-out errors of what is shipped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from supertwin.calibration.common import errors, write_calibration
from supertwin.calibration.gemm_files import content, fit_chip, predicted, residuals
from supertwin.calibration.gemm_fit import held_out_rows
from supertwin.calibration.tables import GemmRows, gemm_rows, kernel_gemm_rows
from supertwin.core.errors import UnknownName
from supertwin.cost.calibration import Calibration, complete, load_calibration, shipped_folder
from supertwin.machine.chip import Chip
from supertwin.machine.chips import load_chip

Report = list[dict[str, Any]]
Loader = Callable[[str], Chip]


def shipped_kernels() -> Path:
    """The kernels.csv that comes with the package."""
    return shipped_folder().parent / "measurements" / "kernels.csv"


def all_gemm_rows(folder: Path, loader: Loader = load_chip) -> list[GemmRows]:
    """Products of the operator tables under folder and of the shipped kernels.csv, chips by their catalogue name."""
    rows = [*gemm_rows(folder), *kernel_gemm_rows(shipped_kernels())]
    names = {r.chip: loader(r.chip).name for r in rows}
    return [replace(r, chip=names[r.chip]) for r in rows]


def fit_gemm(folder: Path, chips: Iterable[str], out: Path, date: str, loader: Loader = load_chip) -> Report:
    """Fit the chips (all measured ones if none named) and write `out/<chip>/gemm.json`. Returns the held-out report.

    Raises UnknownName for a chip without rows, TableError, MissingExtra.
    """
    rows = all_gemm_rows(folder, loader)
    measured = sorted({r.chip for r in rows})
    done: dict[str, Calibration] = {}
    report: Report = []
    for name in list(chips) or measured:
        if name not in measured:
            raise UnknownName("measured chip", name, measured)
        calibration = _fit_with_relatives(name, rows, done, loader)
        chip = loader(name)
        parts = [r for r in rows if r.chip == name]
        write_calibration(out, content(done[name], residuals(chip, calibration, parts), date))
        report += held_out_errors(chip, calibration, parts)
    return report


def _fit_with_relatives(
    name: str, rows: Sequence[GemmRows], done: dict[str, Calibration], loader: Loader
) -> Calibration:
    """Fit a chip after its relatives; returns its calibration completed by theirs."""
    chip = loader(name)
    above = None
    if chip.relative and chip.relative != name:
        above = _fit_with_relatives(chip.relative, rows, done, loader)
    if name not in done:
        mine = [r for r in rows if r.chip == name]
        done[name] = fit_chip(chip, mine, above) if mine else Calibration(family="gemm", chip=name)
    return complete(done[name], above) if above else done[name]


def held_out_errors(chip: Chip, calibration: Calibration, rows: Sequence[GemmRows]) -> Report:
    """Errors on held-out rows by context and format."""
    report: Report = []
    for part in rows:
        mask = held_out_rows(part)
        if len(part) < 8 or not mask.any():
            continue
        held = part.take(mask)
        kind = "grouped_gemm" if part.grouped else "gemm"
        row = {"chip": chip.name, "kind": kind, "context": part.context, "format": _format(part)}
        report.append(row | errors(predicted(chip, calibration, held), held.time_s))
    return report


def evaluate_held_out(folder: Path) -> Report:
    """Held-out errors of the shipped calibration on the operator tables under folder, by chip, context and format."""
    rows = all_gemm_rows(folder)
    report: Report = []
    for name in sorted({r.chip for r in rows}):
        chip = load_chip(name)
        report += held_out_errors(chip, load_calibration(chip, "gemm"), [r for r in rows if r.chip == name])
    return report


def summary(report: Report, by: Sequence[str] = ("chip", "kind")) -> Report:
    """Row-weighted medians of a report by some of its columns (median of the parts, weighted by rows)."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in report:
        groups.setdefault(tuple(row[c] for c in by), []).append(row)
    out = []
    for key, rows in sorted(groups.items()):
        n = np.array([r["n"] for r in rows], dtype=np.float64)
        weighted = {c: float(np.average([r[c] for r in rows], weights=n)) for c in ("median_ape", "p90_ape", "bias")}
        out.append(dict(zip(by, key, strict=True)) | {"n": int(n.sum())} | weighted)
    return out


def _format(part: GemmRows) -> str:
    gemm = part.gemm
    return f"{gemm.dtype}/{gemm.weight_dtype}" if gemm.weight_dtype else gemm.dtype
