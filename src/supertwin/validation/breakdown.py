"""The breakdown of the rows that are furthest off.

Training and operator rows carry theirs. A serving row is a mix of steps; the one that its metric depends on most stands
for it: a prefill step for ttft and input tokens, a decode step otherwise, at the row's batch or concurrency.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from supertwin.core.errors import SupertwinError
from supertwin.core.prediction import Part
from supertwin.inference.case import InferenceCase
from supertwin.validation.outcome import Score
from supertwin.validation.predictors.common import model_named, system_of
from supertwin.validation.statistics import worst
from supertwin.validation.tables import Row, Table

_PREFILL_METRICS = ("ttft_s", "input_tokens_per_s_per_device")
_UNSTATED_BATCH = 16.0


def explain_worst(scores: Sequence[Score], read: Iterable[Table], most: int = 20) -> list[Score]:
    """The same scores, the worst ones with a breakdown where their predictor gave none."""
    bare = {id(score) for score in worst([s for s in scores if s.kind != "ci-floor"], most) if not score.parts}
    rows = {(table.name, row.id): row for table in read for row in table.rows}
    return [
        replace(score, parts=step_parts(rows[score.table, score.id], score.metric))
        if id(score) in bare and score.table == "inference"
        else score
        for score in scores
    ]


def _tokens(length: float) -> int:
    return max(1, round(length))


def step_parts(row: Row, metric: str) -> tuple[Part, ...]:
    """Breakdown of the step that a row of inference.csv depends on; empty when it cannot be laid out."""
    from supertwin.inference import predict
    from supertwin.inference.memory import total_weights_bytes
    from supertwin.inference.reading import read

    try:
        model, devices = model_named(row.text("model")), row.integer("n_devices") or 1
        system = system_of(row.text("chip"), devices)
        reading = read(row, model, system.chip, total_weights_bytes(model))
        prefill = row.text("phase") == "prefill" or (row.text("phase") != "decode" and metric in _PREFILL_METRICS)
        batch = reading.batch or (reading.concurrency / devices if reading.concurrency else _UNSTATED_BATCH)
        case = InferenceCase(model, system, reading.deployment, "decode", batch, kv_len=_tokens(reading.kv_len))
        if prefill:
            one = 1.0 / reading.deployment.tp
            case = replace(case, phase="prefill", batch=one, input_len=_tokens(reading.input_len))
        return predict(case).breakdown
    except SupertwinError:
        return ()
