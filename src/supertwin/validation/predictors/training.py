"""Rows of training.csv: throughput and peak memory of one training step.

What a row does not state is filled in by the habits of its framework and listed in `assumed`. Nothing here looks at a
measured column to choose a setting.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from supertwin.core.prediction import Prediction
from supertwin.machine.system import System
from supertwin.model.spec import ModelSpec
from supertwin.training.case import Layout, TrainingCase
from supertwin.training.layouts import Choice, choose, default_batch
from supertwin.validation.outcome import Compared, Figure, Skip
from supertwin.validation.predictors import ascend, habits, mlperf, recipes, scripts
from supertwin.validation.predictors.common import (
    NoPrediction,
    figure,
    model_named,
    one_by_one,
    rate_factors,
    system_of,
)
from supertwin.validation.tables import Row

_GIB = 2**30
_TARGETS = ("tokens_per_s_per_device", "step_time_s", "peak_memory_gib")
_SEQ_LEN = 4096
_BALANCED = ("force-balanced-moe", "token-drop")  # else a trained router spreads the tokens
_SIZES = ("tp", "pp", "cp", "ep", "dp", "vpp")


@dataclass(slots=True)
class _Reading:
    """Settings of a row, noting which ones it does not state."""

    row: Row
    assumed: list[str] = field(default_factory=list)

    def text(self, name: str, default: str) -> str:
        return self.row.text(name) or str(self._take(name, default))

    def integer(self, name: str, default: int) -> int:
        value = self.row.integer(name)
        return int(self._take(name, default)) if value is None else value

    def flag(self, name: str, default: bool) -> bool:
        value = self.row.integer(name)
        return bool(self._take(name, int(default))) if value is None else bool(value)

    def _take(self, name: str, default: int | str) -> int | str:
        self.assumed.append(f"{name}={default}")
        return default


def compare(rows: Sequence[Row]) -> list[Compared | Skip]:
    """tokens_per_s_per_device (or step_time_s) and peak_memory_bytes of each row."""
    return one_by_one(rows, _compare)


def _compare(row: Row) -> Compared:
    from supertwin.training import predict

    if not any(row.number(f"measured_{name}") for name in _TARGETS):
        raise NoPrediction("prints neither tokens/s, step time nor memory")
    if row.number("measured_step_time_s") and not _comparable(row):
        raise NoPrediction("prints a step time without the batch or sequence length that it is for")
    case, assumed = case_of(row)
    prediction = predict(case)
    return Compared(tuple(_figures(row, prediction)), tuple(assumed), prediction.breakdown)


def _figures(row: Row, prediction: Prediction) -> list[Figure]:
    figures = []
    tokens, step_s = row.number("measured_tokens_per_s_per_device"), row.number("measured_step_time_s")
    if tokens:
        factors = rate_factors(prediction.interval)
        figures.append(figure("tokens_per_s_per_device", tokens, prediction.tokens_per_s_per_device, factors))
    elif step_s and _sized(row):
        figures.append(figure("step_time_s", step_s, prediction.step_time_s, prediction.interval))
    memory_gib = row.number("measured_peak_memory_gib")
    if memory_gib:
        peak, factors = _peak_bytes(row, prediction), prediction.memory_interval
        figures.append(figure("peak_memory_bytes", memory_gib * _GIB, peak, factors))
    return figures


def _peak_bytes(row: Row, prediction: Prediction) -> float:
    """Peak as the row's counter sees it."""
    from supertwin.training.counters import counted_bytes

    return counted_bytes(prediction.memory, scripts.counter_of(row))


def _comparable(row: Row) -> bool:
    """Whether anything but an unsized step time is printed."""
    return bool(row.number("measured_tokens_per_s_per_device") or row.number("measured_peak_memory_gib")) or _sized(row)


def _sized(row: Row) -> bool:
    return bool(row.integer("global_batch") and row.integer("seq_len"))


def case_of(row: Row) -> tuple[TrainingCase, list[str]]:
    """The job that a row describes, and the settings that it does not state. Raises NoPrediction or InputError."""
    row = scripts.corrected(row)
    devices = _devices(row)
    dimensions: dict[str, Any] = scripts.dimensions_of(row)
    model = replace(model_named(habits.model_of(row)), **dimensions)
    system = system_of(row.text("chip"), devices, habits.cluster_of(row))
    row, filled = ascend.completed(row)
    reading = _Reading(row, filled)
    if system.devices != row.integer("n_devices"):
        reading.assumed.append(f"n_devices={system.devices}")
    draft = _draft(reading, model, system)
    sizes = _known_sizes(reading, system)
    batch, recompute = row.integer("global_batch") or recipes.reported_batch(row) or None, row.text("recompute")
    if {"tp", "pp", "cp", "dp"} <= sizes.keys():
        layout = _layout(reading, sizes, draft)
        case = replace(draft, layout=layout, recompute=reading.text("recompute", _usual_recompute(reading, draft)))
        case = replace(case, global_batch=batch or reading.integer("global_batch", default_batch(case, case.layout)))
    else:
        case = _chosen(draft, tuple(sorted(sizes.items())), batch, recompute)
        taken = {name: getattr(case.layout, name) for name in _SIZES}
        reading.assumed += [f"{name}={size}" for name, size in taken.items() if name not in sizes]
    parallel = reading.flag("sequence_parallel", case.layout.tp > 1 and not habits.early(row))
    return replace(case, sequence_parallel=parallel and case.layout.tp > 1), reading.assumed


