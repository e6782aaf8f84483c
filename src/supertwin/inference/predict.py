"""One inference step: from a case to a prediction with memory, breakdown, bill, interval and sources."""

from __future__ import annotations

from dataclasses import replace

from supertwin.core.prediction import Z90, Memory, Part, Prediction
from supertwin.inference import assumptions, engines
from supertwin.inference.afd_memory import afd_memory
from supertwin.inference.case import Deployment, InferenceCase
from supertwin.inference.context import with_spread
from supertwin.inference.figures import figures_of
from supertwin.inference.memory import memory_of
from supertwin.inference.mixed_figures import mixed_held, mixed_shape, sizes_of, with_parts
from supertwin.inference.notes import computed_rate, notes
from supertwin.inference.placement import Real, check, place
from supertwin.inference.plan import engine_of
from supertwin.inference.regimes import interval, regimes
from supertwin.inference.scaling import scaling_of
from supertwin.inference.shape import Shape
from supertwin.inference.sizes import lengths_of, resident, step_shape
from supertwin.inference.step import steps
from supertwin.inference.times import StepTimes, scalar
from supertwin.inference.uncertainty import step_sigma, usual_sigma
from supertwin.inference.used import option_sources
from supertwin.network.links import load_links
from supertwin.room import Activity, bill, bill_warnings, machine_rows


def predict(case: InferenceCase) -> Prediction:
    """Predict one prefill or decode step. Raises InputError; not fitting in memory is a result with a warning.

    In both phases `batch` counts sequences per device (below 1 is legal when a tensor-parallel group shares one).
    """
    case = prepared(case)
    d = case.deployment
    shape = shape_of(case)
    times, *alone = steps(case.model, case.system, [(d, part) for part in with_parts(shape)])
    seconds = scalar(times.time_s)
    used = _memory(case)
    figures, tokens = figures_of(case, times, [seconds, *(scalar(part.time_s) for part in alone)])
    breakdown = _breakdown(times, seconds)
    chip = case.system.chip
    return Prediction(
        kind=case.phase,
        step_time_s=seconds,
        tokens_per_s_per_device=tokens,
        tokens_per_s_per_chip=tokens * chip.devices_per_package,
        figures=figures,
        memory=used,
        breakdown=breakdown,
        bill=bill(case.system, d.devices, tokens, _activity(figures, breakdown)),
        layout=_layout(d),
        defaults=_defaults(case),
        interval=_interval(case, times, breakdown),
        sources=_sources(case),
        warnings=(*notes(case, used, shape), *bill_warnings(case.system)),
    )


def prepared(case: InferenceCase) -> InferenceCase:
    """The case with its open options filled in. Raises InputError where it is illegal."""
    check(case)
    return _with_scaling(_with_balance(case))


def memory(case: InferenceCase) -> Memory:
    """Memory of one device alone, without pricing operators (for searches). Raises InputError."""
    check(case)
    computed_rate(case)
    return _memory(_with_scaling(case))


def _with_balance(case: InferenceCase) -> InferenceCase:
    """`unknown` balance: what published runs of that kind do (see assumptions.unknown_balance); listed as a default."""
    if case.deployment.expert_balance != "unknown":
        return case
    chosen = assumptions.unknown_balance(case.system.chip, case.phase)
    deployment = replace(case.deployment, expert_balance=chosen)
    return replace(case, deployment=deployment, defaults={**case.defaults, "expert_balance": chosen})


def _with_scaling(case: InferenceCase) -> InferenceCase:
    """Plain "fp8" in the scaling of the model's checkpoint; listed as a default where that is block-wise."""
    d = case.deployment
    formats = scaling_of(case.model, d.weight_dtype, d.activation_dtype)
    parts = tuple((part, *scaling_of(case.model, w, a)) for part, w, a in d.part_dtypes)
    if (*formats, parts) == (d.weight_dtype, d.activation_dtype, d.part_dtypes):
        return case
    deployment = replace(d, weight_dtype=formats[0], activation_dtype=formats[1], part_dtypes=parts)
    return replace(case, deployment=deployment, defaults={**case.defaults, "weight_dtype": formats[0]})


def shape_of(case: InferenceCase) -> Shape:
    """Shape of the step on one attention rank."""
    if case.phase == "mixed":
        return mixed_shape(case.deployment, sizes_of(case))
    shape = step_shape(case.deployment, case.phase, case.batch, _lengths(case))
    return with_spread(shape, case.prompt_cv, place(case.deployment).ranks) if case.prompt_cv else shape


def _lengths(case: InferenceCase) -> tuple[Real, Real]:
    return lengths_of(case.deployment, case.phase, (case.input_len, case.kv_len, case.prefix_len))


