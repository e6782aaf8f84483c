"""The nearest jobs that fit: fewest changes of recomputation, sharding, micro-batch, parallel sizes and offload.

All combinations of one change are tried, then of two, then of three, until some fit; of those with the fewest changes
the fastest are kept. Only memory is computed for a trial; the first that fit are priced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations, product

from supertwin.core.errors import SupertwinError
from supertwin.core.prediction import Memory
from supertwin.training.case import TrainingCase
from supertwin.training.check import check, expert_count
from supertwin.training.memory import worst_memory
from supertwin.training.setting import setting_of
from supertwin.training.step import step_time
from supertwin.training.tuning import with_sizes

MOST_CHANGES = 3
MOST_TRIED = 320  # memory checks, about 0.4 ms each
MOST_PRICED = 8
_SHARDINGS = ("none", "zero1", "zero2", "zero3")
_WIDEST_TP = 16
Value = int | float | str


@dataclass(frozen=True, slots=True)
class Nearest:
    """A job that fits. changes: field -> new value; headroom_bytes: what it leaves free of the capacity."""

    case: TrainingCase
    changes: Mapping[str, Value]
    memory: Memory
    step_time_s: float

    @property
    def tokens_per_s_per_device(self) -> float:
        """Rate of the job."""
        return self.case.global_batch * self.case.seq_len / self.step_time_s / self.case.layout.devices

    @property
    def headroom_bytes(self) -> float:
        """Free bytes of one device."""
        return -self.memory.missing_bytes


def nearest_fitting(case: TrainingCase, most: int = 5) -> list[Nearest]:
    """Jobs with the fewest changes that fit the memory, fastest first; empty when three changes do not do."""
    options = dict(_options(case))
    left = MOST_TRIED
    for number in range(1, MOST_CHANGES + 1):
        found: list[tuple[dict[str, Value], TrainingCase, Memory]] = []
        for changes in _combined(options, number):
            if left <= 0:
                break
            left -= 1
            tried = _tried(case, changes)
            if tried is not None:
                found.append((changes, *tried))
        if found:
            return _fastest(found)[:most]
    return []


def _fastest(found: list[tuple[dict[str, Value], TrainingCase, Memory]]) -> list[Nearest]:
    priced = [
        Nearest(case, changes, memory, step_time(setting_of(case)).total_s)
        for changes, case, memory in found[:MOST_PRICED]
    ]
    return sorted(priced, key=lambda one: one.step_time_s)


def _options(case: TrainingCase) -> Iterator[tuple[str, list[Value]]]:
    """What each field may be changed to, the gentlest first: every one needs less memory or spreads it further."""
    layout = case.layout
    policies = ("none", "selective", "partial", "full")
    yield "recompute", [p for p in ("selective", "full") if policies.index(p) > policies.index(case.recompute)]
    if case.sharding in _SHARDINGS and layout.dp * layout.cp > 1:
        yield "sharding", list(_SHARDINGS[_SHARDINGS.index(case.sharding) + 1 :])
    yield "micro_batch", [m for m in _halves(case.micro_batch) if m >= 1]
    room = layout.dp * layout.cp
    yield "tp", [f * layout.tp for f in (2, 4) if room % f == 0 and f * layout.tp <= _WIDEST_TP]
    yield "pp", [f * layout.pp for f in (2, 4, 8) if room % f == 0 and f * layout.pp <= case.model.n_layers]
    if expert_count(case.model):
        ranks = room * layout.tp
        yield "ep", [f * layout.ep for f in (2, 4, 8) if ranks % (f * layout.ep) == 0]
    if not case.offload_optimizer:
        yield "offload_optimizer", [1.0]
    if not case.offload:
        yield "offload", [1.0]


def _halves(size: int) -> Iterator[int]:
    while size % 2 == 0:
        size //= 2
        yield size


def _combined(options: Mapping[str, list[Value]], number: int) -> Iterator[dict[str, Value]]:
    """All changes of `number` fields."""
    for names in combinations(options, number):
        for values in product(*(options[name] for name in names)):
            yield dict(zip(names, values, strict=True))


def _tried(case: TrainingCase, changes: Mapping[str, Value]) -> tuple[TrainingCase, Memory] | None:
    """The changed job with its memory; None when it is not legal or does not fit."""
    sizes = {name: int(value) for name, value in changes.items() if name in ("tp", "pp", "ep")}
    fields = {name: value for name, value in changes.items() if name not in sizes}
    try:
        changed = with_sizes(case, sizes) if sizes else case
        changed = replace(changed, **fields)  # type: ignore[arg-type]
        if any(getattr(changed.layout, name) != size for name, size in sizes.items()):
            return None
        check(changed)
        memory = worst_memory(setting_of(changed))
    except SupertwinError:
        return None
    return (changed, memory) if memory.fits and _hosted(changed, memory) else None


def _hosted(case: TrainingCase, memory: Memory) -> bool:
    """Whether the host memory of a node holds what its devices offload (a node of unknown host memory does)."""
    there = case.system.host_memory_bytes_per_node
    devices = min(case.system.devices_per_node, case.system.devices)
    return not there or memory.host_bytes * devices <= there


def in_words(changes: Mapping[str, Value]) -> str:
    """Changes as options of the command line."""
    return " ".join(f"--{name.replace('_', '-')} {_shown(value)}" for name, value in changes.items())


def _shown(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