def _devices(row: Row) -> int:
    """Devices of the row; a printed round number ("6K") is taken as the nearest one that the stated layout divides."""
    devices = row.integer("n_devices") or 0
    tp, pp, cp, ep = (row.integer(name) or 1 for name in ("tp", "pp", "cp", "ep"))
    step = pp * math.lcm(tp * cp, ep)
    if "approx-n-devices" not in row.flags or not devices % step:
        return devices
    return max(1, round(devices / step)) * step


def _known_sizes(reading: _Reading, system: System) -> dict[str, int]:
    """Parallel sizes that the row states, else those of its script; dp from the devices when the others are known."""
    row = reading.row
    stated = {name: size for name in _SIZES if (size := row.integer(name)) is not None}
    submission = mlperf.submission_of(row, system.chip)
    script = recipes.reported_sizes(row) if submission is None else submission.sizes
    if not script or "tp" in stated:
        return stated
    sizes = {**script, **stated}
    reading.assumed += [f"{name}={size}" for name, size in sizes.items() if name not in stated]
    dp, rest = divmod(system.devices, sizes["tp"] * sizes["pp"] * sizes["cp"])
    return stated if rest else {**sizes, "dp": dp}


def _draft(reading: _Reading, model: ModelSpec, system: System) -> TrainingCase:
    from supertwin.training.assumptions import OFFLOADED_ROW_SHARE

    row, flags = reading.row, reading.row.flags
    submission = mlperf.submission_of(row, system.chip)
    script = submission or mlperf.Submission()
    micro_batch = reading.integer("micro_batch", script.micro_batch)
    case = TrainingCase(
        model=model,
        system=system,
        layout=Layout(),
        micro_batch=micro_batch,
        global_batch=micro_batch,
        seq_len=reading.integer("seq_len", _SEQ_LEN),
        precision=reading.text("precision", script.precision or habits.usual_precision(row, system)),
        sharding=reading.text("sharding", habits.usual_sharding(row)),
        hsdp_shard_size=row.integer("hsdp_shard_size") or 0,
        recompute="partial" if script.recompute_layers else "none",
        recompute_layers=row.integer("recompute_layers") or script.recompute_layers,
        task=row.text("task", "pretrain"),
        framework=habits.framework_of(row, system),
        attention_kernel=habits.attention_of(row),
        offload=OFFLOADED_ROW_SHARE.value if "offload" in flags else 0.0,
        packed="packed" in flags and submission is None,  # packs of MLPerf are one causal sequence
        force_balanced=not flags.isdisjoint(_BALANCED),
        overlap_tp=True if "async-tp" in flags else None,
    )
    settings: dict[str, Any] = {
        **habits.script_of(row).settings,
        **ascend.settings_of(row),
        **recipes.recipe_settings(row, system),
        **scripts.settings_of(row),
        **script.settings,
    }
    return replace(case, **settings)


def _usual_recompute(reading: _Reading, draft: TrainingCase) -> str:
    """What the row's script recomputes, else what its framework does by default."""
    from supertwin.training.frameworks import default_recompute

    if draft.recompute != "none":
        return draft.recompute
    return habits.script_of(reading.row).recompute or default_recompute(reading.row.text("framework"))


def _layout(reading: _Reading, sizes: dict[str, int], draft: TrainingCase) -> Layout:
    """The stated layout; an interleaved schedule of unknown chunk count is not assumed."""
    from supertwin.training.check import expert_count
    from supertwin.training.frameworks import default_etp

    ranks = sizes["tp"] * sizes["cp"] * sizes["dp"]
    ep = sizes.get("ep") or reading.integer("ep", 1)
    return Layout(
        tp=sizes["tp"],
        pp=sizes["pp"],
        cp=sizes["cp"],
        dp=sizes["dp"],
        ep=ep,
        etp=default_etp(draft.framework, sizes["tp"], ep, ranks, expert_count(draft.model)),
        vpp=sizes.get("vpp") or reading.integer("vpp", 1),
    )


_CHOSEN: dict[tuple[object, ...], TrainingCase] = {}


def _chosen(draft: TrainingCase, sizes: tuple[tuple[str, int], ...], batch: int | None, recompute: str) -> TrainingCase:
    """A plausible layout around the stated sizes, remembered for rows that describe the same job."""
    fixed = (getattr(draft, item.name) for item in fields(draft) if item.name not in ("system", "defaults"))
    key = (draft.system.name, draft.system.devices, draft.system.chip.name, *fixed, sizes, batch, recompute)
    if key not in _CHOSEN:
        _CHOSEN[key] = choose(draft, Choice(dict(sizes), batch, recompute))
    return _CHOSEN[key]
