"""Refit of every family from a folder of operator tables, and the errors of the new files on rows not fitted."""

from __future__ import annotations

import csv
import datetime
import json
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supertwin.calibration.common import require_polars, require_scipy
from supertwin.calibration.operator_tables import FAMILY_TABLES, OPTIONAL, check_folder, check_tables, table_path
from supertwin.calibration.unseen import Judged, judge, overall
from supertwin.core.errors import InputError, TableError, UnknownName
from supertwin.machine.fitted import ENVIRONMENT, shipped_folder

Progress = Callable[[str], None]
FAMILIES = tuple(FAMILY_TABLES)
_LINK_CHIPS = {"comm": ("h100-sxm", "a100-sxm-80gb"), "ep_all_to_all": ("h100-sxm",)}  # priors of others come from them


@dataclass(frozen=True, slots=True)
class FolderFit:
    """What was written and how good it is.

    families: by name, files written and seconds taken; held_out: rows of `unseen.Judged.as_fields`, with n = 0 where
    few rows were all fitted; overall: errors by group of kinds, chips pooled; next: commands that use the files.
    """

    folder: str
    date: str
    families: dict[str, dict[str, float]]
    held_out: list[dict[str, Any]]
    overall: dict[str, dict[str, float]]
    next: tuple[str, ...]
    elapsed_s: float


def fit_folder(
    tables: Path | str, out: Path | str, families: Sequence[str] = FAMILIES, progress: Progress | None = None
) -> FolderFit:
    """Fit the families from the operator tables and the shipped kernel and collective rows; writes calibration files.

    progress: told what is under way. Raises InputError (no such folder, not writable), UnknownName (family, chip),
    TableError (missing table, column or number), MissingExtra.
    """
    began, source, target = time.perf_counter(), Path(tables), Path(out)
    tell = progress or (lambda _text: None)
    chips = _check(source, families)
    date = datetime.date.today().isoformat()
    done: dict[str, dict[str, float]] = {}
    written: list[Path] = []
    for family in families:
        start = time.perf_counter()
        tell(f"fit {family}")
        files = _fit(family, (source, target), date, chips, tell)
        written += files
        done[family] = {"files": len(set(files)), "elapsed_s": round(time.perf_counter() - start, 1)}
    judged_families = [f for f in families if f not in ("training-attention", "launch")]
    with _reading_from(target):
        judged = judge(source, judged_families, progress=tell) if judged_families else []
    rows = [j.as_fields() for j in judged] + _others(written, judged)
    elapsed_s = time.perf_counter() - began
    use = f"export {ENVIRONMENT}={shlex.quote(str(target.resolve()))}"
    check = f"supertwin validate --operators {shlex.quote(str(source.resolve()))}"
    return FolderFit(str(target), date, done, rows, overall(judged), (use, check), elapsed_s)


