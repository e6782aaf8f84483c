"""How long each action of a schedule takes on its device, by part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supertwin.training.passes import COLUMNS, EP
from supertwin.training.timeline.schedules import BACKWARD, FORWARD, INPUT, WEIGHT, Unit
from supertwin.training.timeline.work import COMPUTE, PassWork, StepWork

Array = npt.NDArray[np.float64]
Key = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Duration:
    """One unit on one device. parts: exposed seconds by COLUMNS; hidden_s: communication beside it, by axis name."""

    total_s: float
    parts: Array
    hidden: dict[str, float]
    issue_s: float
    out_s: float
    back_s: float


class Durations:
    """Durations of all units of a step; equal units are summed once."""

    def __init__(self, work: StepWork, slowdown: Array) -> None:
        """slowdown: factor on the kernels of each pipeline device, [pp]."""
        self._work, self._slowdown = work, slowdown
        self._known: dict[tuple[int, Key], Duration] = {}

    def of(self, device: int, unit: Unit) -> Duration:
        """Duration of a unit."""
        key = (device, tuple((action.kind, action.stage) for action in unit))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._sum(device, key[1])
        return found

    def all(self) -> dict[tuple[int, Key], Duration]:
        """Every duration that was asked for."""
        return self._known

    def _sum(self, device: int, key: Key) -> Duration:
        work = self._work
        rows = [self._one(kind, stage) for kind, stage in key]
        parts: Array = np.sum([row[0] for row in rows], axis=0)
        hidden: Array = np.sum([row[1] for row in rows], axis=0)
        if work.paired:
            raw = [parts_of[EP] + (1.0 - work.expert_loss) * hidden_of[EP] for parts_of, hidden_of in rows]
            beside = [float(parts_of[COMPUTE].sum()) for parts_of, _ in rows][::-1]
            covered = sum(min(r, b) for r, b in zip(raw, beside, strict=True)) if len(rows) == 2 else 0.0
            parts[EP], hidden[EP] = sum(raw) - (1.0 - work.expert_loss) * covered, covered
        parts = np.where(COMPUTE, self._slowdown[device] * parts, parts)
        names = [name.partition("/")[2] for name in COLUMNS]
        return Duration(
            float(parts.sum()),
            parts,
            {names[i]: float(seconds) for i, seconds in enumerate(hidden) if seconds > 0.0},
            sum(self._issue(kind, stage) for kind, stage in key),
            sum(float(work.forward.copy_s[stage]) for kind, stage in key if kind == FORWARD),
            sum(float(work.backward.copy_s[stage]) for kind, stage in key if kind in (BACKWARD, INPUT)),
        )

    def _one(self, kind: str, stage: int) -> tuple[Array, Array]:
        """(exposed by COLUMNS, hidden by PARTS) of one action."""
        work = self._work
        side = work.forward if kind == FORWARD else work.backward
        if kind in (FORWARD, BACKWARD):
            return side.exposed[stage], side.hidden[stage]
        late = _late(side, stage, float(work.wgrad_s[stage]))
        if kind == WEIGHT:
            return late, np.zeros_like(side.hidden[stage])
        return side.exposed[stage] - late, side.hidden[stage]

    def _issue(self, kind: str, stage: int) -> float:
        """Host time of one action; weight gradients take their share of the backward pass."""
        if kind == FORWARD:
            return float(self._work.forward.issue_s[stage])
        whole, side = float(self._work.backward.issue_s[stage]), self._work.backward
        if kind == BACKWARD:
            return whole
        share = float(self._work.wgrad_s[stage]) / max(float(side.exposed[stage].sum()), 1e-30)
        return whole * (share if kind == WEIGHT else 1.0 - share)


def _late(side: PassWork, stage: int, wgrad_s: float) -> Array:
    """The weight gradients' share of a backward pass, spread over its compute parts, with the accumulation."""
    compute = np.where(COMPUTE, side.exposed[stage], 0.0)
    share: Array = compute * (min(wgrad_s / max(float(compute.sum()), 1e-30), 1.0))
    return share
