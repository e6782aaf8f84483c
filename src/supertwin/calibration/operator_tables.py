"""The form of the operator tables: which columns each file needs, checked before a fit or a check starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from supertwin.calibration.tables import read_table
from supertwin.core.errors import InputError, TableError


@dataclass(frozen=True, slots=True)
class Form:
    """Columns of a table: texts, and numbers that are never negative; times (microseconds) are above 0."""

    texts: tuple[str, ...]
    numbers: tuple[str, ...]
    times: tuple[str, ...] = ("us",)


_ATTENTION = ("batch", "q_len", "heads", "kv_heads", "qk_head_dim", "v_head_dim", "window")
FORMS: Mapping[str, Form] = {
    "gemm": Form(("chip", "dtype", "framework"), ("m", "n", "k")),
    "mla_bmm": Form(("chip", "op", "dtype", "framework"), ("tokens", "heads")),
    "grouped_gemm": Form(
        ("chip", "stage"), ("tokens_per_expert", "hidden", "inter", "experts_local"), ("up_us", "down_us")
    ),
    "moe": Form(
        ("chip", "dtype", "distribution", "scope", "framework"),
        ("tokens", "experts", "topk", "hidden", "inter", "ep", "tp", "gated"),
    ),
    "attention_prefill": Form(("chip", "kind", "dtype", "kv_dtype", "framework"), (*_ATTENTION, "prefix_len")),
    "attention_decode": Form(("chip", "kind", "dtype", "kv_dtype", "framework"), (*_ATTENTION, "kv_len")),
    "attention_sparse_linear": Form(("chip", "op", "stage"), ("batch", "q_len")),
    "norm_elementwise": Form(("chip", "op", "method", "source"), ("tokens", "width")),
    "comm": Form(("chip", "op", "library"), ("n", "devices_per_node", "bytes")),
    "attention_module": Form(
        ("chip", "kind", "stage", "model", "kv_dtype", "gemm_dtype", "framework", "kernel"),
        ("heads", "batch", "q_len", "kv_len"),
    ),
    "ep_all_to_all": Form(("chip", "op", "mode"), ("n", "hidden", "tokens", "topk")),
}
OPTIONAL = ("mla_bmm", "grouped_gemm", "attention_sparse_linear")
# family -> tables that it is fitted on; training attention comes from the shipped kernels.csv alone
FAMILY_TABLES: Mapping[str, tuple[str, ...]] = {
    "gemm": ("gemm", "mla_bmm", "grouped_gemm"),
    "experts": ("moe",),
    "attention": ("attention_prefill", "attention_decode", "attention_sparse_linear"),
    "training-attention": (),
    "vector": ("norm_elementwise", "attention_sparse_linear"),
    "launch": ("norm_elementwise",),
    "links": ("comm", "ep_all_to_all"),
}
# what is judged: the families, and whole attention blocks, on which nothing is fitted
JUDGED_TABLES: Mapping[str, tuple[str, ...]] = {**FAMILY_TABLES, "blocks": ("attention_module",)}


def table_path(folder: Path, name: str) -> Path:
    """Path of a table below a folder."""
    return folder / f"{name}.csv.gz"


def check_folder(folder: Path) -> None:
    """Raises InputError when there is no such folder, TableError when it holds no operator table."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected one with operator tables (gemm.csv.gz ...)")
    if not any(table_path(folder, name).is_file() for name in FORMS):
        names = ", ".join(f"{name}.csv.gz" for name in FORMS)
        raise TableError(f"{folder} holds no operator tables; expected {names}")


def check_tables(folder: Path, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Chips by table. Raises TableError, in one sentence, for a missing file, column, number or time; MissingExtra."""
    return {name: _check(folder, name) for name in names if name not in OPTIONAL or table_path(folder, name).is_file()}


def _check(folder: Path, name: str) -> tuple[str, ...]:
    path = table_path(folder, name)
    if not path.is_file():
        raise TableError(f"{folder} lacks {path.name}; --family names the families whose tables are there")
    frame, form = read_table(path), FORMS[name]
    missing = [c for c in (*form.texts, *form.numbers, *form.times) if c not in frame.columns]
    if missing:
        raise TableError(f"{path}: lacks the columns {', '.join(missing)}")
    if not frame.height:
        raise TableError(f"{path}: has no rows")
    for column in (*form.numbers, *form.times):
        values = frame[column]
        if not values.dtype.is_numeric():
            raise TableError(f"{path}: column {column} holds {values.dtype}, expected numbers")
        least, empty = values.min(), values.null_count()
        if empty or not _legal(least, column in form.times):
            bound = "above 0" if column in form.times else "of at least 0"
            found = f"{empty} empty cells" if empty else str(least)
            raise TableError(f"{path}: column {column} has {found}, expected numbers {bound}")
    return tuple(sorted(str(chip) for chip in frame["chip"].unique()))


def _legal(least: float, is_time: bool) -> bool:
    return least > 0 if is_time else least >= 0
