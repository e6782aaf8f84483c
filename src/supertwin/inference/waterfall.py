"""A step as a waterfall: from the roofline of its operators to the predicted time, one cause after the other.

    ideal        sum over operators of max(FLOP / peak, bytes / bandwidth): all tokens in one batch, experts evenly
                 loaded, no exchange, no drafts
    kernels      what kernels take beyond that, by class of operator
    exchange     what is exposed of the exchanges, by kind
    experts      work and exchange of the busiest device beyond the mean
    overlap      two micro-batches instead of one batch: what hides, less what the second pass over the weights and
                 the split cores cost (negative: a gain)
    drafts       passes of the draft modules; verifying the drafts is part of the rungs above
    ...          pipeline hand-over and wait, host

Rungs add up to the step time. Experts and overlap are differences to the same step without them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from supertwin.core.causes import Cause, Rung, stacked
from supertwin.inference.anatomy import Anatomy, Opened, anatomies, is_draft
from supertwin.inference.case import InferenceCase
from supertwin.inference.predict import prepared
from supertwin.inference.roofline import ideal_s
from supertwin.inference.times import StepTimes, scalar

IDEAL, EXPERTS, OVERLAP, DRAFTS = "ideal", "imbalance/experts", "overlap/micro-batches", "drafts"
_NAMES = {"pp p2p": "pipeline/hand-over", "pp wait": "pipeline/wait"}

Keep = Callable[[Opened], bool]


@dataclass(frozen=True, slots=True)
class LayerFall:
    """The waterfall of one kind of block. count: executions per step; time_s: of one."""

    name: str
    count: float
    time_s: float
    rungs: tuple[Rung, ...]


@dataclass(frozen=True, slots=True)
class Waterfall:
    """Rungs of the step and of one execution of each kind of block, and the step that they were taken from."""

    rungs: tuple[Rung, ...]
    layers: tuple[LayerFall, ...]
    step: Anatomy


@dataclass(frozen=True, slots=True)
class _Steps:
    """The step as it is, without micro-batches, and evenly loaded too; of the same blocks."""

    even: Anatomy
    serial: Anatomy
    real: Anatomy


def waterfall(case: InferenceCase) -> Waterfall:
    """Waterfall of a legal case. Raises InputError."""
    case = prepared(case)
    serial = replace(case, deployment=replace(case.deployment, microbatch_overlap=False))
    even = replace(serial, deployment=replace(serial.deployment, expert_balance="perfect"))
    real, once, balanced = anatomies([case, serial, even])
    steps = _Steps(balanced, once, real)
    found = _causes(steps, lambda opened: not is_draft(opened))
    drafts = real.alone(is_draft)
    found[DRAFTS] = Cause(scalar(drafts.time_s), _largest(drafts))
    for part, cause in _beside(real):
        found[_NAMES.get(part, part)] = cause
    return Waterfall(stacked(found, real.total_s), tuple(_layers(steps)), real)


def _beside(step: Anatomy) -> Iterator[tuple[str, Cause]]:
    """Parts of the step that no block has: pipeline, host."""
    blocks = step.alone().parts
    for (part, bound), value in step.times.parts.items():
        yield part, Cause(scalar(value) - scalar(blocks.get((part, bound), 0.0)), _bubble(part, bound))


def _bubble(part: str, bound: str) -> str:
    return "bubble" if part == "pp wait" else bound


def _causes(steps: _Steps, keep: Keep) -> dict[str, Cause]:
    """Ideal, kernels, exchange, experts and overlap of the blocks that `keep` names, over all their executions."""
    ideal = _ideal(steps.even, keep)
    even, serial, real = (step.alone(keep) for step in (steps.even, steps.serial, steps.real))
    kernels: dict[str, Cause] = {}
    exchanges: dict[str, Cause] = {}
    for part, cause in _merged(even).items():
        if cause.bound == "network":
            exchanges[f"exchange/{part}"] = cause
        else:
            own = ideal.get(part, 0.0)
            share = own / cause.time_s if own > 0.0 < cause.time_s else None
            kernels[f"kernels/{part}"] = Cause(cause.time_s - own, cause.bound, share)
    first = Cause(sum(ideal.values()), "memory" if _memory_bound(steps.even, keep) else "compute")
    uneven = scalar(serial.time_s) - scalar(even.time_s)
    hidden = scalar(real.time_s) - scalar(serial.time_s)
    return {
        IDEAL: first,
        **dict(sorted(kernels.items(), key=lambda item: -item[1].time_s)),
        **exchanges,
        EXPERTS: Cause(uneven, "compute"),
        OVERLAP: Cause(hidden, "network" if hidden < 0.0 else "compute"),
    }


def _ideal(step: Anatomy, keep: Keep) -> dict[str, float]:
    """Seconds at the roofline by class of operator."""
    found: dict[str, float] = {}
    for opened in filter(keep, step.blocks):
        for piece in opened.pieces:
            if piece.cost is not None:
                seconds = ideal_s(piece.cost, step.case.system.chip) * scalar(piece.count) * opened.block.count
                found[piece.part] = found.get(piece.part, 0.0) + seconds
    return found


def _memory_bound(step: Anatomy, keep: Keep) -> bool:
    """Whether the roofline itself is mostly that of the memory."""
    moved = whole = 0.0
    chip = step.case.system.chip
    for opened in filter(keep, step.blocks):
        for piece in opened.pieces:
            if piece.cost is not None:
                runs = scalar(piece.count) * opened.block.count
                seconds, memory = ideal_s(piece.cost, chip), scalar(piece.cost.bytes) / chip.memory_bytes_per_s
                whole += runs * seconds
                moved += runs * seconds if memory >= seconds else 0.0
    return moved >= whole / 2.0


def _merged(times: StepTimes) -> dict[str, Cause]:
    """Parts of a step under the bound of their longest share."""
    found: dict[str, list[tuple[float, str]]] = {}
    for (part, bound), value in times.parts.items():
        found.setdefault(part, []).append((scalar(value), bound))
    return {part: Cause(sum(t for t, _ in uses), max(uses)[1]) for part, uses in found.items()}


def _largest(times: StepTimes) -> str:
    """Bound of most of the time."""
    total: dict[str, float] = {}
    for (_, bound), value in times.parts.items():
        total[bound] = total.get(bound, 0.0) + scalar(value)
    return max(total, key=lambda bound: total[bound], default="memory")


def _layers(steps: _Steps) -> Iterator[LayerFall]:
    """One waterfall per kind of block, divided by its executions."""
    for name in dict.fromkeys(opened.name for opened in steps.real.blocks):

        def named(opened: Opened, name: str = name) -> bool:
            return opened.name == name

        count = sum(opened.block.count for opened in steps.real.blocks if named(opened))
        total = scalar(steps.real.alone(named).time_s)
        if count > 0.0 and total > 0.0:
            each = {part: replace(c, time_s=c.time_s / count) for part, c in _causes(steps, named).items()}
            yield LayerFall(name, count, total / count, stacked(each, total / count))
