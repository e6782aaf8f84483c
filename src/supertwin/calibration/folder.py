"""Refit of every family from a folder of operator tables."""

from __future__ import annotations

import csv
import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from supertwin.calibration.common import require_polars, require_scipy
from supertwin.core.errors import InputError, TableError, UnknownName
from supertwin.cost.calibration import shipped_folder

FAMILIES = ("matrix", "attention", "vector", "links")


@dataclass(frozen=True, slots=True)
class FolderFit:
    """Files written below `folder`, by family, and how long it took. Name the folder in SUPERTWIN_CALIBRATION."""

    folder: str
    date: str
    files: dict[str, int]
    elapsed_s: float


def fit_folder(tables: Path | str, out: Path | str, families: Sequence[str] = FAMILIES) -> FolderFit:
    """Fit the families from the operator tables and the shipped kernel and collective rows; writes calibration files.

    Raises InputError (no such folder, not writable), UnknownName (family), TableError, MissingExtra.
    """
    began, source, target = time.perf_counter(), Path(tables), Path(out)
    for family in families:
        if family not in _FITS:
            raise UnknownName("family", family, _FITS)
    if not source.is_dir():
        raise InputError(f"{source} is not a folder; expected one with operator tables (gemm.csv.gz ...)")
    if not any(source.glob("*.csv.gz")):
        raise TableError(
            f"{source} holds no operator tables; expected gemm.csv.gz, moe.csv.gz, attention_prefill.csv.gz ..."
        )
    require_polars()
    require_scipy()
    date = datetime.date.today().isoformat()
    try:
        target.mkdir(parents=True, exist_ok=True)
        files = {family: _FITS[family](source, target, date) for family in families}
    except OSError as error:
        raise InputError(f"cannot fit {source} into {target}: {error.strerror or error}") from None
    return FolderFit(str(target), date, files, time.perf_counter() - began)


def _matrix(tables: Path, out: Path, date: str) -> int:
    from supertwin.calibration.holdout import fit

    fit(tables, (), out, date)
    return len([*out.glob("*/gemm.json"), *out.glob("*/experts.json")])


def _attention(tables: Path, out: Path, date: str) -> int:
    from supertwin.calibration.attention_files import MEASURED_CHIPS, fit_attention, fit_training_attention

    written = [path for chip in MEASURED_CHIPS for path in fit_attention(tables, chip, out, date)]
    return len({*written, *fit_training_attention(out, date)})


def _vector(tables: Path, out: Path, date: str) -> int:
    from supertwin.calibration.vector_fit import fit_vector

    return len(fit_vector(tables, out, date))


def _links(tables: Path, out: Path, date: str) -> int:
    from supertwin.calibration.links_build import build_links, write_links

    path = shipped_folder().parent / "measurements" / "collectives.csv"
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    return len(write_links(build_links(tables, rows, date)[0], out))


_FITS: dict[str, Callable[[Path, Path, str], int]] = {
    "matrix": _matrix,
    "attention": _attention,
    "vector": _vector,
    "links": _links,
}
