"""A step as a waterfall: from arithmetic at the peak to the predicted time, one cause after the other.

    ideal       model FLOPs of the step, spread evenly over the devices, at the dense peak of the precision
    kernels     what forward and backward take beyond that, by class of operator
    imbalance   work of the slowest pipeline device beyond the mean; experts of the busiest device beyond the mean
    ...         exposed communication by axis, bubble, recomputation, optimizer, host

Rungs add up to the step time. Imbalance of experts and recomputation are differences to the same step without them, on
the same pipeline device (compute and communication parts; what they add to bubble and host stays there).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from supertwin.core.causes import Cause, Rung, stacked
from supertwin.core.formats import number_format
from supertwin.training.blocks import home
from supertwin.training.case import TrainingCase
from supertwin.training.flops import flop_per_token
from supertwin.training.passes import block_amounts, priced_blocks
from supertwin.training.pricing import PricedBlock, PricedModel
from supertwin.training.setting import Setting, setting_of
from supertwin.training.step import StepTime, step_time
from supertwin.workload.operators import Attention, Gemm

IDEAL, UNEVEN, EXPERTS, RECOMPUTE = "ideal compute", "imbalance/stages", "imbalance/experts", "recomputation"
_LAST = ("bubble", RECOMPUTE, "optimizer", "host")
_BOUNDS = {"bubble": "bubble", "optimizer": "memory", "host": "latency"}
_WORK = ("compute/", "communication/")


@dataclass(frozen=True, slots=True)
class _Class:
    """Forward and backward of one class of operators on the slowest device, one microbatch."""

    flop: float
    bound: str


def waterfall(case: TrainingCase) -> tuple[Rung, ...]:
    """Rungs of a legal case, in the order of the module head. Raises InputError."""
    setting = setting_of(case)
    return rungs(setting, step_time(setting))


def rungs(setting: Setting, step: StepTime) -> tuple[Rung, ...]:
    """Waterfall of a step that is priced already."""
    case, device = setting.case, step.pipeline.slowest
    plain = setting if case.recompute == "none" else setting_of(replace(case, recompute="none"))
    plain = replace(plain, fabric=setting.fabric)
    once = step if plain.case is case else step_time(plain, device)
    even = replace(plain, overlap=replace(plain.overlap, skew=1.0))
    balanced = once if plain.overlap.skew == 1.0 else step_time(even, device)
    peak = case.system.chip.peak(number_format(case.precision).rate)
    classes = _classes(setting, device, peak)
    ideal = flop_per_token(case.model, case.seq_len, case.task)[0] * case.global_batch * case.seq_len
    found = {IDEAL: Cause(ideal / case.layout.devices / peak, "compute")}
    at_peak = 0.0
    for part, seconds in balanced.parts.items():
        if part.startswith("compute/"):
            own = classes.get(part, _Class(0.0, "compute" if part == "compute/logprob" else "memory"))
            needed = own.flop * setting.microbatches / peak
            at_peak += needed
            share = needed / seconds if seconds > 0.0 and needed > 0.0 else None
            found[f"kernels/{part.removeprefix('compute/')}"] = Cause(seconds - needed, own.bound, share)
    found[UNEVEN] = Cause(at_peak - found[IDEAL].time_s, "compute")
    found[EXPERTS] = Cause(_work(once) - _work(balanced), "compute")
    found |= {
        part: Cause(seconds, "network") for part, seconds in balanced.parts.items() if part.startswith("communication/")
    }
    rest = {part: seconds for part, seconds in step.parts.items() if not part.startswith(_WORK)}
    rest[RECOMPUTE] = _work(step) - _work(once)
    for part in (*_LAST, *(name for name in rest if name not in _LAST)):
        bound = "memory" if part.startswith("offload/") else _BOUNDS.get(part, "compute")
        found[part] = Cause(rest.get(part, 0.0), bound)
    return stacked(found, step.total_s)


def _work(step: StepTime) -> float:
    """Seconds of compute and communication parts."""
    return sum(seconds for part, seconds in step.parts.items() if part.startswith(_WORK))


def _classes(setting: Setting, device: int, peak: float) -> dict[str, _Class]:
    """FLOP and bound of each class in forward and backward of one microbatch on a pipeline device."""
    priced = priced_blocks(setting)
    flop: dict[str, float] = {}
    lost: dict[str, np.ndarray] = {}
    for block, amount in zip(_blocks(priced), block_amounts(setting)[0][device].tolist(), strict=True):
        for part, work, losses in _losses(block, peak) if amount else ():
            flop[part] = flop.get(part, 0.0) + amount * work
            lost[part] = lost.get(part, np.zeros(3)) + amount * losses
    names = ("compute", "memory", "latency")
    return {part: _Class(flop[part], names[int(np.argmax(lost[part]))]) for part in flop}


def _blocks(priced: PricedModel) -> list[PricedBlock]:
    return [*priced.layers, priced.embedding, priced.head, priced.mtp]


def _losses(block: PricedBlock, peak: float) -> Iterable[tuple[str, float, np.ndarray]]:
    """(class, FLOP, seconds beyond the peak by what bounds them) of each kernel of forward and backward."""
    for operators, costs in (
        (block.operators.forward, block.forward),
        (block.operators.backward, block.backward),
    ):
        for operator, cost in zip(operators, costs, strict=True):
            if cost is None:
                continue
            count = float(operator.count)
            work = count * float(cost.flop) if isinstance(operator, Gemm | Attention) else 0.0
            terms = np.array([float(cost.compute_s), float(cost.memory_s), float(cost.overhead_s)])
            loss = np.zeros(3)
            loss[int(np.argmax(terms))] = max(count * float(cost.time_s) - work / peak, 0.0)
            yield home(operator.part), work, loss
