"""Running a scenario through the step models and setting the printed figures beside the predicted ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from supertwin.core.prediction import Prediction
from supertwin.inference.case import Deployment, InferenceCase
from supertwin.machine import load_system, system_for_chip
from supertwin.machine.chips import chip_names
from supertwin.machine.system import System, cut_to_the_node
from supertwin.model import load_model
from supertwin.scenarios.load import Scenario, load_scenario
from supertwin.training.case import Layout, TrainingCase


@dataclass(frozen=True, slots=True)
class Published:
    """One printed figure and the twin's: ratio = predicted / printed."""

    figure: str
    printed: float
    predicted: float

    @property
    def ratio(self) -> float:
        """Predicted over printed."""
        return self.predicted / self.printed


@dataclass(frozen=True, slots=True)
class Outcome:
    """A scenario, its prediction and the comparison with what its source printed."""

    scenario: Scenario
    prediction: Prediction
    comparison: tuple[Published, ...]


def run_scenario(name: str, **changes: object) -> Outcome:
    """Predict one scenario; `changes` override its model, system or any option (what-if).

    Raises UnknownName for a scenario that does not exist and whatever the step model raises.
    """
    scenario = load_scenario(name)
    prediction = predict_case(scenario, changes)
    shown = tuple(
        Published(figure, printed, figure_of(prediction, figure)) for figure, printed in scenario.published.items()
    )
    return Outcome(scenario, prediction, shown if not changes else ())


@dataclass(frozen=True, slots=True)
class Stage:
    """A scenario after some of its steps, and the comparison with what was printed of it.

    gain: of tokens/s over the stage before, None for the first; printed_gain: (low, high) that the source prints for
    this step alone, None where it prints none.
    """

    title: str
    prediction: Prediction
    comparison: tuple[Published, ...]
    gain: float | None = None
    printed_gain: tuple[float, float] | None = None


def run_stages(name: str, **changes: object) -> tuple[Stage, ...]:
    """A scenario as it begins and after each of its steps, one on top of the other. Raises as run_scenario."""
    scenario = load_scenario(name)
    stages: list[Stage] = []
    options = dict(changes)
    for step in ({"title": "as it begins", "set": {}, "published": scenario.published}, *scenario.steps):
        options |= step["set"]
        prediction = predict_case(scenario, options)
        printed = step.get("published", {}) if not changes else {}
        shown = tuple(Published(figure, value, figure_of(prediction, figure)) for figure, value in printed.items())
        before = stages[-1].prediction.tokens_per_s_per_device if stages else None
        gain = None if before is None else prediction.tokens_per_s_per_device / before - 1.0
        low_high = step.get("gain_pct") if not changes else None
        ends = (low_high[0] / 100.0, low_high[1] / 100.0) if low_high else None
        stages.append(Stage(str(step["title"]), prediction, shown, gain, ends))
    return tuple(stages)


def figure_of(prediction: Prediction, figure: str) -> float:
    """A figure by its JSON name; with _pct behind it in per cent. Raises KeyError if the prediction has no such
    figure."""
    if figure.endswith("_pct"):
        return 100.0 * figure_of(prediction, figure.removesuffix("_pct"))
    if figure in ("step_time_s", "tokens_per_s_per_device", "tokens_per_s_per_chip"):
        return float(getattr(prediction, figure))
    value = prediction.figures[figure]
    if value is None:
        raise KeyError(figure)
    return value


def predict_case(scenario: Scenario, changes: Mapping[str, object]) -> Prediction:
    """Build the case of a scenario with some options replaced, and predict it."""
    changed = dict(changes)
    model = load_model(str(changed.pop("model", scenario.model)))
    given = changed.pop("system", scenario.system)
    system = given if isinstance(given, System) else _machine(str(given))
    if changed.pop("scale_up", scenario.scale_up) == "node":
        system = cut_to_the_node(system)
    options: dict[str, Any] = {**scenario.options, **changed}
    if scenario.kind == "train":
        from supertwin.training import predict as predict_training

        layout, rest = _split(options, Layout)
        return predict_training(TrainingCase(model=model, system=system, layout=layout, **rest))
    from supertwin.inference import predict as predict_inference

    deployment, rest = _split(options, Deployment)
    return predict_inference(InferenceCase(model=model, system=system, deployment=deployment, **rest))


def _machine(name: str) -> System:
    """A system, or the usual one of a chip: `ascend-910b3:4096`. Raises UnknownName."""
    base, _, count = name.partition(":")
    return system_for_chip(base, int(count)) if base in chip_names() else load_system(name)


def _split(options: Mapping[str, Any], inner: type[Any]) -> tuple[Any, dict[str, Any]]:
    names = {f.name for f in fields(inner)}
    return inner(**{k: v for k, v in options.items() if k in names}), {
        k: v for k, v in options.items() if k not in names
    }
