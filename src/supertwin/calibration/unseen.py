"""Errors of the calibration in use on operator rows that no fit has seen, by chip and kind.

The rows are those that `calibration.common.held_out` (a hash of the shape) keeps from every fit. Predictions go
through the functions that the twin calls, with the library and benchmark loop that the row was measured with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from supertwin.calibration.common import errors
from supertwin.calibration.operator_tables import (
    JUDGED_TABLES,
    OPTIONAL,
    check_folder,
    check_tables,
    table_path,
)
from supertwin.calibration.unseen_rows import READERS, Part
from supertwin.core.errors import TableError
from supertwin.cost.surface import Array

Progress = Callable[[str], None]
# kinds that a goal is stated for, and what belongs to them
GROUPS: Mapping[str, tuple[str, ...]] = {
    "gemm": ("gemm", "mla_bmm"),
    "attention": ("attention prefill", "attention decode"),
    "moe": ("moe", "grouped_gemm"),
    "norm": ("norm",),
    "elementwise": ("elementwise",),
    "links": ("comm", "ep_all_to_all"),
    "mla blocks": ("mla block",),
    "dsa blocks": ("dsa block",),
}
_SEED = 20261121


@dataclass(frozen=True, slots=True)
class Judged:
    """One chip and kind. n_held_out: rows kept from the fit; predicted_s, measured_s: those judged (a sample)."""

    chip: str
    kind: str
    n_fit: int
    n_held_out: int
    predicted_s: Array
    measured_s: Array

    def as_fields(self) -> dict[str, Any]:
        """Row of a report: chip, kind, n_fit, n_held_out, n (judged), median_ape, p90_ape, bias."""
        rows = {"chip": self.chip, "kind": self.kind, "n_fit": self.n_fit, "n_held_out": self.n_held_out}
        return rows | errors(self.predicted_s, self.measured_s)


def judge(
    folder: Path, families: Sequence[str] = (), sample: int = 0, progress: Progress | None = None
) -> list[Judged]:
    """Errors by chip and kind on the tables below folder.

    families: of READERS, all whose tables are there if empty; sample: most rows per chip and kind (0 = all), picked by
    a fixed seed. Raises InputError, TableError, UnknownName (chip), MissingExtra.
    """
    check_folder(folder)
    wanted = families or [family for family in READERS if _complete(folder, family)]
    if not wanted:
        sets = "; ".join(" and ".join(f"{name}.csv.gz" for name in _needed(family)) for family in READERS)
        raise TableError(f"{folder} has no complete set of tables; expected {sets}")
    found: list[Judged] = []
    for family in wanted:
        if progress:
            progress(f"held-out rows: {family}")
        check_tables(folder, JUDGED_TABLES[family])
        grouped: dict[tuple[str, str], list[Part]] = {}
        for part in READERS[family](folder):
            grouped.setdefault((part.chip, part.kind), []).append(part)
        found += [_judge(*key, parts, sample) for key, parts in sorted(grouped.items())]
    return found


def _needed(family: str) -> list[str]:
    return [name for name in JUDGED_TABLES[family] if name not in OPTIONAL]


def _complete(folder: Path, family: str) -> bool:
    return all(table_path(folder, name).is_file() for name in _needed(family))


def overall(judged: Sequence[Judged]) -> dict[str, dict[str, float]]:
    """Errors by group of kinds, all chips pooled."""
    out = {}
    for group, kinds in GROUPS.items():
        mine = [j for j in judged if j.kind in kinds]
        if sum(len(j.measured_s) for j in mine):
            predicted, measured = (np.concatenate([getattr(j, n) for j in mine]) for n in ("predicted_s", "measured_s"))
            out[group] = errors(predicted, measured)
    return out


def _judge(chip: str, kind: str, parts: Sequence[Part], sample: int) -> Judged:
    ends = np.cumsum([0, *(len(p.measured_s) for p in parts)])
    total = int(ends[-1])
    taken = np.arange(total)
    if 0 < sample < total:
        taken = np.sort(np.random.default_rng(_SEED).permutation(total)[:sample])
    predicted, measured = [np.zeros(0)], [np.zeros(0)]
    for part, start, end in zip(parts, ends[:-1], ends[1:], strict=True):
        index = taken[(taken >= start) & (taken < end)] - start
        if len(index):
            predicted.append(np.asarray(part.predict(index), dtype=np.float64))
            measured.append(part.measured_s[index])
    fitted = sum(p.fitted for p in parts)
    return Judged(chip, kind, fitted, total, np.concatenate(predicted), np.concatenate(measured))