def _breakdown(times: StepTimes, seconds: float) -> tuple[Part, ...]:
    rows = [(part, bound, scalar(t)) for (part, bound), t in times.parts.items()]
    merged: dict[str, list[tuple[str, float]]] = {}
    for part, bound, t in rows:
        merged.setdefault(part, []).append((bound, t))
    parts = [
        Part(part, sum(t for _, t in uses), sum(t for _, t in uses) / seconds, max(uses, key=lambda u: u[1])[0])
        for part, uses in merged.items()
    ]
    return tuple(sorted((p for p in parts if p.time_s > 0), key=lambda p: -p.time_s))


def _memory(case: InferenceCase) -> Memory:
    if case.phase == "mixed":
        return mixed_held(case.model, case.system, case.deployment, sizes_of(case)).memory(case.system)
    new, keys = _lengths(case)
    sequences, tokens = resident(case.deployment, case.batch, new)
    if case.deployment.afd_instances:
        pair = afd_memory(case.model, case.system, case.deployment, float(sequences), float(keys))
        return max(pair, key=lambda side: side.peak_bytes)
    return memory_of(case.model, case.system, case.deployment, float(sequences), float(keys), float(tokens))


def _interval(case: InferenceCase, times: StepTimes, breakdown: tuple[Part, ...]) -> tuple[float, float]:
    """As many deviations as past steps of the same kind took. The deviation is composed of the calibration's own spread
    of every operator, weighted by its time, and judgement for the rest; it is never below that of a table row."""
    network = sum(p.share for p in breakdown if p.bound == "network")
    host = sum(p.share for p in breakdown if p.part == "host")
    chip = case.system.chip
    engine = engine_of(chip, case.deployment)
    total, spread = 1e-12, 0.0
    for cost, count in times.costs:
        weight = scalar(cost.time_s * count)
        total += weight
        spread += weight * engine.spread(cost)
    sigma = max(step_sigma(network, host, spread / total / Z90), usual_sigma(chip))
    about = engines.engine(case.deployment.framework, chip)
    return interval(regimes("step_time_s", case.phase, about, chip), sigma)


def _activity(figures: dict[str, float | None], parts: tuple[Part, ...]) -> Activity[float]:
    """Matrix work and memory traffic over the peaks, the share of time in exposed exchanges and that in kernels."""
    network = sum(p.share for p in parts if p.bound == "network")
    waiting = sum(p.share for p in parts if p.bound in ("latency", "bubble"))
    return Activity(figures["mfu"] or 0.0, figures["hbm_use"] or 0.0, network, 1.0 - waiting)


def _layout(d: Deployment) -> dict[str, int | str]:
    out: dict[str, int | str] = {name: int(getattr(d, name)) for name in ("tp", "pp", "dp", "ep", "cp", "dp_attention")}
    out.update(weight_dtype=d.weight_dtype, activation_dtype=d.activation_dtype, kv_dtype=d.kv_dtype)
    out.update(mtp_tokens=d.mtp_tokens, devices=d.devices)
    if d.token_split > 1:
        out.update(cp_method=d.cp_method, cp_balanced=int(d.cp_balanced))
    if d.sampling:
        out.update(sampling=d.sampling)
    if d.shared_prefix:
        out.update(shared_prefix=d.shared_prefix, cascade=int(d.cascade))
    if d.part_dtypes:
        out.update(part_dtypes=",".join(f"{part}={w}/{a}" for part, w, a in d.part_dtypes))
    if d.host_cores:
        out.update(host_cores=f"{d.host_cores:g}")
    if d.weight_prefetch or d.super_kernel:
        out.update(weight_prefetch=int(d.weight_prefetch), super_kernel=int(d.super_kernel))
    if d.draft:
        out.update(draft=d.draft)
    if d.draft_topk > 1:
        out.update(draft_topk=d.draft_topk, verify_tokens=d.new_tokens)
    if d.afd_instances:
        out.update(afd=f"{d.afd[0]}A{d.afd[1]}F", afd_unit=d.afd_unit, afd_microbatches=d.afd_microbatches)
    return out


def _defaults(case: InferenceCase) -> dict[str, object]:
    if case.deployment.framework:
        return dict(case.defaults)
    return {"framework": engines.engine("", case.system.chip).name, **case.defaults}


def _sources(case: InferenceCase) -> tuple[tuple[str, str, str, str], ...]:
    engine = engines.engine(case.deployment.framework, case.system.chip)
    out = [
        ("host gap per step", f"{engine.step_gap_s * 1e6:.0f} us", engine.source, "assumption"),
        ("host gap per sequence", f"{engine.sequence_gap_s * 1e6:.1f} us", engine.source, "assumption"),
    ]
    if case.deployment.expert_balance != "perfect" and case.deployment.ep > 1:
        out += assumptions.routing_rows(case.deployment.redundant_experts > 0, case.deployment.framework)
    if case.deployment.microbatch_overlap:
        out.append(("core share of the attention stream", "16 of 24", "arXiv 2506.12708v2 figure 14", "spec"))
    chip = case.system.chip
    out += option_sources(case)
    engine_rows = engine_of(chip, case.deployment).sources()
    return (*machine_rows(case.system), *out, *engine_rows, *load_links(chip).sources())
