"""Claim C19: what the bus is worth to one training job as it grows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from math import inf

from supertwin.claims.result import DEPENDS, FAILS, HOLDS, Verdict
from supertwin.core.errors import SupertwinError
from supertwin.machine import load_system
from supertwin.machine.system import System, cut_to_the_node, has_bus_beyond_the_node
from supertwin.machine.systems import with_devices
from supertwin.model import load_model
from supertwin.model.spec import ModelSpec
from supertwin.scenarios import load_scenario
from supertwin.training import memory
from supertwin.training.case import Layout, TrainingCase
from supertwin.training.scaling import FREE
from supertwin.training.setting import setting_of
from supertwin.training.step import step_time
from supertwin.training.what_if import scaled_setting

DEVICES = (384, 768, 3072, 6144)
FIRST = 768  # efficiency counts from here: 384 dies hold this job only with full recomputation
# layouts tried for every machine and size; the best one that fits counts
TENSOR, STAGES, EXPERTS = (4, 8), (4, 8, 16), (128, 64, 32, 16)
NEAR = (32, 16)  # spread of the experts where it leaves the node through the scale-out network; wider ones were slower
CUTS = ((1, 1), (1, 2), (2, 1))  # micro batch, chunks per stage
RECOMPUTE = ("selective", "full")
ENDS = (FIRST, DEVICES[-1])
JOB = "pangu-ultra-moe-cm384"
FRAMEWORK = {"huawei": "mindspeed", "nvidia": "megatron-core"}


@dataclass(frozen=True, slots=True)
class Point:
    """The best layout of one machine and size that fits; tokens/s per device 0 and no layout where none does."""

    tokens_per_s_per_device: float = 0.0
    layout: Layout | None = None
    ideal_tokens_per_s_per_device: float = 0.0  # the same layout on a fabric that costs nothing


_fits: dict[tuple[object, ...], bool] = {}
_free: dict[tuple[object, ...], float] = {}


def best_point(system: System, model: ModelSpec, devices: int, global_batch: int) -> Point:
    """The fastest of the layouts tried. Raises InputError when the machine has no `devices`."""
    best, fastest, part = inf, None, with_devices(system, devices)
    draft = TrainingCase(
        model=model, system=part, layout=Layout(), micro_batch=1, global_batch=global_batch, seq_len=4096,
        precision="bf16", sharding="zero1", force_balanced=False, framework=FRAMEWORK[system.chip.vendor],
        states_reused=system.chip.vendor == "huawei",  # MindSpeed --reuse-fp32-param
    )  # fmt: skip
    shapes = [
        [replace(draft, layout=replace(layout, vpp=chunks), micro_batch=micro) for layout in shape]
        for shape, (micro, chunks) in product(_shapes(devices, has_bus_beyond_the_node(system)), CUTS)
    ]
    fitting = [[case for each in shape if (case := _lightest(each))] for shape in shapes]
    bounded = sorted(((_free_s(cases[0]), i) for i, cases in enumerate(fitting) if cases))
    for bound, index in bounded:
        for case in fitting[index] if bound < best else ():
            seconds = step_time(setting_of(case)).total_s
            if seconds < best:
                best, fastest = seconds, case
    if fastest is None:
        return Point()
    tokens = global_batch * fastest.seq_len / devices
    return Point(tokens / best, fastest.layout, tokens / _free_s(fastest))


def _lightest(case: TrainingCase) -> TrainingCase | None:
    """The job with the least recomputation that fits: more of it is slower."""
    policies = (replace(case, recompute=policy) for policy in RECOMPUTE)
    return next((policy for policy in policies if _legal_and_fits(policy)), None)


def _free_s(case: TrainingCase) -> float:
    """Step time on a fabric that costs nothing; of layouts that differ in the spread of their experts, the widest has
    the least to compute, so its time bounds them all."""
    key = _job(case)
    if key not in _free:
        _free[key] = step_time(scaled_setting(case, FREE)).total_s
    return _free[key]


def _legal_and_fits(case: TrainingCase) -> bool:
    key = _job(case)
    if key not in _fits:
        try:
            _fits[key] = memory(case).fits
        except SupertwinError:  # batch does not divide, or the like
            _fits[key] = False
    return _fits[key]


def _job(case: TrainingCase) -> tuple[object, ...]:
    """What memory and compute depend on: machines that differ in their fabric share both."""
    return case.system.chip.name, case.layout, case.micro_batch, case.recompute, case.global_batch


def _shapes(devices: int, bus: bool) -> Iterator[list[Layout]]:
    """Layouts that differ in their experts' spread only, the widest first."""
    for tp, pp in product(TENSOR, STAGES):
        if devices % (tp * pp) == 0:
            dp = devices // (tp * pp)
            yield [Layout(tp=tp, pp=pp, dp=dp, ep=ep) for ep in (EXPERTS if bus else NEAR) if tp * dp % ep == 0]


