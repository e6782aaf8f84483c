"""What a timeline is: step time, breakdown under the closed form's names, the events, and why both forms differ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from supertwin.training.step import StepTime
from supertwin.training.timeline.events import Event
from supertwin.training.timeline.play import Played
from supertwin.training.timeline.work import StepWork


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One pipeline of the job that was played: factors of its devices' kernel times, and what happened on it.

    devices: ranks per stage that do the same at the same time (for the first pipeline all that no slow one stands for).
    """

    name: str
    devices: int
    slowdown: tuple[float, ...]
    played: Played


@dataclass(frozen=True, slots=True)
class Timeline:
    """One training step as it happens.

    parts: exposed seconds of the device that the closed form takes as the slowest one, by the closed form's names; they
    add up to step_time_s. closing: norm, optimizer and host after the passes, per pipeline device. reference:
    (pipeline, device) that parts are of. straggler_loss: step time over that without stragglers, minus 1.
    """

    step_time_s: float
    parts: dict[str, float]
    closed: StepTime
    because: str
    work: StepWork
    pipelines: tuple[Pipeline, ...]
    closing: tuple[Event, ...]
    reference: tuple[int, int]
    straggler_loss: float = 0.0

    @property
    def events(self) -> int:
        """Stretches of work on all streams."""
        return sum(len(pipeline.played.log.events) for pipeline in self.pipelines) + len(self.closing)

    @property
    def difference(self) -> float:
        """Step time over that of the closed form, minus 1."""
        return self.step_time_s / self.closed.total_s - 1.0

    @property
    def step(self) -> StepTime:
        """The step in the closed form's type, with the timeline's time and parts."""
        return replace(self.closed, total_s=self.step_time_s, parts=self.parts)

    def fields(self) -> dict[str, Any]:
        """JSON fields, SI units."""
        return {
            "step_time_s": self.step_time_s,
            "closed_form_s": self.closed.total_s,
            "difference": self.difference,
            "because": self.because,
            "events": self.events,
            "roles": self.roles(),
            "straggler_loss": self.straggler_loss,
        }

    def roles(self) -> list[dict[str, Any]]:
        """One row per role: a stage of a pipeline that differs from the others. busy_s: by stream."""
        from supertwin.training.timeline.slices import busy_s

        return [
            {
                "role": f"{pipeline.name} stage {stage}",
                "devices": pipeline.devices,
                "slowdown": pipeline.slowdown[stage],
                "busy_s": busy,
            }
            for number, pipeline in enumerate(self.pipelines)
            for stage, busy in enumerate(busy_s(self, number))
        ]
