"""One training step: from a case to a prediction with memory, breakdown, bill, interval and sources."""

from __future__ import annotations

from dataclasses import MISSING, fields

from supertwin.core.prediction import Memory, Part, Prediction
from supertwin.network.links import load_links_by_name
from supertwin.room import bill_of_power, bill_warnings, machine_rows
from supertwin.training import assumptions as assume
from supertwin.training.case import TrainingCase
from supertwin.training.check import check
from supertwin.training.flops import Utilisation, utilisation
from supertwin.training.memory import peak_memory
from supertwin.training.notes import notes
from supertwin.training.phases import mean_power_w, phase_powers
from supertwin.training.pricing import engine_of, engine_sources
from supertwin.training.routing import Routing, routing_of
from supertwin.training.setting import Setting, setting_of
from supertwin.training.step import StepTime, step_time
from supertwin.training.uncertainty import MEMORY, TIME, interval, regimes_of, step_sigma

GIB = 2.0**30
_PRINTED = ("precision", "sharding", "recompute", "schedule", "task", "sequence_parallel", "framework", "launch")
_BOUNDS = {
    "bubble": "bubble",
    "host": "latency",
    "optimizer": "memory",
    "compute/norm": "memory",
    "compute/accumulate": "memory",
}


def predict(case: TrainingCase) -> Prediction:
    """Predict one optimizer step. Raises InputError for an illegal case; a case that does not fit is a result whose
    memory.fits is False, with a warning that names the missing bytes."""
    check(case)
    setting = setting_of(case)
    return prediction_of(setting, step_time(setting))


def prediction_of(setting: Setting, step: StepTime) -> Prediction:
    """Everything that follows from a step's time and parts, whichever way they were found."""
    case = setting.case
    memory = peak_memory(setting)
    chip = case.system.chip
    tokens = case.global_batch * case.seq_len / step.total_s / case.layout.devices
    parts = breakdown(step)
    executed = step.passes.executed_flop * setting.microbatches / step.total_s
    use = utilisation(case, tokens, executed)
    return Prediction(
        kind="train",
        step_time_s=step.total_s,
        tokens_per_s_per_device=tokens,
        tokens_per_s_per_chip=tokens * chip.devices_per_package,
        figures=figures(setting, step, use, memory),
        memory=memory,
        breakdown=parts,
        bill=bill_of_power(case.system, case.layout.devices, tokens, mean_power_w(phase_powers(setting, step))),
        layout=layout_row(case),
        defaults={
            **({} if case.framework else {"framework": setting.framework.name}),
            **({} if case.launch else {"launch": setting.framework.launch}),
            **case.defaults,
        },
        interval=interval(regimes_of(case, TIME), step_sigma(parts)),
        memory_interval=interval(regimes_of(case, MEMORY), assume.MEMORY_SIGMA.value),
        sources=sources(setting),
        warnings=warnings(setting, memory),
    )


def memory(case: TrainingCase) -> Memory:
    """Peak memory alone, without pricing operators (for searches). Raises InputError."""
    check(case)
    return peak_memory(setting_of(case))


def figures(setting: Setting, step: StepTime, use: Utilisation, memory: Memory) -> dict[str, float | None]:
    """Further figures by their JSON names."""
    case = setting.case
    return {
        "mfu": use.mfu,
        "mfu_full_attention": use.mfu_full,
        "hfu": use.hfu,
        "model_flop_per_s_per_device": use.model_flop_per_s,
        "tokens_per_step": float(case.global_batch * case.seq_len),
        "microbatches": float(setting.microbatches),
        "bubble_share": step.parts["bubble"] / step.total_s,
        **host_figures(setting, memory),
        **routing_figures(setting),
    }


def routing_figures(setting: Setting) -> dict[str, float | None]:
    """Load of the busiest expert rank and what a capacity drops; nothing where the load is even."""
    found = routing_of(setting.case)
    if found == Routing():
        return {}
    return {"busiest_rank_over_mean": found.skew, "dropped_token_rate": found.dropped}


def host_figures(setting: Setting, memory: Memory) -> dict[str, float | None]:
    """Host memory that offload takes on a node whose devices are all at the highest peak; nothing without offload."""
    if not memory.host_bytes:
        return {}
    system = setting.case.system
    used = memory.host_bytes * min(system.devices_per_node, system.devices)
    return {"host_memory_bytes": used, "host_capacity_bytes": system.host_memory_bytes_per_node}


def breakdown(step: StepTime) -> tuple[Part, ...]:
    """Exposed time by part, longest first; shares add up to 1."""
    rows = [
        Part(name, seconds, seconds / step.total_s, _bound(name))
        for name, seconds in step.parts.items()
        if seconds > 0.0
    ]
    return tuple(sorted(rows, key=lambda part: -part.time_s))


def _bound(name: str) -> str:
    if name.startswith("communication/"):
        return "network"
    return "memory" if name.startswith("offload/") else _BOUNDS.get(name, "compute")


def layout_row(case: TrainingCase) -> dict[str, int | str]:
    """Layout and switches as the interface prints them."""
    row: dict[str, int | str] = {f.name: int(getattr(case.layout, f.name)) for f in fields(case.layout)}
    for name in ("micro_batch", "global_batch", "seq_len", "precision", "sharding", "recompute", "schedule", "task"):
        row[name] = getattr(case, name)
    row |= {"devices": case.layout.devices, "sequence_parallel": int(case.sequence_parallel)}
    return row | options_row(case)


def options_row(case: TrainingCase) -> dict[str, int | str]:
    """Switches of the case that are not at their default, beyond those that every result prints."""
    found: dict[str, int | str] = {}
    for item in fields(case):
        value = getattr(case, item.name)
        if item.name in _PRINTED or item.default is MISSING or value == item.default:
            continue
        if isinstance(value, tuple):
            found[item.name] = ",".join(map(str, value))
        else:
            found[item.name] = int(value) if isinstance(value, bool) else str(value) if value is None else value
    return found


def sources(setting: Setting) -> tuple[tuple[str, str, str, str], ...]:
    """What the prediction stands on: the machine and its room, the framework, calibrations, assumptions."""
    case, framework = setting.case, setting.framework
    chip = case.system.chip
    return (
        *machine_rows(case.system),
        (f"framework {framework.name}", framework.launch, framework.reason, "assumption"),
        *engine_sources(engine_of(chip, framework.attention)),
        *load_links_by_name(chip.name, chip.relative).sources(),
        *assume.assumption_rows(),
    )


def warnings(setting: Setting, memory: Memory) -> tuple[str, ...]:
    """What the user should know: missing memory, unknown framework, thin pipelines."""
    case, found = setting.case, []
    if not memory.fits:
        missing, have = memory.missing_bytes, memory.capacity_bytes
        found.append(
            f"does not fit: {(have + missing) / GIB:,.1f} GiB needed of {have / GIB:,.1f} GiB per "
            f"device on {case.system.chip.name}, {missing / GIB:,.1f} GiB missing"
        )
    if case.framework and setting.framework.name == "default":
        found.append(
            f"framework {case.framework!r} is not known: the habits of a current Megatron-style stack are assumed"
        )
    if setting.microbatches < case.layout.pp:
        found.append(f"{setting.microbatches} microbatches on {case.layout.pp} pipeline stages leave most stages idle")
    return (*found, *notes(case), *bill_warnings(case.system))
