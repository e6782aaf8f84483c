"""A table of deployments as columns: reading it, and its rows by deployment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import InputError, UnknownName
from supertwin.core.splits import split_of
from supertwin.inference.case import Deployment

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]
SIZES = ("batch", "kv_len", "input_len", "prefix_len", "chunk_tokens", "mtp_acceptance")
"""Columns that may be different in every row of one group."""
_NO_SETTINGS = ("mtp_acceptance", "part_dtypes", "cp_adds_devices")
SETTINGS = {f.name: f.default for f in fields(Deployment) if f.name not in _NO_SETTINGS}
"""Columns that a deployment is made of, with their defaults. cp adds devices in prefill and none in decode. afd is
(x, y) for all rows, or text by row: "2A2F", or "" where attention and feed-forward are together."""
_LARGEST_CODE = 2**62


class Varied(NamedTuple):
    """A setting that differs between rows. values: distinct ones; where: [rows] into them."""

    values: list[Any]
    where: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Table:
    """length: rows; sizes: [length] by name; settings: one value for all rows, or those of the rows."""

    length: int
    sizes: Mapping[str, Array]
    settings: Mapping[str, Any]

    def deployments(self) -> Iterator[tuple[Deployment, Rows]]:
        """Every deployment of the table with its rows, in ascending order."""
        fixed = {name: value for name, value in self.settings.items() if not isinstance(value, Varied)}
        varied = {name: value for name, value in self.settings.items() if isinstance(value, Varied)}
        code, most = np.zeros(self.length, dtype=np.int64), 1
        for values, index in varied.values():
            most *= len(values)
            if most > _LARGEST_CODE:
                distinct, code = np.unique(code, return_inverse=True)
                most = len(distinct) * len(values)
            code = code * len(values) + index
        order = np.argsort(code, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
            if len(rows):
                own = {name: values[index[rows[0]]] for name, (values, index) in varied.items()}
                yield Deployment(**fixed, **own), rows

    def setting(self, name: str) -> Any:
        """A setting by row [length], or its one value."""
        value = self.settings[name]
        return np.array(value.values)[value.where] if isinstance(value, Varied) else value


def read_table(columns: Mapping[str, Any]) -> Table:
    """Columns as a table. Raises InputError for names that are unknown, and lengths that differ."""
    for name in columns:
        if name not in SIZES and name not in SETTINGS:
            raise UnknownName("column", name, [*SIZES, *SETTINGS])
    if "batch" not in columns:
        raise InputError("columns lack batch (sequences per device); legal: " + ", ".join([*SIZES, *SETTINGS]))
    given = {name: _column(name, value) for name, value in columns.items()}
    deep = [f"{name} has {x.ndim} dimensions" for name, x in given.items() if x.ndim > 1]
    lengths = {name: len(x) for name, x in given.items() if x.ndim == 1}
    if deep or len(set(lengths.values())) > 1:
        found = ", ".join(deep or [f"{name} has {n} rows" for name, n in lengths.items()])
        raise InputError(f"{found}; expected single values and columns of one length")
    length = next(iter(lengths.values()), 1)
    sizes = {name: _numbers(name, given.get(name, np.zeros(())), length) for name in SIZES}
    settings = {name: _setting(name, given[name]) if name in given else default for name, default in SETTINGS.items()}
    return Table(length, sizes, settings)


def _column(name: str, value: Any) -> npt.NDArray[Any]:
    pair = isinstance(value, tuple) and len(value) == 2 and all(isinstance(x, (int, np.integer)) for x in value)
    if name == "afd" and pair:
        value = "" if tuple(value) == (0, 0) else f"{value[0]}A{value[1]}F"
    return np.asarray(value)


def _numbers(name: str, value: npt.NDArray[Any], length: int) -> Array:
    try:
        return np.broadcast_to(value.astype(np.float64), (length,))
    except (TypeError, ValueError):
        raise InputError(f"column {name} holds {value.ravel()[:3].tolist()}; expected numbers") from None


def _setting(name: str, value: npt.NDArray[Any]) -> Any:
    """One value, or those of the rows."""
    kind = type(SETTINGS[name])
    if value.ndim == 0:
        return _as(name, value.item(), kind)
    if value.dtype.kind in "biuf":
        distinct, index = np.unique(value, return_inverse=True)
        return Varied([_as(name, x, kind) for x in distinct.tolist()], index)
    given = value.tolist()
    known = {x: i for i, x in enumerate(dict.fromkeys(given))}
    return Varied([_as(name, x, kind) for x in known], np.array([known[x] for x in given], dtype=np.int64))


def _as(name: str, value: Any, kind: type) -> Any:
    """A value in the type of its field: whole numbers may come as floats."""
    if kind is tuple:
        split = (0, 0) if value == "" else split_of(value) if isinstance(value, str) else None
        if split is None:
            raise InputError(f"column {name} holds {value!r}; expected (x, y), text such as '2A2F', or ''")
        return split
    if kind is str or kind is bool:
        fits = isinstance(value, kind)
    else:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
        fits = fits and (kind is float or float(value).is_integer())
    if not fits:
        raise InputError(f"column {name} holds {value!r}; expected {kind.__name__}")
    return kind(value)
