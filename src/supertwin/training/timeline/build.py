"""From a case to its timeline: pipelines played, brought together at the gradient norm, optimizer, next step."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt

from supertwin.training.case import TrainingCase
from supertwin.training.check import check
from supertwin.training.offload import update_exposed_s
from supertwin.training.passes import COLUMNS
from supertwin.training.pipeline import DeviceTimes, pipeline_time
from supertwin.training.setting import Setting, setting_of
from supertwin.training.step import StepTime, step_time
from supertwin.training.timeline.compare import because
from supertwin.training.timeline.events import BACK, COMPUTE, DP, HOST, NONE, Event, latest
from supertwin.training.timeline.play import Played, play_pipeline
from supertwin.training.timeline.result import Pipeline, Timeline
from supertwin.training.timeline.stragglers import Stragglers, lockstep, slowdowns
from supertwin.training.timeline.work import StepWork, work_of

Array = npt.NDArray[np.float64]
MOST_PIPELINES = 4  # pipelines with slow devices that are played; the closed form picks the slowest


def play(case: TrainingCase, stragglers: Stragglers | None = None) -> Timeline:
    """Play one optimizer step. Raises InputError for an illegal case or a straggler that it does not have.

    Ranks that do the same at the same time are one role: a pipeline stage. Stragglers add the stages of their pipeline.
    """
    check(case)
    return timeline_of(setting_of(case), stragglers or Stragglers())


def timeline_of(setting: Setting, stragglers: Stragglers) -> Timeline:
    """Play one optimizer step of a derived case."""
    work, closed = work_of(setting), step_time(setting)
    factors = _candidates(setting, closed, slowdowns(setting.case, stragglers))
    pipelines = _pipelines(setting.case, work, factors)
    bound = max(range(len(pipelines)), key=lambda row: (_ready_s(pipelines[row].played), -row))
    total_s, parts, closing = _close(setting, work, pipelines[bound], closed)
    nominal_s = _close(setting, work, pipelines[0], closed)[0] if bound else total_s
    reference = bound, closed.pipeline.slowest
    return Timeline(
        total_s,
        parts,
        closed,
        because(parts, closed, pipelines[bound].played, work, max(pipelines[bound].slowdown)),
        work,
        pipelines,
        closing,
        reference,
        total_s / nominal_s - 1.0 if not stragglers.sigma else total_s / _even_s(setting, work, closed) - 1.0,
    )


def _pipelines(case: TrainingCase, work: StepWork, factors: Array) -> tuple[Pipeline, ...]:
    """Play one pipeline per row of factors."""
    layout = case.layout
    slow = lockstep(case)
    rest = layout.tp * layout.cp * layout.dp - slow * (len(factors) - 1)
    return tuple(
        Pipeline(
            f"slow pipeline {number}" if number else "pipeline",
            slow if number else max(rest, slow),
            tuple(row.tolist()),
            play_pipeline(work, row),
        )
        for number, row in enumerate(factors)
    )


def _even_s(setting: Setting, work: StepWork, closed: StepTime) -> float:
    """Step time when every device has the factor 1."""
    ones = np.ones(len(work.schedule.orders))
    return _close(setting, work, Pipeline("even", 0, tuple(ones), play_pipeline(work, ones)), closed)[0]


def _ready_s(played: Played) -> float:
    return max(done[0] for done in played.done)


def _candidates(setting: Setting, closed: StepTime, factors: Array) -> Array:
    """The first row, and of the others those that the closed form expects to be the slowest."""
    passes, rest = closed.passes, factors[1:]
    forward, backward = passes.forward.sum(axis=1), passes.backward.sum(axis=1)
    expected = [
        pipeline_time(
            DeviceTimes(forward * row, backward * row, passes.wgrad_s * row),
            setting.microbatches,
            setting.case.schedule,
            setting.case.layout.vpp,
        ).total_s
        for row in rest
    ]
    slowest = np.sort(np.argsort(expected)[::-1][:MOST_PIPELINES]) if len(rest) else np.zeros(0, dtype=np.int64)
    return np.concatenate((factors[:1], rest[slowest]))


def _close(
    setting: Setting, work: StepWork, pipeline: Pipeline, closed: StepTime
) -> tuple[float, dict[str, float], tuple[Event, ...]]:
    """What follows the passes: gradient norm, optimizer, host, gathers that nothing hides. Returns the step time, the
    parts of the reference device, and the events."""
    played, device = pipeline.played, closed.pipeline.slowest
    reduced_s, after = latest(*played.done)
    parts = _passes_of(played, device, (reduced_s, after))
    update_s = work.optimizer_s * np.array(pipeline.slowdown)
    slowest_s = float(update_s.max())
    moved_s = update_exposed_s(setting.case, work.update, slowest_s + work.norm_s, reduced_s)
    gather_s = [_late_gathers(work, stages) for stages in _stages_of(work)]
    events: list[Event] = []

    def put(where: int, stream: int, label: str, start_s: float, took_s: float) -> float:
        if took_s > 0.0:
            events.append(Event(where, stream, label, NONE, NONE, start_s, start_s + took_s, NONE))
        return start_s + took_s

    normed_s = reduced_s + work.norm_s
    updated_s = normed_s + slowest_s + moved_s
    for where, seconds in enumerate(update_s.tolist()):
        put(where, DP, "gradient norm", reduced_s, work.norm_s)
        put(where, COMPUTE, "optimizer", normed_s, seconds)
        put(where, BACK, "optimizer states", normed_s + slowest_s, moved_s)
        put(where, HOST, "step", updated_s, work.host_s)
        put(where, DP, "gather", updated_s + work.host_s, gather_s[where])
    end_s = updated_s + work.host_s + max(gather_s)
    for name in closed.parts.keys() - parts.keys() - {"optimizer", "offload/optimizer"}:
        parts[name] = closed.parts[name]  # passes over the batch of the next update, as the closed form prices them
        for where in range(len(update_s)):
            put(where, COMPUTE, name, end_s, parts[name])
        end_s += parts[name]
    parts["optimizer"] = work.norm_s + slowest_s
    parts["offload/optimizer"] = moved_s
    parts["host"] += work.host_s
    parts["communication/dp"] += max(gather_s)
    return end_s, dict(parts), tuple(events)


def _stages_of(work: StepWork) -> list[list[int]]:
    """Stages that each device holds."""
    return [sorted({action.stage for unit in order for action in unit}) for order in work.schedule.orders]


def _late_gathers(work: StepWork, stages: list[int]) -> float:
    """Gathers of new parameters that wait for the optimizer."""
    if work.sharded:
        return 0.0
    return sum(work.rounds[stage].gather_s for stage in stages if not work.rounds[stage].beside[1])


def _passes_of(played: Played, device: int, end: tuple[float, int]) -> dict[str, float]:
    """Seconds of a device up to the end of all reductions, by part: its actions, what made them longer, and what the
    chain of events behind each wait did meanwhile."""
    parts: defaultdict[str, float] = defaultdict(float, dict.fromkeys((*COLUMNS, "bubble", "communication/pp"), 0.0))
    for _, unit in played.units[device]:
        seconds = played.durations.of(device, unit).parts
        for name, value in zip(COLUMNS, seconds.tolist(), strict=True):
            parts[name] += value
    _add(parts, played.lost_s[device])
    free_s = 0.0
    for event in played.log.events:
        if event.device == device and event.stream == COMPUTE:
            if event.start_s > free_s:
                _add(parts, played.log.waited_for(event.after, free_s))
            free_s = event.end_s
    _add(parts, played.log.waited_for(end[1], free_s))
    return parts


def _add(parts: dict[str, float], more: dict[str, float]) -> None:
    for name, seconds in more.items():
        parts[name] += seconds