@cache
def curves() -> dict[str, dict[int, Point]]:
    """Best points by number of devices: strong scaling with the bus, without it and on H800, weak scaling of both."""
    system, scenario = load_system("cm384"), load_scenario(JOB)
    model, whole = load_model(scenario.model), int(str(scenario.options["global_batch"]))
    machines = {"bus": system, "cut": cut_to_the_node(system), "h800": load_system("dgx-h800")}
    found = {}
    for name, machine in machines.items():
        sizes = ENDS if name == "h800" else DEVICES
        strong = found[f"{name} strong"] = {n: best_point(machine, model, n, whole) for n in sizes}
        if name != "h800":
            first = best_point(machine, model, FIRST, whole * FIRST // DEVICES[-1])
            found[f"{name} weak"] = {FIRST: first, DEVICES[-1]: strong[DEVICES[-1]]}
    return found


def scaling() -> Verdict:
    """C19: multi-chip parallel efficiency is maximised by the interconnect."""
    found, last = curves(), DEVICES[-1]
    kept = {name: _ratio(points[last], points[FIRST]) for name, points in found.items()}
    bus, cut = found["bus strong"], found["cut strong"]
    gains = [_ratio(bus[n], cut[n]) for n in DEVICES]
    ahead = min(gains) >= 1.0 and all(kept[f"bus {k}"] >= kept[f"cut {k}"] for k in ("strong", "weak"))
    rates = "; ".join(
        f"{label} " + ", ".join(f"{points[n].tokens_per_s_per_device:.0f}" for n in DEVICES)
        for label, points in (("with the bus", bus), ("cut to the node", cut))
    )
    percent = {name: f"{100 * share:.0f} %" for name, share in kept.items()}
    return Verdict(
        f"tokens/s per die at {', '.join(f'{n:,}' for n in DEVICES)}: {rates}; {gains[-1]:.2f}x at {last:,}."
        f" Efficiency {FIRST} to {last:,}: strong {percent['bus strong']} against {percent['cut strong']}"
        f" (H800 {percent['h800 strong']}), weak {percent['bus weak']} against {percent['cut weak']}",
        HOLDS if ahead and kept["bus strong"] >= 0.9 else DEPENDS if gains[-1] > 1.0 else FAILS,
        f"Pangu Ultra MoE 718B at 4K, the best of the layouts tried for each machine and size: with the bus experts"
        f" spread over {_experts(bus)} dies, without it over {_experts(cut)}, in nodes of 16; efficiency exceeds 100 %"
        " where more dies let experts spread and recomputation stop. At"
        f" {last:,} dies the bus gives {_of_ideal(bus[last])} of what the layout would run at if communication cost"
        f" nothing, the cut one {_of_ideal(cut[last])}, H800 {_of_ideal(found['h800 strong'][last])}. Failures and"
        " stragglers are not counted",
        ("cm2", "pangu-ultra-moe"),
        100.0 * kept["bus strong"],
        "holds when the bus is ahead at every size, keeps more per die in strong and weak scaling, and at least 90 %",
    )


def _ratio(point: Point, reference: Point) -> float:
    below = reference.tokens_per_s_per_device
    return point.tokens_per_s_per_device / below if below else float("inf")


def _of_ideal(point: Point) -> str:
    free = point.ideal_tokens_per_s_per_device
    return f"{100 * point.tokens_per_s_per_device / free:.0f} %" if free else "none"


def _experts(points: Mapping[int, Point]) -> str:
    sizes = sorted({point.layout.ep for point in points.values() if point.layout})
    return " to ".join(dict.fromkeys(str(size) for size in (sizes[0], sizes[-1])))


ANSWERS: dict[str, Callable[[], Verdict]] = {"C19": scaling}
