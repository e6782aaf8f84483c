"""One validation run: read tables, predict every row, keep what could not be predicted with its reason."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

from supertwin.validation import tables
from supertwin.validation.breakdown import explain_worst
from supertwin.validation.outcome import Compared, Report, Score, Skip
from supertwin.validation.predictors import PREDICTORS
from supertwin.validation.tables import Row, Table

_CHUNK_ROWS = 160
_WORTH_A_PROCESS = 600
_PHASES = {"training": "training", "kernels": "kernel", "collectives": "collective"}

Piece = tuple[list[Score], list[Skip]]


def validate(given: Mapping[str, str | Path] | None = None, processes: int = 0) -> Report:
    """Compare tables with predictions. given: CSV path by table name; none = the shipped set.

    processes: workers; 0 = up to two when there are enough rows. Raises TableError when a file is not such a table.
    """
    start = time.perf_counter()
    wanted: Mapping[str, str | Path | None] = given or dict.fromkeys(PREDICTORS)
    read = [tables.load(name, path) for name, path in wanted.items()]
    pieces = _predict_all(read, processes)
    skipped = [replace(skip, table=table.name) for table in read for skip in table.skipped]
    scores = explain_worst(list(chain.from_iterable(scores for scores, _ in pieces)), read)
    return Report(
        scores=tuple(scores),
        skipped=(*skipped, *chain.from_iterable(skips for _, skips in pieces)),
        counts={table.name: len(table.rows) + len(table.skipped) for table in read},
        elapsed_s=time.perf_counter() - start,
    )


def _predict_all(read: Sequence[Table], processes: int) -> list[Piece]:
    """Rows in chunks, side by side when it pays; neighbouring rows stay together because they share models."""
    total = sum(len(table.rows) for table in read)
    workers = processes or (min(2, os.cpu_count() or 1) if total >= _WORTH_A_PROCESS else 1)
    if workers == 1:
        return [predict(table.rows) for table in read]
    chunks = [table.rows[i : i + _CHUNK_ROWS] for table in read for i in range(0, len(table.rows), _CHUNK_ROWS)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(predict, chunks))


def predict(rows: Sequence[Row]) -> Piece:
    """Scores and skipped rows of one table."""
    scores: list[Score] = []
    skipped: list[Skip] = []
    if rows:
        for row, outcome in zip(rows, PREDICTORS[rows[0].table](rows), strict=True):
            if isinstance(outcome, Skip):
                skipped.append(outcome)
            else:
                scores.extend(_scores(row, outcome))
    return scores, skipped


def _origin(source: str) -> str:
    """First word of a citation, a repository without its host: what groups rows of tables without source_group."""
    return source.split(" ")[0].split("@")[0].removeprefix("github:")


def _scores(row: Row, compared: Compared) -> list[Score]:
    return [
        Score(
            id=row.id,
            table=row.table,
            metric=figure.metric,
            measured=figure.measured,
            predicted=figure.predicted,
            low=figure.low,
            high=figure.high,
            chip=row.text("chip"),
            model=row.text("model") or row.text("kernel") or row.text("op"),
            n_devices=row.integer("n_devices"),
            phase=row.text("phase") or _PHASES.get(row.table, ""),
            source_group=row.text("source_group") or _origin(row.text("source")),
            kind=row.text("kind", "measured"),
            flags=row.flags,
            assumed=compared.assumed,
            parts=compared.parts,
        )
        for figure in compared.figures
    ]
