"""Memory of one device as terminal text and as JSON fields: uses, finer parts, pipeline stages, jobs that would fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from rich.text import Text

from supertwin.core.prediction import Memory, StageMemory
from supertwin.report.tables import grid, heading
from supertwin.report.text import bar, gib, number, percent

if TYPE_CHECKING:
    from rich.console import RenderableType

USES = ("parameters", "gradients", "optimizer", "activations", "kv_cache", "workspace")
_OUTSIDE = (("communication", "communication buffers"), ("runtime", "driver and context"), ("host", "in host memory"))
_WIDTH = 30
_MOST_STAGES = 8


class Nearest(Protocol):
    """A job or deployment that fits, with the changes that make it fit."""

    @property
    def changes(self) -> Mapping[str, int | float | str]: ...
    @property
    def memory(self) -> Memory: ...
    @property
    def headroom_bytes(self) -> float: ...
    @property
    def step_time_s(self) -> float: ...
    @property
    def tokens_per_s_per_device(self) -> float: ...


def memory_fields(memory: Memory) -> dict[str, Any]:
    """JSON fields of the memory of one device; parts and stages where the prediction has them."""
    fields: dict[str, Any] = {f"{name}_bytes": getattr(memory, f"{name}_bytes") for name in USES}
    fields |= {"peak_bytes": memory.peak_bytes, "capacity_bytes": memory.capacity_bytes, "fits": memory.fits}
    if not memory.stages:
        return fields
    return {
        **fields,
        **{f"{name}_bytes": getattr(memory, f"{name}_bytes") for name, _ in _OUTSIDE},
        "missing_bytes": max(memory.missing_bytes, 0.0),
        "parts": {f"{name}_bytes": used for name, used in memory.parts.items()},
        "stages": [_stage_fields(stage) for stage in memory.stages],
    }


def _stage_fields(stage: StageMemory) -> dict[str, float]:
    return {
        "peak_bytes": stage.peak_bytes,
        "in_flight_microbatches": stage.in_flight,
        "parameters_bytes": stage.parameters_bytes,
        "gradients_bytes": stage.gradients_bytes,
        "optimizer_bytes": stage.optimizer_bytes,
        "activations_bytes": stage.activations_bytes,
        "workspace_bytes": stage.workspace_bytes,
    }


def memory_view(memory: Memory, explain: bool = False) -> list[RenderableType]:
    """Uses of the fullest device against its capacity; explain: finer parts and pipeline stages too."""
    view: list[RenderableType] = [_uses(memory)]
    if explain and memory.parts:
        view += [
            Text(),
            heading("Memory by part"),
            _bars([(n.replace("_", " "), b) for n, b in memory.parts.items()], memory),
        ]
    if explain and len(memory.stages) > 1:
        view += [Text(), heading("Memory by pipeline stage"), _stages(memory)]
    return view


def _uses(memory: Memory) -> RenderableType:
    capacity = memory.capacity_bytes or 1.0
    uses = [(name.replace("_", " "), getattr(memory, f"{name}_bytes")) for name in USES]
    rows = _rows([(name, used) for name, used in uses if used > 0.0], capacity)
    rows.append(
        (
            "peak",
            gib(memory.peak_bytes),
            percent(memory.peak_bytes / capacity),
            Text(f"of {gib(capacity)}: {'fits' if memory.fits else 'does NOT fit'}"),
        )
    )
    for name, title in _OUTSIDE:
        outside = getattr(memory, f"{name}_bytes")
        if outside > 0.0:
            rows.append(
                (title, gib(outside), "", Text("beside the peak" if name != "runtime" else "not in the capacity"))
            )
    return grid(("", "", "", ""), rows, wrap=3)


def _rows(uses: Sequence[tuple[str, float]], capacity: float) -> list[tuple[str, str, str, Text]]:
    return [
        (name, gib(used), percent(used / capacity), Text(bar(used / capacity, _WIDTH), style="cyan"))
        for name, used in uses
    ]


def _bars(uses: Sequence[tuple[str, float]], memory: Memory) -> RenderableType:
    return grid(("", "", "", ""), _rows([u for u in uses if u[1] > 0.0], memory.capacity_bytes or 1.0), wrap=3)


def _stages(memory: Memory) -> RenderableType:
    """First and last stages; what lies between in a long pipeline is one row that says so."""
    stages = list(enumerate(memory.stages))
    left_out = len(stages) - _MOST_STAGES
    if left_out > 0:
        stages = stages[: _MOST_STAGES // 2] + stages[-_MOST_STAGES // 2 :]
    rows: list[tuple[str | Text, ...]] = [
        (
            str(place),
            gib(stage.peak_bytes),
            gib(stage.states_bytes),
            gib(stage.passes_bytes),
            number(stage.in_flight),
            Text(bar(stage.peak_bytes / (memory.capacity_bytes or 1.0), _WIDTH), style="cyan"),
        )
        for place, stage in stages
    ]
    if left_out > 0:
        rows.insert(_MOST_STAGES // 2, (f"{left_out} more", "", "", "", "", ""))
    return grid(("stage", "peak", "states", "passes", "in flight", ""), rows, wrap=5)


def nearest_fields(found: Sequence[Nearest]) -> list[dict[str, Any]]:
    """JSON rows of the nearest jobs that fit."""
    from supertwin.training.nearest import in_words

    return [
        {
            "changes": dict(one.changes),
            "options": in_words(one.changes),
            "peak_bytes": one.memory.peak_bytes,
            "headroom_bytes": one.headroom_bytes,
            "step_time_s": one.step_time_s,
            "tokens_per_s_per_device": one.tokens_per_s_per_device,
        }
        for one in found
    ]


def nearest_view(found: Sequence[Nearest], what: str = "jobs") -> list[RenderableType]:
    """The nearest jobs that fit, fastest first."""
    from supertwin.training.nearest import in_words

    if not found:
        return []
    rows = [
        (
            in_words(one.changes),
            gib(one.memory.peak_bytes),
            gib(one.headroom_bytes),
            number(one.tokens_per_s_per_device),
        )
        for one in found
    ]
    return [Text(), heading(f"Nearest {what} that fit"), grid(("changes", "peak", "free", "tokens/s per device"), rows)]
