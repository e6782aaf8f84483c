"""`supertwin infer MODEL --phase serve`: one deployment in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from supertwin.cli.options import Values
from supertwin.cli.output import write_json, write_text
from supertwin.core.errors import Infeasible, InputError, SupertwinError

if TYPE_CHECKING:
    from supertwin.inference.case import Deployment
    from supertwin.inference.deploy import Best, Limits, Prepared, Service
    from supertwin.machine.system import System
    from supertwin.model.spec import ModelSpec

DEFAULTS: dict[str, int | float | str] = {
    "input_len": 4096, "output_len": 1024, "hit_rate": 0.0, "cache": "hbm", "kv_transfer": "after",
    "first_token": "decode", "slo_stat": "mean",
}  # fmt: skip
_SIZES = ("tp", "pp", "dp", "ep")
_UNUSED = (
    "batch",
    "kv_len",
    "prefix_len",
    "chunk_tokens",
    "cp",
    "cp_method",
    "cp_balanced",
    "prompt_cv",
    "roofline",
    "trace",
    "afd",
    "afd_unit",
    "afd_microbatches",
)


LEAST_BATCH = 8.0
"""Requests per device that a decode instance of the default size holds: below it, weights are read for few tokens."""


class Job(NamedTuple):
    """A model on a machine with the formats and switches of its instances."""

    model: ModelSpec
    system: System
    draft: Deployment


def serve(values: Values, job: Job, defaults: Mapping[str, object]) -> int:
    """Evaluate and write. Raises Infeasible after the result when the limits or the offered load are out of reach."""
    from supertwin.inference.host import host_note
    from supertwin.report.serving import serving_fields
    from supertwin.report.serving_text import serving_view

    if values["rate"] is not None and values["concurrency"] is not None:
        raise InputError("--rate and --concurrency exclude each other; expected one of them")
    prepared, used = _prepared(values, job)
    limits = _limits(values)
    best = _best(values, prepared, limits)
    shown = {**defaults, **{name: value for name, value in used.items() if values[name] is None}}
    warnings = list(_left_over(prepared.service, job.system.devices))
    warnings += [f"--{name.replace('_', '-')} has no effect with serve" for name in _UNUSED if values[name] is not None]
    warnings += dict.fromkeys(
        note for d in (prepared.service.prefill, prepared.service.decode) for note in host_note(d, job.system)
    )
    if values["zipf"] is not None and values["prefixes"] is None:
        warnings.append("--zipf has no effect without --prefixes")
    names = (str(values["model"]), str(values["on"] or "cm384"))
    if values["json"]:
        fields = serving_fields(prepared, best, limits, names)
        write_json("infer", {**fields, "defaults": shown, "warnings": warnings})
    else:
        write_text(*serving_view(prepared, best, limits, names, (shown, warnings, bool(values["explain"]))))
    if best.reasons:
        raise Infeasible(list(best.reasons))
    return 0


def _left_over(service: Service, devices: int) -> Iterator[str]:
    """Devices that no instance uses: the rest of whole instances, or more than the balance needs."""
    if service.devices < devices:
        yield f"{devices - service.devices} of the {devices} devices are left over: nothing per device counts them"


def _prepared(values: Values, job: Job) -> tuple[Prepared, dict[str, object]]:
    """The service with its instances counted, priced; and the sizes that were chosen."""
    from supertwin.inference.deploy import prepare

    service = _service(values, job)
    used: dict[str, object] = {**DEFAULTS, "plane": service.plane, "on": job.system.name}
    used |= {"framework": service.engine.name}
    used |= {name: getattr(service.decode, name) for name in ("weight_dtype", "activation_dtype")}
    used |= {"prefill_devices": service.prefill_devices, "decode_devices": service.decode_devices}
    if not service.disaggregated:
        used.pop("plane")
    return prepare(service), used


def _service(values: Values, job: Job) -> Service:
    """Instances of both kinds, as many as given or as balance the lengths."""
    from supertwin.inference.deploy import Service, balance

    given = {name: value if (value := values[name]) is not None else DEFAULTS[name] for name in DEFAULTS}
    decode = _instance(values, job, "decode")
    together = values["prefill_devices"] == 0 or job.system.devices == 1
    prefill = decode if together else _instance(values, job, "prefill")
    plane = str(values["plane"] or ("rdma" if any(tier.scale_out for tier in job.system.tiers) else "ub"))
    service = Service(
        job.model, job.system, prefill, decode, 0 if together else 1, 1,
        input_len=float(str(given["input_len"])), output_len=float(str(given["output_len"])),
        hit_rate=float(str(given["hit_rate"])), cache=str(given["cache"]), plane=plane,
        layerwise=given["kv_transfer"] == "layerwise", decode_first=given["first_token"] == "decode",
    )  # fmt: skip
    service = _cached(values, service)
    counts = (0, job.system.devices // decode.devices) if together else _counts(values, job, service)
    if counts is None:
        found = balance(service, job.system.devices, _limits(values))
        counts = (found.prefill_instances, found.decode_instances)
    return replace(service, prefill_instances=counts[0], decode_instances=counts[1])


def _cached(values: Values, service: Service) -> Service:
    """The hit rate of a cache that holds only part of the working set."""
    from supertwin.inference.deploy import pool

    if values["prefixes"] is None:
        return service
    tokens = service.hit_rate * service.input_len
    if tokens < 1:
        raise InputError("--prefixes needs --hit-rate, the share of a prompt that is a prefix; expected above 0")
    exponent = 1.0 if values["zipf"] is None else float(str(values["zipf"]))
    found = pool(service, float(str(values["prefixes"])), tokens, exponent)
    return replace(service, hit_rate=service.hit_rate * found.hit)


def _counts(values: Values, job: Job, service: Service) -> tuple[int, int] | None:
    """Instances where the devices of a side are given (the other side gets the rest); None: to be balanced."""
    n = job.system.devices
    first, second = (_whole(values[f"{side}_devices"]) for side in ("prefill", "decode"))
    if first is None and second is None:
        return None
    first = n - (second or 0) if first is None else first
    second = n - first if second is None else second
    counts = []
    sides = (("prefill", first, service.prefill.devices), ("decode", second, service.decode.devices))
    for side, devices, each in sides:
        if devices % each or (devices == 0 and side == "decode"):
            near = sorted({max(each, devices // each * each), (devices // each + 1) * each})
            raise InputError(
                f"--{side}-devices {devices}: one {side} instance has {each} devices; expected a multiple of it, such"
                f" as {' or '.join(map(str, near))}"
            )
        counts.append(devices // each)
    return counts[0], counts[1]


def _whole(value: object) -> int | None:
    return None if value is None else int(str(value))


def _instance(values: Values, job: Job, phase: str) -> Deployment:
    """One instance: of the size given, else the fewest devices, by powers of two, that hold model and requests."""
    given = values[f"{phase}_instance"]
    sizes = {name: int(str(values[name])) for name in _SIZES if values[name] is not None}
    if phase == "prefill" and (values["prefill_tp"] is not None or values["prefill_instance"] is not None):
        sizes = {name: size for name, size in sizes.items() if name == "pp"}
        if values["prefill_tp"] is not None:
            sizes["tp"] = int(str(values["prefill_tp"]))
    if given is not None:
        try:
            return _sized(values, job, phase, int(str(given)), sizes)[0]
        except InputError as error:
            raise InputError(f"--{phase}-instance {given}: {error}") from None
    side = values[f"{phase}_devices"]
    shared = values["prefill_devices"] != 0
    most = int(str(side)) if side else max(1, job.system.devices // 2 if shared else job.system.devices)
    problem: SupertwinError | None = None
    tight: Deployment | None = None
    least = math.prod(sizes.get(name, 1) for name in ("tp", "pp", "dp", *(("cp",) if phase == "prefill" else ())))
    if least > most:
        raise InputError(
            f"one {phase} instance of {least} devices as given, but {most} of the {job.system.devices} devices of"
            f" {job.system.name} are for {phase}; expected smaller sizes or {job.system.name}:N"
        )
    for devices in [least * 2**i for i in range((most // least).bit_length())]:
        try:
            tight, fits = _sized(values, job, phase, devices, sizes)
        except InputError as error:
            problem = error
            continue
        if fits:
            return tight
    if tight is not None:
        return tight
    raise problem or InputError(f"no {phase} instance on {most} devices")


def _sized(values: Values, job: Job, phase: str, devices: int, sizes: Mapping[str, int]) -> tuple[Deployment, bool]:
    """The layout of an instance on so many devices, and whether it fits with room to spare."""
    from supertwin.inference.case import InferenceCase
    from supertwin.inference.layouts import FULLEST, Choice, choose
    from supertwin.inference.placement import moe
    from supertwin.inference.predict import memory
    from supertwin.machine import with_devices

    length = int(str(values["input_len"] or DEFAULTS["input_len"]))
    output = int(str(values["output_len"] or DEFAULTS["output_len"]))
    system, draft = with_devices(job.system, devices), job.draft
    if phase == "prefill":
        draft = replace(draft, mtp_tokens=0, mtp_acceptance=0.0)
    if moe(job.model) is None and "tp" not in sizes and "dp" not in sizes:
        sizes = {**sizes, "tp": devices // sizes.get("pp", 1) or 1}
    case = InferenceCase(job.model, system, draft, phase, 1.0, input_len=length, kv_len=length + output)
    shared = None if values["dp_attention"] is None else bool(values["dp_attention"])
    chosen = choose(case, Choice(sizes, None, shared))
    used = memory(chosen)
    roomy = phase == "prefill" or chosen.batch >= LEAST_BATCH
    return chosen.deployment, roomy and used.peak_bytes <= FULLEST * used.capacity_bytes


def _limits(values: Values) -> Limits:
    from supertwin.inference.deploy import Limits

    ttft, tpot = (
        math.inf if values[f"slo_{name}_ms"] is None else float(str(values[f"slo_{name}_ms"])) * 1e-3
        for name in ("ttft", "tpot")
    )
    return Limits(ttft, tpot, str(values["slo_stat"] or DEFAULTS["slo_stat"]))


def _best(values: Values, prepared: Prepared, limits: Limits) -> Best:
    """The point that was asked for, with the reasons why it is out of reach or outside the limits."""
    from supertwin.inference.deploy import Best, at_concurrency, at_most, at_rate, largest_rate, most_requests_per_s

    best = largest_rate(prepared, limits)
    if values["rate"] is not None:
        rate = float(str(values["rate"]))
        most, slowest = most_requests_per_s(prepared)
        point = at_rate(prepared, rate) if rate < most else at_most(prepared)
        why = f"{rate:g} requests/s exceed the {most:.4g} that {slowest} takes"
        outside = rate >= most
    elif values["concurrency"] is not None:
        point, outside, why = at_concurrency(prepared, float(str(values["concurrency"]))), False, ""
    else:
        return best
    if best.reasons:
        return Best(point, best.limited_by, best.reasons)
    nearest = f"; nearest feasible: {best.point.requests_per_s:.4g} requests/s, {best.point.in_flight:.4g} in flight"
    if outside:
        return Best(point, point.bound, (why + nearest,))
    if not limits.hold(point):
        ttft, tpot = (f"{1e3 * figure:.4g} ms" for figure in limits.figures(point))
        text = f"TTFT of {ttft} and TPOT of {tpot} ({limits.statistic}) are outside the limits"
        return Best(point, best.limited_by, (text + nearest,))
    return Best(point, point.bound)
