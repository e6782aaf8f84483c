"""Rows of training.csv: throughput and peak memory of one training step.

What a row does not state is filled in by the habits of its framework and listed in `assumed`. Nothing here looks at a
measured column to choose a setting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from supertwin.core.prediction import Prediction
from supertwin.machine.system import System
from supertwin.model.spec import ModelSpec
from supertwin.training.case import Layout, TrainingCase
from supertwin.validation.layouts import Choice, choose, default_batch
from supertwin.validation.outcome import Compared, Figure, Skip
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
_SIZES = ("tp", "pp", "cp", "ep", "dp", "vpp")
_MEMORY_FACTORS = (0.8, 1.25)

# Megatron's sequence parallelism and distributed optimizer are of May 2022 (arXiv 2205.05198): older runs have neither.
_SEQUENCE_PARALLEL_SINCE = "2022-06"
_FULL_SHARD = ("llm-foundry", "maxtext", "paxml", "torchtitan", "deepspeed", "fsdp")
_MEGATRON_DEEPSPEED = "megatron-deepspeed"  # a fork of early Megatron-LM; DeepSpeed's ZeRO stage is 0 unless set
_EIGHT_BIT_ARCHITECTURES = ("blackwell", "cdna4")


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
        figures.append(figure("peak_memory_bytes", memory_gib * _GIB, prediction.memory.peak_bytes, _MEMORY_FACTORS))
    return figures


def _comparable(row: Row) -> bool:
    """Whether anything but an unsized step time is printed."""
    return bool(row.number("measured_tokens_per_s_per_device") or row.number("measured_peak_memory_gib")) or _sized(row)


def _sized(row: Row) -> bool:
    return bool(row.integer("global_batch") and row.integer("seq_len"))


def case_of(row: Row) -> tuple[TrainingCase, list[str]]:
    """The job that a row describes, and the settings that it does not state. Raises NoPrediction or InputError."""
    devices = row.integer("n_devices") or 0
    model, system = model_named(row.text("model")), system_of(row.text("chip"), devices)
    reading = _Reading(row)
    draft = _draft(reading, model, system)
    stated = {name: row.integer(name) for name in _SIZES}
    sizes = {name: size for name, size in stated.items() if size is not None}
    batch, recompute = row.integer("global_batch"), row.text("recompute")
    if {"tp", "pp", "cp", "dp"} <= sizes.keys():
        case = replace(draft, layout=_layout(reading, sizes), recompute=reading.text("recompute", "none"))
        case = replace(case, global_batch=batch or reading.integer("global_batch", default_batch(case, case.layout)))
    else:
        case = _chosen(draft, tuple(sorted(sizes.items())), batch, recompute)
        taken = {name: getattr(case.layout, name) for name in _SIZES}
        reading.assumed += [f"{name}={size}" for name, size in taken.items() if name not in sizes]
    parallel = reading.flag("sequence_parallel", case.layout.tp > 1 and not _early(row))
    return replace(case, sequence_parallel=parallel and case.layout.tp > 1), reading.assumed


def _draft(reading: _Reading, model: ModelSpec, system: System) -> TrainingCase:
    row = reading.row
    micro_batch = reading.integer("micro_batch", 1)
    flags = row.flags
    return TrainingCase(
        model=model,
        system=system,
        layout=Layout(),
        micro_batch=micro_batch,
        global_batch=micro_batch,
        seq_len=reading.integer("seq_len", _SEQ_LEN),
        precision=reading.text("precision", _usual_precision(system)),
        sharding=reading.text("sharding", _usual_sharding(row)),
        hsdp_shard_size=row.integer("hsdp_shard_size") or 0,
        recompute_layers=row.integer("recompute_layers") or 0,
        task=row.text("task", "pretrain"),
        framework=row.text("framework"),
        offload="offload" in flags,
        packed="packed" in flags,
        force_balanced="real-routing" not in flags,
        overlap_tp=True if "async-tp" in flags else None,
    )


def _layout(reading: _Reading, sizes: dict[str, int]) -> Layout:
    """The stated layout; an interleaved schedule of unknown chunk count is not assumed."""
    return Layout(
        tp=sizes["tp"],
        pp=sizes["pp"],
        cp=sizes["cp"],
        dp=sizes["dp"],
        ep=sizes.get("ep") or reading.integer("ep", 1),
        vpp=sizes.get("vpp") or reading.integer("vpp", 1),
    )


_CHOSEN: dict[tuple[object, ...], TrainingCase] = {}


def _chosen(draft: TrainingCase, sizes: tuple[tuple[str, int], ...], batch: int | None, recompute: str) -> TrainingCase:
    """A plausible layout around the stated sizes, remembered for rows that share them."""
    key = (
        draft.model.name, draft.system.chip.name, draft.system.devices, draft.micro_batch, draft.seq_len,
        draft.precision, draft.sharding, draft.task, draft.framework, draft.offload, draft.packed, draft.overlap_tp,
        sizes, batch, recompute,
    )  # fmt: skip
    if key not in _CHOSEN:
        _CHOSEN[key] = choose(draft, Choice(dict(sizes), batch, recompute))
    return _CHOSEN[key]


def _early(row: Row) -> bool:
    """Runs on stacks without sequence parallelism and distributed optimizer."""
    date = row.text("source_date")
    return row.text("framework").startswith(_MEGATRON_DEEPSPEED) or bool(date and date < _SEQUENCE_PARALLEL_SINCE)


def _usual_sharding(row: Row) -> str:
    if row.text("framework").startswith(_FULL_SHARD):
        return "zero3"
    return "none" if _early(row) else "zero1"


def _usual_precision(system: System) -> str:
    return "fp8-tensorwise" if system.chip.architecture.startswith(_EIGHT_BIT_ARCHITECTURES) else "bf16"
