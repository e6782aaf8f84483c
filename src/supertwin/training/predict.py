"""One training step: from a case to a prediction with memory, breakdown, bill, interval and sources."""

from __future__ import annotations

import math
from dataclasses import fields

from supertwin.core.prediction import Bill, Memory, Part, Prediction
from supertwin.machine.chip import Chip
from supertwin.network.links import load_links_by_name
from supertwin.room import energy_j_per_token, power_w, usd_per_device_hour, usd_per_million_tokens
from supertwin.training import assumptions as assume
from supertwin.training.case import TrainingCase
from supertwin.training.check import check
from supertwin.training.flops import Utilisation, utilisation
from supertwin.training.memory import peak_memory
from supertwin.training.pricing import engine_of, engine_sources
from supertwin.training.setting import Setting, setting_of
from supertwin.training.step import StepTime, step_time

_BOUNDS = {
    "bubble": "bubble",
    "host": "latency",
    "optimizer": "memory",
    "compute/norm": "memory",
    "compute/accumulate": "memory",
}
_SPREAD_90 = 1.645  # standard deviations of a two-sided 90 % interval


def predict(case: TrainingCase) -> Prediction:
    """Predict one optimizer step. Raises InputError for an illegal case; a case that does not fit is a result whose
    memory.fits is False, with a warning that names the missing bytes."""
    check(case)
    setting = setting_of(case)
    step = step_time(setting)
    memory = peak_memory(setting)
    chip = case.system.chip
    tokens = case.global_batch * case.seq_len / step.total_s / case.layout.devices
    executed = step.passes.executed_flop * setting.microbatches / step.total_s
    use = utilisation(case, tokens, executed)
    return Prediction(
        kind="train",
        step_time_s=step.total_s,
        tokens_per_s_per_device=tokens,
        tokens_per_s_per_chip=tokens * chip.devices_per_package,
        figures=figures(setting, step, use),
        memory=memory,
        breakdown=breakdown(step),
        bill=bill(setting, step, tokens),
        layout=layout_row(case),
        defaults={
            "framework": setting.framework.name,
            "launch": case.launch or setting.framework.launch,
            **case.defaults,
        },
        interval=interval(step),
        sources=sources(setting),
        warnings=warnings(setting, memory),
    )


def memory(case: TrainingCase) -> Memory:
    """Peak memory alone, without pricing operators (for searches). Raises InputError."""
    check(case)
    return peak_memory(setting_of(case))


def figures(setting: Setting, step: StepTime, use: Utilisation) -> dict[str, float | None]:
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
    }


def breakdown(step: StepTime) -> tuple[Part, ...]:
    """Exposed time by part, longest first; shares add up to 1."""
    rows = [
        Part(name, seconds, seconds / step.total_s, _bound(name))
        for name, seconds in step.parts.items()
        if seconds > 0.0
    ]
    return tuple(sorted(rows, key=lambda part: -part.time_s))


def _bound(name: str) -> str:
    return "network" if name.startswith("communication/") else _BOUNDS.get(name, "compute")


def layout_row(case: TrainingCase) -> dict[str, int | str]:
    """Layout and switches as the interface prints them."""
    row: dict[str, int | str] = {f.name: int(getattr(case.layout, f.name)) for f in fields(case.layout)}
    for name in ("micro_batch", "global_batch", "seq_len", "precision", "sharding", "recompute", "schedule", "task"):
        row[name] = getattr(case, name)
    return row | {"devices": case.layout.devices, "sequence_parallel": int(case.sequence_parallel)}


def bill(setting: Setting, step: StepTime, tokens_per_s_per_device: float) -> Bill:
    """Power, energy and price of the whole job."""
    case, chip = setting.case, setting.case.system.chip
    share = setting.microbatches / step.total_s
    compute = sum(s for name, s in step.parts.items() if name.startswith("compute/")) / step.total_s
    network = sum(s for name, s in step.parts.items() if name.startswith("communication/")) / step.total_s
    hbm = step.passes.moved_bytes * share / chip.memory_bytes_per_s
    power = float(power_w(case.system, min(compute, 1.0), min(hbm, 1.0), min(network, 1.0), case.layout.devices))
    per_device = power / case.layout.devices
    price = usd_per_device_hour(case.system, per_device / case.system.pue)
    usd = None if price is None else usd_per_million_tokens(price, tokens_per_s_per_device)
    return Bill(power, float(energy_j_per_token(per_device, tokens_per_s_per_device)), usd)


def interval(step: StepTime) -> tuple[float, float]:
    """90 % factors on the step time: the spreads of compute, network and host weighted by their share of the step."""
    shares = {"compute": 0.0, "network": 0.0, "latency": 0.0}
    for name, seconds in step.parts.items():
        bound = {"memory": "compute", "bubble": "compute"}.get(_bound(name), _bound(name))
        shares[bound] += seconds / step.total_s
    variance = (
        assume.STEP_SIGMA.value**2
        + (assume.COMPUTE_SIGMA.value * shares["compute"]) ** 2
        + (assume.NETWORK_SIGMA.value * shares["network"]) ** 2
        + (assume.HOST_SIGMA.value * shares["latency"]) ** 2
    )
    factor = math.exp(_SPREAD_90 * math.sqrt(variance))
    return 1.0 / factor, factor


def sources(setting: Setting) -> tuple[tuple[str, str, str, str], ...]:
    """What the prediction stands on: data-sheet values of the machine, habits of the framework, assumptions."""
    case, framework = setting.case, setting.framework
    rows = [
        *_cited(case.system.chip),
        *(
            (f"tier {tier.name}", f"{tier.bandwidth_bytes_per_s / 1e9:g} GB/s", case.system.name, "spec")
            for tier in case.system.tiers
        ),
    ]
    rows.append((f"framework {framework.name}", framework.launch, framework.reason, "assumption"))
    calibration = engine_sources(engine_of(case.system.chip, framework.attention))
    links = load_links_by_name(case.system.chip.name, case.system.chip.relative).sources()
    return (*rows, *calibration, *links, *(item.row() for item in assume.all_assumptions()))


def _cited(chip: Chip) -> list[tuple[str, str, str, str]]:
    return [
        (f"{chip.name}.{name}", f"{cited.value:g} {cited.unit}", cited.source, cited.kind)
        for name, cited in chip.cited.items()
    ]


def warnings(setting: Setting, memory: Memory) -> tuple[str, ...]:
    """What the user should know: missing memory, unknown framework, thin pipelines."""
    case, found = setting.case, []
    if not memory.fits:
        missing = memory.peak_bytes - memory.capacity_bytes
        found.append(
            f"out of memory: {memory.peak_bytes:.4g} bytes needed, {memory.capacity_bytes:.4g} usable on "
            f"{case.system.chip.name}, {missing:.4g} bytes missing"
        )
    if case.framework and setting.framework.name == "default":
        found.append(
            f"framework {case.framework!r} is not known: the habits of a current Megatron-style stack are assumed"
        )
    if setting.microbatches < case.layout.pp:
        found.append(f"{setting.microbatches} microbatches on {case.layout.pp} pipeline stages leave most stages idle")
    return tuple(found)
