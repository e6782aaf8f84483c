"""A layout near a given one that runs the job fastest: one size doubled or halved at a time until nothing helps.

A job that does not fit counts as slower by a power of what it needs over what there is, so that a climb may pass
through it; it is never the answer while another fits. One climb starts from each recomputation. Local: compared with
trying every layout in tests/training/test_scaling.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf

from supertwin.core.errors import SupertwinError
from supertwin.core.moves import twice_and_half
from supertwin.training.case import Layout, TrainingCase
from supertwin.training.changes import PLAIN, Scale
from supertwin.training.check import check, expert_count
from supertwin.training.memory import worst_memory
from supertwin.training.step import step_time
from supertwin.training.what_if import scaled_setting

SIZES = ("tp", "pp", "ep", "vpp", "micro_batch", "recompute")
_POLICIES = ("none", "selective", "full")
_WIDEST = {"tp": 16, "vpp": 8}  # wider ones are not run: 16 devices share a node, more chunks are single layers
Key = tuple[float, float]
_ILLEGAL: Key = (inf, inf)
_STEEPNESS = 8.0  # assumption: a layout that needs twice the memory is 256 times as bad
_UNFIT = 2.0  # and one that misses by a byte is left for any neighbour that fits in twice its time


@dataclass(frozen=True, slots=True)
class Tuned:
    """The best layout found. fits False: the one that needs least memory, its time not priced (infinite)."""

    case: TrainingCase
    step_time_s: float
    fits: bool

    @property
    def tokens_per_s_per_device(self) -> float:
        """0 where the job does not fit."""
        return self.case.global_batch * self.case.seq_len / self.step_time_s / self.case.layout.devices


class Tuner:
    """Climbs for jobs on one fabric. frozen: sizes (of SIZES) that stay; scale: factors on the fabric's fixed and
    per-byte times."""

    def __init__(self, frozen: frozenset[str] = frozenset(), scale: Scale = PLAIN) -> None:
        self._frozen, self._scale = frozen, scale

    def tuned(self, case: TrainingCase) -> Tuned | None:
        """The best layout that climbs from `case` reach, one climb per recomputation; its own need not be legal. None:
        no legal one is near."""
        policies = (case.recompute,) if "recompute" in self._frozen else _POLICIES
        found = [self._climb(replace(case, recompute=policy)) for policy in policies]
        best, key = min(found, key=lambda entry: (entry[1][1] > 1.0, entry[1]))
        return None if key == _ILLEGAL else Tuned(best, key[0] if key[1] <= 1.0 else inf, key[1] <= 1.0)

    def _climb(self, case: TrainingCase) -> tuple[TrainingCase, Key]:
        key = self._key(case)
        known = {_mark(case)}
        while True:
            tried = [n for n in neighbours(case, self._frozen) if _mark(n) not in known]
            known |= {_mark(n) for n in tried}
            best = min(((self._key(n), i) for i, n in enumerate(tried)), default=(key, 0))
            if best[0] >= key:
                return case, key
            key, case = best[0], tried[best[1]]

    def _key(self, case: TrainingCase) -> Key:
        """(seconds, 1) of a job that fits, (more seconds, memory over capacity) of others, infinite if illegal."""
        try:
            check(case)
            setting = scaled_setting(case, self._scale)
            memory = worst_memory(setting)
            seconds, over = step_time(setting).total_s, 1.0 + memory.missing_bytes / memory.capacity_bytes
            return (seconds, 1.0) if over <= 1.0 else (seconds * _UNFIT * over**_STEEPNESS, over)
        except SupertwinError:
            return _ILLEGAL


def neighbours(case: TrainingCase, frozen: frozenset[str]) -> Iterator[TrainingCase]:
    """Jobs one move away: one size doubled or halved."""
    open_, layout = [name for name in SIZES if name not in frozen], case.layout
    if "micro_batch" in open_:
        for size in twice_and_half(case.micro_batch):
            yield replace(case, micro_batch=size)
    for axis in ("ep", "vpp", "pp", "tp"):
        if axis in open_ and (axis != "ep" or expert_count(case.model)) and (axis != "vpp" or layout.pp > 1):
            for size in twice_and_half(getattr(layout, axis)):
                if size <= _WIDEST.get(axis, size):
                    yield with_sizes(case, {axis: size})


def with_sizes(case: TrainingCase, sizes: dict[str, int]) -> TrainingCase:
    """The job with other sizes on its devices; dp takes up the difference (rounded down where it does not divide), and
    ep is halved until its group divides the ranks."""
    layout: Layout = replace(case.layout, **sizes)
    layout = replace(layout, dp=max(case.system.devices // (layout.tp * layout.pp * layout.cp), 1))
    ranks = layout.tp * layout.cp * layout.dp
    while layout.ep % 2 == 0 and ranks % (layout.ep * layout.etp):
        layout = replace(layout, ep=layout.ep // 2)
    schedule = case.schedule
    if schedule in ("1f1b", "interleaved"):
        schedule = "interleaved" if layout.vpp > 1 else "1f1b"
    parallel = layout.tp > 1 and (case.sequence_parallel or case.layout.tp == 1)
    return replace(case, layout=layout, schedule=schedule, sequence_parallel=parallel)


def _mark(case: TrainingCase) -> tuple[object, ...]:
    return case.layout, case.micro_batch, case.recompute
