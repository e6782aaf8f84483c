"""Claim C24: what each innovation at system level is worth to a training job and to serving, by taking one away at a
time. The same parts added one after the other, beside what the paper prints: scenarios cm384-decode-stages and
cm384-prefill-stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from supertwin.claims.result import DEPENDS, FAILS, HOLDS, Verdict
from supertwin.claims.scaling import DEVICES, JOB, best_point, curves
from supertwin.claims.steps import guarded
from supertwin.machine import load_system
from supertwin.machine.system import System
from supertwin.model import load_model
from supertwin.scenarios import load_scenario, run_scenario, run_stages

RACK_DIES = 64  # four nodes of 16 dies: what copper reaches, as NVL72's does
AIR_PUE = 1.5  # mean of the industry, as the note on `pue` in data/systems/cm384.toml has it
WORTH = 0.05


def within_a_rack(system: System) -> System:
    """The bus without optical modules: copper joins the nodes of a rack, the scale-out network the racks (what-if)."""
    tiers = tuple(t if t.scale_out or t.devices <= RACK_DIES else replace(t, devices=RACK_DIES) for t in system.tiers)
    return replace(system, tiers=tiers, title=f"{system.title}, bus of copper")


def contributions() -> dict[str, float]:
    """Gain of each innovation over the same job without it: tokens/s, for cooling tokens per joule."""
    system, scenario, last = load_system("cm384"), load_scenario(JOB), DEVICES[-1]
    found = curves()
    whole = found["bus strong"][last].tokens_per_s_per_device
    rack = best_point(
        within_a_rack(system), load_model(scenario.model), last, int(str(scenario.options["global_batch"]))
    )
    stages = [stage.prediction.tokens_per_s_per_device for stage in run_stages("pangu-ultra-moe-stages")]
    return {
        "communication": whole / found["cut strong"][last].tokens_per_s_per_device - 1.0,
        "optical": whole / rack.tokens_per_s_per_device - 1.0,
        "thermal": AIR_PUE / system.pue - 1.0,
        "software": stages[-1] / stages[1] - 1.0,
    }


DECODE, PREFILL = "cm384-decode-4k", "cm384-prefill"
SERVING: dict[str, tuple[str, str, dict[str, object]]] = {
    "the bus in decode": ("communication", DECODE, {"scale_up": "node"}),
    "the bus in prefill": ("communication", PREFILL, {"scale_up": "node"}),
    "fused dispatch and combine": ("communication", DECODE, {"exchange": "separate"}),
    "INT8": ("software", DECODE, {"weight_dtype": "bf16", "activation_dtype": "bf16"}),
    "draft tokens": ("software", DECODE, {"mtp_tokens": 0, "mtp_acceptance": 0.0}),
    "micro-batches in decode": ("software", DECODE, {"microbatch_overlap": False}),
    "micro-batches in prefill": ("software", PREFILL, {"microbatch_overlap": False}),
}
"""What serving has: kind of innovation, operating point, and the options that take it away."""


def serving_contributions() -> dict[str, float]:
    """Gain in tokens/s of each part of serving over the same point without it."""
    whole = {name: run_scenario(name).prediction.tokens_per_s_per_device for name in (DECODE, PREFILL)}
    return {
        part: whole[name] / run_scenario(name, **without).prediction.tokens_per_s_per_device - 1.0
        for part, (_, name, without) in SERVING.items()
    }


def innovations() -> Verdict:
    """C24: communication, optical, thermal and software innovation at system level."""
    worth, serving, pue = contributions(), serving_contributions(), load_system("cm384").pue
    trained, served = (", ".join(f"{name} {100 * gain:+.0f} %" for name, gain in x.items()) for x in (worth, serving))
    counted = [gain >= WORTH for gain in worth.values()]
    every = [*worth.values(), *serving.values()]
    return Verdict(
        f"training: {trained}; serving: {served}",
        HOLDS if all(counted) else DEPENDS if any(counted) else FAILS,
        f"training of a 718B mixture of experts on {DEVICES[-1]:,} dies, one innovation taken away at a time and"
        " the layout chosen anew: communication, the bus cut to the node; optical, the bus of copper within a rack of"
        f" {RACK_DIES} dies; thermal, energy at a PUE of {AIR_PUE} instead of {pue:g} (rates are not"
        " changed: how far air cooling would throttle is not published); software, hierarchical and overlapped expert"
        " exchange, finer recomputation and balanced experts on Ascend 910B. Serving: DeepSeek-R1 at the paper's"
        " operating points, without the bus by RDMA between nodes, without fused kernels by an all-to-all of counts,"
        " tokens and scales. Gains of two do not add",
        ("cm2", "pangu-ultra-moe"),
        None,
        f"holds when taking away any of the four costs training at least {100 * WORTH:.0f} %",
        100.0 * min(every),
        100.0 * max(every),
    )


ANSWERS: dict[str, Callable[[], Verdict]] = {"C24": guarded(innovations)}
