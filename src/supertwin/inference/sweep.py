"""Many deployments at once: the figures of predict() for every row of a table, in few vectorised calls.

Rows that share all settings but batch and lengths are one group: one list of operators whose sizes are arrays. A group
that is (nearly) a grid of batches and lengths is priced as one, [batches, 1] x [1, lengths], so that only attention
costs batches x lengths entries. The operators of many groups go through the cost engine together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import InputError, UnknownName
from supertwin.inference import assumptions
from supertwin.inference.case import Deployment, InferenceCase
from supertwin.inference.memory import held
from supertwin.inference.notes import computed_rate
from supertwin.inference.placement import check
from supertwin.inference.plan import expert_kernels
from supertwin.inference.predict import prepared
from supertwin.inference.shape import Shape
from supertwin.inference.sizes import lengths_of, resident, step_shape
from supertwin.inference.step import steps
from supertwin.inference.table import Array, Rows, Table, read_table
from supertwin.machine.system import System
from supertwin.model.spec import ModelSpec

Columns = dict[str, npt.NDArray[Any]]
PHASES = ("prefill", "decode")
_ENTRIES = 1 << 14  # entries of all groups that go through the cost engine in one call
_GRID_WASTE = 2.0  # a group is priced as a grid with at most this many points per row


@dataclass(frozen=True, slots=True)
class Subject:
    """What all rows share."""

    model: ModelSpec
    system: System
    phase: str

    def case(self, deployment: Deployment, table: Table, row: int) -> InferenceCase:
        """One row as a case (its acceptance of drafts is judged with its sizes)."""
        batch, kv_len, input_len, prefix_len, _ = (float(table.sizes[name][row]) for name in table.sizes)
        lengths = [int(x) if x.is_integer() else x for x in (input_len, kv_len, prefix_len)]
        return InferenceCase(self.model, self.system, deployment, self.phase, batch, *lengths)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Group:
    """Legal rows of one deployment, what a case leaves open decided."""

    deployment: Deployment
    rows: Rows


@dataclass(frozen=True, slots=True)
class Piece:
    """Sizes to price and where the times belong: the time has (or broadcasts to) `grid`; time[pick] are those of
    `rows`."""

    deployment: Deployment
    shape: Shape
    grid: tuple[int, ...]
    pick: tuple[npt.NDArray[np.intp], ...]
    rows: Rows


class Reasons:
    """Why rows are illegal. index: [rows] into words; words[0] is empty."""

    def __init__(self, length: int) -> None:
        self.index = np.zeros(length, dtype=np.int64)
        self.words: dict[str, int] = {"": 0}

    def give(self, rows: Rows | int, word: str) -> None:
        """The same reason to some rows."""
        self.index[rows] = self.words.setdefault(word, len(self.words))


def sweep(model: ModelSpec, system: System, phase: str, columns: Mapping[str, Any]) -> Columns:
    """Predict one step for every row of a table.

    columns: fields of Deployment, batch, kv_len, input_len and prefix_len by name, each a single value or a sequence of
    one length n; what is left out has the default of Deployment or InferenceCase.

    Returns arrays [n]: step_time_s; tpot_s and tokens_per_s_per_user (decode) or ttft_s (prefill);
    tokens_per_s_per_device; parameters_bytes, kv_cache_bytes, peak_bytes; fits, legal, and reason, an index into
    reasons (0: none). Every figure is that of predict() for the row; those of illegal rows are NaN.
    Raises InputError for columns that are unknown or of different lengths, UnknownName for a phase.
    """
    if phase not in PHASES:
        raise UnknownName("phase", phase, PHASES)
    subject, table = Subject(model, system, phase), read_table(columns)
    reasons = Reasons(table.length)
    groups = [g for d, rows in table.deployments() if (g := _legal(subject, table, (d, rows), reasons)) is not None]
    seconds = np.full(table.length, np.nan)
    for pieces in _calls([piece for group in groups for piece in _pieces(subject, table, group)], system):
        times = steps(model, system, [(p.deployment, p.shape) for p in pieces])
        for piece, time in zip(pieces, times, strict=True):
            seconds[piece.rows] = np.broadcast_to(time.time_s, piece.grid)[piece.pick]
    return {
        "step_time_s": seconds,
        **_rates(subject, table, groups, seconds),
        **_memory(subject, table, groups),
        "legal": reasons.index == 0,
        "reason": reasons.index,
        "reasons": np.array(list(reasons.words)),
    }


def _legal(subject: Subject, table: Table, given: tuple[Deployment, Rows], reasons: Reasons) -> Group | None:
    """The legal rows of a deployment. Rows are looked at one by one where their sizes could be the fault; the layout is
    judged once."""
    deployment, rows = given
    doubtful = _doubtful(subject.phase, deployment, table, rows)
    for row in rows[doubtful]:
        reasons.give(row, _fault(subject, deployment, table, row))
    rows = rows[reasons.index[rows] == 0]
    if not len(rows):
        return None
    fault = _fault(subject, deployment, table, rows[0])
    if fault:
        reasons.give(rows, fault)
        return None
    return Group(prepared(subject.case(deployment, table, rows[0])).deployment, rows)


def _doubtful(phase: str, deployment: Deployment, table: Table, rows: Rows) -> npt.NDArray[np.bool_]:
    """Rows whose batch, lengths or acceptance `check` might refuse (no fewer than it does)."""
    batch, kv_len, input_len, prefix_len, accepted = (column[rows] for column in table.sizes.values())
    prefill = phase == "prefill"
    devices = deployment.tp * deployment.pp * deployment.dp * (deployment.cp if prefill else 1)
    wrong = ~(batch * devices >= 1.0) | (prefix_len < 0) | ~((accepted >= 0.0) & (accepted <= 1.0))
    return np.asarray(wrong | (input_len < max(1, deployment.cp) if prefill else kv_len < 1))


def _fault(subject: Subject, deployment: Deployment, table: Table, row: int) -> str:
    """What predict() says against a row; empty where it is legal."""
    try:
        case = subject.case(replace(deployment, mtp_acceptance=float(table.sizes["mtp_acceptance"][row])), table, row)
        check(case)
        computed_rate(case)
    except InputError as error:
        return str(error)
    return ""


def _pieces(subject: Subject, table: Table, group: Group) -> Iterator[Piece]:
    """A group as a grid of its batches and lengths where it fills one, else row by row; long ones in parts."""
    batch, *lengths = (table.sizes[name][group.rows] for name in ("batch", "input_len", "kv_len", "prefix_len"))
    batches, at_batch = np.unique(batch, return_inverse=True)
    kinds, at_length = _distinct(lengths)
    if len(batches) * len(kinds[0]) <= _GRID_WASTE * len(batch):
        wide = max(1, _ENTRIES // len(batches))
        for start in range(0, len(kinds[0]), wide):
            here = np.flatnonzero((at_length >= start) & (at_length < start + wide))
            columns = [x[None, start : start + wide] for x in kinds]
            grid = (len(batches), columns[0].shape[1])
            pick = (at_batch[here], at_length[here] - start)
            yield _piece(subject, group, (batches[:, None], *columns), (grid, pick, group.rows[here]))
        return
    for start in range(0, len(batch), _ENTRIES):
        part = slice(start, start + _ENTRIES)
        rows = group.rows[part]
        yield _piece(
            subject, group, (batch[part], *(x[part] for x in lengths)), ((len(rows),), (np.arange(len(rows)),), rows)
        )


def _piece(subject: Subject, group: Group, sizes: Sequence[Array], where: tuple[Any, Any, Rows]) -> Piece:
    batch, input_len, kv_len, prefix_len = sizes
    d = group.deployment
    lengths = lengths_of(d, subject.phase, (input_len, kv_len, prefix_len))
    return Piece(d, step_shape(d, subject.phase, batch, lengths), *where)


def _distinct(columns: Sequence[Array]) -> tuple[list[Array], npt.NDArray[np.intp]]:
    """Distinct rows of some columns, and the index of each row in them."""
    code = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        values, index = np.unique(column, return_inverse=True)
        _, first, code = np.unique(code * len(values) + index, return_index=True, return_inverse=True)
    return [column[first] for column in columns], code


def _calls(pieces: Sequence[Piece], system: System) -> Iterator[list[Piece]]:
    """Pieces that are priced together: those of one kind of expert kernels, up to a number of entries."""
    kinds: dict[str, list[Piece]] = {}
    for piece in pieces:
        kinds.setdefault(expert_kernels(piece.deployment, system.chip), []).append(piece)
    for alike in kinds.values():
        start, filled = 0, 0
        for end, piece in enumerate(alike):
            filled += int(np.prod(piece.grid))
            if filled >= _ENTRIES or end == len(alike) - 1:
                yield alike[start : end + 1]
                start, filled = end + 1, 0


def _rates(subject: Subject, table: Table, groups: Sequence[Group], seconds: Array) -> Columns:
    """Latencies and throughput as predict() states them."""
    batch = table.sizes["batch"]
    if subject.phase == "decode":
        accepted = 1.0 + table.setting("mtp_tokens") * table.sizes["mtp_acceptance"]
        return {
            "tpot_s": seconds / accepted,
            "tokens_per_s_per_device": batch * accepted / seconds,
            "tokens_per_s_per_user": accepted / seconds,
        }
    gap = np.full(table.length, np.nan)
    for group in groups:
        gap[group.rows] = assumptions.engine(group.deployment.framework, subject.system.chip).request_gap_s
    return {"ttft_s": seconds + gap, "tokens_per_s_per_device": batch * table.sizes["input_len"] / seconds}


def _memory(subject: Subject, table: Table, groups: Sequence[Group]) -> Columns:
    """Bytes on one device and whether they fit."""
    parameters, cache, peak = (np.full(table.length, np.nan) for _ in range(3))
    for group in groups:
        d, rows = group.deployment, group.rows
        batch, kv_len, input_len, prefix_len, _ = (column[rows] for column in table.sizes.values())
        new, keys = lengths_of(d, subject.phase, (input_len, kv_len, prefix_len))
        sequences, tokens = resident(d, batch, new)
        found = held(subject.model, subject.system, d, (sequences, keys, tokens))
        parameters[rows], cache[rows] = found.weights_bytes, found.kv_bytes
        peak[rows] = found.weights_bytes + found.activations_bytes + found.kv_bytes + found.workspace_bytes
    fits = peak <= subject.system.chip.usable_memory_bytes
    return {"parameters_bytes": parameters, "kv_cache_bytes": cache, "peak_bytes": peak, "fits": fits}