def _check(source: Path, families: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Chips by table, once everything that the families need is there."""
    for family in families:
        if family not in FAMILY_TABLES:
            raise UnknownName("family", family, FAMILY_TABLES)
    check_folder(source)
    require_polars()
    require_scipy()
    needed = {f: [name for name in FAMILY_TABLES[f] if name not in OPTIONAL] for f in families}
    missing = {f: [name for name in names if not table_path(source, name).is_file()] for f, names in needed.items()}
    lacking = sorted({f"{name}.csv.gz" for names in missing.values() for name in names})
    if lacking:
        complete = ",".join(f for f, names in missing.items() if not names)
        raise TableError(f"{source} lacks {', '.join(lacking)}; --family {complete} fits what is there")
    wanted = {name for f in families for name in FAMILY_TABLES[f] if table_path(source, name).is_file()}
    return check_tables(source, sorted(wanted))


def _fit(
    family: str, places: tuple[Path, Path], date: str, chips: Mapping[str, tuple[str, ...]], tell: Progress
) -> list[Path]:
    """Fit one family; returns the files, with those of chips that no table has. Broken values that the check of the
    tables lets pass are TableError."""
    from supertwin.calibration import ascend_950

    source, target = places
    try:
        target.mkdir(parents=True, exist_ok=True)
        return [*_fit_tables(family, places, date, chips, tell), *ascend_950.write(family, target, date)]
    except OSError as error:
        raise InputError(f"cannot fit {source} into {target}: {error.strerror or error}") from None


def _fit_tables(
    family: str, places: tuple[Path, Path], date: str, chips: Mapping[str, tuple[str, ...]], tell: Progress
) -> list[Path]:
    source, target = places
    if family in ("gemm", "experts"):
        from supertwin.calibration.holdout import fit_family

        return fit_family(family, source, target, date, lambda chip: tell(f"fit {family}: {chip}"))
    if family == "attention":
        return list(_attention(source, target, date, chips, tell))
    return _SMALL[family](source, target, date, chips)


def _attention(
    source: Path, target: Path, date: str, chips: Mapping[str, tuple[str, ...]], tell: Progress
) -> Iterator[Path]:
    from supertwin.calibration.attention_files import fit_attention

    for chip in sorted({*chips["attention_prefill"], *chips["attention_decode"]}):
        tell(f"fit attention: {chip}")
        yield from fit_attention(source, chip, target, date)


def _training_attention(_source: Path, target: Path, date: str, _chips: Mapping[str, tuple[str, ...]]) -> list[Path]:
    from supertwin.calibration.attention_files import fit_training_attention

    return fit_training_attention(target, date)


def _vector(source: Path, target: Path, date: str, chips: Mapping[str, tuple[str, ...]]) -> list[Path]:
    from supertwin.calibration.vector_fit import DONOR, TABLE_CHIPS, fit_vector

    measured = chips["norm_elementwise"]
    taken_over = [c for c in TABLE_CHIPS if c not in measured] if DONOR in measured else []
    return fit_vector(source, target, date, (*measured, *taken_over))


def _launch(source: Path, target: Path, date: str, _chips: Mapping[str, tuple[str, ...]]) -> list[Path]:
    from supertwin.calibration.launch_fit import fit_launch

    return fit_launch(source, target, date)


def _links(source: Path, target: Path, date: str, chips: Mapping[str, tuple[str, ...]]) -> list[Path]:
    from supertwin.calibration.links_build import build_links, write_links

    for table, needed in _LINK_CHIPS.items():
        missing = [chip for chip in needed if chip not in chips[table]]
        if missing:
            raise TableError(f"{source}: {table}.csv.gz lacks rows of {', '.join(missing)}; other chips inherit theirs")
    path = shipped_folder().parent / "measurements" / "collectives.csv"
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    try:
        return write_links(build_links(source, rows, date)[0], target)
    except KeyError as error:
        raise TableError(f"{source}: comm and ep_all_to_all lack the set {error} that other chips inherit") from None


_SMALL: Mapping[str, Callable[[Path, Path, str, Mapping[str, tuple[str, ...]]], list[Path]]] = {
    "training-attention": _training_attention,
    "vector": _vector,
    "launch": _launch,
    "links": _links,
}


@contextmanager
def _reading_from(folder: Path) -> Iterator[None]:
    """The new files come before all others while they are judged."""
    before = os.environ.get(ENVIRONMENT)
    os.environ[ENVIRONMENT] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[ENVIRONMENT]
        else:
            os.environ[ENVIRONMENT] = before


# kind of the rows of a file; those of a chip that the tables judge are in the judged kinds already
_KINDS: Mapping[str, str] = {
    "experts": "moe",
    "attention-cudnn": "training attention",
    "attention-fa2": "training attention (fa2)",
    "attention-fa3": "training attention (fa3)",
}
_JUDGED_AS: Mapping[str, tuple[str, ...]] = {
    "gemm": ("gemm", "mla_bmm", "grouped_gemm"),
    "experts": ("moe",),
    "vector": ("norm", "elementwise"),
    "links": ("comm", "ep_all_to_all"),
}


def _others(files: Sequence[Path], judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """Rows for files that no operator table judges: their own residual, n = 0 where few rows were all fitted."""
    known = {(j.chip, j.kind) for j in judged}
    rows = []
    for path in sorted(set(files)):
        content = json.loads(path.read_text(encoding="utf-8"))
        chip, residual = content["chip"], content["residual"]
        kinds = _JUDGED_AS.get(path.stem, ("attention prefill", "attention decode"))
        held = int(residual.get("n_held_out", 0))
        if any((chip, kind) in known for kind in kinds) and (held or path.stem in _JUDGED_AS):
            continue
        total = sum(int(data["rows"]) for data in content["data_sets"])
        row = {
            "chip": chip,
            "kind": _KINDS.get(path.stem, path.stem),
            "n_fit": max(total - held, 0),
            "n_held_out": held,
        }
        if held:
            row |= {"n": held, "median_ape": residual["held_out_median_ape"], "p90_ape": residual["p90"], "bias": None}
        rows.append({"n": 0, **row})
    return rows
