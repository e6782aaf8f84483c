"""Claim C19: what the bus is worth to one training job as it grows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

from supertwin.claims.result import DEPENDS, FAILS, HOLDS, Verdict
from supertwin.core.errors import SupertwinError
from supertwin.machine import load_system
from supertwin.machine.system import System
from supertwin.machine.systems import with_devices
from supertwin.model import load_model
from supertwin.model.spec import ModelSpec
from supertwin.scenarios import load_scenario
from supertwin.training import memory, predict
from supertwin.training.case import Layout, TrainingCase

DEVICES = (384, 768, 1536, 3072, 6144)
FIRST = 768  # efficiency counts from here: 384 dies hold this job only with full recomputation
# layouts tried for every machine and size; the best one that fits counts
TENSOR, STAGES, EXPERTS = (4, 8), (4, 8, 16), (8, 16, 32, 64, 128)
REST = tuple(product(("selective", "full"), ((1, 1), (1, 2), (2, 1))))  # recomputation, (micro batch, chunks per stage)
JOB = "pangu-ultra-moe-cm384"
FRAMEWORK = {"huawei": "mindspeed", "nvidia": "megatron-core"}


@dataclass(frozen=True, slots=True)
class Point:
    """The best layout of one machine and size that fits; tokens/s per device 0 and no layout where none does."""

    tokens_per_s_per_device: float = 0.0
    layout: Layout | None = None


def cut_to_the_node(system: System) -> System:
    """The same machine without its bus between nodes: what leaves a node takes the scale-out network (what-if)."""
    tiers = tuple(t for t in system.tiers if t.scale_out or t.devices <= system.devices_per_node)
    return replace(system, tiers=tiers, title=f"{system.title}, scale-up cut to the node")


def best_point(system: System, model: ModelSpec, devices: int, global_batch: int) -> Point:
    """The fastest of the layouts tried. Raises InputError when the machine has no `devices`."""
    best = Point()
    part, framework = with_devices(system, devices), FRAMEWORK[system.chip.vendor]
    for layout, recompute, micro in _layouts(devices):
        case = TrainingCase(
            model=model, system=part, layout=layout, micro_batch=micro, global_batch=global_batch, seq_len=4096,
            precision="bf16", recompute=recompute, sharding="zero1", force_balanced=False, framework=framework,
        )  # fmt: skip
        try:
            if not memory(case).fits:
                continue
            found = predict(case)
        except SupertwinError:  # batch does not divide, or the like
            continue
        if found.tokens_per_s_per_device > best.tokens_per_s_per_device:
            best = Point(found.tokens_per_s_per_device, layout)
    return best


def _layouts(devices: int) -> Iterator[tuple[Layout, str, int]]:
    for tp, pp, ep, (recompute, (micro, chunks)) in product(TENSOR, STAGES, EXPERTS, REST):
        if devices % (tp * pp) == 0 and (devices // pp) % ep == 0:
            yield Layout(tp=tp, pp=pp, dp=devices // (tp * pp), ep=ep, vpp=chunks), recompute, micro


@cache
def curves() -> dict[str, dict[int, Point]]:
    """Best points by number of devices: strong scaling with the bus, without it and on H800, weak scaling of both."""
    system, scenario = load_system("cm384"), load_scenario(JOB)
    model, whole = load_model(scenario.model), int(str(scenario.options["global_batch"]))
    machines = {"bus": system, "cut": cut_to_the_node(system), "h800": load_system("dgx-h800")}
    ends = (FIRST, DEVICES[-1])
    found = {}
    for name, machine in machines.items():
        sizes = ends if name == "h800" else DEVICES
        found[f"{name} strong"] = {n: best_point(machine, model, n, whole) for n in sizes}
        if name != "h800":
            found[f"{name} weak"] = {n: best_point(machine, model, n, whole * n // DEVICES[-1]) for n in ends}
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
        " where more dies let experts spread and recomputation stop. Failures and stragglers are not counted",
        ("cm2", "pangu-ultra-moe"),
        100.0 * kept["bus strong"],
        "holds when the bus is ahead at every size, keeps more per die in strong and weak scaling, and at least 90 %",
    )


def _ratio(point: Point, reference: Point) -> float:
    below = reference.tokens_per_s_per_device
    return point.tokens_per_s_per_device / below if below else float("inf")


def _experts(points: Mapping[int, Point]) -> str:
    sizes = sorted({point.layout.ep for point in points.values() if point.layout})
    return " to ".join(dict.fromkeys(str(size) for size in (sizes[0], sizes[-1])))


ANSWERS: dict[str, Callable[[], Verdict]] = {"C19": scaling}
