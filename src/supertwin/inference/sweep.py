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
from supertwin.inference import engines
from supertwin.inference.afd_memory import afd_held
from supertwin.inference.case import Deployment, InferenceCase
from supertwin.inference.memory import Held
from supertwin.inference.memory import held as held_of
from supertwin.inference.mixed_figures import MixedSizes, mixed_held, mixed_shape
from supertwin.inference.notes import computed_rate
from supertwin.inference.placement import PHASES, Real, check
from supertwin.inference.plan import engine_kind
from supertwin.inference.predict import prepared
from supertwin.inference.shape import Shape
from supertwin.inference.sizes import lengths_of, resident, step_shape
from supertwin.inference.step import steps
from supertwin.inference.table import Array, Rows, Table, read_table
from supertwin.machine.system import System
from supertwin.model.spec import ModelSpec

Columns = dict[str, npt.NDArray[Any]]
_ENTRIES = 1 << 14  # entries of all groups that go through the cost engine in one call
ORDER = ("batch", "input_len", "kv_len", "prefix_len", "chunk_tokens")
_GRID_WASTE = 2.0  # a group is priced as a grid with at most this many points per row


@dataclass(frozen=True, slots=True)
class Subject:
    """What all rows share."""

    model: ModelSpec
    system: System
    phase: str

    def case(self, deployment: Deployment, table: Table, row: int) -> InferenceCase:
        """One row as a case (its acceptance of drafts is judged with its sizes)."""
        batch, kv_len, input_len, prefix_len, chunk, _ = (float(table.sizes[name][row]) for name in table.sizes)
        lengths = [int(x) if x.is_integer() else x for x in (input_len, kv_len, prefix_len, chunk)]
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

    columns: fields of Deployment, batch, kv_len, input_len, prefix_len and chunk_tokens by name, each a single value or
    a sequence of one length n; what is left out has the default of Deployment or InferenceCase.

    Returns arrays [n]: step_time_s; tpot_s and tokens_per_s_per_user (decode, mixed) or ttft_s (prefill);
    tokens_per_s_per_device, in mixed steps also input_ and output_tokens_per_s_per_device; parameters_bytes,
    kv_cache_bytes, peak_bytes; fits, legal, and reason, an index into reasons (0: none). Every figure is that of
    predict() for the row; those of illegal rows, and of users of a step without decode part, are NaN.
    Raises InputError for columns that are unknown or of different lengths, UnknownName for a phase.
    """
    if phase not in PHASES:
        raise UnknownName("phase", phase, PHASES)
    subject, table = Subject(model, system, phase), read_table(columns)
    reasons = Reasons(table.length)
    groups = [g for d, rows in table.deployments() if (g := _legal(subject, table, (d, rows), reasons)) is not None]
    seconds = np.full(table.length, np.nan)
    alike = [one for group in groups for one in _alike(subject, table, group)]
    for pieces in _calls([piece for group in alike for piece in _pieces(subject, table, group)], system):
        times = steps(model, system, [(p.deployment, p.shape) for p in pieces])
        for piece, time in zip(pieces, times, strict=True):
            seconds[piece.rows] = np.broadcast_to(time.time_s, piece.grid)[piece.pick]
    return {
        "step_time_s": seconds,
        **_rates(subject, table, groups, seconds),
        **_memory(subject, table, alike),
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
    batch, kv_len, input_len, prefix_len, chunk, accepted = (column[rows] for column in table.sizes.values())
    devices = deployment.devices * (deployment.cp if phase == "prefill" else 1)
    if deployment.shared_prefix and phase != "prefill":
        batch = np.where(kv_len > deployment.shared_prefix, batch, np.nan)  # no request can have such a prefix
    wrong = ~(batch * devices >= 1.0) | (prefix_len < 0) | ~((accepted >= 0.0) & (accepted <= 1.0))
    if phase == "mixed":
        wrong &= ~((batch == 0.0) & (prefix_len >= 0) & (accepted >= 0.0) & (accepted <= 1.0))
        wrong |= ((batch == 0.0) & (chunk == 0.0)) | ~(chunk >= 0.0)
        return np.asarray(wrong | ((batch > 0.0) & (kv_len < 1)) | ((chunk > 0.0) & (input_len < 1)))
    wrong |= chunk != 0.0
    return np.asarray(wrong | (input_len < max(1, deployment.cp) if phase == "prefill" else kv_len < 1))


def _fault(subject: Subject, deployment: Deployment, table: Table, row: int) -> str:
    """What predict() says against a row; empty where it is legal."""
    try:
        case = subject.case(replace(deployment, mtp_acceptance=float(table.sizes["mtp_acceptance"][row])), table, row)
        check(case)
        computed_rate(case)
    except InputError as error:
        return str(error)
    return ""


def _alike(subject: Subject, table: Table, group: Group) -> Iterator[Group]:
    """Rows with the same parts: those of a mixed step have decode sequences or not, and a chunk or not."""
    if subject.phase != "mixed":
        yield group
        return
    kinds = 2 * (table.sizes["batch"][group.rows] > 0.0) + (table.sizes["chunk_tokens"][group.rows] > 0.0)
    for kind in np.unique(kinds):
        yield Group(group.deployment, group.rows[kinds == kind])


def _pieces(subject: Subject, table: Table, group: Group) -> Iterator[Piece]:
    """A group as a grid of its batches and lengths where it fills one, else row by row; long ones in parts."""
    batch, *lengths = (table.sizes[name][group.rows] for name in ORDER)
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
    batch, input_len, kv_len, prefix_len, chunk = sizes
    d = group.deployment
    if subject.phase == "mixed":
        return Piece(d, mixed_shape(d, MixedSizes(batch, kv_len, input_len, prefix_len, chunk)), *where)
    lengths = lengths_of(d, subject.phase, (input_len, kv_len, prefix_len))
    return Piece(d, step_shape(d, subject.phase, batch, lengths), *where)


def _distinct(columns: Sequence[Array]) -> tuple[list[Array], npt.NDArray[np.intp]]:
    """Distinct rows of some columns, and the index of each row in them."""
    code = first = np.zeros(len(columns[0]), dtype=np.int64)
    first = first[:1]
    for column in columns:
        if (column == column[0]).all():
            continue
        values, index = np.unique(column, return_inverse=True)
        _, first, code = np.unique(code * len(values) + index, return_index=True, return_inverse=True)
    return [column[first] for column in columns], code


def _calls(pieces: Sequence[Piece], system: System) -> Iterator[list[Piece]]:
    """Pieces that are priced together: those of one kind of cost engine, up to a number of entries."""
    kinds: dict[tuple[str, bool], list[Piece]] = {}
    for piece in pieces:
        kinds.setdefault(engine_kind(piece.deployment, system.chip), []).append(piece)
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
    if subject.phase == "prefill":
        gap = np.full(table.length, np.nan)
        for group in groups:
            gap[group.rows] = engines.engine(group.deployment.framework, subject.system.chip).request_gap_s
        return {"ttft_s": seconds + gap, "tokens_per_s_per_device": batch * table.sizes["input_len"] / seconds}
    accepted = 1.0 + table.setting("mtp_tokens") * table.sizes["mtp_acceptance"]
    output = batch * accepted / seconds
    if subject.phase == "decode":
        return {
            "tpot_s": seconds / accepted,
            "tokens_per_s_per_device": output,
            "tokens_per_s_per_user": accepted / seconds,
        }
    users, prompt = np.where(batch > 0.0, seconds, np.nan), table.sizes["chunk_tokens"] / table.setting("tp") / seconds
    return {
        "tpot_s": users / accepted,
        "tokens_per_s_per_user": accepted / users,
        "tokens_per_s_per_device": prompt + output,
        "input_tokens_per_s_per_device": prompt,
        "output_tokens_per_s_per_device": output,
    }


def _memory(subject: Subject, table: Table, groups: Sequence[Group]) -> Columns:
    """Bytes on one device, the fuller one where there are two kinds, and whether they fit."""
    parameters, cache, peak = (np.full(table.length, np.nan) for _ in range(3))
    for group in groups:
        held, *other = _held(subject, group.deployment, [table.sizes[name][group.rows] for name in ORDER])
        figures = [np.broadcast_to(x, len(group.rows)) for x in _bytes(held)]
        for side in other:
            fuller = np.asarray(side.peak_bytes > held.peak_bytes)
            figures = [np.where(fuller, theirs, own) for theirs, own in zip(_bytes(side), figures, strict=True)]
        for column, figure in zip((parameters, cache, peak), figures, strict=True):
            column[group.rows] = figure
    fits = peak <= subject.system.chip.usable_memory_bytes
    return {"parameters_bytes": parameters, "kv_cache_bytes": cache, "peak_bytes": peak, "fits": fits}


def _bytes(found: Held) -> tuple[Real, Real, Real]:
    return found.weights_bytes, found.kv_bytes, found.peak_bytes


def _held(subject: Subject, d: Deployment, sizes: Sequence[Array]) -> tuple[Held, ...]:
    """Memory of every kind of device of a deployment."""
    batch, input_len, kv_len, prefix_len, chunk = sizes
    about = subject.model, subject.system, d
    if subject.phase == "mixed":
        return (mixed_held(*about, MixedSizes(batch, kv_len, input_len, prefix_len, chunk)),)
    new, keys = lengths_of(d, subject.phase, (input_len, kv_len, prefix_len))
    sequences, tokens = resident(d, batch, new)
    return afd_held(*about, (sequences, keys)) if d.afd_instances else (held_of(*about, (sequences, keys, tokens)),)
